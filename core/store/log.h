// The writing end of the log: records queue up, batches are sealed from them and written, several
// at a time.
//
//   queue --seal: gets its position--> batches --write--> on its way --> written --> durable
//
// Durable is what was written with everything before it: recovery takes an unbroken run of batches,
// and callers hear of their records in order. A batch goes at once when none is on its way.
// Otherwise it waits until it is as large as all that are: so a slow device gets more to do at a
// time, and batches do not become small because of it.
//
// A record whose item has extents of its own waits until they are written, and those behind it wait
// with it: in the queue or, when a cut sealed them, in their batch.
//
// Ordinary records use the ring up to a half. A checkpoint is the state after a batch, so it begins
// by sealing all that is queued (Cut), into the other half: whatever comes later is behind it, and
// nobody has to wait for the queue to run empty. append_room() is what callers may still queue
// before that could fail. Records of the store itself (floors, relocations) go ahead of the queue
// and may use all of the ring.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/container/btree_set.h"
#include "core/base/buffer.h"
#include "core/base/fifo.h"
#include "core/base/node_pool.h"
#include "core/store/records.h"
#include "core/store/state.h"
#include "core/store/store.h"

namespace gabion::store {

// What a record means to those who wait for it.
struct QueuedRecord {
  size_t bytes = 0;  // of the encoded record
  Item* item = nullptr;
  Slice payload;
  std::optional<Tag> tag;
  // The replica and its last entry once this record is durable; uid 0: none.
  SliceId slice;
  uint64_t uid = 0;
  uint64_t renumbered = 0;
  EntryId last;
  bool renumbers = false;
  // Relocation: of the bytes as they were found, so that rot in them is no torn batch.
  std::vector<uint32_t> crc;
};

class Log {
 public:
  struct Start {
    Superblock superblock;  // of this run
    uint64_t head = 0;
    uint64_t tail = 0;
    uint32_t last_crc = 0;
  };
  Log(const Options& options, DeviceState* state, Counters* counters);

  void Open(const Start& start);

  // Encode with Queue() or Control(), then say what it was.
  RecordWriter Queue() { return RecordWriter(&queue_.bytes); }
  void Queued(QueuedRecord record);
  RecordWriter Control() { return RecordWriter(&control_.bytes); }
  void ControlQueued(QueuedRecord record);
  void CommitPointMoved(const Now& now, SliceId slice);

  // Writes the batches whose turn it is. Returns false when memory is short.
  bool Advance(const Now& now, DiskTag tag_base, Effects& effects);
  // `slot`: of the tag of the write, beyond `tag_base`.
  void OnWritten(const Now& now, uint64_t slot, std::vector<Done>& done);
  // Everything that waits gets kFailed.
  void Fail(std::vector<Done>& done);

  // Seals all that is queued: the state is that of the log below head(). False: the ring has no
  // room for some of it.
  bool Cut();
  void FlushCommitPoints() { flush_commit_points_ = !dirty_commit_points_.empty(); }
  void SetTail(uint64_t tail);

  // Bytes that fit behind what is in the ring and in the queue (store.h).
  uint64_t append_room() const;
  uint64_t queued_count() const { return queued_count_; }          // records of callers ever
  uint64_t renumbered_count() const { return renumbered_count_; }  // durably, ever
  bool control_durable() const { return control_pending_ == 0; }
  bool idle() const {
    return batches_.empty() && queue_.records.empty() && control_.records.empty() &&
           dirty_commit_points_.empty();
  }
  bool blocked() const { return blocked_; }  // the queue waits for space in the ring
  uint64_t head() const { return head_; }    // where the next sealed batch begins
  uint64_t durable_position() const { return durable_position_; }
  // Of the last batch below the last cut; known when that is durable.
  uint32_t cut_crc() const { return cut_crc_; }
  uint64_t used() const { return head_ - tail_; }
  uint64_t record_bytes() const { return record_bytes_; }  // of all records ever; only grows
  // When Advance has something to do without another event.
  Instant deadline() const {
    // What a cut sealed may wait for its extents.
    return batches_.empty() ? std::min(seal_at_, commit_points_at_) : kNever;
  }
  Instant last_activity() const { return last_activity_; }

  void Check() const;

 private:
  struct RecordQueue {
    std::vector<std::byte> bytes;
    size_t consumed = 0;  // of `bytes`
    size_t described = 0;
    Fifo<QueuedRecord> records;
    uint64_t log_bytes = 0;  // of records, checksums and payload

    std::span<const std::byte> Front() const;
    QueuedRecord Pop();
    void Push(QueuedRecord record);
  };
  struct Batch {
    uint64_t position = 0;
    uint64_t header_bytes = 0;
    std::vector<std::byte> bytes;  // records
    std::vector<QueuedRecord> records;
    uint32_t record_count = 0;  // commit points included
    uint32_t control_count = 0;
    uint32_t payload_blocks = 0;
    bool written = false;

    uint64_t total_bytes() const { return header_bytes + uint64_t{payload_blocks} * kBlockBytes; }
    uint64_t end() const { return position + total_bytes(); }
    void Clear();  // keeps its memory
  };

  uint64_t StartFor(uint64_t total) const;
  // The item's extents are not written yet.
  static bool Waits(const QueuedRecord& record);
  // What of the queues fits into one batch and below the limit, up to a record that waits or, with
  // them, beyond; nothing: record_count 0.
  void Gather(uint64_t ring_limit, bool with_waiting);
  // Moves the front record over when batch and ring have room for it.
  bool Take(RecordQueue& queue, uint64_t ring_limit);
  void TakeCommitPoints();
  // Gives what was gathered its place in the ring.
  void Seal();
  // Seals a batch when one is due. False: nothing to write now.
  bool SealNext(const Now& now);
  void Write(const Now& now, Batch& batch, Slice header_block, DiskTag tag, Effects& effects);
  void BecomeDurable(Batch batch, const Now& now, std::vector<Done>& done);

  Options options_;
  DeviceState* state_;
  Counters* counters_;
  Superblock superblock_;
  Geometry geometry_;

  RecordQueue queue_;
  RecordQueue control_;
  Batch gathering_;
  Fifo<Batch> batches_;       // sealed, in order of position; the first `in_flight_` were given out
  std::vector<Batch> spare_;  // empty ones, for their memory
  uint64_t queued_count_ = 0;
  uint32_t queued_renumbers_ = 0;
  uint64_t renumbered_count_ = 0;
  uint32_t control_pending_ = 0;  // control records that are not durable
  absl::btree_set<SliceId, std::less<SliceId>, PoolAllocator<SliceId>> dirty_commit_points_;
  std::vector<Slice> slices_;

  uint64_t head_ = 0;
  uint64_t tail_ = 0;
  // What the last batch that did not fit in front of the ring's end left there unused.
  uint64_t skip_end_ = 0;
  uint64_t skipped_ = 0;
  uint64_t durable_position_ = 0;
  uint32_t last_crc_ = 0;  // of the last batch written
  uint64_t cut_position_ = 0;
  uint32_t cut_crc_ = 0;
  uint64_t record_bytes_ = 0;
  uint32_t in_flight_ = 0;
  uint64_t in_flight_bytes_ = 0;  // of those: their log bytes, headers included
  uint64_t first_batch_ = 0;      // number of the first of `batches_`
  bool blocked_ = false;
  bool flush_commit_points_ = false;
  bool unproven_ = false;  // the last batch holds what no later header proves yet
  Instant seal_at_ = kNever;
  Instant commit_points_at_ = kNever;
  Instant last_activity_;
};

}  // namespace gabion::store
