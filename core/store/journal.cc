#include "core/store/journal.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "core/base/bug.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/store/journal_format.h"

namespace gabion::store {

using journal::BatchBytes;
using journal::BatchHeader;
using journal::kAreasBegin;
using journal::kBlock;
using journal::kHeaderBytes;

namespace {

// Larger transfers go as several: hosts and devices have limits.
constexpr uint32_t kTransferBytesMax = 1u << 20;
// A batch takes what waits up to here, and at least one record.
constexpr uint64_t kBatchRecordBytesMax = 1u << 20;
constexpr uint64_t kTagCount = uint64_t{1} << 32;

uint64_t RecordBytes(const std::vector<std::byte>& record) { return 4 + record.size(); }

}  // namespace

// At most one batch and one seal are on their way at a time.
//
//   kClosed -> kFlushing -> kReadingSeals -+-> kReadingAreas -> kMending -+-------------+-> kOpen
//                                          +-> kReadingAll --------------+-> kSealing --+
class JournalImpl {
 public:
  explicit JournalImpl(const Journal::Options& options)
      : options_(options), reserve_({.bytes_max = SIZE_MAX}) {
    CHECK(options.pool != nullptr);
  }

  void Open(const DeviceInfo& info, Effects& effects);
  Journal::Progress OnDiskDone(const DiskDoneEvent& event, Effects& effects, bool* handled);
  uint64_t Append(std::span<const std::byte> record, Effects& effects);
  void WriteSnapshot(std::span<const std::byte> snapshot, Effects& effects);
  bool needs_snapshot() const;
  uint64_t snapshot_bytes_max() const { return area_bytes_ - std::min(area_bytes_, kOverhead); }
  Journal::State state() const;
  uint64_t StateHash() const;

  const std::string& error() const { return error_; }
  journal::Recovered& recovered() { return recovered_; }
  uint64_t durable_sequence() const {
    return PLANTED_BUG("S1-journal-not-proven") ? durable_sequence_ : proven_sequence_;
  }

 private:
  enum class Phase : uint8_t {
    kClosed,
    kFlushing,
    kReadingSeals,
    kReadingAll,
    kReadingAreas,
    kMending,  // headers of torn batches are erased, an unproven batch is written again
    kSealing,  // a new journal, or what was written again
    kOpen,
    kFailed,
  };

  // Besides the snapshot itself: the header, and a block for records so that the area is of use.
  static constexpr uint64_t kOverhead = 2 * kBlock;

  struct Snapshot {
    std::vector<std::byte> bytes;
    uint64_t last_sequence = 0;  // contained in it
  };
  // On its way to the device.
  struct Batch {
    uint64_t last_sequence = 0;
    uint64_t proves = 0;      // its header: this record and all before it were durable
    uint64_t parts_left = 0;  // transfers not done yet
    bool has_snapshot = false;
  };

  uint64_t AreaBegin(uint64_t generation) const {
    CHECK_GT(generation, 0u);
    return kAreasBegin + (generation - 1) % 2 * area_bytes_;
  }
  uint64_t LastSequence() const { return first_waiting_ + waiting_.size() - 1; }
  DiskTag NewTag() { return options_.disk_tag_base + tag_count_++ % kTagCount; }
  Slice Allocate(uint64_t size);
  void Fail(std::string reason);
  void FailFor(DiskStatus status);

  void Read(Phase phase, uint64_t begin, uint64_t end, Effects& effects);
  void ReadNext(Effects& effects);
  void OnReadDone(Effects& effects, Journal::Progress& progress);
  void OnSealsRead(Effects& effects);
  void Format(Effects& effects);
  void OnAreasRead(Effects& effects, Journal::Progress& progress);
  bool SetGeometry(uint64_t area_bytes);
  void MendNext(Effects& effects, Journal::Progress& progress);
  void BecomeOpen(Effects& effects, Journal::Progress& progress);

  // Starts what can start: a snapshot, a batch of records that wait, a seal.
  void Pump(Effects& effects);
  void WriteBatch(Effects& effects);
  void OnBatchDurable(Effects& effects, Journal::Progress& progress);
  void WriteSeal(Effects& effects);

  Journal::Options options_;
  BufferPool reserve_;  // when options_.pool is exhausted: metadata does not wait for data
  uint64_t device_bytes_ = 0;
  uint64_t area_bytes_ = 0;
  Phase phase_ = Phase::kClosed;
  std::string error_;
  uint64_t tag_count_ = 0;

  // Opening: one flush or read at a time.
  DiskTag opening_tag_ = 0;
  std::vector<std::byte> content_;
  Slice read_slice_;
  uint64_t read_position_ = 0;
  uint64_t read_end_ = 0;
  journal::Recovered recovered_;
  std::vector<std::byte> unproven_;  // the last batch, to be written again
  uint64_t mended_bytes_ = 0;        // of it

  // Where the next batch goes.
  uint64_t generation_ = 0;  // of the snapshot written last, durable or not; 0: none
  uint64_t append_offset_ = 0;
  uint64_t snapshot_end_ = 0;  // where the area's first batch ends
  uint32_t last_crc_ = 0;

  uint64_t first_waiting_ = 1;  // sequence number of waiting_[0]
  std::deque<std::vector<std::byte>> waiting_;
  uint64_t waiting_bytes_ = 0;
  std::optional<Snapshot> snapshot_;  // waits
  std::optional<Batch> batch_;

  uint64_t durable_sequence_ = 0;
  uint64_t durable_generation_ = 0;
  uint64_t proven_sequence_ = 0;  // durable, and so is a proof of it elsewhere

  journal::Seal seal_;  // the newest one written or on its way
  bool seal_in_flight_ = false;
  DiskTag seal_tag_ = 0;
};

Journal::State JournalImpl::state() const {
  switch (phase_) {
    case Phase::kClosed:
      return Journal::State::kClosed;
    case Phase::kFlushing:
    case Phase::kReadingSeals:
    case Phase::kReadingAll:
    case Phase::kReadingAreas:
    case Phase::kMending:
    case Phase::kSealing:
      return Journal::State::kOpening;
    case Phase::kOpen:
      return Journal::State::kOpen;
    case Phase::kFailed:
      return Journal::State::kFailed;
  }
  return Journal::State::kFailed;
}

Slice JournalImpl::Allocate(uint64_t size) {
  CHECK_LE(size, kTransferBytesMax);
  Slice slice = options_.pool->Allocate(static_cast<uint32_t>(size));
  if (slice.empty()) slice = reserve_.Allocate(static_cast<uint32_t>(size));
  CHECK_EQ(slice.size(), size);
  return slice;
}

void JournalImpl::FailFor(DiskStatus status) {
  if (status == DiskStatus::kDeviceGone) return Fail("it is gone");
  if (phase_ == Phase::kFlushing) return Fail("its cache cannot be flushed");
  Fail(phase_ < Phase::kMending ? "it cannot be read" : "a write failed; what it left is unknown");
}

void JournalImpl::Fail(std::string reason) {
  error_ = "state device: " + std::move(reason);
  phase_ = Phase::kFailed;
  content_ = {};
  read_slice_ = {};
}

// ---- Opening
// --------------------------------------------------------------------------------------

void JournalImpl::Open(const DeviceInfo& info, Effects& effects) {
  CHECK(phase_ == Phase::kClosed);
  if (info.block_bytes == 0 || kBlock % info.block_bytes != 0) {
    Fail("blocks of " + std::to_string(info.block_bytes) + " bytes are not supported");
    return;
  }
  if (info.size_bytes < kAreasBegin + 2 * journal::kAreaBytesMin) {
    Fail(std::to_string(info.size_bytes) + " bytes are too small for a journal");
    return;
  }
  device_bytes_ = info.size_bytes / kBlock * kBlock;
  phase_ = Phase::kFlushing;
  opening_tag_ = NewTag();
  effects.Flush(options_.device, opening_tag_);
}

void JournalImpl::Read(Phase phase, uint64_t begin, uint64_t end, Effects& effects) {
  phase_ = phase;
  read_position_ = begin;
  read_end_ = end;
  content_.clear();
  if (phase != Phase::kReadingAll) content_.reserve(end - begin);
  ReadNext(effects);
}

void JournalImpl::ReadNext(Effects& effects) {
  read_slice_ = Allocate(std::min<uint64_t>(read_end_ - read_position_, kTransferBytesMax));
  opening_tag_ = NewTag();
  effects.Read(options_.device, read_position_, std::span(&read_slice_, 1), opening_tag_);
}

void JournalImpl::OnReadDone(Effects& effects, Journal::Progress& progress) {
  const std::span<const std::byte> bytes = read_slice_.span();
  if (phase_ == Phase::kReadingAll) {
    // The very first seal, in the first block, may be torn.
    const size_t skip = read_position_ == 0 ? kBlock : 0;
    if (!journal::IsZero(bytes.subspan(skip))) {
      Fail(
          "its content is no journal of this program, or both seals of one are damaged; "
          "nothing was changed. A new state device consists of zeroes");
      return;
    }
  } else {
    content_.insert(content_.end(), bytes.begin(), bytes.end());
  }
  read_position_ += read_slice_.size();
  if (read_position_ < read_end_) {
    ReadNext(effects);
    return;
  }
  read_slice_ = {};
  switch (phase_) {
    case Phase::kReadingSeals:
      OnSealsRead(effects);
      return;
    case Phase::kReadingAll:
      Format(effects);
      return;
    case Phase::kReadingAreas:
      OnAreasRead(effects, progress);
      return;
    case Phase::kClosed:
    case Phase::kFlushing:
    case Phase::kMending:
    case Phase::kSealing:
    case Phase::kOpen:
    case Phase::kFailed:
      break;
  }
  CHECK(false) << "a read in phase " << static_cast<int>(phase_);
}

void JournalImpl::OnSealsRead(Effects& effects) {
  const Result<std::optional<journal::Seal>> seal = journal::NewestSeal(content_);
  if (!seal) {
    Fail(seal.error().message);
    return;
  }
  if (!*seal) {
    Read(Phase::kReadingAll, 0, device_bytes_, effects);
    return;
  }
  seal_ = **seal;
  if (!SetGeometry(seal_.area_bytes)) {
    Fail("the journal on it has areas of " + std::to_string(seal_.area_bytes) +
         " bytes, which do not fit " + std::to_string(device_bytes_) + " bytes: was it truncated?");
    return;
  }
  Read(Phase::kReadingAreas, kAreasBegin, kAreasBegin + 2 * area_bytes_, effects);
}

void JournalImpl::Format(Effects& effects) {
  const uint64_t half = (device_bytes_ - kAreasBegin) / 2 / kBlock * kBlock;
  if (!SetGeometry(options_.area_bytes == 0 ? half : options_.area_bytes)) {
    Fail("areas of " + std::to_string(options_.area_bytes) + " bytes do not fit " +
         std::to_string(device_bytes_) + " bytes");
    return;
  }
  phase_ = Phase::kSealing;
  WriteSeal(effects);
}

bool JournalImpl::SetGeometry(uint64_t area_bytes) {
  if (area_bytes % kBlock != 0 || area_bytes < journal::kAreaBytesMin) return false;
  if (area_bytes > (device_bytes_ - kAreasBegin) / 2) return false;
  area_bytes_ = area_bytes;
  return true;
}

void JournalImpl::OnAreasRead(Effects& effects, Journal::Progress& progress) {
  const std::span<const std::byte> areas(content_);
  Result<journal::Recovered> recovered =
      journal::Recover(seal_, areas.first(area_bytes_), areas.subspan(area_bytes_));
  if (!recovered) {
    Fail(recovered.error().message);
    return;
  }
  recovered_ = std::move(*recovered);
  if (recovered_.unproven_offset < recovered_.append_offset) {
    const auto area = areas.subspan((recovered_.generation - 1) % 2 * area_bytes_);
    const auto batch = area.first(recovered_.append_offset).subspan(recovered_.unproven_offset);
    unproven_.assign(batch.begin(), batch.end());
  }
  content_ = {};
  generation_ = durable_generation_ = recovered_.generation;
  append_offset_ = recovered_.append_offset;
  snapshot_end_ = generation_ == 0 ? 0 : BatchBytes(recovered_.snapshot.size());
  last_crc_ = recovered_.last_crc;
  first_waiting_ = recovered_.last_sequence + 1;
  durable_sequence_ = proven_sequence_ = recovered_.last_sequence;
  phase_ = Phase::kMending;
  MendNext(effects, progress);
}

void JournalImpl::MendNext(Effects& effects, Journal::Progress& progress) {
  if (!recovered_.to_erase.empty()) {
    const Slice zeroes = BufferPool::Zeroes(kBlock);
    opening_tag_ = NewTag();
    effects.DurableWrite(options_.device, recovered_.to_erase.back(), std::span(&zeroes, 1),
                         opening_tag_);
    recovered_.to_erase.pop_back();
    return;
  }
  if (unproven_.empty()) {
    BecomeOpen(effects, progress);
    return;
  }
  if (mended_bytes_ == unproven_.size()) {
    // Proven before anybody hears of it: it is not written a third time, which could tear it.
    unproven_ = {};
    phase_ = Phase::kSealing;
    WriteSeal(effects);
    return;
  }
  // The same bytes in the same place. If that tears it, nobody has heard of it.
  Slice part = Allocate(std::min<uint64_t>(unproven_.size() - mended_bytes_, kTransferBytesMax));
  std::memcpy(part.mutable_span().data(), unproven_.data() + mended_bytes_, part.size());
  opening_tag_ = NewTag();
  effects.DurableWrite(options_.device,
                       AreaBegin(generation_) + recovered_.unproven_offset + mended_bytes_,
                       std::span(&part, 1), opening_tag_);
  mended_bytes_ += part.size();
}

void JournalImpl::BecomeOpen(Effects& effects, Journal::Progress& progress) {
  phase_ = Phase::kOpen;
  progress.opened = true;
  Pump(effects);
}

// ---- Writing
// --------------------------------------------------------------------------------------

uint64_t JournalImpl::Append(std::span<const std::byte> record, Effects& effects) {
  CHECK(phase_ == Phase::kOpen || phase_ == Phase::kFailed);
  waiting_.emplace_back(record.begin(), record.end());
  waiting_bytes_ += RecordBytes(waiting_.back());
  Pump(effects);
  // Pump may have taken the record off the queue; its number stays.
  return LastSequence();
}

void JournalImpl::WriteSnapshot(std::span<const std::byte> snapshot, Effects& effects) {
  CHECK(phase_ == Phase::kOpen || phase_ == Phase::kFailed);
  if (phase_ == Phase::kFailed) return;
  if (snapshot.size() > snapshot_bytes_max()) {
    Fail("a snapshot of " + std::to_string(snapshot.size()) + " bytes is above the limit of " +
         std::to_string(snapshot_bytes_max()) + "; give the daemon a larger state device");
    return;
  }
  snapshot_ = Snapshot{{snapshot.begin(), snapshot.end()}, LastSequence()};
  // They are in the snapshot, and become durable with it.
  first_waiting_ += waiting_.size();
  waiting_.clear();
  waiting_bytes_ = 0;
  Pump(effects);
}

bool JournalImpl::needs_snapshot() const {
  const bool under_way = snapshot_.has_value() || (batch_ && batch_->has_snapshot);
  if (phase_ != Phase::kOpen || under_way) return false;
  const uint64_t used = append_offset_ - snapshot_end_ + waiting_bytes_;
  return used > (area_bytes_ - snapshot_end_) / 2;
}

void JournalImpl::Pump(Effects& effects) {
  if (phase_ != Phase::kOpen) return;
  if (!batch_ && (snapshot_ || !waiting_.empty())) WriteBatch(effects);
  // Later batches prove earlier ones, so a seal is for the last one; and for each new generation.
  const bool is_news =
      durable_generation_ > seal_.generation || durable_sequence_ > seal_.durable_sequence;
  const bool at_rest = !batch_ || durable_generation_ > seal_.generation;
  if (is_news && at_rest && !seal_in_flight_) WriteSeal(effects);
}

void JournalImpl::WriteBatch(Effects& effects) {
  const bool begins_area = snapshot_.has_value() || generation_ == 0;
  const uint64_t offset = begins_area ? 0 : append_offset_;
  const uint64_t generation = begins_area ? generation_ + 1 : generation_;
  const std::span<const std::byte> snapshot =
      snapshot_ ? std::span<const std::byte>(snapshot_->bytes) : std::span<const std::byte>();
  if (snapshot_) CHECK_EQ(snapshot_->last_sequence + 1, first_waiting_);

  size_t record_count = 0;
  uint64_t record_bytes = 0;
  for (const std::vector<std::byte>& record : waiting_) {
    const uint64_t grown = record_bytes + RecordBytes(record);
    if (record_count > 0 && grown > kBatchRecordBytesMax) break;
    if (BatchBytes(snapshot.size() + grown) > area_bytes_ - offset) break;
    record_bytes = grown;
    ++record_count;
  }
  // The area is full: what waits becomes durable with the snapshot that needs_snapshot() asks for.
  if (!snapshot_ && record_count == 0) return;

  std::vector<std::byte> bytes;
  bytes.reserve(BatchBytes(snapshot.size() + record_bytes));
  ByteWriter writer(&bytes);
  writer.Zeros(kHeaderBytes);
  writer.Bytes(snapshot);
  for (size_t i = 0; i < record_count; ++i) writer.SizedBytes(waiting_[i]);
  const uint64_t first_sequence = first_waiting_;
  CHECK_EQ(bytes.size(), kHeaderBytes + snapshot.size() + record_bytes);
  const BatchHeader header = {
      .generation = generation,
      .position = AreaBegin(generation) + offset,
      .first_sequence = first_sequence,
      .durable_sequence = durable_sequence_,
      .previous_crc = begins_area ? 0 : last_crc_,
      .body_crc = Crc32c(std::span<const std::byte>(bytes).subspan(kHeaderBytes)),
      .snapshot_bytes = static_cast<uint32_t>(snapshot.size()),
      .record_bytes = static_cast<uint32_t>(record_bytes),
  };
  last_crc_ = journal::EncodeBatchHeader(header, bytes);
  bytes.resize(BatchBytes(header.body_bytes()));

  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(record_count));
  waiting_bytes_ -= record_bytes;
  first_waiting_ += record_count;
  generation_ = generation;
  append_offset_ = offset + bytes.size();
  if (begins_area) snapshot_end_ = BatchBytes(snapshot.size());
  batch_ = Batch{.last_sequence = first_sequence + record_count - 1,
                 .proves = begins_area ? 0 : header.durable_sequence,
                 .parts_left = 0,
                 .has_snapshot = snapshot_.has_value()};
  snapshot_.reset();

  for (uint64_t at = 0; at < bytes.size(); at += kTransferBytesMax) {
    Slice part = Allocate(std::min<uint64_t>(bytes.size() - at, kTransferBytesMax));
    std::memcpy(part.mutable_span().data(), bytes.data() + at, part.size());
    effects.DurableWrite(options_.device, header.position + at, std::span(&part, 1), NewTag());
    ++batch_->parts_left;
  }
}

void JournalImpl::OnBatchDurable(Effects& effects, Journal::Progress& progress) {
  CHECK(batch_.has_value());
  CHECK_GE(batch_->last_sequence, durable_sequence_);
  durable_sequence_ = batch_->last_sequence;
  durable_generation_ = generation_;
  proven_sequence_ = std::max(proven_sequence_, batch_->proves);
  progress.snapshot_durable = batch_->has_snapshot;
  batch_.reset();
  Pump(effects);
}

void JournalImpl::WriteSeal(Effects& effects) {
  CHECK(!seal_in_flight_);
  seal_ = {.number = seal_.number + 1,
           .generation = durable_generation_,
           .durable_sequence = durable_sequence_,
           .area_bytes = area_bytes_};
  Slice block = Allocate(kBlock);
  std::memset(block.mutable_span().data(), 0, kBlock);
  journal::EncodeSeal(seal_, block.mutable_span());
  seal_in_flight_ = true;
  seal_tag_ = NewTag();
  effects.DurableWrite(options_.device, (seal_.number - 1) % 2 * kBlock, std::span(&block, 1),
                       seal_tag_);
}

Journal::Progress JournalImpl::OnDiskDone(const DiskDoneEvent& event, Effects& effects,
                                          bool* handled) {
  const bool mine = event.device == options_.device && event.tag >= options_.disk_tag_base &&
                    event.tag - options_.disk_tag_base < kTagCount;
  *handled = mine;
  Journal::Progress progress;
  if (mine && phase_ != Phase::kFailed) {
    const bool opening = phase_ != Phase::kOpen && phase_ != Phase::kSealing;
    const bool is_seal = seal_in_flight_ && event.tag == seal_tag_;
    CHECK(opening ? event.tag == opening_tag_ : is_seal || batch_.has_value())
        << "tag " << event.tag;
    if (event.status != DiskStatus::kOk) {
      FailFor(event.status);
    } else if (phase_ == Phase::kFlushing) {
      Read(Phase::kReadingSeals, 0, kAreasBegin, effects);
    } else if (phase_ == Phase::kMending) {
      MendNext(effects, progress);
    } else if (opening) {
      OnReadDone(effects, progress);
    } else if (is_seal) {
      seal_in_flight_ = false;
      proven_sequence_ = std::max(proven_sequence_, seal_.durable_sequence);
      if (phase_ == Phase::kSealing) {
        BecomeOpen(effects, progress);
      } else {
        Pump(effects);
      }
    } else if (--batch_->parts_left == 0) {
      OnBatchDurable(effects, progress);
    }
  }
  progress.durable_sequence = durable_sequence();
  return progress;
}

uint64_t JournalImpl::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash + value + 0x9e3779b97f4a7c15u); };
  add(static_cast<uint64_t>(phase_));
  add(generation_);
  add(append_offset_);
  add(last_crc_);
  add(first_waiting_);
  for (const std::vector<std::byte>& record : waiting_) add(Crc32c(record));
  add(snapshot_ ? Crc32c(snapshot_->bytes) : 0);
  add(batch_ ? batch_->parts_left : 0);
  add(durable_generation_);
  add(durable_sequence_);
  add(proven_sequence_);
  add(seal_.number);
  add(seal_in_flight_ ? 1 : 0);
  add(read_position_);
  add(tag_count_);
  return hash;
}

// ---- Journal
// --------------------------------------------------------------------------------------

Journal::Journal(const Options& options) : impl_(std::make_unique<JournalImpl>(options)) {}
Journal::Journal(Journal&&) noexcept = default;
Journal& Journal::operator=(Journal&&) noexcept = default;
Journal::~Journal() = default;

void Journal::Open(const DeviceInfo& info, Effects& effects) { impl_->Open(info, effects); }

Journal::Progress Journal::OnDiskDone(const DiskDoneEvent& event, Effects& effects, bool* handled) {
  return impl_->OnDiskDone(event, effects, handled);
}

Journal::State Journal::state() const { return impl_->state(); }
const std::string& Journal::error() const { return impl_->error(); }

std::span<const std::byte> Journal::snapshot() const { return impl_->recovered().snapshot; }
const std::vector<std::vector<std::byte>>& Journal::records() const {
  return impl_->recovered().records;
}
void Journal::ForgetRecovered() {
  impl_->recovered().snapshot = {};
  impl_->recovered().records = {};
}

uint64_t Journal::Append(std::span<const std::byte> record, Effects& effects) {
  return impl_->Append(record, effects);
}
bool Journal::needs_snapshot() const { return impl_->needs_snapshot(); }
uint64_t Journal::snapshot_bytes_max() const { return impl_->snapshot_bytes_max(); }
void Journal::WriteSnapshot(std::span<const std::byte> snapshot, Effects& effects) {
  impl_->WriteSnapshot(snapshot, effects);
}
uint64_t Journal::durable_sequence() const { return impl_->durable_sequence(); }
uint64_t Journal::StateHash() const { return impl_->StateHash(); }

}  // namespace gabion::store
