// A disk for tests: operations wait until the test completes them, in any order; what was not made
// durable is lost in a power cut, by pieces of 512 B. Reads see the device's cache.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::store {

class TestDisk {
 public:
  struct Options {
    DeviceIndex device{};
    uint64_t size_bytes = 0;
    uint32_t block_bytes = 512;
    bool volatile_cache = true;
    // A power cut may also leave garbage in units that were written but not durable.
    bool garbage = true;
  };

  static constexpr uint32_t kUnitBytes = 512;  // written or not, never half

  explicit TestDisk(const Options& options);

  DeviceInfo info() const;

  // Takes the disk effects of this device; operations of other devices are left alone. CHECKs
  // alignment and bounds: those are the store's own invariants.
  void Submit(const Effects& effects);

  // Operations that wait, oldest first.
  size_t pending() const { return pending_.size(); }
  DiskOp pending_op(size_t index) const { return pending_[index].effect.op; }
  uint64_t pending_offset(size_t index) const { return pending_[index].effect.offset_bytes; }

  // Carries out one and returns the event for its owner. With another status than kOk a write may
  // have happened or not (here: not).
  DiskDoneEvent Complete(size_t index, DiskStatus status = DiskStatus::kOk);

  // The process ends: each waiting operation happens wholly or not at all; the cache stays.
  void Kill(RandomStream& random);
  // The power fails: of each unit, one of: durable content, any later one, garbage.
  void PowerCut(RandomStream& random);

  // The bytes as reads see them; changes made here are durable (rot, wiping, roll-back).
  std::span<const std::byte> bytes() const { return cache_; }
  void Overwrite(uint64_t offset_bytes, std::span<const std::byte> with);
  void FlipBit(uint64_t bit_index);

  uint64_t writes() const { return writes_; }

 private:
  struct Pending {
    DiskEffect effect;
    std::vector<Slice> slices;
    uint64_t order = 0;  // of a flush: what was completed before it was submitted
  };
  struct Version {
    uint64_t order = 0;
    std::vector<std::byte> content;
  };

  void Apply(const Pending& operation);
  // Calls `visit(unit index, 512 bytes)` for what a write would put there.
  template <class Visit>
  void ForEachUnit(const Pending& write, Visit visit) const;
  void SetDurable(uint64_t unit, std::span<const std::byte> content);

  Options options_;
  std::vector<std::byte> cache_;
  std::vector<std::byte> durable_;
  std::map<uint64_t, std::vector<Version>> undecided_;  // by unit; newer than durable_, in order
  std::deque<Pending> pending_;
  uint64_t order_ = 0;
  uint64_t writes_ = 0;
};

}  // namespace gabion::store
