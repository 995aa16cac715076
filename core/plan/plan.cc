#include "core/plan/plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/base/check.h"

namespace gabion::plan {
namespace {

constexpr uint64_t kMebibyte = 1u << 20;

// Sizes as small integers, so that products stay within 64 bits: 2^44 MiB is more than any device.
uint64_t Weight(const Device& device) {
  return std::clamp<uint64_t>(device.size_bytes / kMebibyte, 1, uint64_t{1} << 32);
}

bool IsLessFilled(uint64_t count_a, uint64_t weight_a, uint64_t count_b, uint64_t weight_b) {
  // (a + 1) / weight_a < (b + 1) / weight_b: compares the devices as they would be with one more.
  return (count_a + 1) * weight_b < (count_b + 1) * weight_a;
}

// Who is primary of what; `primary` and `secondary` are indexes of devices.
struct Edge {
  size_t primary = 0;
  size_t secondary = 0;
  bool may_change = true;
};

// Turns slices round until every device is primary of half of its replicas, within one. A chain
// of slices that leads from a device with too many primaries to one with too few is turned as a
// whole, so the devices between keep their number.
class PrimaryBalance {
 public:
  // `surplus`: primaries minus secondaries, by device.
  PrimaryBalance(std::vector<Edge>* slices, std::vector<int64_t> surplus)
      : slices_(slices), surplus_(std::move(surplus)) {}

  // Stops after the chain with which `turns_max` slices are turned. Each turn lowers the sum of the
  // squares of the surpluses, so this ends.
  void Run(size_t turns_max) {
    if (surplus_.empty()) return;
    // Even already, as nearly always: this is asked several times a second.
    const auto [least, most] = std::minmax_element(surplus_.begin(), surplus_.end());
    if (*most - *least < 3) return;
    for (bool turned = true; turned;) {
      turned = false;
      for (size_t from = 0; from < surplus_.size(); ++from) {
        if (turns_ >= turns_max) return;
        if (surplus_[from] > 0 && TurnOneChain(from)) turned = true;
      }
    }
  }

 private:
  // A device with a surplus of 2 or more reaches one with a deficit, and one with a deficit of 2 or
  // more is reached from one with a surplus: both pairs differ by 3 at least. What differs by less
  // is the remainder of an odd number of replicas.
  bool TurnOneChain(size_t from) {
    // Breadth first along primary -> secondary. `via[i]`: the slice that led to device i.
    std::vector<std::optional<size_t>> via(surplus_.size());
    std::vector<size_t> queue = {from};
    std::optional<size_t> to;
    for (size_t next = 0; next < queue.size() && !to; ++next) {
      for (size_t s = 0; s < slices_->size(); ++s) {
        const Edge& slice = (*slices_)[s];
        if (slice.primary != queue[next] || !slice.may_change) continue;
        const size_t reached = slice.secondary;
        if (reached == from || via[reached]) continue;
        via[reached] = s;
        queue.push_back(reached);
        if (surplus_[from] - surplus_[reached] >= 3) {
          to = reached;
          break;
        }
      }
    }
    if (!to) return false;
    surplus_[from] -= 2;
    surplus_[*to] += 2;
    for (size_t at = *to; at != from;) {
      Edge& slice = (*slices_)[*via[at]];
      at = slice.primary;
      std::swap(slice.primary, slice.secondary);
      ++turns_;
    }
    return true;
  }

  std::vector<Edge>* slices_;
  std::vector<int64_t> surplus_;
  size_t turns_ = 0;
};

// Working state of a placement; indexes are places in the sorted list of devices.
struct Placement {
  explicit Placement(std::vector<Device> sorted) : devices(std::move(sorted)) {
    replicas.resize(devices.size());
    surplus.resize(devices.size());
    shared.resize(devices.size() * devices.size());
  }

  std::vector<Device> devices;
  std::vector<uint32_t> replicas;
  std::vector<int64_t> surplus;  // primaries minus secondaries
  std::vector<uint32_t> shared;  // slices that two devices have in common
  std::vector<Edge> slices;

  uint32_t& Shared(size_t a, size_t b) { return shared[a * devices.size() + b]; }

  // The least filled device outside `partner`'s domain (of all, without one); among equals the one
  // that shares least with the partner, then the smallest id.
  size_t LeastFilled(std::optional<size_t> partner) {
    std::optional<size_t> best;
    for (size_t i = 0; i < devices.size(); ++i) {
      if (partner && devices[i].domain == devices[*partner].domain) continue;
      if (!best) {
        best = i;
        continue;
      }
      const uint64_t weight = Weight(devices[i]);
      const uint64_t best_weight = Weight(devices[*best]);
      if (IsLessFilled(replicas[i], weight, replicas[*best], best_weight)) {
        best = i;
      } else if (partner && !IsLessFilled(replicas[*best], best_weight, replicas[i], weight) &&
                 Shared(i, *partner) < Shared(*best, *partner)) {
        best = i;
      }
    }
    CHECK(best.has_value());
    return *best;
  }

  void Place() {
    const size_t a = LeastFilled(std::nullopt);
    const size_t b = LeastFilled(a);
    ++replicas[a];
    ++replicas[b];
    ++Shared(a, b);
    ++Shared(b, a);
    // Even from the start, as far as one look goes; PrimaryBalance does the rest.
    const Edge slice = surplus[a] <= surplus[b] ? Edge{a, b} : Edge{b, a};
    ++surplus[slice.primary];
    --surplus[slice.secondary];
    slices.push_back(slice);
  }
};

bool HasTwoDomains(std::span<const Device> devices) {
  return std::any_of(devices.begin(), devices.end(),
                     [&](const Device& device) { return device.domain != devices.front().domain; });
}

}  // namespace

std::vector<Pair> PlaceSlices(std::span<const Device> devices, uint32_t slice_count) {
  std::vector<Device> sorted(devices.begin(), devices.end());
  std::erase_if(sorted, [](const Device& device) { return device.leaving; });
  std::sort(sorted.begin(), sorted.end(),
            [](const Device& a, const Device& b) { return a.id < b.id; });
  if (sorted.empty() || !HasTwoDomains(sorted)) return {};
  Placement placement(std::move(sorted));
  for (uint32_t i = 0; i < slice_count; ++i) placement.Place();
  PrimaryBalance(&placement.slices, placement.surplus).Run(SIZE_MAX);
  std::vector<Pair> pairs;
  pairs.reserve(slice_count);
  for (const Edge& slice : placement.slices) {
    CHECK_NE(placement.devices[slice.primary].domain, placement.devices[slice.secondary].domain);
    pairs.push_back({placement.devices[slice.primary].id, placement.devices[slice.secondary].id});
  }
  return pairs;
}

std::vector<size_t> TurnSlices(std::span<const PlacedSlice> slices, size_t turns_max) {
  std::vector<DeviceId> devices;
  for (const PlacedSlice& slice : slices) {
    devices.push_back(slice.primary);
    if (slice.secondary.valid()) devices.push_back(slice.secondary);
  }
  std::sort(devices.begin(), devices.end());
  devices.erase(std::unique(devices.begin(), devices.end()), devices.end());
  const auto index_of = [&](DeviceId id) {
    return static_cast<size_t>(std::lower_bound(devices.begin(), devices.end(), id) -
                               devices.begin());
  };
  std::vector<int64_t> surplus(devices.size());
  std::vector<Edge> edges;
  std::vector<size_t> slice_of_edge;
  for (size_t i = 0; i < slices.size(); ++i) {
    const PlacedSlice& slice = slices[i];
    const size_t primary = index_of(slice.primary);
    ++surplus[primary];
    if (!slice.secondary.valid()) continue;
    CHECK_NE(slice.primary, slice.secondary);
    const size_t secondary = index_of(slice.secondary);
    --surplus[secondary];
    edges.push_back({primary, secondary, slice.may_change});
    slice_of_edge.push_back(i);
  }
  PrimaryBalance(&edges, surplus).Run(turns_max);
  std::vector<size_t> turned;
  for (size_t e = 0; e < edges.size(); ++e) {
    const PlacedSlice& before = slices[slice_of_edge[e]];
    if (devices[edges[e].primary] != before.primary) turned.push_back(slice_of_edge[e]);
  }
  return turned;
}

std::optional<DeviceId> ChooseTarget(std::span<const Device> devices,
                                     const TargetRequest& request) {
  const auto source = std::find_if(devices.begin(), devices.end(), [&](const Device& device) {
    return device.id == request.source;
  });
  if (source == devices.end() || source->joins >= request.joins_per_device_max) return {};
  const Device* best = nullptr;
  for (const Device& device : devices) {
    if (device.domain == source->domain || device.sds == source->sds) continue;
    if (device.leaving || device.joins >= request.joins_per_device_max) continue;
    if (device.used_bytes > device.size_bytes ||
        device.size_bytes - device.used_bytes < request.bytes_needed) {
      continue;
    }
    if (best == nullptr) {
      best = &device;
      continue;
    }
    const bool less = IsLessFilled(device.replicas, Weight(device), best->replicas, Weight(*best));
    const bool more = IsLessFilled(best->replicas, Weight(*best), device.replicas, Weight(device));
    if (less || (!more && device.id < best->id)) best = &device;
  }
  if (best == nullptr) return {};
  return best->id;
}

std::optional<Move> ChooseMove(std::span<const Device> devices, std::span<const PlacedSlice> slices,
                               const MoveRequest& request) {
  std::vector<const Device*> by_fill;
  for (const Device& device : devices) by_fill.push_back(&device);
  std::sort(by_fill.begin(), by_fill.end(), [](const Device* a, const Device* b) {
    const uint64_t fill_a = a->replicas * Weight(*b);
    const uint64_t fill_b = b->replicas * Weight(*a);
    return fill_a != fill_b ? fill_a > fill_b : a->id < b->id;
  });
  const auto find = [&](DeviceId id) -> const Device* {
    const auto at = std::find_if(devices.begin(), devices.end(),
                                 [&](const Device& device) { return device.id == id; });
    return at == devices.end() ? nullptr : &*at;
  };
  for (const Device* from : by_fill) {
    for (auto to_at = by_fill.rbegin(); to_at != by_fill.rend(); ++to_at) {
      const Device& to = **to_at;
      // A gain of less than a twentieth is not worth a copy.
      if ((to.replicas + uint64_t{1}) * Weight(*from) * 21 >= from->replicas * Weight(to) * 20) {
        break;
      }
      if (to.leaving || to.joins >= request.joins_per_device_max) continue;
      const uint64_t needed = from->used_bytes / std::max(1u, from->replicas) * 5 / 4;
      if (to.used_bytes > to.size_bytes || to.size_bytes - to.used_bytes < needed) continue;
      for (size_t i = 0; i < slices.size(); ++i) {
        if (!slices[i].may_change || slices[i].secondary != from->id) continue;
        const Device* source = find(slices[i].primary);
        if (source == nullptr || source->joins >= request.joins_per_device_max) continue;
        if (source->domain == to.domain || source->sds == to.sds) continue;
        return Move{.slice = i, .to = to.id};
      }
    }
  }
  return std::nullopt;
}

uint64_t NetCapacity(std::span<const Device> devices) {
  struct Domain {
    uint64_t domain;
    uint64_t bytes;
  };
  std::vector<Domain> domains;
  uint64_t total = 0;
  uint64_t largest = 0;
  for (const Device& device : devices) {
    if (device.leaving) continue;
    auto at = std::find_if(domains.begin(), domains.end(),
                           [&](const Domain& d) { return d.domain == device.domain; });
    if (at == domains.end()) at = domains.insert(at, {device.domain, 0});
    at->bytes += device.size_bytes;
    total += device.size_bytes;
    largest = std::max(largest, at->bytes);
  }
  return std::min(total / 2, total - largest);
}

}  // namespace gabion::plan
