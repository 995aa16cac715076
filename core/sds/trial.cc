#include "core/sds/trial.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sds {

namespace {

constexpr uint32_t kBlock = wire::kBlockBytes;

uint64_t PerSecond(uint64_t count, Duration time) {
  const auto ns = std::max<int64_t>(1, std::chrono::nanoseconds(time).count());
  return static_cast<uint64_t>(static_cast<double>(count) * 1e9 / static_cast<double>(ns));
}

}  // namespace

DeviceTrial::DeviceTrial(DeviceIndex device, const Range& range, uint64_t number, DiskTag tag_base,
                         BufferPool* pool)
    : device_(device), range_(range), number_(number), tag_base_(tag_base), pool_(pool) {
  CHECK(range.offset_bytes % kBlock == 0 && range.length_bytes % kBlock == 0);
  CHECK_GE(range.length_bytes, kPieceBytes);
}

void DeviceTrial::Start(const Now& now, Effects& effects) {
  BeginStage(now, Stage::kWriting, effects);
}

uint64_t DeviceTrial::OffsetOf(uint64_t index) const {
  if (sequential()) return range_.offset_bytes + index * kPieceBytes;
  const uint64_t blocks = range_.length_bytes / kBlock;
  return range_.offset_bytes + mix64(number_ + index + 1) % blocks * kBlock;
}

uint64_t DeviceTrial::Limit() const {
  if (!writing()) return written_;
  return sequential() ? std::min(range_.length_bytes, kSequentialBytesMax) / kPieceBytes
                      : kRandomCountMax;
}

void DeviceTrial::BeginStage(const Now& now, Stage stage, Effects& effects) {
  stage_ = stage;
  began_ = now.boot;
  issued_ = 0;
  completed_ = 0;
  slots_.clear();
  slots_.resize(sequential() ? kSequentialDepth : kRandomDepth);
  for (Slot& slot : slots_) {
    slot.buffer = pool_->Allocate(bytes_each());
    if (slot.buffer.empty()) {
      Fail("there is no memory for its test");
      return;
    }
    // Incompressible, so that a device that compresses is not measured at its best.
    const std::span<std::byte> bytes = slot.buffer.mutable_span();
    for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
      StoreLe(bytes.data() + at, mix64(number_ + at + 1));
    }
  }
  for (uint32_t slot = 0; slot < slots_.size() && issued_ < Limit(); ++slot) Issue(slot, effects);
}

void DeviceTrial::Issue(uint32_t index, Effects& effects) {
  Slot& slot = slots_[index];
  slot.offset_bytes = OffsetOf(issued_++);
  slot.active = true;
  ++active_;
  const std::span<const Slice> slices(&slot.buffer, 1);
  const DiskTag tag = tag_base_ + index;
  if (!writing()) {
    effects.Read(device_, slot.offset_bytes, slices, tag);
    return;
  }
  Stamp(slot);
  if (sequential()) {
    effects.Write(device_, slot.offset_bytes, slices, tag);
  } else {
    effects.DurableWrite(device_, slot.offset_bytes, slices, tag);
  }
}

void DeviceTrial::Stamp(Slot& slot) const {
  std::byte* bytes = slot.buffer.mutable_span().data();
  for (uint64_t at = 0; at < slot.buffer.size(); at += kBlock) {
    StoreLe(bytes + at, slot.offset_bytes + at);
    StoreLe(bytes + at + sizeof(uint64_t), number_);
  }
}

bool DeviceTrial::Matches(const Slot& slot) const {
  const std::byte* bytes = slot.buffer.span().data();
  for (uint64_t at = 0; at < slot.buffer.size(); at += kBlock) {
    if (LoadLe<uint64_t>(bytes + at) != slot.offset_bytes + at) return false;
    if (LoadLe<uint64_t>(bytes + at + sizeof(uint64_t)) != number_) return false;
  }
  return true;
}

void DeviceTrial::OnDiskDone(const Now& now, const DiskDoneEvent& event, Effects& effects) {
  const uint64_t index = event.tag - tag_base_;
  if (over()) return;
  if (event.status != DiskStatus::kOk) {
    Fail(absl::StrCat("in its test a ", flushing_ ? "flush" : (writing() ? "write" : "read"),
                      " failed",
                      flushing_ ? "" : absl::StrCat(" at byte ", slots_[index].offset_bytes)));
    return;
  }
  if (flushing_) {
    flushing_ = false;
    EndStage(now, effects);
    return;
  }
  CHECK_LT(index, slots_.size());
  Slot& slot = slots_[index];
  CHECK(slot.active);
  slot.active = false;
  --active_;
  ++completed_;
  if (!writing() && !Matches(slot)) {
    Fail(absl::StrCat("in its test it gave back other bytes than were written at byte ",
                      slot.offset_bytes, ": its size may be false, or it is broken"));
    return;
  }
  if (now.boot - began_ < kStageTime && issued_ < Limit()) {
    Issue(static_cast<uint32_t>(index), effects);
  } else if (active_ == 0) {
    if (stage_ == Stage::kWriting) {
      flushing_ = true;
      effects.Flush(device_, tag_base_);
    } else {
      EndStage(now, effects);
    }
  }
}

void DeviceTrial::EndStage(const Now& now, Effects& effects) {
  const Duration time = now.boot - began_;
  const uint64_t done = PerSecond(completed_ * (sequential() ? kPieceBytes : 1), time);
  written_ = completed_;
  switch (stage_) {
    case Stage::kWriting:
      figures_.write_bytes_per_second = done;
      BeginStage(now, Stage::kReading, effects);
      return;
    case Stage::kReading:
      figures_.read_bytes_per_second = done;
      BeginStage(now, Stage::kRandomWriting, effects);
      return;
    case Stage::kRandomWriting:
      figures_.writes_per_second = done;
      BeginStage(now, Stage::kRandomReading, effects);
      return;
    case Stage::kRandomReading:
      figures_.reads_per_second = done;
      slots_.clear();
      stage_ = Stage::kDone;
      return;
    case Stage::kDone:
    case Stage::kFailed:
      break;
  }
  UNREACHABLE();
}

void DeviceTrial::Fail(std::string error) {
  error_ = std::move(error);
  stage_ = Stage::kFailed;
}

}  // namespace gabion::sds
