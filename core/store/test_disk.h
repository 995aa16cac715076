// A disk for tests: operations wait until the test completes them, in any order; what was not made
// durable is lost in a power cut, by pieces of 512 B. Reads see the device's cache. A copy is a
// fork of the disk, and costs little.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::store {

// Bytes, shared page by page between copies until one of them writes.
class DiskImage {
 public:
  explicit DiskImage(uint64_t size_bytes);

  void Read(uint64_t offset_bytes, std::span<std::byte> to) const;
  void Write(uint64_t offset_bytes, std::span<const std::byte> from);
  uint64_t size_bytes() const { return size_bytes_; }
  // Equal images, and hardly any others, have equal hashes.
  uint64_t Hash() const;

 private:
  static constexpr uint64_t kPageBytes = 64 << 10;
  using Page = std::array<std::byte, kPageBytes>;

  // Calls `visit(page index, offset within it, offset within the range, bytes)` piece by piece.
  template <class Visit>
  static void ForEachPiece(uint64_t offset_bytes, uint64_t length_bytes, Visit visit);

  uint64_t size_bytes_;
  std::vector<std::shared_ptr<Page>> pages_;  // null: zeroes
};

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
  uint64_t pending_length(size_t index) const { return pending_[index].effect.length_bytes; }

  // Carries out one and returns the event for its owner. With another status than kOk a write may
  // have happened or not (here: not).
  DiskDoneEvent Complete(size_t index, DiskStatus status = DiskStatus::kOk);

  // The process ends: each waiting operation happens wholly or not at all; the cache stays.
  void Kill(RandomStream& random);
  // The power fails: of each unit, one of: durable content, any later one, garbage.
  void PowerCut(RandomStream& random);

  // The writes that a power cut may lose, oldest first, and one that loses just what it is told to.
  enum class Fate : uint8_t { kLost, kWhole, kFirstHalf, kSecondHalf };
  size_t undecided() const;
  void PowerCut(std::span<const Fate> fates);

  // The bytes as reads see them; changes made here are durable (rot, wiping, roll-back).
  std::vector<std::byte> Content(uint64_t offset_bytes, uint64_t length_bytes) const;
  const DiskImage& image() const { return cache_; }
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

  struct UnitRange {
    uint64_t first = 0;
    uint64_t count = 0;
  };

  static bool IsWrite(const Pending& operation);
  static UnitRange Units(const DiskEffect& write);
  void Apply(const Pending& operation);
  // As if it had reached the cache and nothing more.
  void Undecide(const Pending& write);
  // Calls `visit(unit index, 512 bytes)` for what a write would put there.
  template <class Visit>
  void ForEachUnit(const Pending& write, Visit visit) const;
  void SetDurable(uint64_t unit, std::span<const std::byte> content);

  Options options_;
  DiskImage cache_;
  DiskImage durable_;
  std::map<uint64_t, std::vector<Version>> undecided_;  // by unit; newer than durable_, in order
  std::map<uint64_t, UnitRange> undecided_writes_;      // by order
  std::deque<Pending> pending_;
  uint64_t order_ = 0;
  uint64_t writes_ = 0;
};

}  // namespace gabion::store
