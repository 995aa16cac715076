// What a store knows: its replicas, their entries in the log, the index of those, the directory of
// homes, and as many of their checksums as fit the budget.
// The methods that change it are the records of the log, one each: the live store calls them when
// it queues a record, recovery calls the same ones when it reads the record back. So what they do
// may depend only on the record and on the state that earlier records made, never on what destaging
// did meanwhile.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/node_pool.h"
#include "core/store/directory.h"
#include "core/store/extents.h"
#include "core/store/home_table.h"
#include "core/store/layout.h"
#include "core/store/requests.h"
#include "core/store/store.h"

namespace gabion::store {

// The place of an item in a slice's order. serial 0: the entry `id`; else a copy or a drop that
// follows the entry `id` and comes before the next one.
struct ItemKey {
  EntryId id;
  uint64_t serial = 0;
  auto operator<=>(const ItemKey&) const = default;
};

// The extents that some blocks of a chunk cover whole.
struct ExtentRange {
  uint32_t first = 0;
  uint32_t end = 0;
  uint32_t count() const { return end - first; }
  bool contains(uint32_t extent) const { return extent >= first && extent < end; }
};
ExtentRange WholeExtents(uint32_t first_block, uint32_t end_block);

// What of an item's content went to extents of its own instead of to the log: that of all the
// extents which it covers whole.
struct Redirect {
  explicit Redirect(NodePool* pool) : places(PoolAllocator<uint32_t>(pool)) {}

  // By extent; kNoPlace: no longer the item's (it became the home, or what it held is overwritten).
  absl::InlinedVector<uint32_t, 4, PoolAllocator<uint32_t>> places;
  Slice content;             // until it is written
  uint32_t outstanding = 0;  // writes on their way: the item's record waits for them
};

enum class ItemKind : uint8_t { kWrite = 1, kZero = 2, kTrim = 3, kCopy = 4, kDrop = 5 };

// Nodes of what comes and goes with entries are from the state's pool: an entry allocates nothing.
template <class Key, class Value>
using PoolMap =
    absl::btree_map<Key, Value, std::less<Key>, PoolAllocator<std::pair<const Key, Value>>>;

// An entry, a copy or a drop whose content is (also) in the log.
struct Item {
  explicit Item(NodePool* pool) : crc(PoolAllocator<uint32_t>(pool)) {}

  SliceId slice;
  ItemKey key;
  ItemKind kind{};
  wire::EntryHeader header;  // of copies and drops: only the range
  uint16_t present = 0;      // kCopy: blocks with data
  Epoch modified_epoch;      // kCopy, kDrop: of every extent that it covers
  // One for each block with data, bound to it (S4).
  absl::InlinedVector<uint32_t, 2, PoolAllocator<uint32_t>> crc;

  uint64_t position = 0;  // of its first payload block, or of its batch; 0: not in a batch yet
  uint64_t number = 0;    // tells items of one position apart
  uint32_t versions = 0;  // in the index
  uint32_t pending = 0;   // records in the log's queue that refer to it
  bool orphan = false;    // not in the state any more, only in the queue
  bool durable = false;
  Slice payload;               // what the log gets, until it can be read from there
  PoolPtr<Redirect> redirect;  // null: all is in the log

  ChunkKey chunk() const { return {header.vtree, header.version, header.chunk}; }
  uint32_t payload_blocks() const { return static_cast<uint32_t>(crc.size()); }
  // Of these, those that are in the log.
  uint32_t log_blocks() const { return payload_blocks() - redirected().count() * kBlocksPerExtent; }
  // Empty: all is in the log.
  ExtentRange redirected() const;
  bool IsRedirected(uint32_t block) const {
    return redirect != nullptr && redirected().contains(block / kBlocksPerExtent);
  }
  // kNoPlace: it has none (any more) for this extent.
  uint32_t PlaceOf(uint32_t extent) const;
  bool writing() const { return redirect != nullptr && redirect->outstanding > 0; }
  uint32_t end_block() const { return uint32_t{header.first_block} + header.block_count; }
  // Index into the payload of a block of the chunk that the item covers; nothing: it reads as
  // zeroes.
  std::optional<uint32_t> PayloadIndex(uint32_t block) const;
  // The other way round: the block of the chunk whose content is at `index`.
  uint32_t PayloadBlock(uint32_t index) const;
  // Index into the payload of the log's block number `log_index`; the log leaves out what is
  // redirected.
  uint32_t IndexOfLogBlock(uint32_t log_index) const;
  // Content of a block of the payload that is still in memory; else null, and it is on the device.
  const std::byte* InMemory(uint32_t index) const;
  uint64_t OffsetOf(uint32_t index, const Geometry& geometry) const;
  void BindCrcs(std::span<const uint32_t> plain);
  uint32_t PlainCrc(uint32_t index) const;
};

using ItemPtr = PoolPtr<Item>;

// What an entry or a copy brings. `crc`: plain, of each block with data. `places`: of the extents
// that it covers whole, all of them or none; allocated or claimed.
struct Content {
  std::span<const uint32_t> crc;
  std::span<const uint32_t> places = {};
};

struct VersionKey {
  uint32_t block = 0;
  ItemKey item;
  auto operator<=>(const VersionKey&) const = default;
};

// What the log holds of a chunk; what is outside the log is in the directory.
struct Chunk {
  explicit Chunk(NodePool* pool) : versions(PoolAllocator<uint8_t>(pool)) {}

  // When it came into being, as far as known, or lost an extent's data last: extents without a home
  // count as modified then, because their absence may be the news.
  Epoch born;
  PoolMap<VersionKey, Item*> versions;
  // Versions that need an extent: those with data that have none of their own.
  std::array<uint32_t, kExtentsPerChunk> data_versions{};
  uint16_t homed = 0;    // extents that have a home
  uint16_t claimed = 0;  // extents that the log will newly take

  // The newest version of a block; null: none in the log.
  const Item* Newest(uint32_t block) const;
  // A version in the log has an extent of its own for this one.
  bool HasRedirect(uint32_t extent) const;
  // Of an extent whose home is `home`, as if versions above `limit` were not there.
  Epoch ModifiedUpTo(uint32_t extent, ItemKey limit, const PlacedExtent& home) const;
};

// All that is known of a chunk: versions in the log, over its homes.
struct ChunkView {
  const Chunk* log = nullptr;  // null: nothing of it is in the log
  PlacedChunk homes;

  bool exists() const { return log != nullptr || homes.extents != 0; }
  Epoch born() const { return log != nullptr ? log->born : homes.born; }
  bool HasData(uint32_t block) const;
  Epoch Modified(uint32_t extent) const;
};

struct Replica {
  explicit Replica(NodePool* pool)
      : items(PoolAllocator<uint8_t>(pool)), chunks(PoolAllocator<uint8_t>(pool)), requests(pool) {}

  SliceFacts facts;
  EntryId
      start;  // (started epoch, start): entries up to it are committed (store.h, EpochStartRecord)
  EntryId floor;  // entries up to it cannot be voided: they may be in their homes already
  uint64_t next_serial = 1;
  PoolMap<ItemKey, ItemPtr> items;
  PoolMap<ChunkKey, Chunk> chunks;
  RequestTable requests;

  // Not part of the durable state.
  uint64_t uid = 0;               // tells a replica from a later one of the same slice
  uint64_t renumbered = 0;        // changes with every record that renames or voids
  uint32_t renumber_pending = 0;  // such records that are not durable yet

  // What destaging may take once the floor is there.
  EntryId CommittedUpTo() const;
};

struct VoidRecord {
  EntryId end;
  EntryId keep;  // the floor when it was made
};

class DeviceState {
 public:
  using ItemsByPosition = PoolMap<std::pair<uint64_t, uint64_t>, Item*>;

  DeviceState() = default;
  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

  void Reset(const Geometry& geometry, uint64_t log_key);

  // ---- Records. False, or null: the record does not fit the state; nothing changed.
  Item* AddEntry(SliceId slice, const wire::EntryHeader& entry, const Content& content);
  Item* AddCopy(SliceId slice, const ChunkKey& key, uint32_t extent, uint16_t present,
                Epoch modified_epoch, EntryId after, const Content& content);
  Item* AddDrop(SliceId slice, const ChunkKey& key, EntryId after);
  bool StartEpoch(SliceId slice, const EpochStartRecord& record, EntryId keep);
  bool VoidAbove(SliceId slice, const VoidRecord& record);
  bool SetCommitPoint(SliceId slice, EntryId commit_point);
  bool SetNeedsResync(SliceId slice, bool value);
  bool SetInSync(SliceId slice, Epoch epoch, uint64_t issuer);
  bool SetCursor(SliceId slice, const wire::JoinCursor& cursor);
  bool DropSlice(SliceId slice);
  bool AddRequests(SliceId slice, std::span<const wire::RequestRecord> records);
  bool SetFloor(SliceId slice, EntryId floor);
  void DropClient(SdcId client, Incarnation below);

  // ---- Places of items in the log.
  void Place(Item* item, uint64_t position);
  // Oldest first.
  const ItemsByPosition& by_position() const { return by_position_; }
  void MarkAllDurable();  // recovery: everything that was read is
  void SweepOrphans();    // frees those that the queue forgot

  // ---- Destaging.
  // Replaces the home of an extent, which is at `place` (kNoPlace: it has no data any more), and
  // forgets the `versions` that it now contains. The place's page is in memory; the directory may
  // need one more leaf.
  void SetHome(Replica& replica, const Home& home, uint32_t place,
               std::span<const VersionKey> versions);

  // ---- Checkpoint.
  Replica* CreateReplica(SliceId slice);
  ItemPtr NewItem() { return MakePooled<Item>(&pool_, &pool_); }
  bool InsertItem(Replica& replica, ItemPtr item, bool with_versions);
  // What is still to be read of directory and homes, piece by piece; nothing: FinishRead.
  std::optional<SlotTable::Range> NextRead();
  [[nodiscard]] bool OnRead(const SlotTable::Range& range, std::span<const std::byte> bytes);
  [[nodiscard]] bool FinishRead() { return directory_.FinishRead() && InsertHomes(); }
  size_t root_bytes() const { return directory_.root_bytes() + homes_.root_bytes(); }
  bool InsertVersion(Replica& replica, const ChunkKey& key, uint32_t block, Item* item);

  Replica* Find(SliceId slice);
  const Replica* Find(SliceId slice) const;
  const absl::btree_map<SliceId, std::unique_ptr<Replica>>& replicas() const { return replicas_; }
  absl::btree_map<SliceId, std::unique_ptr<Replica>>& replicas() { return replicas_; }
  HomeTable& homes() { return homes_; }
  const HomeTable& homes() const { return homes_; }
  Directory& directory() { return directory_; }
  const Directory& directory() const { return directory_; }
  ExtentTable& extents() { return extents_; }
  const ExtentTable& extents() const { return extents_; }
  // Extents that the log will take when it is destaged.
  uint64_t claims() const { return claims_; }
  // Extents that belong to items.
  uint32_t redirected() const { return redirected_; }
  // Makes places the item's own; they are allocated or claimed. False: not those that it needs.
  bool SetPlaces(Item& item, std::span<const uint32_t> places);
  // For what comes and goes with entries elsewhere.
  NodePool* pool() { return &pool_; }
  // The index of what is in the log, and what it was at most: that memory is kept.
  uint64_t index_bytes() const { return pool_.bytes_in_use(); }
  uint64_t index_reserved_bytes() const { return pool_.bytes_reserved(); }
  // Null: nothing of it is in the log.
  const Chunk* FindChunk(SliceId slice, const ChunkKey& key) const;
  ChunkView View(SliceId slice, const ChunkKey& key) const;
  // Calls `visit(key, view)` for the chunks of a slice above `after`, ascending, until it says
  // false.
  void Walk(SliceId slice, std::optional<ChunkKey> after,
            absl::FunctionRef<bool(const ChunkKey& key, const ChunkView& view)> visit) const;

  // Everything agrees with everything; O(size).
  void Check() const;

 private:
  Item* Insert(Replica& replica, ItemPtr item);
  void Remove(Replica& replica, ItemKey key);
  void RenameItem(Replica& replica, ItemKey from, ItemKey to);
  void EraseVersion(Replica& replica, const ChunkKey& key, VersionKey version);
  void UpdateClaim(Chunk& chunk, uint32_t extent);
  // Takes a place away from its item. A checkpoint, or what recovery reads of the log, may name it.
  void ReleasePlace(Item& item, uint32_t extent);
  void EraseChunkIfEmpty(Replica& replica, const ChunkKey& key);
  // Claims the places that the directory gives away. False: two extents claim one of them, a slice
  // is unknown, or a page of homes is missing.
  bool InsertHomes();

  NodePool pool_;  // outlives all that follows
  absl::btree_map<SliceId, std::unique_ptr<Replica>> replicas_;
  ExtentTable extents_;
  Directory directory_;
  HomeTable homes_;
  ItemsByPosition by_position_{PoolAllocator<uint8_t>(&pool_)};
  std::vector<ItemPtr> orphans_;
  std::vector<ItemKey> emptied_;  // of one SetHome; keeps its memory
  bool reading_homes_ = false;
  uint64_t claims_ = 0;
  uint32_t redirected_ = 0;
  uint64_t next_number_ = 1;
  uint64_t next_uid_ = 1;
};

}  // namespace gabion::store
