#include "core/store/state.h"

#include <algorithm>
#include <bit>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::store {

EntryId Replica::CommittedUpTo() const {
  // While a rename or a void is on its way, only old names that it leaves alone are sure.
  if (renumber_pending > 0) return std::min(facts.commit_point, facts.last_durable);
  return std::min(std::max(facts.commit_point, start), facts.last_durable);
}

void DeviceState::Reset(const Geometry& geometry, uint64_t log_key) {
  replicas_.clear();
  by_position_.clear();
  extents_.Reset(geometry.extents_total);
  directory_.Reset(geometry, log_key);
  homes_.Reset(geometry, log_key);
  claims_ = 0;
  redirected_ = 0;
  reading_homes_ = false;
}

Replica* DeviceState::Find(SliceId slice) {
  const auto found = replicas_.find(slice);
  return found == replicas_.end() ? nullptr : found->second.get();
}

const Replica* DeviceState::Find(SliceId slice) const {
  return const_cast<DeviceState*>(this)->Find(slice);
}

const Chunk* DeviceState::FindChunk(SliceId slice, const ChunkKey& key) const {
  const Replica* replica = Find(slice);
  if (replica == nullptr) return nullptr;
  const auto found = replica->chunks.find(key);
  return found == replica->chunks.end() ? nullptr : &found->second;
}

ChunkView DeviceState::View(SliceId slice, const ChunkKey& key) const {
  ChunkView view{.log = FindChunk(slice, key), .homes = {}};
  directory_.Find({slice, key}, &view.homes);
  return view;
}

void DeviceState::Walk(
    SliceId slice, std::optional<ChunkKey> after,
    absl::FunctionRef<bool(const ChunkKey& key, const ChunkView& view)> visit) const {
  const Replica* replica = Find(slice);
  if (replica == nullptr) return;
  auto log = after ? replica->chunks.upper_bound(*after) : replica->chunks.begin();
  Directory::Cursor homes = directory_.From({slice, after.value_or(ChunkKey{})});
  if (after && homes.valid() && homes.key() == DirectoryKey{slice, *after}) homes.Next();
  while (true) {
    const bool has_homes = homes.valid() && homes.key().slice == slice;
    const bool has_log = log != replica->chunks.end();
    if (!has_homes && !has_log) return;
    const bool takes_homes = has_homes && (!has_log || homes.key().chunk <= log->first);
    const bool takes_log = has_log && (!takes_homes || homes.key().chunk == log->first);
    ChunkView view;
    const ChunkKey key = takes_homes ? homes.key().chunk : log->first;
    if (takes_homes) view.homes = homes.chunk();
    if (takes_log) view.log = &log->second;
    if (!visit(key, view)) return;
    if (takes_homes) homes.Next();
    if (takes_log) ++log;
  }
}

Replica* DeviceState::CreateReplica(SliceId slice) {
  std::unique_ptr<Replica>& replica = replicas_[slice];
  if (replica != nullptr) return nullptr;
  replica = std::make_unique<Replica>(&pool_);
  replica->uid = next_uid_++;
  return replica.get();
}

bool DeviceState::InsertItem(Replica& replica, ItemPtr item, bool with_versions) {
  if (replica.items.contains(item->key)) return false;
  if (with_versions) {
    Insert(replica, std::move(item));
    return true;
  }
  item->number = next_number_++;
  replica.items.emplace(item->key, std::move(item));
  return true;
}

Item* DeviceState::AddEntry(SliceId slice, const wire::EntryHeader& entry, const Content& content) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return nullptr;
  SliceFacts& facts = replica->facts;
  if (entry.id.epoch != facts.started_epoch || entry.id <= facts.last) return nullptr;
  // A damaged checkpoint may hold entries above `last`.
  if (replica->items.contains(ItemKey{entry.id, 0})) return nullptr;
  if (entry.block_count == 0) return nullptr;
  if (uint32_t{entry.first_block} + entry.block_count > kBlocksPerChunk) return nullptr;
  const bool has_data = entry.kind == wire::EntryKind::kWrite;
  if (content.crc.size() != (has_data ? entry.block_count : 0u)) return nullptr;
  ItemPtr item = NewItem();
  item->slice = slice;
  item->key = ItemKey{entry.id, 0};
  item->header = entry;
  switch (entry.kind) {
    case wire::EntryKind::kWrite:
      item->kind = ItemKind::kWrite;
      break;
    case wire::EntryKind::kZero:
      item->kind = ItemKind::kZero;
      break;
    case wire::EntryKind::kTrim:
      item->kind = ItemKind::kTrim;
      break;
    default:
      return nullptr;
  }
  if (!SetPlaces(*item, content.places)) return nullptr;
  item->BindCrcs(content.crc);
  facts.last = entry.id;
  replica->requests.OnEntry(entry);
  return Insert(*replica, std::move(item));
}

Item* DeviceState::AddCopy(SliceId slice, const ChunkKey& key, uint32_t extent, uint16_t present,
                           Epoch modified_epoch, EntryId after, const Content& content) {
  Replica* replica = Find(slice);
  if (replica == nullptr || extent >= kExtentsPerChunk) return nullptr;
  if (content.crc.size() != static_cast<size_t>(std::popcount(present))) return nullptr;
  ItemPtr item = NewItem();
  item->slice = slice;
  item->key = ItemKey{after, replica->next_serial};
  item->kind = ItemKind::kCopy;
  item->header.vtree = key.vtree;
  item->header.version = key.version;
  item->header.chunk = key.chunk;
  item->header.first_block = static_cast<uint16_t>(extent * kBlocksPerExtent);
  item->header.block_count = kBlocksPerExtent;
  item->present = present;
  item->modified_epoch = modified_epoch;
  if (!SetPlaces(*item, content.places)) return nullptr;
  item->BindCrcs(content.crc);
  ++replica->next_serial;
  return Insert(*replica, std::move(item));
}

Item* DeviceState::AddDrop(SliceId slice, const ChunkKey& key, EntryId after) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return nullptr;
  ItemPtr item = NewItem();
  item->slice = slice;
  item->key = ItemKey{after, replica->next_serial++};
  item->kind = ItemKind::kDrop;
  item->header.vtree = key.vtree;
  item->header.version = key.version;
  item->header.chunk = key.chunk;
  item->header.block_count = kBlocksPerChunk;
  item->modified_epoch = replica->facts.started_epoch;
  return Insert(*replica, std::move(item));
}

bool DeviceState::StartEpoch(SliceId slice, const EpochStartRecord& record, EntryId keep) {
  Replica* replica = Find(slice);
  if (replica != nullptr && record.epoch <= replica->facts.started_epoch) return false;
  if (replica == nullptr) {
    if (!record.renames.empty()) return false;
    replica = CreateReplica(slice);
  }
  SliceFacts& facts = replica->facts;
  const EntryId start{record.epoch, record.start};
  EntryId next{record.epoch, record.start.next()};
  for (size_t i = 0; i < record.renames.size(); ++i) {
    const Rename& rename = record.renames[i];
    if (rename.to != next || rename.from <= keep) return false;
    if (i > 0 && rename.from <= record.renames[i - 1].from) return false;
    if (!replica->items.contains(ItemKey{rename.from, 0})) return false;
    next.seq = next.seq.next();
  }

  // What is above `keep` gets its new name, or goes. A copy stays behind the entry that it
  // followed, and is as young as the youngest entry that it holds: a replica that comes back has
  // voided the entry under its old name, and is sent what changed in this epoch.
  std::vector<ItemKey> keys;
  for (auto it = replica->items.upper_bound(ItemKey{keep, UINT64_MAX}); it != replica->items.end();
       ++it) {
    keys.push_back(it->first);
  }
  size_t renamed = 0;
  for (const ItemKey& key : keys) {
    while (renamed < record.renames.size() && record.renames[renamed].from <= key.id) {
      const Rename& rename = record.renames[renamed];
      const auto& item = replica->items.at(ItemKey{rename.from, 0});
      replica->requests.OnRename(item->header, rename.to);
      RenameItem(*replica, ItemKey{rename.from, 0}, ItemKey{rename.to, 0});
      ++renamed;
    }
    if (key.serial != 0) {
      const EntryId after = renamed > 0 ? record.renames[renamed - 1].to : start;
      if (renamed > 0 && !PLANTED_BUG("copy-forgets-carried-over")) {
        replica->items.at(key)->modified_epoch = record.epoch;
      }
      RenameItem(*replica, key, ItemKey{after, key.serial});
    } else if (renamed == 0 || record.renames[renamed - 1].from != key.id) {
      replica->requests.OnVoid(replica->items.at(key)->header);
      Remove(*replica, key);
    }
  }
  CHECK_EQ(renamed, record.renames.size());

  facts.started_epoch = record.epoch;
  facts.issuer = record.issuer;
  facts.members = record.members;
  if (record.in_sync) {
    facts.in_sync_epoch = record.epoch;
    facts.in_sync_issuer = record.issuer;
    facts.cursor = {};
  }
  const size_t forgotten =
      record.history.size() > kHistoryMax ? record.history.size() - kHistoryMax : 0;
  facts.history.assign(record.history.begin() + static_cast<ptrdiff_t>(forgotten),
                       record.history.end());
  if (record.start.valid() || !record.in_sync) {
    facts.commit_point = start;
  } else {
    facts.commit_point = std::max(facts.commit_point, record.end);
  }
  facts.last = EntryId{record.epoch, Seq(record.start.value() + record.renames.size())};
  facts.last_durable = std::min(facts.last_durable, keep);
  replica->start = start;
  ++replica->renumbered;
  return true;
}

bool DeviceState::VoidAbove(SliceId slice, const VoidRecord& record) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return false;
  const EntryId end = std::max(record.end, record.keep);
  std::vector<ItemKey> keys;
  for (auto it = replica->items.upper_bound(ItemKey{end, UINT64_MAX}); it != replica->items.end();
       ++it) {
    keys.push_back(it->first);
  }
  for (const ItemKey& key : keys) {
    if (key.serial == 0) replica->requests.OnVoid(replica->items.at(key)->header);
    Remove(*replica, key);
  }
  SliceFacts& facts = replica->facts;
  facts.commit_point = std::min(facts.commit_point, end);
  facts.last = std::min(facts.last, end);
  facts.last_durable = std::min(facts.last_durable, end);
  if (end < EntryId{facts.cursor.epoch, facts.cursor.after}) facts.cursor = {};
  ++replica->renumbered;
  return true;
}

bool DeviceState::SetCommitPoint(SliceId slice, EntryId commit_point) {
  Replica* replica = Find(slice);
  if (replica == nullptr || commit_point <= replica->facts.commit_point) return false;
  if (commit_point.epoch > replica->facts.started_epoch) return false;
  replica->facts.commit_point = commit_point;
  return true;
}

bool DeviceState::SetNeedsResync(SliceId slice, bool value) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return false;
  replica->facts.needs_resync = value;
  return true;
}

bool DeviceState::SetInSync(SliceId slice, Epoch epoch, uint64_t issuer) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return false;
  replica->facts.in_sync_epoch = epoch;
  replica->facts.in_sync_issuer = issuer;
  return true;
}

bool DeviceState::SetCursor(SliceId slice, const wire::JoinCursor& cursor) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return false;
  replica->facts.cursor = cursor;
  return true;
}

bool DeviceState::DropSlice(SliceId slice) {
  const auto found = replicas_.find(slice);
  if (found == replicas_.end()) return false;
  Replica& replica = *found->second;
  std::vector<ItemKey> keys;
  for (const auto& [key, item] : replica.items) keys.push_back(key);
  for (const ItemKey& key : keys) Remove(replica, key);
  CHECK(replica.chunks.empty());
  directory_.EraseSlice(slice, [this](uint32_t place) { extents_.FreeAfterCheckpoint(place); });
  replicas_.erase(found);
  return true;
}

bool DeviceState::AddRequests(SliceId slice, std::span<const wire::RequestRecord> records) {
  Replica* replica = Find(slice);
  if (replica == nullptr) return false;
  for (const wire::RequestRecord& record : records) {
    if (record.client.valid()) replica->requests.OnCopied(record);
  }
  return true;
}

bool DeviceState::SetFloor(SliceId slice, EntryId floor) {
  Replica* replica = Find(slice);
  if (replica == nullptr || floor <= replica->floor) return false;
  for (auto it = replica->items.upper_bound(ItemKey{replica->floor, UINT64_MAX});
       it != replica->items.end() && it->first.id <= floor; ++it) {
    if (it->first.serial == 0) replica->requests.OnSettled(it->second->header);
  }
  replica->floor = floor;
  if (floor > replica->start) {
    replica->facts.commit_point = std::max(replica->facts.commit_point, floor);
  }
  return true;
}

void DeviceState::DropClient(SdcId client, Incarnation below) {
  for (auto& [slice, replica] : replicas_) replica->requests.Drop(client, below);
}

void DeviceState::MarkAllDurable() {
  for (auto& [slice, replica] : replicas_) {
    replica->facts.last_durable = replica->facts.last;
    for (auto& [key, item] : replica->items) item->durable = true;
  }
}

void DeviceState::SweepOrphans() {
  std::erase_if(orphans_, [](const ItemPtr& item) { return item->pending == 0; });
}

}  // namespace gabion::store
