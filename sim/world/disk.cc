#include "sim/world/disk.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sim {

PageArena::PageArena() {
  references_.push_back(1);
  blocks_.push_back(std::make_unique<std::byte[]>(size_t{kPagesPerBlock} * kPageBytes));
}

uint32_t PageArena::Allocate() {
  if (!free_.empty()) {
    const uint32_t page = free_.back();
    free_.pop_back();
    references_[page] = 1;
    return page;
  }
  const auto page = static_cast<uint32_t>(references_.size());
  references_.push_back(1);
  if (page / kPagesPerBlock >= blocks_.size()) {
    blocks_.push_back(std::make_unique<std::byte[]>(size_t{kPagesPerBlock} * kPageBytes));
  }
  return page;
}

DiskImage::DiskImage(const DiskImage& other) : arena_(other.arena_), pages_(other.pages_) {
  for (const uint32_t page : pages_) arena_->Retain(page);
}

DiskImage& DiskImage::operator=(const DiskImage& other) {
  if (this == &other) return *this;
  for (const uint32_t page : other.pages_) arena_->Retain(page);
  for (const uint32_t page : pages_) arena_->Release(page);
  arena_ = other.arena_;
  pages_ = other.pages_;
  return *this;
}

DiskImage::~DiskImage() {
  for (const uint32_t page : pages_) arena_->Release(page);
}

void DiskImage::Read(uint64_t offset_bytes, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto index = static_cast<uint32_t>(offset_bytes / kPageBytes);
    const auto within = static_cast<uint32_t>(offset_bytes % kPageBytes);
    const size_t size = std::min<size_t>(into.size(), kPageBytes - within);
    std::memcpy(into.data(), arena_->Data(pages_[index]) + within, size);
    into = into.subspan(size);
    offset_bytes += size;
  }
}

void DiskImage::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  while (!from.empty()) {
    const auto index = static_cast<uint32_t>(offset_bytes / kPageBytes);
    const auto within = static_cast<uint32_t>(offset_bytes % kPageBytes);
    const size_t size = std::min<size_t>(from.size(), kPageBytes - within);
    const uint32_t page = arena_->Allocate();
    std::memcpy(arena_->Data(page), arena_->Data(pages_[index]), kPageBytes);
    std::memcpy(arena_->Data(page) + within, from.data(), size);
    Replace(index, page);
    from = from.subspan(size);
    offset_bytes += size;
  }
}

void DiskImage::OverlaySectors(uint32_t index, uint32_t source, uint32_t first, uint32_t count) {
  const uint32_t merged = arena_->Allocate();
  std::memcpy(arena_->Data(merged), arena_->Data(pages_[index]), kPageBytes);
  std::memcpy(arena_->Data(merged) + size_t{first} * kDiskSectorBytes,
              arena_->Data(source) + size_t{first} * kDiskSectorBytes,
              size_t{count} * kDiskSectorBytes);
  Replace(index, merged);
}

void DiskImage::Clear() {
  for (uint32_t& page : pages_) {
    arena_->Release(page);
    page = 0;
  }
}

Disk::Disk(const Options& options, PageArena* arena, Choices* choices, Stream stream,
           const WorldFaults* faults, PerFault<uint64_t>* fired)
    : options_(options),
      arena_(arena),
      choices_(choices),
      stream_(stream),
      faults_(faults),
      fired_(fired),
      current_(arena, options.info.size_bytes),
      durable_(arena, options.info.size_bytes),
      dirty_of_page_(options.info.size_bytes / kPageBytes, 0) {
  CHECK_EQ(options.info.size_bytes % kPageBytes, 0u);
}

Disk::~Disk() {
  HealDamage();
  ForgetPrevious();
  for (const uint32_t slot : in_flight_) Drop(operations_[slot]);
  for (const Dirty& dirty : dirty_) arena_->Release(dirty.page);
}

void Disk::TakeSegments(Operation& operation, uint64_t offset_bytes,
                        std::span<const Slice> slices) {
  for (const Slice& slice : slices) {
    std::span<const std::byte> bytes = slice.span();
    while (!bytes.empty()) {
      const auto within = static_cast<uint32_t>(offset_bytes % kPageBytes);
      const size_t size = std::min<size_t>(bytes.size(), kPageBytes - within);
      Segment segment{.index = static_cast<uint32_t>(offset_bytes / kPageBytes),
                      .first_sector = static_cast<uint8_t>(within / kDiskSectorBytes),
                      .sector_count = static_cast<uint8_t>(size / kDiskSectorBytes)};
      CHECK_EQ(size % kDiskSectorBytes, 0u) << "a buffer of a write ends inside a sector";
      segment.page = arena_->Allocate();
      std::memcpy(arena_->Data(segment.page) + within, bytes.data(), size);
      operation.segments.push_back(segment);
      bytes = bytes.subspan(size);
      offset_bytes += size;
    }
  }
}

uint32_t Disk::Submit(TrueTime now, const DiskEffect& effect, std::span<const Slice> slices,
                      TrueTime* done_at) {
  CHECK_EQ(effect.offset_bytes % options_.info.block_bytes, 0u) << "misaligned disk operation";
  CHECK_EQ(effect.length_bytes % options_.info.block_bytes, 0u) << "misaligned disk operation";
  CHECK_LE(effect.length_bytes, options_.info.size_bytes);
  CHECK_LE(effect.offset_bytes, options_.info.size_bytes - effect.length_bytes)
      << "disk operation beyond the end";
  Operation operation{.op = effect.op,
                      .live = true,
                      .lost = trouble_.gone,
                      .tag = effect.tag,
                      .offset_bytes = effect.offset_bytes};
  int64_t nanos = options_.latency_base.count();
  nanos += static_cast<int64_t>(effect.length_bytes);  // 1 GB/s
  nanos +=
      choices_
          ->TailOf(stream_, Site::kDiskLatency, options_.latency_mean, options_.latency_mean * 50)
          .count();
  switch (effect.op) {
    case DiskOp::kRead:
      operation.into.assign(slices.begin(), slices.end());
      break;
    case DiskOp::kWrite:
    case DiskOp::kDurableWrite:
      if (effect.op == DiskOp::kDurableWrite) NumberDurableWrite(operation);
      TakeSegments(operation, effect.offset_bytes, slices);
      bytes_written_ += effect.length_bytes;
      break;
    case DiskOp::kDiscard:
      for (uint64_t at = effect.offset_bytes; at < effect.offset_bytes + effect.length_bytes;) {
        const auto within = static_cast<uint32_t>(at % kPageBytes);
        const auto size = static_cast<uint32_t>(std::min<uint64_t>(
            kPageBytes - within, effect.offset_bytes + effect.length_bytes - at));
        operation.segments.push_back(
            {.index = static_cast<uint32_t>(at / kPageBytes),
             .page = 0,
             .first_sector = static_cast<uint8_t>(within / kDiskSectorBytes),
             .sector_count = static_cast<uint8_t>(size / kDiskSectorBytes)});
        at += size;
      }
      break;
    case DiskOp::kFlush:
      operation.flush_sequence = next_sequence_ - 1;
      nanos += options_.flush_base.count();
      break;
  }
  if (now < slow_until_) {
    nanos += slow_extra_.count();
    ++(*fired_)[Fault::kSlowDisk];
  }
  TrueTime at = now + nanos;
  if (now < trouble_.stuck_until) {
    at = trouble_.stuck_until + nanos;
    ++(*fired_)[Fault::kStuck];
  }
  if (at <= last_done_) {
    if (faults_->reorder_disk) {
      ++(*fired_)[Fault::kReorder];
    } else {
      at = last_done_ + 1;
    }
  }
  last_done_ = std::max(last_done_, at);
  *done_at = at;
  const uint32_t slot = operations_.Add(std::move(operation));
  in_flight_.push_back(slot);
  return slot;
}

void Disk::ApplyToCache(const Segment& segment) {
  if (segment.sector_count == kSectorsPerPage) {
    if (!marks_.empty()) ClearMark(segment.index);
    arena_->Retain(segment.page);
    current_.Replace(segment.index, segment.page);
  } else {
    current_.OverlaySectors(segment.index, segment.page, segment.first_sector,
                            segment.sector_count);
  }
  arena_->Retain(current_.page(segment.index));
  dirty_.push_back(
      {.sequence = next_sequence_++, .index = segment.index, .page = current_.page(segment.index)});
  ++dirty_of_page_[segment.index];
}

void Disk::ApplyDurably(const Segment& segment) {
  const bool whole = segment.sector_count == kSectorsPerPage;
  if (whole && !marks_.empty()) ClearMark(segment.index);
  if (dirty_of_page_[segment.index] != 0) {
    // The earlier writes of these sectors in the cache are superseded; of other sectors they stay.
    std::erase_if(dirty_, [&](Dirty& dirty) {
      if (dirty.index != segment.index) return false;
      if (!whole) {
        const uint32_t merged = arena_->Allocate();
        std::memcpy(arena_->Data(merged), arena_->Data(dirty.page), kPageBytes);
        std::memcpy(arena_->Data(merged) + size_t{segment.first_sector} * kDiskSectorBytes,
                    arena_->Data(segment.page) + size_t{segment.first_sector} * kDiskSectorBytes,
                    size_t{segment.sector_count} * kDiskSectorBytes);
        arena_->Release(dirty.page);
        dirty.page = merged;
        return false;
      }
      arena_->Release(dirty.page);
      --dirty_of_page_[dirty.index];
      return true;
    });
  }
  for (DiskImage* image : {&current_, &durable_}) {
    if (whole) {
      arena_->Retain(segment.page);
      image->Replace(segment.index, segment.page);
    } else {
      image->OverlaySectors(segment.index, segment.page, segment.first_sector,
                            segment.sector_count);
    }
  }
}

void Disk::ApplyFlush(uint64_t sequence) {
  size_t kept = 0;
  for (size_t i = 0; i < dirty_.size(); ++i) {
    const Dirty dirty = dirty_[i];
    if (dirty.sequence > sequence) {
      dirty_[kept++] = dirty;
      continue;
    }
    durable_.Replace(dirty.index, dirty.page);
    --dirty_of_page_[dirty.index];
  }
  dirty_.resize(kept);
}

void Disk::Apply(Operation& operation) {
  switch (operation.op) {
    case DiskOp::kRead: {
      uint64_t offset = operation.offset_bytes;
      for (const Slice& slice : operation.into) {
        // The role keeps its own reference, so the buffer is filled behind the slice's back, as the
        // kernel does.
        current_.Read(offset, {const_cast<std::byte*>(slice.data()), slice.size()});
        offset += slice.size();
      }
      break;
    }
    case DiskOp::kWrite:
    case DiskOp::kDiscard:
      for (const Segment& segment : operation.segments) ApplyToCache(segment);
      break;
    case DiskOp::kDurableWrite:
      for (const Segment& segment : operation.segments) ApplyDurably(segment);
      break;
    case DiskOp::kFlush:
      ApplyFlush(operation.flush_sequence);
      break;
  }
}

void Disk::Drop(Operation& operation) {
  for (const Segment& segment : operation.segments) arena_->Release(segment.page);
  operation.segments.clear();
}

DiskTag Disk::Complete(uint32_t slot, DiskStatus* status) {
  Operation operation = operations_.Take(slot);
  CHECK(operation.live);
  std::erase(in_flight_, slot);
  const DiskStatus outcome = Carry(operation);
  if (status != nullptr) *status = outcome;
  Drop(operation);
  return operation.tag;
}

void Disk::ApplyInPart(Operation& operation, bool power_cut) {
  // Nothing, everything, or any subset of the sectors.
  const uint64_t kinds = faults_->tear_writes ? 3 : 2;
  const uint64_t kind = choices_->Below(stream_, Site::kTornSector, kinds);
  if (kind == 0 || (kind == 1 && !faults_->complete_unacknowledged)) return;
  ++(*fired_)[kind == 1 ? Fault::kUnacknowledged : Fault::kTornWrite];
  const bool garbage =
      kind == 2 && power_cut && faults_->leave_garbage && operation.op != DiskOp::kDiscard;
  for (const Segment& segment : operation.segments) {
    const uint64_t mask = kind == 1 ? 0xff : choices_->Below(stream_, Site::kTornSector, 256);
    if (garbage) {
      const uint64_t own = ((uint64_t{1} << segment.sector_count) - 1) << segment.first_sector;
      OverlayGarbage(segment.index, own & ~mask);
    }
    for (uint32_t i = 0; i < segment.sector_count; ++i) {
      const uint32_t sector = segment.first_sector + i;
      if (((mask >> sector) & 1) == 0) continue;
      const Segment part{.index = segment.index,
                         .page = segment.page,
                         .first_sector = static_cast<uint8_t>(sector),
                         .sector_count = 1};
      if (power_cut || operation.op == DiskOp::kDurableWrite) {
        ApplyDurably(part);
      } else {
        ApplyToCache(part);
      }
    }
  }
}

void Disk::OnKill() {
  SettleLiesInCrash();
  for (const uint32_t slot : in_flight_) {
    Operation operation = operations_.Take(slot);
    if (operation.op != DiskOp::kRead && operation.op != DiskOp::kFlush) {
      ApplyInPart(operation, false);
    }
    Drop(operation);
  }
  in_flight_.clear();
  last_done_ = 0;
}

void Disk::OnPowerCut() {
  SettleLiesInCrash();
  // First the cache: each of its pages keeps what is durable, or any later version, or a mixture.
  const uint64_t fate = dirty_.empty() || !faults_->lose_unflushed
                            ? 0
                            : choices_->Below(stream_, Site::kTornSector, 3);
  for (const Dirty& dirty : dirty_) {
    uint64_t mask = fate == 0 ? 0xff : 0;
    if (fate == 2) mask = choices_->Below(stream_, Site::kTornSector, 256);
    if (mask != 0xff) ++(*fired_)[Fault::kUnflushedLost];
    for (uint32_t sector = 0; sector < kSectorsPerPage; ++sector) {
      if (((mask >> sector) & 1) != 0) durable_.OverlaySectors(dirty.index, dirty.page, sector, 1);
    }
    if (fate == 2 && faults_->leave_garbage) OverlayGarbage(dirty.index, 0xff & ~mask);
    arena_->Release(dirty.page);
    dirty_of_page_[dirty.index] = 0;
  }
  dirty_.clear();
  for (const uint32_t slot : in_flight_) {
    Operation operation = operations_.Take(slot);
    if (operation.op != DiskOp::kRead && operation.op != DiskOp::kFlush) {
      ApplyInPart(operation, true);
    }
    Drop(operation);
  }
  in_flight_.clear();
  current_ = durable_;
  last_done_ = 0;
  slow_until_ = 0;
}

// Of these sectors some, in the medium and in what is read.
void Disk::OverlayGarbage(uint32_t index, uint64_t sectors) {
  sectors &= choices_->Below(stream_, Site::kTornSector, 256);
  if (sectors == 0) return;
  ++(*fired_)[Fault::kGarbage];
  const uint32_t page = arena_->Allocate();
  const uint64_t bits = choices_->Bits(stream_, Site::kTornSector);
  for (uint32_t at = 0; at < kPageBytes; at += sizeof(bits)) {
    const uint64_t word = mix64(bits + at);
    std::memcpy(arena_->Data(page) + at, &word, sizeof(word));
  }
  for (uint32_t sector = 0; sector < kSectorsPerPage; ++sector) {
    if (((sectors >> sector) & 1) == 0) continue;
    durable_.OverlaySectors(index, page, sector, 1);
    current_.OverlaySectors(index, page, sector, 1);
  }
  arena_->Release(page);
}

void Disk::CloneFrom(const Disk& other) {
  Wipe();
  current_ = other.current_;
  durable_ = other.current_;
}

void Disk::RollBackTo(const DiskImage& image) {
  Wipe();
  current_ = image;
  durable_ = image;
}

void Disk::Wipe() {
  CHECK(in_flight_.empty());
  for (const Dirty& dirty : dirty_) {
    arena_->Release(dirty.page);
    dirty_of_page_[dirty.index] = 0;
  }
  dirty_.clear();
  HealDamage();
  next_lie_.reset();
  ForgetPrevious();
  current_.Clear();
  durable_.Clear();
}

}  // namespace gabion::sim
