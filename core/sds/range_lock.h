// Order of overlapping I/O within one slice at its primary (replication.md, section 3). First come,
// first served per overlapping range; readers share. A lock is held by a write until it is
// committed, so a read that gets its lock sees committed data only (R8).
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/ids.h"
#include "core/wire/data.h"

namespace gabion::sds {

class RangeLock {
 public:
  struct Range {
    VtreeId vtree;
    uint32_t chunk = 0;
    uint16_t first_block = 0;
    uint16_t block_count = 0;
  };
  enum class Mode : uint8_t { kShared, kExclusive };
  // Whom to wake: a request by its tag, a copy of a joining, a repair or an examination
  // by its number.
  struct Owner {
    enum class Kind : uint8_t { kRequest, kCopy, kRepair, kExamination };
    Owner(uint64_t the_number = 0, Kind the_kind = Kind::kRequest)  // NOLINT: a tag is an owner
        : number(the_number), kind(the_kind) {}
    uint64_t number;
    Kind kind;
    friend bool operator==(const Owner&, const Owner&) = default;
  };

  struct Handle {
    Range range;
    uint64_t id = 0;  // 0: no lock
  };

  // True when the lock is granted at once; else `owner` comes out of a later Release.
  bool Acquire(const Range& range, Mode mode, Owner owner, Handle* handle);
  // An exclusive lock in spite of others: entries that a primary finds in its tail overlap each
  // other, and were ordered before.
  Handle AcquireInPlace(const Range& range);
  // Gives the lock, or the place in the queue, back. Owners whose turn it now is are appended.
  void Release(Handle* handle, std::vector<Owner>* granted);

  // Adds the blocks of this chunk that somebody holds for writing.
  void AddExclusive(VtreeId vtree, uint32_t chunk, wire::ChunkPresence* blocks) const;

  size_t held_or_waiting() const { return count_; }
  void CheckInvariants() const;

 private:
  struct Item {
    VtreeId vtree;
    uint32_t chunk = 0;
    uint64_t id = 0;
    Owner owner;
    uint32_t first = 0;
    uint32_t end = 0;
    Mode mode{};
    bool granted = false;
    bool in_place = false;
  };
  // Locks and waiters of all chunks that fall here, in order of arrival.
  using Bucket = std::vector<Item>;
  static constexpr size_t kBuckets = 64;

  static bool Conflict(const Item& a, const Item& b) {
    return a.vtree == b.vtree && a.chunk == b.chunk && a.first < b.end && b.first < a.end &&
           (a.mode == Mode::kExclusive || b.mode == Mode::kExclusive);
  }
  // No earlier item stands in the way of bucket[index].
  static bool Free(const Bucket& bucket, size_t index);
  static size_t BucketOf(VtreeId vtree, uint32_t chunk);
  Item& Push(const Range& range, Mode mode, Owner owner);

  std::vector<Bucket> buckets_ = std::vector<Bucket>(kBuckets);
  uint64_t next_id_ = 1;
  size_t count_ = 0;
};

}  // namespace gabion::sds
