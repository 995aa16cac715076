// A small durable journal on a node's state device: the incarnation counter of every daemon, and
// the repository of the MDM. Two areas, used in turn: an area is one snapshot followed by records.
// When an area is full the owner gives a new snapshot, which is made durable in the other area
// under the next generation before anything refers to it. Recovery takes the newest area whose
// snapshot is whole, and its longest unbroken run of records; each record names its predecessor's
// checksum, and says up to where the journal was durable when it was written, so a torn tail and
// rot are told apart (store.md S1, S2; docs/journal.md shows the bytes).
//
// What the owner is told to be durable stands in two places: the record, and the proof that it was
// there (a seal, or the batch behind it). So one block that is lost, whether it rots or its write
// was a lie, never makes a journal that is a little older than what was acted upon: it is refused.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/base/time.h"
#include "core/role/effects.h"

namespace gabion::store {

class JournalImpl;

class Journal {
 public:
  struct Options {
    DeviceIndex device{};
    BufferPool* pool = nullptr;  // when it is exhausted the journal takes memory of its own
    uint64_t disk_tag_base = 0;  // its DiskTags are [base, base + 2^32)
    uint64_t area_bytes = 0;     // 0: half of the device
  };
  enum class State : uint8_t { kClosed, kOpening, kOpen, kFailed };

  struct Progress {
    bool opened = false;            // this event finished Open; snapshot() and records() are set
    uint64_t durable_sequence = 0;  // every Append up to this number is durable, and proven
    bool snapshot_durable = false;
  };

  explicit Journal(const Options& options);
  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) noexcept;
  ~Journal();

  // Reads everything; a device of zeroes is an empty journal. Damage that is not a torn tail fails,
  // and so does foreign content; nothing is written then. Either way state() tells, at the latest
  // at the last DiskDone.
  void Open(const DeviceInfo& info, Effects& effects);
  // `handled` says whether the event was the journal's.
  Progress OnDiskDone(const DiskDoneEvent& event, Effects& effects, bool* handled);

  State state() const;
  const std::string& error() const;

  // After Open: what was recovered. Both empty for a new journal. Freed by ForgetRecovered().
  std::span<const std::byte> snapshot() const;
  const std::vector<std::vector<std::byte>>& records() const;
  void ForgetRecovered();

  // Queues a record (one durable write carries all that wait); returns its sequence number, from 1.
  // Never fails for space: `needs_snapshot()` rises early enough, and the owner then gives one. (In
  // an area that is full nevertheless, records wait for that snapshot.) After a failure nothing
  // becomes durable any more.
  uint64_t Append(std::span<const std::byte> record, Effects& effects);
  bool needs_snapshot() const;
  uint64_t snapshot_bytes_max() const;
  // Replaces everything appended so far; `snapshot` must include every record appended, those that
  // wait too: they become durable with it. Above snapshot_bytes_max() the journal fails.
  void WriteSnapshot(std::span<const std::byte> snapshot, Effects& effects);
  uint64_t durable_sequence() const;

  uint64_t StateHash() const;

 private:
  std::unique_ptr<JournalImpl> impl_;
};

}  // namespace gabion::store
