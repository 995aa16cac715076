// The writing end of the log: records queue up, one batch is on its way, the next one gathers.
//
// The ring is used up to a half by ordinary records, so that what is queued when a checkpoint
// begins always fits into the rest: a checkpoint is the state after a batch that emptied the queue.
// Records of the store itself (floors, relocations) go ahead of the queue and may use all of the
// ring.
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

  // Starts a batch when there is one to write and none on its way. Returns false when memory is
  // short.
  bool Advance(const Now& now, DiskTag tag, Effects& effects);
  void OnWritten(const Now& now, std::vector<Done>& done);
  // Everything that waits gets kFailed.
  void Fail(std::vector<Done>& done);

  void SetDraining(bool draining) { draining_ = draining; }
  void FlushCommitPoints() { flush_commit_points_ = !dirty_commit_points_.empty(); }
  void SetTail(uint64_t tail);

  // All that was queued is in batches that are written or on their way: the state is that of the
  // log below head().
  bool sealed() const {
    return queue_.records.empty() && control_.records.empty() &&
           (in_flight_ || gathering_.record_count == 0);
  }
  uint64_t queued_count() const { return queued_count_; }  // records of callers ever
  bool control_durable() const { return control_pending_ == 0; }
  bool idle() const {
    return !in_flight_ && queue_.records.empty() && control_.records.empty() &&
           dirty_commit_points_.empty();
  }
  bool blocked() const { return blocked_; }  // the queue waits for space in the ring
  uint64_t head() const { return head_; }
  uint64_t durable_position() const { return durable_position_; }
  uint32_t last_crc() const { return last_crc_; }
  uint64_t used() const { return head_ - tail_; }
  uint64_t record_bytes() const { return record_bytes_; }  // of all records ever; only grows
  // When Advance has something to do without another event.
  Instant deadline() const { return in_flight_ ? kNever : std::min(seal_at_, commit_points_at_); }
  bool in_flight() const { return in_flight_; }
  Instant last_activity() const { return last_activity_; }

  void Check() const;

 private:
  struct RecordQueue {
    std::vector<std::byte> bytes;
    size_t consumed = 0;  // of `bytes`
    size_t described = 0;
    Fifo<QueuedRecord> records;

    std::span<const std::byte> Front() const;
    QueuedRecord Pop();
    void Push(QueuedRecord record);
  };
  struct Gathering {
    std::vector<std::byte> bytes;  // records
    std::vector<QueuedRecord> records;
    uint32_t record_count = 0;  // commit points included
    uint32_t control_count = 0;
    uint32_t payload_blocks = 0;
  };

  uint64_t TotalBytes(size_t record_bytes, uint32_t payload_blocks) const;
  uint64_t StartFor(uint64_t total) const;
  // Moves the front record over when batch and ring have room for it.
  bool Take(RecordQueue& queue, uint64_t ring_limit);
  void TakeCommitPoints();
  void Write(const Now& now, Slice header_block, uint64_t position, DiskTag tag, Effects& effects);

  Options options_;
  DeviceState* state_;
  Counters* counters_;
  Superblock superblock_;
  Geometry geometry_;

  RecordQueue queue_;
  RecordQueue control_;
  Gathering gathering_;  // sealed, waiting for memory, or on its way
  uint64_t queued_count_ = 0;
  uint32_t queued_renumbers_ = 0;
  uint32_t control_pending_ = 0;  // control records that are not durable
  absl::btree_set<SliceId, std::less<SliceId>, PoolAllocator<SliceId>> dirty_commit_points_;
  std::vector<Slice> slices_;

  uint64_t head_ = 0;  // where the next batch begins
  uint64_t tail_ = 0;
  uint64_t durable_position_ = 0;
  uint32_t last_crc_ = 0;
  uint64_t record_bytes_ = 0;
  bool in_flight_ = false;
  bool blocked_ = false;
  bool draining_ = false;
  bool flush_commit_points_ = false;
  bool unproven_ = false;  // the last batch holds what no later header proves yet
  Instant seal_at_ = kNever;
  Instant commit_points_at_ = kNever;
  Instant last_activity_;
};

}  // namespace gabion::store
