#include "core/mdm/moves.h"

#include <algorithm>
#include <optional>

#include "absl/container/btree_set.h"
#include "core/base/check.h"
#include "core/plan/plan.h"

namespace gabion::mdm {
namespace {

plan::Device* Find(std::vector<plan::Device>& devices, DeviceId id) {
  const auto at = std::find_if(devices.begin(), devices.end(),
                               [&](const plan::Device& device) { return device.id == id; });
  return at == devices.end() ? nullptr : &*at;
}

// The moves of one pool. Each one that is decided changes what the next is decided from.
class PoolMoves {
 public:
  PoolMoves(const View& view, const Rebuild& rebuild, PoolId pool, uint32_t joins_per_device_max)
      : view_(view),
        rebuild_(rebuild),
        pool_(pool),
        joins_per_device_max_(joins_per_device_max),
        devices_(PlanDevices(view, pool, true)) {}

  void EmptyLeaving(std::vector<SliceState>* out, size_t max) {
    for (const auto& [id, slice] : view_.repository.slices()) {
      if (out->size() == max) return;
      if (slice.pool != pool_ || !MayMove(slice)) continue;
      if (!view_.repository.IsLeaving(slice.secondary.device)) continue;
      plan::TargetRequest request;
      request.source = slice.primary.device;
      const plan::Device* source = Find(devices_, slice.primary.device);
      if (source == nullptr) continue;
      request.bytes_needed = source->used_bytes / std::max(1u, source->replicas) * 5 / 4;
      request.joins_per_device_max = joins_per_device_max_;
      std::vector<plan::Device> candidates = devices_;
      std::erase_if(candidates, [&](const plan::Device& device) {
        return device.id == slice.secondary.device || IsStale(slice, device.id);
      });
      if (const auto to = plan::ChooseTarget(candidates, request)) Join(slice, *to, out);
    }
  }

  void EvenOut(std::vector<SliceState>* out, size_t max) {
    std::vector<plan::PlacedSlice> placed;
    std::vector<const SliceState*> slices;
    for (const auto& [id, slice] : view_.repository.slices()) {
      if (slice.pool != pool_) continue;
      placed.push_back({slice.primary.device, slice.secondary.device, MayMove(slice)});
      slices.push_back(&slice);
      // As it will be when what is under way has come about.
      if (!slice.joining || !slice.secondary) continue;
      if (plan::Device* from = Find(devices_, slice.secondary.device)) --from->replicas;
    }
    while (out->size() < max) {
      const auto move =
          plan::ChooseMove(devices_, placed, {.joins_per_device_max = joins_per_device_max_});
      if (!move) return;
      const SliceState& slice = *slices[move->slice];
      placed[move->slice].may_change = false;
      if (IsStale(slice, move->to)) continue;
      if (plan::Device* from = Find(devices_, slice.secondary.device)) --from->replicas;
      Join(slice, move->to, out);
    }
  }

 private:
  bool MayMove(const SliceState& slice) const {
    return slice.secondary && !slice.joining && !slice.release && view_.IsActing(slice.primary) &&
           view_.IsActing(slice.secondary) && rebuild_.MayJoin(slice.id, view_.now);
  }

  // A device that still has to forget an older replica of the slice is no place for a new one.
  bool IsStale(const SliceState& slice, DeviceId device) const {
    return view_.repository.stale().contains({slice.id, device});
  }

  void Join(const SliceState& slice, DeviceId to, std::vector<SliceState>* out) {
    plan::Device* source = Find(devices_, slice.primary.device);
    plan::Device* target = Find(devices_, to);
    CHECK(source != nullptr && target != nullptr);
    ++source->joins;
    ++target->joins;
    ++target->replicas;
    SliceState next = slice;
    next.epoch = view_.repository.NextEpoch(slice);
    Member joining;
    joining.sds = target->sds;
    joining.device = target->id;
    next.joining = view_.Current(joining, true);
    out->push_back(next);
  }

  const View& view_;
  const Rebuild& rebuild_;
  PoolId pool_;
  uint32_t joins_per_device_max_;
  std::vector<plan::Device> devices_;
};

}  // namespace

std::vector<SliceState> DecideMoves(const View& view, const Rebuild& rebuild,
                                    const MoveOptions& options) {
  std::vector<SliceState> out;
  absl::btree_set<PoolId> leaving;
  for (const auto& [id, device] : view.repository.devices()) {
    if (device.removing()) leaving.insert(PoolId(device.pool()));
  }
  for (const PoolId pool : leaving) {
    if (!view.repository.FindPool(pool)->placed()) continue;
    PoolMoves(view, rebuild, pool, options.joins_per_device_max).EmptyLeaving(&out, options.max);
  }
  for (const PoolId pool : options.calm) {
    if (leaving.contains(pool) || out.size() == options.max) continue;
    PoolMoves(view, rebuild, pool, options.joins_per_device_max).EvenOut(&out, options.max);
  }
  return out;
}

std::vector<DeviceId> EmptiedDevices(const Repository& repository) {
  std::vector<DeviceId> out;
  for (const auto& [id, device] : repository.devices()) {
    if (device.removing() && repository.HeldBy(id) == 0) out.push_back(id);
  }
  return out;
}

std::vector<SdsId> EmptiedSdss(const Repository& repository) {
  std::vector<SdsId> out;
  for (const auto& [id, sds] : repository.sdss()) {
    if (!sds.removing()) continue;
    const bool has_devices =
        std::any_of(repository.devices().begin(), repository.devices().end(),
                    [&](const auto& device) { return SdsId(device.second.sds()) == id; });
    if (!has_devices) out.push_back(id);
  }
  return out;
}

}  // namespace gabion::mdm
