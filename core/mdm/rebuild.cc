#include "core/mdm/rebuild.h"

#include <algorithm>
#include <optional>
#include <string>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::mdm {
namespace {

constexpr Duration kRetryDelay = std::chrono::seconds(1);  // doubled with each failure
constexpr uint32_t kDoublingsMax = 6;                      // about a minute
// So many, and the delay over: the former member is alive, but not for the primary.
constexpr uint32_t kFormerFailuresMax = 4;
// After this a move that failed counts as new.
constexpr Duration kFailureMemory = std::chrono::seconds(60);

}  // namespace

std::vector<plan::Device> PlanDevices(const View& view, PoolId pool, bool usable_only) {
  const Repository& repository = view.repository;
  std::vector<plan::Device> devices;
  absl::btree_map<DeviceId, size_t> index;
  absl::btree_map<std::string, uint64_t> domains;
  for (const auto& [id, device] : repository.devices()) {
    if (PoolId(device.pool()) != pool) continue;
    const SdsId sds(device.sds());
    if (device.state() != proto::DEVICE_UP) continue;
    if (usable_only && !view.IsAble(sds, id)) continue;
    plan::Device planned;
    planned.id = id;
    planned.sds = sds;
    planned.domain = domains.emplace(repository.DomainOf(sds), domains.size()).first->second;
    planned.size_bytes = device.size_bytes();
    planned.used_bytes = view.device(id).used_bytes;
    planned.leaving = device.removing();
    index.emplace(id, devices.size());
    devices.push_back(planned);
  }
  const auto find = [&](const Member& member) -> plan::Device* {
    const auto at = index.find(member.device);
    return member && at != index.end() ? &devices[at->second] : nullptr;
  };
  for (const auto& [id, slice] : repository.slices()) {
    if (slice.pool != pool) continue;
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      plan::Device* device = find(*member);
      if (device == nullptr) continue;
      ++device->replicas;
      if (member == &slice.primary) ++device->primaries;
      if (slice.joining && member != &slice.secondary) ++device->joins;
    }
  }
  return devices;
}

void Rebuild::Observe(const View& view) {
  absl::btree_map<SliceId, DeviceId> joining;
  for (const auto& [id, slice] : view.repository.slices()) {
    if (slice.joining) joining[id] = slice.joining.device;
  }
  for (const auto& [id, device] : joining_) {
    if (joining.contains(id)) continue;
    const SliceState* slice = view.repository.FindSlice(id);
    if (slice == nullptr || slice->primary.device == device || slice->secondary.device == device) {
      failures_.erase(id);
      continue;
    }
    Failures& failures = failures_[id];
    failures.retry_at = view.now + kRetryDelay * (1 << std::min(failures.count, kDoublingsMax));
    ++failures.count;
  }
  joining_ = std::move(joining);

  auto at = degraded_since_.begin();
  for (const auto& [id, slice] : view.repository.slices()) {
    while (at != degraded_since_.end() && at->first < id) at = degraded_since_.erase(at);
    const bool noted = at != degraded_since_.end() && at->first == id;
    const bool whole = slice.secondary && view.IsAble(slice.secondary);
    if (whole) {
      if (noted) at = degraded_since_.erase(at);
    } else {
      if (!noted) {
        at = degraded_since_.emplace_hint(at, id, view.now);
        failures_.erase(id);  // of a move: lost redundancy does not wait for those
      }
      ++at;
    }
  }
  degraded_since_.erase(at, degraded_since_.end());
  // Of a slice that has both copies, only a move has failed.
  absl::erase_if(failures_, [&](const auto& entry) {
    return !degraded_since_.contains(entry.first) &&
           view.now - entry.second.retry_at >= kFailureMemory;
  });
}

bool Rebuild::MayJoin(SliceId slice, Instant now) const {
  const auto at = failures_.find(slice);
  return at == failures_.end() || now >= at->second.retry_at;
}

std::vector<SliceState> Rebuild::Decide(const View& view, size_t max) const {
  std::vector<SliceState> out;
  absl::btree_map<PoolId, std::vector<plan::Device>> plans;
  const auto device_of = [](std::vector<plan::Device>& devices, DeviceId id) {
    return std::find_if(devices.begin(), devices.end(),
                        [&](const plan::Device& device) { return device.id == id; });
  };
  for (const auto& [id, since] : degraded_since_) {
    if (out.size() == max) break;
    const SliceState* slice = view.repository.FindSlice(id);
    if (slice == nullptr || slice->joining || slice->release) continue;
    if (!view.IsActing(slice->primary)) continue;
    const SliceFacts facts = view.facts(id);
    if (facts.released || facts.primary_needs_resync) continue;
    // Nobody waits for a device that is to go.
    const bool waited =
        view.now - since >= options_.delay || view.repository.IsLeaving(slice->secondary.device);
    SliceState next = *slice;
    next.epoch = view.repository.NextEpoch(*slice);
    if (slice->secondary) {
      if (!waited || view.IsAble(slice->secondary)) continue;
      next.secondary = Member();
      out.push_back(next);
      continue;
    }

    const auto failures = failures_.find(id);
    const bool failed_before = failures != failures_.end();
    if (!MayJoin(id, view.now)) continue;
    auto [at, is_new] = plans.try_emplace(slice->pool);
    std::vector<plan::Device>& devices = at->second;
    if (is_new) devices = PlanDevices(view, slice->pool, true);
    const auto source = device_of(devices, slice->primary.device);
    if (source == devices.end() || source->joins >= options_.joins_per_device_max) continue;

    auto target = devices.end();
    const bool former_fails =
        waited && failed_before && failures->second.count >= kFormerFailuresMax;
    if (slice->former.valid() && !former_fails && !view.repository.IsLeaving(slice->former)) {
      target = device_of(devices, slice->former);
    }
    if (target != devices.end()) {
      if (target->joins >= options_.joins_per_device_max) continue;
    } else {
      const bool former_lost = !slice->former.valid() || view.IsDeviceLost(slice->former) ||
                               view.repository.IsLeaving(slice->former);
      if (!waited && !former_lost) continue;
      // What a replica takes here is about what the average one takes at the source, and a margin
      // for what is written meanwhile.
      plan::TargetRequest request;
      request.source = source->id;
      request.bytes_needed = source->used_bytes / std::max(1u, source->replicas) * 5 / 4;
      request.joins_per_device_max = options_.joins_per_device_max;
      // A device that still has to forget an older replica of the slice is no place for a new one.
      std::vector<plan::Device> candidates = devices;
      std::erase_if(candidates, [&, slice_id = id](const plan::Device& device) {
        return view.repository.stale().contains({slice_id, device.id});
      });
      const auto chosen = plan::ChooseTarget(candidates, request);
      if (!chosen) continue;
      target = device_of(devices, *chosen);
    }
    CHECK(target != devices.end());
    ++target->joins;
    ++target->replicas;
    ++source->joins;
    Member joining;
    joining.sds = target->sds;
    joining.device = target->id;
    next.joining = view.Current(joining, true);
    out.push_back(next);
  }
  return out;
}

uint64_t Rebuild::StateHash() const {
  uint64_t hash = 0;
  for (const auto& [id, since] : degraded_since_) {
    hash = mix64(hash ^ id.value()) + static_cast<uint64_t>(since.time_since_epoch().count());
  }
  return hash;
}

}  // namespace gabion::mdm
