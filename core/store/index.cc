// The index: which content each block of a chunk has, newest first in the log, then the home.
#include <algorithm>
#include <bit>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/store/block_crc.h"
#include "core/store/state.h"

namespace gabion::store {

namespace {

constexpr EntryId kLastId{Epoch(UINT64_MAX), Seq(UINT64_MAX)};
constexpr ItemKey kLastItem{kLastId, UINT64_MAX};

bool CoversExtents(ItemKind kind) { return kind == ItemKind::kCopy || kind == ItemKind::kDrop; }

}  // namespace

ExtentRange WholeExtents(uint32_t first_block, uint32_t end_block) {
  const uint32_t first = (first_block + kBlocksPerExtent - 1) / kBlocksPerExtent;
  return {.first = first, .end = std::max(first, end_block / kBlocksPerExtent)};
}

ExtentRange Item::redirected() const {
  return redirect == nullptr ? ExtentRange{} : WholeExtents(header.first_block, end_block());
}

uint32_t Item::PlaceOf(uint32_t extent) const {
  const ExtentRange own = redirected();
  return own.contains(extent) ? redirect->places[extent - own.first] : kNoPlace;
}

uint32_t Item::IndexOfLogBlock(uint32_t log_index) const {
  const ExtentRange own = redirected();
  if (own.count() == 0 || log_index < own.first * kBlocksPerExtent - header.first_block) {
    return log_index;
  }
  return log_index + own.count() * kBlocksPerExtent;
}

const std::byte* Item::InMemory(uint32_t index) const {
  if (redirect == nullptr) {
    return payload.empty() ? nullptr : payload.data() + size_t{index} * kBlockBytes;
  }
  // An item of which extents are redirected has data in each of its blocks.
  const ExtentRange own = redirected();
  const uint32_t before = own.first * kBlocksPerExtent - header.first_block;
  const uint32_t after = before + own.count() * kBlocksPerExtent;
  if (index >= before && index < after) {
    const Slice& content = redirect->content;
    return content.empty() ? nullptr : content.data() + size_t{index - before} * kBlockBytes;
  }
  if (payload.empty()) return nullptr;
  const uint32_t log_index = index < before ? index : index - (after - before);
  return payload.data() + size_t{log_index} * kBlockBytes;
}

uint64_t Item::OffsetOf(uint32_t index, const Geometry& geometry) const {
  if (redirect == nullptr) return geometry.log_place(position + uint64_t{index} * kBlockBytes);
  const ExtentRange own = redirected();
  const uint32_t block = header.first_block + index;
  if (own.contains(block / kBlocksPerExtent)) {
    const uint32_t place = PlaceOf(block / kBlocksPerExtent);
    CHECK_NE(place, kNoPlace);
    return geometry.extent_offset(place) + uint64_t{block % kBlocksPerExtent} * kBlockBytes;
  }
  const bool is_before = block < own.first * kBlocksPerExtent;
  const uint32_t log_index = is_before ? index : index - own.count() * kBlocksPerExtent;
  return geometry.log_place(position + uint64_t{log_index} * kBlockBytes);
}

std::optional<uint32_t> Item::PayloadIndex(uint32_t block) const {
  CHECK_GE(block, header.first_block);
  CHECK_LT(block, end_block());
  const uint32_t index = block - header.first_block;
  switch (kind) {
    case ItemKind::kWrite:
      return index;
    case ItemKind::kCopy:
      if ((present >> index & 1u) == 0) return std::nullopt;
      return static_cast<uint32_t>(std::popcount(present & ((1u << index) - 1u)));
    case ItemKind::kZero:
    case ItemKind::kTrim:
    case ItemKind::kDrop:
      return std::nullopt;
  }
  UNREACHABLE();
}

uint32_t Item::PayloadBlock(uint32_t index) const {
  CHECK_LT(index, payload_blocks());
  if (kind == ItemKind::kWrite) return header.first_block + index;
  CHECK(kind == ItemKind::kCopy);
  uint32_t left = present;
  for (; index > 0; --index) left &= left - 1;
  return header.first_block + static_cast<uint32_t>(std::countr_zero(left));
}

void Item::BindCrcs(std::span<const uint32_t> plain) {
  crc.assign(plain.begin(), plain.end());
  for (uint32_t i = 0; i < crc.size(); ++i) crc[i] = BindCrc(crc[i], chunk(), PayloadBlock(i));
}

uint32_t Item::PlainCrc(uint32_t index) const {
  return BindCrc(crc[index], chunk(), PayloadBlock(index));
}

const Item* Chunk::Newest(uint32_t block) const {
  auto after = versions.upper_bound(VersionKey{block, kLastItem});
  if (after == versions.begin()) return nullptr;
  --after;
  return after->first.block == block ? after->second : nullptr;
}

bool ChunkView::HasData(uint32_t block) const {
  if (const Item* item = log == nullptr ? nullptr : log->Newest(block); item != nullptr) {
    return item->PayloadIndex(block).has_value();
  }
  const PlacedExtent& home = homes.extent[block / kBlocksPerExtent];
  return (home.present >> (block % kBlocksPerExtent) & 1u) != 0;
}

bool Chunk::HasRedirect(uint32_t extent) const {
  const uint32_t first = extent * kBlocksPerExtent;
  for (auto it = versions.lower_bound(VersionKey{first, ItemKey{}});
       it != versions.end() && it->first.block == first; ++it) {
    if (it->second->IsRedirected(first)) return true;
  }
  return false;
}

Epoch ChunkView::Modified(uint32_t extent) const {
  const PlacedExtent& home = homes.extent[extent];
  if (log != nullptr) return log->ModifiedUpTo(extent, kLastItem, home);
  return home.place != kNoPlace ? home.modified : homes.born;
}

Epoch Chunk::ModifiedUpTo(uint32_t extent, ItemKey limit, const PlacedExtent& home) const {
  Epoch modified = home.place != kNoPlace ? home.modified : born;
  const uint32_t first = extent * kBlocksPerExtent;
  // Copies and drops cover whole extents, so the first block knows the newest of them.
  ItemKey base;
  for (auto it = versions.lower_bound(VersionKey{first, ItemKey{}});
       it != versions.end() && it->first.block == first && it->first.item <= limit; ++it) {
    if (!CoversExtents(it->second->kind)) continue;
    base = it->first.item;
    modified = it->second->modified_epoch;
  }
  for (uint32_t block = first; block < first + kBlocksPerExtent; ++block) {
    auto it = versions.upper_bound(VersionKey{block, limit});
    if (it == versions.begin()) continue;
    --it;
    if (it->first.block != block || it->first.item <= base) continue;
    CHECK(!CoversExtents(it->second->kind));
    modified = std::max(modified, it->first.item.id.epoch);
  }
  return modified;
}

void DeviceState::UpdateClaim(Chunk& chunk, uint32_t extent) {
  const bool claimed = chunk.data_versions[extent] != 0 && (chunk.homed >> extent & 1u) == 0;
  const auto bit = static_cast<uint16_t>(1u << extent);
  if (claimed == ((chunk.claimed & bit) != 0)) return;
  chunk.claimed ^= bit;
  if (claimed) {
    ++claims_;
  } else {
    CHECK_GT(claims_, 0u);
    --claims_;
  }
}

bool DeviceState::InsertVersion(Replica& replica, const ChunkKey& key, uint32_t block, Item* item) {
  const auto [found, created] = replica.chunks.try_emplace(key, &pool_);
  Chunk& chunk = found->second;
  if (created) {
    PlacedChunk homes;
    if (directory_.Find({item->slice, key}, &homes)) {
      chunk.homed = homes.extents;
      chunk.born = homes.born;
    } else {
      chunk.born = CoversExtents(item->kind) ? replica.facts.started_epoch : item->key.id.epoch;
    }
  }
  if (!chunk.versions.emplace(VersionKey{block, item->key}, item).second) return false;
  ++item->versions;
  if (item->PayloadIndex(block) && !item->IsRedirected(block)) {
    ++chunk.data_versions[block / kBlocksPerExtent];
    UpdateClaim(chunk, block / kBlocksPerExtent);
  }
  return true;
}

void DeviceState::EraseVersion(Replica& replica, const ChunkKey& key, VersionKey version) {
  const auto chunk = replica.chunks.find(key);
  CHECK(chunk != replica.chunks.end());
  const auto found = chunk->second.versions.find(version);
  if (found == chunk->second.versions.end()) return;  // its extent is in its home already
  Item* item = found->second;
  chunk->second.versions.erase(found);
  CHECK_GT(item->versions, 0u);
  --item->versions;
  if (item->PayloadIndex(version.block) && !item->IsRedirected(version.block)) {
    const uint32_t extent = version.block / kBlocksPerExtent;
    CHECK_GT(chunk->second.data_versions[extent], 0u);
    --chunk->second.data_versions[extent];
    UpdateClaim(chunk->second, extent);
  }
}

bool DeviceState::SetPlaces(Item& item, std::span<const uint32_t> places) {
  if (places.empty()) return true;
  const bool is_whole =
      item.kind == ItemKind::kWrite || (item.kind == ItemKind::kCopy && item.present == UINT16_MAX);
  if (!is_whole || item.redirect != nullptr) return false;
  if (places.size() != WholeExtents(item.header.first_block, item.end_block()).count()) {
    return false;
  }
  item.redirect = MakePooled<Redirect>(&pool_, &pool_);
  item.redirect->places.assign(places.begin(), places.end());
  for (const uint32_t place : places) redirected_ += place != kNoPlace ? 1 : 0;
  return true;
}

void DeviceState::ReleasePlace(Item& item, uint32_t extent) {
  const ExtentRange own = item.redirected();
  if (!own.contains(extent)) return;
  uint32_t& place = item.redirect->places[extent - own.first];
  if (place == kNoPlace) return;
  if (PLANTED_BUG("S8-redirect-released-at-once")) {
    extents_.FreeTooEarly(place);
  } else {
    extents_.FreeAfterCheckpoint(place);
  }
  CHECK_GT(redirected_, 0u);
  --redirected_;
  place = kNoPlace;
}

void DeviceState::EraseChunkIfEmpty(Replica& replica, const ChunkKey& key) {
  const auto chunk = replica.chunks.find(key);
  if (chunk == replica.chunks.end() || !chunk->second.versions.empty()) return;
  CHECK_EQ(chunk->second.claimed, 0u);
  replica.chunks.erase(chunk);
}

Item* DeviceState::Insert(Replica& replica, ItemPtr item) {
  Item* raw = item.get();
  raw->number = next_number_++;
  const bool inserted = replica.items.emplace(raw->key, std::move(item)).second;
  CHECK(inserted);
  for (uint32_t block = raw->header.first_block; block < raw->end_block(); ++block) {
    CHECK(InsertVersion(replica, raw->chunk(), block, raw));
  }
  return raw;
}

void DeviceState::Remove(Replica& replica, ItemKey key) {
  const auto found = replica.items.find(key);
  CHECK(found != replica.items.end());
  ItemPtr item = std::move(found->second);
  replica.items.erase(found);
  if (item->versions > 0) {
    for (uint32_t block = item->header.first_block; block < item->end_block(); ++block) {
      EraseVersion(replica, item->chunk(), VersionKey{block, key});
    }
    EraseChunkIfEmpty(replica, item->chunk());
  }
  CHECK_EQ(item->versions, 0u);
  const ExtentRange own = item->redirected();
  for (uint32_t extent = own.first; extent < own.end; ++extent) ReleasePlace(*item, extent);
  if (item->position != 0) by_position_.erase({item->position, item->number});
  item->orphan = true;
  if (item->pending > 0) orphans_.push_back(std::move(item));
}

void DeviceState::RenameItem(Replica& replica, ItemKey from, ItemKey to) {
  const auto found = replica.items.find(from);
  CHECK(found != replica.items.end());
  ItemPtr item = std::move(found->second);
  replica.items.erase(found);
  Chunk& chunk = replica.chunks.at(item->chunk());
  for (uint32_t block = item->header.first_block; block < item->end_block(); ++block) {
    if (chunk.versions.erase(VersionKey{block, from}) == 0) continue;
    CHECK(chunk.versions.emplace(VersionKey{block, to}, item.get()).second);
  }
  item->key = to;
  item->header.id = to.id;
  CHECK(replica.items.emplace(to, std::move(item)).second);
}

void DeviceState::Place(Item* item, uint64_t position) {
  CHECK(position != 0);
  if (item->orphan) return;
  if (item->position != 0) by_position_.erase({item->position, item->number});
  item->position = position;
  CHECK(by_position_.emplace(std::pair(position, item->number), item).second);
}

void DeviceState::SetHome(Replica& replica, const Home& home, uint32_t place,
                          std::span<const VersionKey> versions) {
  CHECK_EQ(place == kNoPlace, home.present == 0);
  // The items go last: they are found through their versions.
  CHECK(emptied_.empty());
  const ChunkKey key = home.key();
  Chunk& chunk = replica.chunks.at(key);
  for (const VersionKey& version : versions) {
    const auto found = chunk.versions.find(version);
    CHECK(found != chunk.versions.end());
    Item* item = found->second;
    CHECK(item->durable);
    EraseVersion(replica, key, version);
    if (const uint32_t own = item->PlaceOf(home.extent); own == place && own != kNoPlace) {
      item->redirect->places[home.extent - item->redirected().first] = kNoPlace;
      --redirected_;
    } else {
      ReleasePlace(*item, home.extent);
    }
    if (item->versions == 0) emptied_.push_back(item->key);
  }
  const DirectoryKey owner{home.slice, key};
  PlacedChunk homes;
  directory_.Find(owner, &homes);
  const uint32_t old = homes.extent[home.extent].place;
  // The record of a place that is nobody's stays: the directory says that it does not count.
  if (old != place && old != kNoPlace) {
    if (PLANTED_BUG("S8-old-home-released-at-the-floor")) {
      extents_.FreeTooEarly(old);
    } else {
      extents_.FreeAfterCheckpoint(old);
    }
  }
  if (place == kNoPlace) {
    chunk.born = std::max(chunk.born, home.modified);
    homes.Clear(home.extent);
  } else {
    homes.Set(home.extent, {.place = place, .present = home.present, .modified = home.modified});
    homes_.Set(place, home);
  }
  homes.born = chunk.born;
  chunk.homed = homes.extents;
  directory_.Put(owner, homes);
  UpdateClaim(chunk, home.extent);
  EraseChunkIfEmpty(replica, key);
  for (const ItemKey& item : emptied_) Remove(replica, item);
  emptied_.clear();
}

std::optional<SlotTable::Range> DeviceState::NextRead() {
  if (const auto range = directory_.NextRead()) return range;
  reading_homes_ = true;
  return homes_.NextRead();
}

bool DeviceState::OnRead(const SlotTable::Range& range, std::span<const std::byte> bytes) {
  return reading_homes_ ? homes_.OnRead(range, bytes) : directory_.OnRead(range, bytes);
}

bool DeviceState::InsertHomes() {
  for (Directory::Cursor it = directory_.From({}); it.valid(); it.Next()) {
    const Replica* replica = Find(it.key().slice);
    if (replica == nullptr) return false;
    for (const PlacedExtent& each : it.chunk().extent) {
      if (each.place == kNoPlace) continue;
      if (each.place >= extents_.total() || !homes_.exists(HomeTable::PageOf(each.place))) {
        return false;
      }
      if (!extents_.Claim(each.place) && !PLANTED_BUG("S6-extent-with-two-owners")) return false;
    }
  }
  // Items were here first.
  for (auto& [slice, replica] : replicas_) {
    for (auto& [key, chunk] : replica->chunks) {
      PlacedChunk homes;
      if (!directory_.Find({slice, key}, &homes)) continue;
      if (chunk.born != homes.born) return false;
      chunk.homed = homes.extents;
      for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) UpdateClaim(chunk, extent);
    }
  }
  return true;
}

}  // namespace gabion::store
