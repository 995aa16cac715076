#include "core/store/reads.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/store/block_crc.h"
#include "core/store/read_cache.h"

namespace gabion::store {

namespace {

constexpr uint32_t kAttemptsMax = 4;
// Whoever reads more at a time reads in sequence, and hardly ever the same again.
constexpr uint32_t kCachedBlocksMax = 8;

// The caller lends the target for the store to fill; its own reference only keeps it alive.
std::byte* Writable(const Slice& target, uint32_t block) {
  return const_cast<std::byte*>(target.data()) + size_t{block} * kBlockBytes;
}

}  // namespace

Reads::Reads(const Options& options, DeviceState* state, Counters* counters)
    : options_(options), state_(state), counters_(counters) {}

uint32_t Reads::NewOperation() {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(ops_.size()));
    ops_.push_back(std::make_unique<Operation>());
  }
  const uint32_t slot = free_.back();
  free_.pop_back();
  Operation& operation = *ops_[slot];
  operation.active = true;
  operation.from_disk.clear();
  operation.pages.clear();
  operation.is_lost = false;
  operation.outstanding = 0;
  operation.attempts = 0;
  operation.io_error = false;
  return slot;
}

bool Reads::UsesCache(const Operation& operation) const {
  return options_.read_cache != nullptr && options_.read_cache->enabled() &&
         !operation.range.from_device && operation.range.count > 0 &&
         operation.range.count <= kCachedBlocksMax;
}

bool Reads::TakeFromCache(Operation& operation, uint32_t index, uint64_t offset_bytes,
                          std::optional<uint32_t> crc) {
  if (!UsesCache(operation)) return false;
  const std::optional<uint32_t> found =
      options_.read_cache->Find(options_.device, offset_bytes, Writable(operation.target, index));
  const bool good = found && (!crc || *found == *crc);
  ++(good ? counters_->cache_hits : counters_->cache_misses);
  return good;
}

void Reads::Keep(const Operation& operation) {
  // When something has moved since, the place may hold something else by now.
  if (!UsesCache(operation)) return;
  if (operation.moves != moves_ && !PLANTED_BUG("S4-cache-learns-what-has-moved")) return;
  for (const Block& block : operation.from_disk) {
    if (block.offset_bytes < geometry_.extents_offset()) continue;
    const std::span<const std::byte> bytes(Writable(operation.target, block.index), kBlockBytes);
    options_.read_cache->Add(options_.device, block.offset_bytes, bytes, block.crc);
  }
}

void Reads::Resolve(Operation& operation) {
  operation.from_disk.clear();
  operation.pages.clear();
  operation.is_lost = false;
  operation.moves = moves_;
  const Range& range = operation.range;
  const ChunkView chunk = state_->View(range.slice, range.key);
  for (uint32_t i = 0; i < range.count; ++i) {
    const uint32_t block = range.first_block + i;
    const Item* item = chunk.log == nullptr ? nullptr : chunk.log->Newest(block);
    if (item != nullptr) {
      const std::optional<uint32_t> index = item->PayloadIndex(block);
      if (!index) {
        std::memset(Writable(operation.target, i), 0, kBlockBytes);
      } else if (const std::byte* content = item->InMemory(*index); content != nullptr) {
        std::memcpy(Writable(operation.target, i), content, kBlockBytes);
      } else {
        const uint32_t crc = BindCrc(item->crc[*index], range.key, block);
        const uint64_t offset_bytes = item->OffsetOf(*index, geometry_);
        if (item->IsRedirected(block) && TakeFromCache(operation, i, offset_bytes, crc)) continue;
        operation.from_disk.push_back({.index = i, .crc = crc, .offset_bytes = offset_bytes});
      }
      continue;
    }
    const PlacedExtent& placed = chunk.homes.extent[block / kBlocksPerExtent];
    if ((placed.present >> (block % kBlocksPerExtent) & 1u) == 0) {
      std::memset(Writable(operation.target, i), 0, kBlockBytes);
    } else {
      ResolveHome(operation, i, block, placed);
    }
  }
}

void Reads::ResolveHome(Operation& operation, uint32_t index, uint32_t block,
                        const PlacedExtent& placed) {
  const uint32_t within = block % kBlocksPerExtent;
  Block from{.index = index,
             .offset_bytes = geometry_.extent_offset(placed.place) + uint64_t{within} * kBlockBytes,
             .place = placed.place};
  HomeTable& homes = state_->homes();
  const uint32_t page = HomeTable::PageOf(placed.place);
  if (homes.cached(page)) {
    const Range& range = operation.range;
    const Home& home = homes.at(placed.place);
    if (!home.IsOf({range.slice, range.key}, block / kBlocksPerExtent, placed)) {
      operation.is_lost = true;
    }
    from.crc = BindCrc(home.crc[within], range.key, block);
    if (!operation.is_lost && TakeFromCache(operation, index, from.offset_bytes, from.crc)) return;
    ++counters_->page_hits;
  } else {
    if (TakeFromCache(operation, index, from.offset_bytes, std::nullopt)) return;
    std::vector<Page>& pages = operation.pages;
    const auto found = std::find_if(pages.begin(), pages.end(),
                                    [page](const Page& each) { return each.read.page == page; });
    from.page = static_cast<uint32_t>(found - pages.begin());
    if (found == pages.end()) pages.push_back({.read = homes.ToRead(page), .block = {}});
    ++counters_->page_misses;
  }
  operation.from_disk.push_back(from);
}

void Reads::Start(const Range& range, Slice target, Tag tag, DiskTag tag_base, Output out) {
  CHECK_EQ(target.size(), uint64_t{range.count} * kBlockBytes);
  CHECK_LE(range.first_block + range.count, kBlocksPerChunk);
  const uint32_t slot = NewOperation();
  Operation& operation = *ops_[slot];
  operation.tag = tag;
  operation.range = range;
  operation.target = std::move(target);
  Resolve(operation);
  Submit(slot, tag_base, out);
}

void Reads::StartItem(const Item& item, Slice target, Tag tag, DiskTag tag_base, Output out) {
  CHECK_EQ(target.size(), uint64_t{item.payload_blocks()} * kBlockBytes);
  const uint32_t slot = NewOperation();
  Operation& operation = *ops_[slot];
  operation.tag = tag;
  operation.range = Range{};
  operation.target = std::move(target);
  operation.moves = moves_;
  for (uint32_t i = 0; i < item.payload_blocks(); ++i) {
    if (const std::byte* content = item.InMemory(i); content != nullptr) {
      std::memcpy(Writable(operation.target, i), content, kBlockBytes);
      continue;
    }
    operation.from_disk.push_back(
        {.index = i, .crc = item.PlainCrc(i), .offset_bytes = item.OffsetOf(i, geometry_)});
  }
  Submit(slot, tag_base, out);
}

void Reads::Submit(uint32_t slot, DiskTag tag_base, Output out) {
  Operation& operation = *ops_[slot];
  for (Page& page : operation.pages) {
    page.block = options_.pool->Allocate(kBlockBytes);
    if (!page.block.empty()) continue;
    operation.pages.clear();
    waiting_.push_back(slot);
    return;
  }
  ++operation.attempts;
  for (Page& page : operation.pages) {
    out.effects.Read(options_.device, page.read.offset_bytes, std::span(&page.block, 1),
                     tag_base + slot);
    ++operation.outstanding;
  }
  const std::vector<Block>& blocks = operation.from_disk;
  for (size_t i = 0; i < blocks.size();) {
    size_t end = i + 1;
    while (end < blocks.size() && blocks[end].index == blocks[end - 1].index + 1 &&
           blocks[end].offset_bytes == blocks[end - 1].offset_bytes + kBlockBytes) {
      ++end;
    }
    const Slice into = operation.target.Sub(blocks[i].index * kBlockBytes,
                                            static_cast<uint32_t>(end - i) * kBlockBytes);
    out.effects.Read(options_.device, blocks[i].offset_bytes, std::span(&into, 1), tag_base + slot);
    ++operation.outstanding;
    i = end;
  }
  if (operation.outstanding == 0) Finish(slot, DoneStatus::kOk, out.done);
}

bool Reads::Advance(DiskTag tag_base, Output out) {
  std::vector<uint32_t> slots;
  slots.swap(waiting_);
  for (const uint32_t slot : slots) {
    Resolve(*ops_[slot]);
    Submit(slot, tag_base, out);
  }
  return waiting_.empty();
}

bool Reads::TakePages(Operation& operation) {
  HomeTable& homes = state_->homes();
  for (const Page& page : operation.pages) {
    if (!homes.OnPageRead(page.read, page.block.span())) return false;
  }
  const Range& range = operation.range;
  for (Block& block : operation.from_disk) {
    if (block.page == kNoPage) continue;
    const Home home = HomeTable::HomeIn(operation.pages[block.page].block.span(), block.place);
    const uint32_t number = range.first_block + block.index;
    const uint32_t extent = number / kBlocksPerExtent;
    const bool is_of =
        home.slice == range.slice && home.key() == range.key && home.extent == extent;
    if (!is_of) operation.is_lost = true;
    block.crc = BindCrc(home.crc[number % kBlocksPerExtent], range.key, number);
  }
  return true;
}

bool Reads::Verify(const Operation& operation) const {
  if (operation.is_lost) return false;
  return std::all_of(operation.from_disk.begin(), operation.from_disk.end(),
                     [&operation](const Block& block) {
                       const std::span<const std::byte> bytes(
                           Writable(operation.target, block.index), kBlockBytes);
                       return Crc32c(bytes) == block.crc || PLANTED_BUG("S4-read-not-verified");
                     });
}

void Reads::OnDiskDone(uint64_t slot, DiskStatus status, DiskTag tag_base, Output out) {
  CHECK_LT(slot, ops_.size());
  Operation& operation = *ops_[slot];
  CHECK(operation.active);
  if (status != DiskStatus::kOk) operation.io_error = true;
  if (--operation.outstanding > 0) return;

  // A page that is elsewhere by now, or in memory, is as good a reason as a block that moved.
  const bool pages_moved =
      std::any_of(operation.pages.begin(), operation.pages.end(),
                  [this](const Page& page) { return !state_->homes().IsCurrent(page.read); });
  if (!operation.io_error && TakePages(operation) && Verify(operation)) {
    Keep(operation);
    Finish(static_cast<uint32_t>(slot), DoneStatus::kOk, out.done);
    return;
  }
  const bool moved = operation.moves != moves_ || pages_moved;
  const bool is_entry = operation.range.count == 0;
  if (moved && is_entry) {
    Finish(static_cast<uint32_t>(slot), DoneStatus::kNotFound, out.done);
    return;
  }
  if (moved && operation.attempts < kAttemptsMax) {
    operation.io_error = false;
    Resolve(operation);
    Submit(static_cast<uint32_t>(slot), tag_base, out);
    return;
  }
  ++counters_->checksum_errors;
  Finish(static_cast<uint32_t>(slot), DoneStatus::kCorrupt, out.done);
}

void Reads::Finish(uint32_t slot, DoneStatus status, std::vector<Done>& done) {
  Operation& operation = *ops_[slot];
  done.push_back({.tag = operation.tag, .status = status});
  operation.active = false;
  operation.target = Slice();
  operation.pages.clear();
  free_.push_back(slot);
}

void Reads::Fail(std::vector<Done>& done) {
  for (uint32_t slot = 0; slot < ops_.size(); ++slot) {
    if (ops_[slot]->active) Finish(slot, DoneStatus::kFailed, done);
  }
  waiting_.clear();
}

}  // namespace gabion::store
