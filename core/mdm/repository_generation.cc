// R23: what commands make of a repository that was restored from an older copy.
#include "core/base/check.h"
#include "core/mdm/lookup.h"
#include "core/mdm/repository.h"

namespace gabion::mdm {
namespace {

constexpr uint64_t CounterOf(uint64_t id) { return id & ((uint64_t{1} << kGenerationShift) - 1); }

}  // namespace

bool Repository::IsOfLostRepository(uint64_t id) const {
  if (GenerationOf(id) >= generation_) return false;
  // Of a generation between, nothing is known here: somebody else's.
  const auto ended = ended_.find(GenerationOf(id));
  return ended == ended_.end() || CounterOf(id) >= ended->second;
}

bool Repository::IsFromTheFuture(uint64_t id) const {
  return GenerationOf(id) > generation_ ||
         (GenerationOf(id) == generation_ && CounterOf(id) >= next_id_);
}

PoolId Repository::PoolOfSlice(SliceId slice) const {
  for (const auto& [id, pool] : pools_) {
    const uint64_t first = pool.first_slice();
    if (pool.placed() && slice.value() >= first && slice.value() - first < pool.slice_count()) {
      return id;
    }
  }
  return PoolId();
}

void Repository::Do(const proto::RaiseGeneration& command, Changes& changes) {
  CHECK_GT(command.generation(), generation_);
  CHECK_LE(command.generation(), kGenerationMax);
  ended_[generation_] = next_id_;
  generation_ = command.generation();
  closed_.insert(slices_.begin(), slices_.end());
  slices_.clear();
  // Both speak of members that may be others by now.
  stale_.clear();
  rolled_back_.clear();
  for (auto& [id, device] : devices_) {
    // It may have been formatted, and used, since.
    device.set_force(false);
  }
  changes.id = generation_;
}

void Repository::Do(const proto::ReopenSlices& command, Changes& changes) {
  for (const proto::SliceConfig& config : command.slices()) {
    const SliceId id(config.slice());
    const PoolId pool = Get(closed_, id).pool;
    closed_.erase(id);
    SliceState slice;
    FromProto(config, slice);
    slice.pool = pool;
    CHECK_EQ(GenerationOf(slice.epoch.value()), generation_);
    CHECK(!slice.joining);
    CheckSlice(slice);
    SliceState before;
    before.id = id;
    before.pool = pool;
    changes.slices_before.push_back(before);
    CHECK(slices_.emplace(id, slice).second);
  }
  for (const proto::StaleReplica& leftover : command.leftovers()) {
    SliceState& slice = Get(slices_, SliceId(leftover.slice()));
    const DeviceId device(leftover.device());
    CHECK(device != slice.primary.device && device != slice.secondary.device);
    if (!devices_.contains(device)) continue;
    if (!slice.secondary && !slice.former.valid()) {
      slice.former = device;
    } else {
      MarkStale(slice.id, device, changes);
    }
  }
}

void Repository::Do(const proto::AdoptDevice& command, Changes& changes) {
  proto::Device device;
  device.set_id(command.device());
  device.set_sds(command.sds());
  device.set_pool(command.pool());
  device.set_path(command.path());
  device.set_size_bytes(command.size_bytes());
  device.set_state(proto::DEVICE_UP);
  CHECK(sdss_.contains(SdsId(command.sds())) && pools_.contains(PoolId(command.pool())));
  CountPoolMember(SdsId(command.sds()), PoolId(command.pool()), 1, changes);
  changes.id = command.device();
  changes.devices.push_back(DeviceId(command.device()));
  CHECK(devices_.emplace(DeviceId(command.device()), std::move(device)).second);
}

}  // namespace gabion::mdm
