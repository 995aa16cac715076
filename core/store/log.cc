#include "core/store/log.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

constexpr uint32_t kRecordsPerBatch = 256;
constexpr uint32_t kCommitPointsPerBatch = 512;

}  // namespace

std::span<const std::byte> Log::RecordQueue::Front() const {
  return std::span(bytes).subspan(consumed, records.front().bytes);
}

QueuedRecord Log::RecordQueue::Pop() {
  QueuedRecord record = records.pop_front();
  consumed += record.bytes;
  if (records.empty()) {
    CHECK_EQ(consumed, bytes.size());
    bytes.clear();
    consumed = 0;
    described = 0;
  } else if (consumed > bytes.size() / 2) {
    // A queue that never drains gives up what it has handed over.
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(consumed));
    described -= consumed;
    consumed = 0;
  }
  return record;
}

void Log::RecordQueue::Push(QueuedRecord record) {
  CHECK_GT(bytes.size(), described);
  record.bytes = bytes.size() - described;
  described = bytes.size();
  if (record.item != nullptr) ++record.item->pending;
  records.push_back(std::move(record));
}

Log::Log(const Options& options, DeviceState* state, Counters* counters)
    : options_(options),
      state_(state),
      counters_(counters),
      dirty_commit_points_(PoolAllocator<SliceId>(state->pool())) {}

void Log::Open(const Start& start) {
  superblock_ = start.superblock;
  geometry_ = start.superblock.geometry();
  head_ = start.head;
  tail_ = start.tail;
  durable_position_ = start.head;
  last_crc_ = start.last_crc;
}

void Log::Queued(QueuedRecord record) {
  ++queued_count_;
  if (record.renumbers) ++queued_renumbers_;
  queue_.Push(std::move(record));
}

void Log::ControlQueued(QueuedRecord record) {
  ++control_pending_;
  control_.Push(std::move(record));
}

void Log::CommitPointMoved(const Now& now, SliceId slice) {
  dirty_commit_points_.insert(slice);
  if (commit_points_at_ == kNever) {
    commit_points_at_ = SaturatingAdd(now.boot, options_.commit_point_delay);
  }
}

void Log::SetTail(uint64_t tail) {
  CHECK_GE(tail, tail_);
  CHECK_LE(tail, head_);
  tail_ = tail;
  blocked_ = false;
  // They may have waited for the space.
  if (!dirty_commit_points_.empty()) commit_points_at_ = Instant::min();
}

uint64_t Log::TotalBytes(size_t record_bytes, uint32_t payload_blocks) const {
  return RoundUp(sizeof(BatchHeader) + record_bytes + size_t{payload_blocks} * sizeof(uint32_t),
                 kBlockBytes) +
         uint64_t{payload_blocks} * kBlockBytes;
}

uint64_t Log::StartFor(uint64_t total) const {
  const bool fits = head_ % geometry_.log_bytes + total <= geometry_.log_bytes;
  return fits ? head_ : RoundUp(head_, geometry_.log_bytes);
}

bool Log::Take(RecordQueue& queue, uint64_t ring_limit) {
  const QueuedRecord& front = queue.records.front();
  const auto blocks = static_cast<uint32_t>(front.payload.size() / kBlockBytes);
  const uint64_t total =
      TotalBytes(gathering_.bytes.size() + front.bytes, gathering_.payload_blocks + blocks);
  if (total > geometry_.batch_bytes_max()) {
    CHECK(!gathering_.records.empty()) << "a record is larger than a batch";
    return false;
  }
  if (StartFor(total) + total - tail_ > ring_limit) {
    blocked_ = true;
    return false;
  }
  const std::span<const std::byte> bytes = queue.Front();
  gathering_.bytes.insert(gathering_.bytes.end(), bytes.begin(), bytes.end());
  gathering_.payload_blocks += blocks;
  ++gathering_.record_count;
  gathering_.records.push_back(queue.Pop());
  return true;
}

void Log::TakeCommitPoints() {
  uint32_t count = 0;
  while (!dirty_commit_points_.empty() && count < kCommitPointsPerBatch) {
    const SliceId slice = *dirty_commit_points_.begin();
    if (const Replica* replica = state_->Find(slice); replica != nullptr) {
      const size_t before = gathering_.bytes.size();
      RecordWriter(&gathering_.bytes).CommitPoint(slice, replica->facts.commit_point);
      const uint64_t total = TotalBytes(gathering_.bytes.size(), gathering_.payload_blocks);
      if (total > geometry_.batch_bytes_max() ||
          StartFor(total) + total - tail_ > geometry_.log_bytes) {
        gathering_.bytes.resize(before);
        // With the next batch, or when the tail has moved.
        commit_points_at_ = kNever;
        return;
      }
      ++gathering_.record_count;
      ++count;
    }
    dirty_commit_points_.erase(dirty_commit_points_.begin());
  }
  if (dirty_commit_points_.empty()) commit_points_at_ = kNever;
}

bool Log::Advance(const Now& now, DiskTag tag, Effects& effects) {
  if (in_flight_) return true;
  const bool gathered = gathering_.record_count > 0;  // memory was short the last time
  if (!gathered) {
    const uint64_t ring = geometry_.log_bytes;
    const uint64_t reserve = ring / 16;
    const uint64_t limit = draining_ || queued_renumbers_ > 0 ? ring - reserve : ring / 2;
    while (!control_.records.empty() && gathering_.record_count < kRecordsPerBatch &&
           Take(control_, ring)) {
      ++gathering_.control_count;
    }
    if (control_.records.empty()) {
      blocked_ = false;
      while (!queue_.records.empty() && gathering_.record_count < kRecordsPerBatch &&
             Take(queue_, limit)) {
      }
    }
    const bool due = now.boot >= commit_points_at_ || flush_commit_points_;
    if (gathering_.record_count > 0 || due) TakeCommitPoints();
    flush_commit_points_ = false;
  }
  const bool seal = unproven_ && now.boot >= seal_at_;
  if (gathering_.record_count == 0 && !seal) return true;

  const uint64_t total = TotalBytes(gathering_.bytes.size(), gathering_.payload_blocks);
  const uint64_t position = StartFor(total);
  if (position + total - tail_ > geometry_.log_bytes) {
    // Only a seal, or commit points that the timer wanted: they can wait for space.
    CHECK(gathering_.records.empty());
    seal_at_ = kNever;
    return true;
  }
  const uint64_t payload_bytes = uint64_t{gathering_.payload_blocks} * kBlockBytes;
  Slice header_block = options_.pool->Allocate(static_cast<uint32_t>(total - payload_bytes));
  if (header_block.empty()) return false;
  Write(now, std::move(header_block), position, tag, effects);
  return true;
}

void Log::Write(const Now& now, Slice header_block, uint64_t position, DiskTag tag,
                Effects& effects) {
  const std::span<std::byte> bytes = header_block.mutable_span();
  std::memset(bytes.data(), 0, bytes.size());
  BatchHeader header{.header_bytes = header_block.size(),
                     .log_key = superblock_.log_key,
                     .generation = superblock_.recovery_generation,
                     .position = position,
                     .durable_up_to = durable_position_,
                     .device = superblock_.device,
                     .previous_crc = last_crc_,
                     .record_count = gathering_.record_count,
                     .record_bytes = static_cast<uint32_t>(gathering_.bytes.size()),
                     .payload_blocks = gathering_.payload_blocks};
  std::byte* to = bytes.data() + sizeof(header);
  if (!gathering_.bytes.empty()) {
    std::memcpy(to, gathering_.bytes.data(), gathering_.bytes.size());
    to += gathering_.bytes.size();
  }
  slices_.clear();
  slices_.push_back(Slice());  // the header, when it is finished
  uint64_t payload_position = position + header.header_bytes;
  for (QueuedRecord& record : gathering_.records) {
    if (record.renumbers) --queued_renumbers_;
    if (record.item == nullptr) continue;
    Item& item = *record.item;
    CHECK_EQ(record.payload.size(), uint64_t{item.payload_blocks()} * kBlockBytes);
    const std::span<const uint32_t> crcs =
        record.crc.empty() ? std::span<const uint32_t>(item.crc) : std::span(record.crc);
    CHECK_EQ(crcs.size(), item.crc.size());
    for (const uint32_t crc : crcs) {
      StoreLe(to, crc);
      to += sizeof(crc);
    }
    state_->Place(&item, record.payload.empty() ? position : payload_position);
    item.durable = false;
    item.payload = record.payload;
    payload_position += record.payload.size();
    if (!record.payload.empty()) slices_.push_back(std::move(record.payload));
  }
  CHECK_LE(to, bytes.data() + bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.crc = BatchCrc(bytes);
  std::memcpy(bytes.data(), &header, sizeof(header));
  slices_.front() = std::move(header_block);

  CHECK_EQ(payload_position - position, header.total_bytes());
  CHECK_LE(position + header.total_bytes() - tail_, geometry_.log_bytes);
  effects.DurableWrite(options_.device, geometry_.log_place(position), slices_, tag);
  slices_.clear();
  in_flight_ = true;
  head_ = position + header.total_bytes();
  last_crc_ = header.crc;
  record_bytes_ += gathering_.bytes.size();
  seal_at_ = kNever;
  // An empty batch, or one of commit points, proves the one before and is no loss itself.
  unproven_ = !gathering_.records.empty();
  if (unproven_) last_activity_ = now.boot;
  ++counters_->batches;
  counters_->device_bytes += header.total_bytes();
}

void Log::OnWritten(const Now& now, std::vector<Done>& done) {
  CHECK(in_flight_);
  in_flight_ = false;
  durable_position_ = head_;
  if (unproven_) seal_at_ = SaturatingAdd(now.boot, kSealDelay);
  for (const QueuedRecord& record : gathering_.records) {
    if (record.item != nullptr) {
      --record.item->pending;
      record.item->durable = true;
      record.item->payload = Slice();
    }
    Replica* replica = record.uid == 0 ? nullptr : state_->Find(record.slice);
    if (replica != nullptr && replica->uid == record.uid) {
      if (record.renumbers) --replica->renumber_pending;
      if (replica->renumbered == record.renumbered) {
        replica->facts.last_durable = std::max(replica->facts.last_durable, record.last);
      }
    }
    if (record.tag) done.push_back({.tag = *record.tag, .status = DoneStatus::kOk});
  }
  control_pending_ -= gathering_.control_count;
  gathering_.records.clear();
  gathering_.bytes.clear();
  gathering_.record_count = 0;
  gathering_.control_count = 0;
  gathering_.payload_blocks = 0;
  state_->SweepOrphans();
}

void Log::Fail(std::vector<Done>& done) {
  const auto fail = [&done](QueuedRecord& record) {
    if (record.item != nullptr) --record.item->pending;
    if (record.tag) done.push_back({.tag = *record.tag, .status = DoneStatus::kFailed});
  };
  for (QueuedRecord& record : gathering_.records) fail(record);
  gathering_ = Gathering{};
  for (RecordQueue* queue : {&control_, &queue_}) {
    for (size_t i = 0; i < queue->records.size(); ++i) fail(queue->records[i]);
    *queue = RecordQueue{};
  }
  control_pending_ = 0;
  dirty_commit_points_.clear();
  seal_at_ = kNever;
  commit_points_at_ = kNever;
  state_->SweepOrphans();
}

void Log::Check() const {
  CHECK_LE(tail_, durable_position_);
  CHECK_LE(durable_position_, head_);
  CHECK_LE(head_ - tail_, geometry_.log_bytes);
  CHECK_EQ(in_flight_, durable_position_ != head_);
}

}  // namespace gabion::store
