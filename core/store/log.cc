#include "core/store/log.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

constexpr uint32_t kRecordsPerBatch = 256;
constexpr uint32_t kCommitPointsPerBatch = 512;
constexpr uint32_t kInFlightMax = 4;
// Of a batch that does not wait for those on their way.
constexpr uint64_t kOvertakingBytesMin = 32 << 10;

// Of the batch's header block and what follows it.
uint64_t HeaderBytes(size_t record_bytes, uint32_t payload_blocks) {
  return RoundUp(sizeof(BatchHeader) + record_bytes + size_t{payload_blocks} * sizeof(uint32_t),
                 kBlockBytes);
}

uint64_t LogBytes(const QueuedRecord& record) {
  return record.bytes + record.payload.size() +
         record.payload.size() / kBlockBytes * sizeof(uint32_t);
}

uint64_t TotalBytes(size_t record_bytes, uint32_t payload_blocks) {
  return HeaderBytes(record_bytes, payload_blocks) + uint64_t{payload_blocks} * kBlockBytes;
}

}  // namespace

std::span<const std::byte> Log::RecordQueue::Front() const {
  return std::span(bytes).subspan(consumed, records.front().bytes);
}

QueuedRecord Log::RecordQueue::Pop() {
  QueuedRecord record = records.pop_front();
  consumed += record.bytes;
  log_bytes -= LogBytes(record);
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
  log_bytes += LogBytes(record);
  if (record.item != nullptr) ++record.item->pending;
  records.push_back(std::move(record));
}

void Log::Batch::Clear() {
  position = 0;
  header_bytes = 0;
  bytes.clear();
  records.clear();
  record_count = 0;
  control_count = 0;
  payload_blocks = 0;
  written = false;
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
  // They may have waited for the space, and so may the seal.
  if (!dirty_commit_points_.empty()) commit_points_at_ = Instant::min();
  if (unproven_ && in_flight_ == 0 && seal_at_ == kNever) seal_at_ = Instant::min();
}

uint64_t Log::StartFor(uint64_t total) const {
  const bool fits = head_ % geometry_.log_bytes + total <= geometry_.log_bytes;
  return fits ? head_ : RoundUp(head_, geometry_.log_bytes);
}

// A batch never names content that is not on the device yet.
bool Log::Waits(const QueuedRecord& record) {
  return record.item != nullptr && record.item->writing() &&
         !PLANTED_BUG("S1-redirect-not-awaited");
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
  for (auto it = dirty_commit_points_.begin();
       it != dirty_commit_points_.end() && count < kCommitPointsPerBatch;) {
    const SliceId slice = *it;
    const Replica* replica = state_->Find(slice);
    if (replica != nullptr && replica->renumber_pending > 0) {
      ++it;  // the log does not know these numbers yet
      continue;
    }
    if (replica != nullptr) {
      const size_t before = gathering_.bytes.size();
      RecordWriter(&gathering_.bytes).CommitPoint(slice, replica->facts.commit_point);
      const uint64_t total = TotalBytes(gathering_.bytes.size(), gathering_.payload_blocks);
      if (total > geometry_.batch_bytes_max() ||
          StartFor(total) + total - tail_ > geometry_.log_bytes) {
        gathering_.bytes.resize(before);
        break;  // with the next batch, or when the tail has moved
      }
      ++gathering_.record_count;
      ++count;
    }
    it = dirty_commit_points_.erase(it);
  }
  if (count < kCommitPointsPerBatch) commit_points_at_ = kNever;
}

void Log::Gather(uint64_t ring_limit, bool with_waiting) {
  CHECK_EQ(gathering_.record_count, 0u);
  while (!control_.records.empty() && gathering_.record_count < kRecordsPerBatch &&
         Take(control_, geometry_.log_bytes)) {
    ++gathering_.control_count;
  }
  if (!control_.records.empty()) return;
  blocked_ = false;
  while (!queue_.records.empty() && gathering_.record_count < kRecordsPerBatch &&
         (with_waiting || !Waits(queue_.records.front())) && Take(queue_, ring_limit)) {
  }
}

void Log::Seal() {
  gathering_.header_bytes = HeaderBytes(gathering_.bytes.size(), gathering_.payload_blocks);
  gathering_.position = StartFor(gathering_.total_bytes());
  if (gathering_.position != head_) {
    skip_end_ = gathering_.position;
    skipped_ = gathering_.position - head_;
  }
  CHECK_LE(gathering_.end() - tail_, geometry_.log_bytes);
  uint64_t payload_position = gathering_.position + gathering_.header_bytes;
  for (const QueuedRecord& record : gathering_.records) {
    if (record.renumbers) --queued_renumbers_;
    if (record.item == nullptr) continue;
    Item& item = *record.item;
    state_->Place(&item, record.payload.empty() ? gathering_.position : payload_position);
    item.durable = false;
    // Reads take this unverified: not what a relocation found rotten.
    bool good = true;
    for (uint32_t i = 0; i < record.crc.size(); ++i)
      good = good && record.crc[i] == item.PlainCrc(item.IndexOfLogBlock(i));
    item.payload = good ? record.payload : Slice();
    payload_position += record.payload.size();
  }
  CHECK_EQ(payload_position, gathering_.end());
  head_ = gathering_.end();
  record_bytes_ += gathering_.bytes.size();
  Batch next;
  if (!spare_.empty()) {
    next = std::move(spare_.back());
    spare_.pop_back();
  }
  batches_.push_back(std::exchange(gathering_, std::move(next)));
}

bool Log::Cut() {
  while (!control_.records.empty() || !queue_.records.empty()) {
    Gather(geometry_.log_bytes - geometry_.log_reserve(), /*with_waiting=*/true);
    if (gathering_.record_count == 0) return false;
    Seal();
  }
  cut_position_ = head_;
  if (in_flight_ == batches_.size()) cut_crc_ = last_crc_;
  return true;
}

uint64_t Log::append_room() const {
  // Of two batches in a row that were not closed by their number of records, one is more than half
  // full. Each may waste a block, and one of them what is left in front of the ring's end: less
  // than a batch, set aside until the tail has passed it, so that the room does not shrink by it.
  const uint64_t batch_max = geometry_.batch_bytes_max();
  const uint64_t bytes = queue_.log_bytes + control_.log_bytes;
  const uint64_t records = queue_.records.size() + control_.records.size();
  const uint64_t batches = records / kRecordsPerBatch + 2 * bytes / batch_max + 2;
  const uint64_t taken = head_ - tail_ + bytes + batches * kBlockBytes;
  const uint64_t skipped = skip_end_ > tail_ ? skipped_ : 0;
  CHECK_LE(skipped, batch_max);
  const uint64_t room = geometry_.log_bytes - geometry_.log_reserve() - (batch_max - skipped);
  return taken < room ? room - taken : 0;
}

bool Log::SealNext(const Now& now) {
  const uint64_t queued = queue_.log_bytes + control_.log_bytes;
  if (in_flight_ > 0 && queued < std::max(kOvertakingBytesMin, in_flight_bytes_)) return false;
  const uint64_t ring = geometry_.log_bytes;
  Gather(queued_renumbers_ > 0 ? ring - geometry_.log_reserve() : ring / 2,
         /*with_waiting=*/false);
  const bool due = in_flight_ == 0 && (now.boot >= commit_points_at_ || flush_commit_points_);
  if (gathering_.record_count > 0 || due) {
    TakeCommitPoints();
    flush_commit_points_ = false;
  }
  if (gathering_.record_count == 0) {
    const bool seal = in_flight_ == 0 && unproven_ && now.boot >= seal_at_;
    if (!seal) return false;
    const uint64_t total = TotalBytes(0, 0);
    if (StartFor(total) + total - tail_ > ring) {
      seal_at_ = kNever;  // it can wait for space
      return false;
    }
  }
  Seal();
  return true;
}

bool Log::Advance(const Now& now, DiskTag tag_base, Effects& effects) {
  while (in_flight_ < kInFlightMax && (in_flight_ < batches_.size() || SealNext(now))) {
    Batch& batch = batches_[in_flight_];
    // Of a cut: it seals what waits, too.
    if (std::any_of(batch.records.begin(), batch.records.end(), &Log::Waits)) break;
    Slice header_block = options_.pool->Allocate(static_cast<uint32_t>(batch.header_bytes));
    if (header_block.empty()) return false;
    const uint64_t slot = (first_batch_ + in_flight_) % kInFlightMax;
    Write(now, batch, std::move(header_block), tag_base | slot, effects);
  }
  return true;
}

void Log::Write(const Now& now, Batch& batch, Slice header_block, DiskTag tag, Effects& effects) {
  const std::span<std::byte> bytes = header_block.mutable_span();
  std::memset(bytes.data(), 0, bytes.size());
  BatchHeader header{.header_bytes = header_block.size(),
                     .log_key = superblock_.log_key,
                     .generation = superblock_.recovery_generation,
                     .position = batch.position,
                     .durable_up_to = durable_position_,
                     .device = superblock_.device,
                     .previous_crc = last_crc_,
                     .record_count = batch.record_count,
                     .record_bytes = static_cast<uint32_t>(batch.bytes.size()),
                     .payload_blocks = batch.payload_blocks};
  std::byte* to = bytes.data() + sizeof(header);
  if (!batch.bytes.empty()) {
    std::memcpy(to, batch.bytes.data(), batch.bytes.size());
    to += batch.bytes.size();
  }
  slices_.clear();
  slices_.push_back(Slice());  // the header, when it is finished
  for (QueuedRecord& record : batch.records) {
    if (record.item == nullptr) continue;
    const Item& item = *record.item;
    CHECK_EQ(record.payload.size(), uint64_t{item.log_blocks()} * kBlockBytes);
    CHECK(record.crc.empty() || record.crc.size() == item.log_blocks());
    for (uint32_t i = 0; i < item.log_blocks(); ++i) {
      const uint32_t crc =
          record.crc.empty() ? item.PlainCrc(item.IndexOfLogBlock(i)) : record.crc[i];
      StoreLe(to, crc);
      to += sizeof(crc);
    }
    if (!record.payload.empty()) slices_.push_back(std::move(record.payload));
  }
  CHECK_LE(to, bytes.data() + bytes.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.crc = BatchCrc(bytes);
  std::memcpy(bytes.data(), &header, sizeof(header));
  slices_.front() = std::move(header_block);

  CHECK_EQ(header.total_bytes(), batch.total_bytes());
  if (PLANTED_BUG("S1-batch-not-durable")) {
    effects.Write(options_.device, geometry_.log_place(batch.position), slices_, tag);
  } else {
    effects.DurableWrite(options_.device, geometry_.log_place(batch.position), slices_, tag);
  }
  slices_.clear();
  ++in_flight_;
  in_flight_bytes_ += batch.total_bytes();
  last_crc_ = header.crc;
  if (batch.end() == cut_position_) cut_crc_ = header.crc;
  seal_at_ = kNever;
  // An empty batch, or one of commit points, proves the one before and is no loss itself.
  unproven_ = !batch.records.empty();
  if (unproven_) last_activity_ = now.boot;
  ++counters_->batches;
  counters_->device_bytes += header.total_bytes();
  counters_->log_bytes += header.total_bytes();
}

void Log::OnWritten(const Now& now, uint64_t slot, std::vector<Done>& done) {
  const uint64_t index = (slot + kInFlightMax - first_batch_ % kInFlightMax) % kInFlightMax;
  CHECK_LT(index, in_flight_);
  CHECK(!batches_[index].written);
  batches_[index].written = true;
  if (PLANTED_BUG("S1-acknowledged-out-of-order")) {
    for (QueuedRecord& record : batches_[index].records) {
      if (record.tag) done.push_back({.tag = *record.tag, .status = DoneStatus::kOk});
      record.tag.reset();
    }
  }
  while (in_flight_ > 0 && batches_.front().written) {
    --in_flight_;
    ++first_batch_;
    in_flight_bytes_ -= batches_.front().total_bytes();
    BecomeDurable(batches_.pop_front(), now, done);
  }
  if (in_flight_ == 0 && unproven_ && !PLANTED_BUG("S2-idle-log-not-sealed")) {
    seal_at_ = SaturatingAdd(now.boot, kSealDelay);
  }
  state_->SweepOrphans();
}

void Log::BecomeDurable(Batch batch, const Now& now, std::vector<Done>& done) {
  durable_position_ = batch.end();
  for (const QueuedRecord& record : batch.records) {
    if (record.item != nullptr) {
      --record.item->pending;
      record.item->durable = true;
      record.item->payload = Slice();
    }
    Replica* replica = record.uid == 0 ? nullptr : state_->Find(record.slice);
    if (replica != nullptr && replica->uid == record.uid) {
      if (record.renumbers && --replica->renumber_pending == 0) {
        ++renumbered_count_;
        if (dirty_commit_points_.contains(record.slice)) commit_points_at_ = now.boot;
      }
      if (replica->renumbered == record.renumbered) {
        replica->facts.last_durable = std::max(replica->facts.last_durable, record.last);
      }
    }
    if (record.tag) done.push_back({.tag = *record.tag, .status = DoneStatus::kOk});
  }
  control_pending_ -= batch.control_count;
  batch.Clear();
  spare_.push_back(std::move(batch));
}

void Log::Fail(std::vector<Done>& done) {
  const auto fail = [&done](QueuedRecord& record) {
    if (record.item != nullptr) --record.item->pending;
    if (record.tag) done.push_back({.tag = *record.tag, .status = DoneStatus::kFailed});
  };
  while (!batches_.empty()) {
    Batch batch = batches_.pop_front();
    for (QueuedRecord& record : batch.records) fail(record);
  }
  for (QueuedRecord& record : gathering_.records) fail(record);
  gathering_ = Batch{};
  for (RecordQueue* queue : {&control_, &queue_}) {
    for (size_t i = 0; i < queue->records.size(); ++i) fail(queue->records[i]);
    *queue = RecordQueue{};
  }
  in_flight_ = 0;
  in_flight_bytes_ = 0;
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
  CHECK_EQ(batches_.empty(), durable_position_ == head_);
  CHECK_LE(in_flight_, batches_.size());
}

}  // namespace gabion::store
