// What disks do wrong while they run: they damage what they hold, lie about what they did, and
// fail. What a crash does to writes is in disk.cc.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "sim/world/disk.h"

namespace gabion::sim {

namespace {

constexpr size_t kPreviousMax = 256;  // pages whose last content a stale read may bring
constexpr size_t kLieSegmentsMax = 64;
constexpr uint64_t kStrayPagesMax = 8;  // so far beyond its end a log write lands

bool IsRot(Fault kind) { return kind == Fault::kRot || kind == Fault::kStateRot; }
bool IsLatent(Fault kind) { return kind == Fault::kLatent || kind == Fault::kStateLatent; }

std::byte* Writable(const Slice& slice) {
  // As for every read: the buffer is filled behind the slice's back.
  return const_cast<std::byte*>(slice.data());
}

}  // namespace

DiskStatus Disk::Carry(Operation& operation) {
  if (fail_count_ != 0 && operation.op == fail_op_) {
    --fail_count_;
    return DiskStatus::kIoError;
  }
  if (const std::optional<DiskStatus> failed = FailByTrouble(operation)) return *failed;
  if (operation.op == DiskOp::kDurableWrite) MakeLiesLast();
  if (IsNextLie(operation)) {
    LieAboutDurableWrite(operation);
    return DiskStatus::kOk;
  }
  const bool is_read = operation.op == DiskOp::kRead;
  const bool lies = Lies(operation);
  if (lies && !is_read) LieAboutWrite(operation);
  if (!lies || is_read) Apply(operation);
  if (!open_lies_.empty()) SettleLies(operation);
  if (!is_read) return DiskStatus::kOk;
  if (!marks_.empty() && !ShowDamage(operation)) return DiskStatus::kIoError;
  if (lies) LieAboutRead(operation);
  return DiskStatus::kOk;
}

// ---- The whole disk
// --------------------------------------------------------------------------------

std::optional<DiskStatus> Disk::FailByTrouble(Operation& operation) {
  const bool is_write = operation.op == DiskOp::kWrite || operation.op == DiskOp::kDurableWrite ||
                        operation.op == DiskOp::kDiscard;
  if (trouble_.gone || operation.lost) {
    ++(*fired_)[Fault::kVanish];
    if (is_write && !operation.lost) ApplyInPart(operation, false);
    return DiskStatus::kDeviceGone;
  }
  if (is_write && trouble_.read_only) {
    ++(*fired_)[Fault::kReadOnly];
    return DiskStatus::kIoError;
  }
  if (is_write && trouble_.full && operation.op != DiskOp::kDiscard) {
    const auto holds_nothing = [this](const Segment& s) { return current_.page(s.index) == 0; };
    if (std::any_of(operation.segments.begin(), operation.segments.end(), holds_nothing)) {
      ++(*fired_)[Fault::kFull];
      return DiskStatus::kIoError;
    }
  }
  if (is_write && trouble_.write_errors != 0) {
    --trouble_.write_errors;
    ++(*fired_)[Fault::kWriteError];
    ApplyInPart(operation, false);
    return DiskStatus::kIoError;
  }
  if (operation.op == DiskOp::kFlush && trouble_.flush_errors != 0) {
    --trouble_.flush_errors;
    ++(*fired_)[Fault::kFlushError];
    DropUnflushed(operation.flush_sequence);
    return DiskStatus::kIoError;
  }
  if (trouble_.unkept_writes != 0 && IsToKeep(operation)) {
    --trouble_.unkept_writes;
    ++(*fired_)[Fault::kStateFlushError];
    LeaveUnkept(operation);
    return DiskStatus::kIoError;
  }
  return std::nullopt;
}

// A journal begins with a flush: half of the time its first write is to fail.
bool Disk::IsToKeep(const Operation& operation) {
  if (operation.op == DiskOp::kFlush) return choices_->Chance(stream_, Site::kFaultWhat, 1, 2);
  return operation.op == DiskOp::kDurableWrite;
}

void Disk::LeaveUnkept(const Operation& operation) {
  if (choices_->Chance(stream_, Site::kFaultWhat, 1, 2)) return;
  for (const Segment& segment : operation.segments) {
    ApplyToCache(segment);
    arena_->Release(dirty_.back().page);
    --dirty_of_page_[dirty_.back().index];
    dirty_.pop_back();
  }
}

// As a page cache whose write-back failed: the pages count as clean, what is read is still new, and
// no later flush writes it.
void Disk::DropUnflushed(uint64_t sequence) {
  std::erase_if(dirty_, [&](const Dirty& dirty) {
    if (dirty.sequence > sequence) return false;
    arena_->Release(dirty.page);
    --dirty_of_page_[dirty.index];
    return true;
  });
}

// ---- Damage
// ----------------------------------------------------------------------------------------

std::vector<uint32_t> Disk::PagesInUse(uint64_t from_bytes, uint64_t to_bytes) const {
  std::vector<uint32_t> pages;
  const uint64_t end = std::min<uint64_t>(to_bytes / kPageBytes, dirty_of_page_.size());
  for (uint64_t index = from_bytes / kPageBytes; index < end; ++index) {
    const auto page = static_cast<uint32_t>(index);
    if (current_.page(page) != 0) pages.push_back(page);
  }
  return pages;
}

void Disk::SetMark(uint32_t index, Mark mark) {
  arena_->Retain(mark.page);
  ClearMark(index);
  marks_[index] = mark;
}

void Disk::ClearMark(uint32_t index) {
  const auto at = marks_.find(index);
  if (at == marks_.end()) return;
  arena_->Release(at->second.page);
  marks_.erase(at);
}

bool Disk::Damage(Fault kind, uint64_t from_bytes, uint64_t to_bytes) {
  CHECK(IsRot(kind) || IsLatent(kind));
  const std::vector<uint32_t> candidates = PagesInUse(from_bytes, to_bytes);
  if (candidates.empty()) return false;
  SetMark(candidates[choices_->Below(stream_, Site::kFaultWhat, candidates.size())],
          {.kind = kind});
  ++(*fired_)[kind];
  return true;
}

void Disk::RotAll(uint64_t from_bytes, uint64_t to_bytes) {
  for (const uint32_t index : PagesInUse(from_bytes, to_bytes)) {
    SetMark(index, {.kind = Fault::kRot});
  }
}

void Disk::HealDamage() {
  open_lies_.clear();
  left_lies_.clear();
  for (const auto& [index, mark] : marks_) arena_->Release(mark.page);
  marks_.clear();
}

bool Disk::ShowDamage(const Operation& operation) {
  uint64_t offset = operation.offset_bytes;
  for (const Slice& slice : operation.into) {
    for (uint32_t at = 0; at < slice.size(); at += kDiskSectorBytes) {
      const auto mark = marks_.find(static_cast<uint32_t>((offset + at) / kPageBytes));
      if (mark == marks_.end()) continue;
      if (IsLatent(mark->second.kind)) return false;
      std::byte* to = Writable(slice) + at;
      if (IsRot(mark->second.kind)) {
        *to ^= std::byte{0x10};
      } else {
        std::memcpy(to, arena_->Data(mark->second.page) + (offset + at) % kPageBytes,
                    kDiskSectorBytes);
      }
    }
    offset += slice.size();
  }
  return true;
}

// ---- Lies
// ------------------------------------------------------------------------------------------

bool Disk::LiesNow(Fault kind) {
  const uint32_t rate = faults_->per_million[kind];
  return rate != 0 && choices_->Chance(stream_, Site::kFaultWhat, rate, 1'000'000);
}

void Disk::LieAboutRead(const Operation& operation) {
  if (operation.into.empty()) return;
  const Slice& slice = operation.into.front();
  const uint64_t within = operation.offset_bytes % kPageBytes;
  const std::span<std::byte> to(Writable(slice),
                                std::min<size_t>(slice.size(), kPageBytes - within));
  const auto index = static_cast<uint32_t>(operation.offset_bytes / kPageBytes);
  const auto remembered = std::find_if(previous_.rbegin(), previous_.rend(),
                                       [index](const auto& entry) { return entry.first == index; });
  if (remembered != previous_.rend() && LiesNow(Fault::kStaleRead)) {
    ++(*fired_)[Fault::kStaleRead];
    std::memcpy(to.data(), arena_->Data(remembered->second) + within, to.size());
    return;
  }
  if (!LiesNow(Fault::kMisread)) return;
  const std::vector<uint32_t> others = PagesInUse(lie_from_, UINT64_MAX);
  if (others.empty()) return;
  const uint32_t other = others[choices_->Below(stream_, Site::kFaultWhat, others.size())];
  if (other == index) return;
  ++(*fired_)[Fault::kMisread];
  current_.Read(uint64_t{other} * kPageBytes + within, to);
}

// Carries the write out, and then shows it as not done, or as done elsewhere.
void Disk::LieAboutWrite(Operation& operation) {
  const bool is_small = operation.segments.size() <= kLieSegmentsMax;
  const bool is_phantom = is_small && LiesNow(Fault::kPhantom);
  const bool is_elsewhere = !is_phantom && is_small && LiesNow(Fault::kMiswrite);
  std::vector<std::pair<uint32_t, uint32_t>> old;  // a reference each
  for (const Segment& segment : operation.segments) {
    const uint32_t page = current_.page(segment.index);
    if (is_phantom || (is_elsewhere && old.empty())) {
      arena_->Retain(page);
      old.emplace_back(segment.index, page);
    }
    if (faults_->per_million[Fault::kStaleRead] != 0) RememberPrevious(segment.index);
  }
  Apply(operation);
  const Fault kind = is_phantom ? Fault::kPhantom : Fault::kMiswrite;
  for (const auto& [index, page] : old) {
    SetMark(index, {.kind = kind, .page = page});
    arena_->Release(page);
  }
  if (!old.empty()) ++(*fired_)[kind];
  if (!is_elsewhere || old.empty()) return;
  const uint32_t from = old.front().first;
  const std::vector<uint32_t> others = PagesInUse(lie_from_, UINT64_MAX);
  if (others.empty()) return;
  const uint32_t to = others[choices_->Below(stream_, Site::kFaultWhat, others.size())];
  if (to != from) SetMark(to, {.kind = kind, .page = current_.page(from)});
}

// ---- Lies about single durable writes
// ---------------------------------------------------------------

void Disk::NumberDurableWrite(Operation& operation) {
  operation.durable_number = operation.proves_below = ++durable_count_;
  if (open_lies_.empty()) return;
  for (const uint32_t slot : in_flight_) {
    const uint64_t number = operations_[slot].durable_number;
    if (number != 0) operation.proves_below = std::min(operation.proves_below, number);
  }
}

bool Disk::IsNextLie(const Operation& operation) {
  if (!next_lie_ || operation.op != DiskOp::kDurableWrite) return false;
  if (operation.offset_bytes < next_lie_->from_bytes) return false;
  if (operation.offset_bytes >= next_lie_->to_bytes) return false;
  if (next_lie_->skip == 0) return true;
  --next_lie_->skip;
  return false;
}

// As LieAboutWrite: so it can come true.
void Disk::LieAboutDurableWrite(Operation& operation) {
  const DurableLie lie = *std::exchange(next_lie_, std::nullopt);
  const bool is_elsewhere = lie.kind == Fault::kLogMiswrite;
  std::vector<std::pair<uint32_t, uint32_t>> old;  // a reference each
  for (const Segment& segment : operation.segments) {
    const uint32_t page = current_.page(segment.index);
    arena_->Retain(page);
    old.emplace_back(segment.index, page);
    if (is_elsewhere) break;  // a batch without its header is none
  }
  Apply(operation);
  ++(*fired_)[lie.kind];
  for (const auto& [index, page] : old) {
    SetMark(index, {.kind = lie.kind, .page = page, .lie = operation.durable_number});
    arena_->Release(page);
  }
  if (is_elsewhere) {
    const uint64_t first = lie.from_bytes / kPageBytes;
    const uint64_t end = std::min(lie.to_bytes, true_size_bytes()) / kPageBytes;
    const uint64_t stray = operation.segments.back().index + 1 +
                           choices_->Below(stream_, Site::kFaultWhat, kStrayPagesMax);
    const auto to = static_cast<uint32_t>(stray < end ? stray : first + (stray - end));
    SetMark(to, {.kind = lie.kind,
                 .page = current_.page(operation.segments.front().index),
                 .lie = operation.durable_number});
  }
  open_lies_.push_back({.durable_number = operation.durable_number,
                        .from_bytes = lie.from_bytes,
                        .to_bytes = lie.to_bytes,
                        .stays = lie.stays});
  if (lie.then) lie.then();
}

void Disk::SettleLies(const Operation& operation) {
  if (operation.op != DiskOp::kDurableWrite) return;
  std::erase_if(open_lies_, [&](const OpenLie& lie) {
    const bool is_before = operation.offset_bytes < lie.from_bytes;
    const bool is_within = !is_before && operation.offset_bytes < lie.to_bytes;
    if (lie.stays == LieStays::kAlways) return false;
    if (lie.stays == LieStays::kIfProven) {
      return is_within && lie.durable_number < operation.proves_below;
    }
    if (is_before) ComeTrue(lie.durable_number);
    return is_before;
  });
}

void Disk::SettleLiesInCrash() {
  for (const OpenLie& lie : open_lies_) {
    if (lie.stays == LieStays::kIfProven) {
      ComeTrue(lie.durable_number);
    } else {
      left_lies_.push_back(lie.durable_number);
    }
  }
  open_lies_.clear();
}

void Disk::MakeLiesLast() {
  for (const uint64_t lie : left_lies_) {
    for (const auto& [index, mark] : marks_) {
      if (mark.lie != lie) continue;
      for (DiskImage* image : {&current_, &durable_}) {
        arena_->Retain(mark.page);
        image->Replace(index, mark.page);
      }
    }
    ComeTrue(lie);  // there is nothing to hide any more
  }
  left_lies_.clear();
}

void Disk::StopLying() {
  next_lie_.reset();
  for (const OpenLie& lie : open_lies_) ComeTrue(lie.durable_number);
  open_lies_.clear();
}

void Disk::ComeTrue(uint64_t lie) {
  std::erase_if(marks_, [&](const auto& entry) {
    if (entry.second.lie != lie) return false;
    arena_->Release(entry.second.page);
    return true;
  });
}

void Disk::RememberPrevious(uint32_t index) {
  const uint32_t page = current_.page(index);
  if (page == 0) return;
  arena_->Retain(page);
  previous_.emplace_back(index, page);
  if (previous_.size() <= kPreviousMax) return;
  arena_->Release(previous_.front().second);
  previous_.pop_front();
}

void Disk::ForgetPrevious() {
  for (const auto& [index, page] : previous_) arena_->Release(page);
  previous_.clear();
}

}  // namespace gabion::sim
