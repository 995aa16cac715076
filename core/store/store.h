// One device's store: a checksummed log with homes (docs/store.md). It keeps the replicas of many
// slices: their entries, what those entries left on the device, and the few durable facts about
// each slice that the replication protocol needs. It decides nothing about replication.
//
// Owned by one SDS role. Every call is one step: it changes the store and appends disk effects.
// Calls with a tag complete later, through `StoreOutput::done`, when what they promise is durable
// (or read). Completions of appends come in order of the calls. The store never calls back.
//
//   Closed --Format--> Formatting --+
//     |                             v
//     +-----Open-----> Recovering -> Open --(flush or write error)--> Failed (for good, S3)
//
// Ordering rule that callers keep: entries of one slice are appended in order of (epoch, seq),
// without gaps inside an epoch, and only in the slice's started epoch. A copy, drop or request
// record carries `after`, the last entry appended before it, and wins over entries up to it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/wire/data.h"

namespace gabion::store {

using Tag = uint64_t;

enum class DoneStatus : uint8_t {
  kOk,
  kFailed,    // the device failed; nothing on it can be trusted to become durable any more
  kCorrupt,   // reads: at least one block does not match its checksum; the target is undefined
  kNotFound,  // ReadEntry: no such entry (destaged, voided, or never here)
};

struct Done {
  Tag tag = 0;
  DoneStatus status{};
};

struct Output {
  Effects& effects;
  std::vector<Done>& done;  // the caller's, reused between steps
};

struct Identity {
  ClusterId cluster;
  SdsId sds;
  DeviceId device;
  // R22: of the run that opens the device; written to it before anything else. A device that a
  // higher incarnation has used, or another run of the same one, is refused. 0: a reader that is no
  // SDS; nothing is compared.
  Incarnation incarnation{};
  uint64_t run = 0;
};

class ReadCache;

struct Options {
  DeviceIndex device{};
  TimerTag timer = 0;  // the one timer this store sets; the owner routes it back to OnTimer
  BufferPool* pool = nullptr;
  uint64_t log_bytes =
      0;  // 0: see ComputeGeometry (1/16 of the device, 8 MiB to 4 GiB); used by Format
  Duration commit_point_delay = std::chrono::milliseconds(50);
  uint64_t memory_bytes = 0;        // 0: DefaultMemoryBytes
  ReadCache* read_cache = nullptr;  // of all stores of the owner; null: none
};

// For all that a store keeps in memory about its device, but for payloads on their way.
constexpr uint64_t DefaultMemoryBytes(uint64_t device_bytes) {
  return (16 << 20) + device_bytes / 4096;  // 256 MiB per TiB
}

enum class State : uint8_t { kClosed, kFormatting, kRecovering, kOpen, kFailed };

// Chunks of all slices sort by slice first: a walk over one slice is a range.
struct ChunkKey {
  VtreeId vtree;
  VolumeVersion version;
  uint32_t chunk = 0;
  auto operator<=>(const ChunkKey&) const = default;
};

// Whom the configuration of an epoch named, present or not (R23). 0: nobody; without a primary it
// is not known here.
struct EpochMembers {
  DeviceId primary;
  DeviceId secondary;
  DeviceId joining;
  bool operator==(const EpochMembers&) const = default;
};

// The durable facts of one replica.
struct SliceFacts {
  Epoch started_epoch;   // last epoch with a start record here; 0: empty replica
  uint64_t issuer = 0;   // of that epoch
  EpochMembers members;  // of that epoch
  Epoch in_sync_epoch;   // last epoch started as a member of the in-sync set (R19)
  uint64_t in_sync_issuer = 0;
  EntryId commit_point;  // highest known; entries above it are the tail
  EntryId last;          // highest entry appended (durable or on its way)
  EntryId last_durable;
  // Of an interrupted joining. Goes with the copies that it speaks of, and with the next epoch in
  // sync.
  wire::JoinCursor cursor;
  bool needs_resync = false;  // S2, or told so (MarkNeedsResync); cleared by a finished resync
  std::vector<wire::HistoryItem> history;  // of ended epochs, oldest first; kept as given
};

struct Rename {
  EntryId from;
  EntryId to;
};

// R18: one record in one batch. Entries above `end` that are not in `renames` are voided by it;
// renamed ones keep payload and request id under their new identity. History replaces the replica's
// own (it is handed over whole).
struct EpochStartRecord {
  Epoch epoch{};
  uint64_t issuer = 0;
  // Commit point at which the epoch started here before ended, in this replica's own numbering.
  EntryId end{};
  bool in_sync = true;  // false: joining; in_sync_epoch stays
  std::span<const wire::HistoryItem> history{};
  std::span<const Rename> renames{};  // ascending; `to` = (epoch, start + 1 .. start + n)
  // Entries up to (epoch, start) are not here under that name: they are committed here under older
  // names, or (joining inside a running epoch) copies contain them. `last` becomes
  // (epoch, start + n). The commit point becomes `end` when that is higher; with start > 0, or when
  // joining, it becomes (epoch, start).
  Seq start{};
  EpochMembers members{};
};

// What one chunk holds, for the walk of a joining.
struct ChunkSummary {
  ChunkKey key;
  Epoch modified_epoch;  // highest over its extents, log included
  uint16_t extents = 0;  // bit i: extent i has data (home or log)
  uint16_t changed = 0;  // bit i: extent i was modified after the epoch asked for
};

struct Capacity {
  uint64_t size_bytes = 0;  // of the device
  uint64_t extents_total = 0;
  uint64_t extents_free = 0;  // reserve (S5) and blocks still in the log already taken off
  uint64_t log_bytes = 0;
  uint64_t log_used_bytes = 0;
};

// What is in memory. The directory grows with what the device holds, about 10 to 13 bytes for each
// extent of a chunk that has no other, 2 to 3 where chunks are full; pages of checksums take what
// the others leave.
struct Memory {
  uint64_t budget_bytes = 0;
  uint64_t directory_bytes = 0;
  uint64_t fixed_bytes = 0;  // of the device's size: which extents are free, where pages are
  uint64_t log_bytes = 0;    // index of what is in the log; what it has freed included
  uint64_t log_bytes_max = 0;
  uint64_t page_bytes = 0;
  uint64_t pages = 0;
  uint64_t pages_max = 0;
  // Of the read cache, which all stores of the owner share; not part of the budget.
  uint64_t cache_bytes = 0;
  uint64_t cache_bytes_max = 0;

  uint64_t used_bytes() const { return directory_bytes + fixed_bytes + log_bytes + page_bytes; }
};

// What an entry takes of the log besides its payload, at most.
inline constexpr uint64_t kAppendOverheadBytes = 2 * wire::kBlockBytes;
// Undecided entries of one slice, at most: an epoch start names each of them.
inline constexpr uint64_t kTailEntriesMax = 8192;

// Counters since open; for metrics.
struct Counters {
  uint64_t batches = 0;
  uint64_t entries = 0;
  uint64_t user_bytes = 0;  // payload appended
  // Written to the device, everything included: write amplification is device_bytes / user_bytes.
  uint64_t device_bytes = 0;
  uint64_t log_bytes = 0;         // of device_bytes: batches, with their padding
  uint64_t checkpoint_bytes = 0;  // of device_bytes: areas and superblocks
  uint64_t redirected_bytes = 0;  // of device_bytes: of large writes, straight to their extents
  uint64_t checkpoints = 0;
  uint64_t destaged_blocks = 0;  // brought home; over time: the destage rate
  uint64_t relocated_blocks = 0;
  uint64_t checksum_errors = 0;
  // Blocks read whose checksums were in memory, or had to be read with them.
  uint64_t page_hits = 0;
  uint64_t page_misses = 0;
  // Blocks outside the log that small reads found in the read cache, or not.
  uint64_t cache_hits = 0;
  uint64_t cache_misses = 0;
  // Of the last Open: how long it took, and what it read back of the log.
  Duration recovery_time{};
  uint64_t recovery_batches = 0;
  uint64_t recovery_log_bytes = 0;
};

class StoreImpl;

class Store {
 public:
  explicit Store(const Options& options);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // ---- Life
  // --------------------------------------------------------------------------------------- Writes
  // an empty store. Refuses (error, nothing written) a device that is too small. The check for
  // foreign data reads first: unless `force`, anything but zeroes in the first 1 MiB and another
  // store's superblock are refused, by `Done` kFailed and `error()`.
  void Format(const Now& now, const DeviceInfo& info, const Identity& identity, bool force, Tag tag,
              Output out);
  // Recovers. `error()` says why not: no superblock, another cluster, SDS or device (named), an
  // unknown format version or feature, damage.
  void Open(const Now& now, const DeviceInfo& info, const Identity& identity, Tag tag, Output out);
  // Flush of what is buffered (commit points), a checkpoint, then done: the next Open is quick.
  void Close(const Now& now, Tag tag, Output out);

  void OnDiskDone(const Now& now, const DiskDoneEvent& event, Output out);
  void OnTimer(const Now& now, Output out);

  State state() const;
  const std::string& error() const;  // for a person: names the device, the reason, the way out
  // Open was refused because this incarnation of the SDS has used the device; else 0.
  Incarnation newer_incarnation() const;
  // Open has come so far that the device carries the incarnation, durably.
  bool marked() const;
  DeviceId device() const;
  uint64_t log_position() const;  // durable; never goes back while the device is what it was
  Capacity capacity() const;
  // Where on the device the extents begin; capacity().extents_total of them follow, and no more.
  uint64_t extents_offset() const;
  Counters counters() const;
  Memory memory() const;

  // Bytes of uncommitted entries that one slice may have on this device (R9: all together stay
  // under a quarter of the ring, with room for every slice the device may host).
  uint64_t slice_window_bytes() const;
  // Bytes of entries and copies, kAppendOverheadBytes for each included, that the log has room for
  // now. A caller that has more waits: it grows when the tail of the log moves. What is appended
  // beyond it may be more than a checkpoint can put into the ring, and the device fails.
  uint64_t append_room() const;

  // ---- Slices
  // -------------------------------------------------------------------------------------
  std::vector<SliceId> slices() const;  // ascending
  // Null when this device has no replica of it. Valid until the next call that changes the store.
  const SliceFacts* Find(SliceId slice) const;

  // The entries above the commit point, in order.
  std::vector<wire::EntryHeader> Tail(SliceId slice) const;

  // Creates the replica when it is not there. Durable when done.
  void StartEpoch(const Now& now, SliceId slice, const EpochStartRecord& record, Tag tag,
                  Output out);
  // R14: voids every entry above `end`, copies and drops included, that has not been destaged, and
  // the request ids that live in them. Durable when done.
  void VoidAbove(const Now& now, SliceId slice, EntryId end, Tag tag, Output out);
  // Ids of entries that were never committed go with their entries; `needs_resync` is durable when
  // done.
  void SetNeedsResync(const Now& now, SliceId slice, bool value, Tag tag, Output out);
  // in_sync_epoch = epoch, durable when done: the started one (T was promoted, R19), or an older
  // one (a joining begins: the last epoch that this replica and the source have in common; 0:
  // none).
  void SetInSync(const Now& now, SliceId slice, Epoch epoch, uint64_t issuer, Tag tag, Output out);
  // Everything that was appended before brought the joining so far. Durable when done.
  void SetCursor(const Now& now, SliceId slice, const wire::JoinCursor& cursor, Tag tag,
                 Output out);
  // Forgets the replica; its space comes back in the background. Durable when done.
  void DropSlice(const Now& now, SliceId slice, Tag tag, Output out);

  // ---- Entries
  // ------------------------------------------------------------------------------------ `payload`:
  // block_count whole blocks (kWrite), empty otherwise; not touched by anybody afterwards.
  // `block_crc`: one plain CRC32C per block (checked by the caller before; the store checks again
  // what it reads). kNoSpace cannot happen here: the caller asked capacity() before it admitted.
  void Append(const Now& now, SliceId slice, const wire::EntryHeader& entry, Slice payload,
              std::span<const uint32_t> block_crc, Tag tag, Output out);
  // Known at once, logged with the next batch or after commit_point_delay. Never goes back.
  void SetCommitPoint(const Now& now, SliceId slice, EntryId commit_point, Output out);

  // Joining. `present`: bit i = block i of the extent is in the payload; the rest become zeroes.
  // The extent's modified epoch becomes the source's.
  void AppendCopy(const Now& now, SliceId slice, const ChunkKey& key, uint16_t extent,
                  uint16_t present, Epoch modified_epoch, EntryId after, Slice payload,
                  std::span<const uint32_t> block_crc, Tag tag, Output out);
  void AppendDrop(const Now& now, SliceId slice, const ChunkKey& key, EntryId after, Tag tag,
                  Output out);
  void AppendRequests(const Now& now, SliceId slice, std::span<const wire::RequestRecord> records,
                      Tag tag, Output out);

  // ---- Reads
  // -------------------------------------------------------------------------------------- Newest
  // content, tail included, of blocks [first_block, first_block + count) of one chunk into `target`
  // (count * 4 KiB, filled by the store). Every block is verified. Blocks never written read as
  // zeroes. Callers keep uncommitted data from clients by their range locks (R8).
  void Read(const Now& now, SliceId slice, const ChunkKey& key, uint32_t first_block,
            uint32_t count, Slice target, Tag tag, Output out);
  // The same without the read cache: for who examines the device, or reads all of it.
  void ReadFromDevice(const Now& now, SliceId slice, const ChunkKey& key, uint32_t first_block,
                      uint32_t count, Slice target, Tag tag, Output out);
  // Which of these blocks have data (neither zero nor trimmed nor never written): bit i = block
  // first_block + i, count <= 64.
  uint64_t Present(SliceId slice, const ChunkKey& key, uint32_t first_block, uint32_t count) const;
  // An entry still in the log, by its present identity. Null: not here any more.
  const wire::EntryHeader* FindEntry(SliceId slice, EntryId id) const;
  // Its payload (kWrite) into `target`, verified, and its checksums into `block_crc`.
  void ReadEntry(const Now& now, SliceId slice, EntryId id, Slice target,
                 std::span<uint32_t> block_crc, Tag tag, Output out);

  // Chunks of `slice` with key > `after` (all when absent), ascending, at most `max`; `changed` is
  // relative to `after_epoch`. Log included.
  std::vector<ChunkSummary> List(SliceId slice, std::optional<ChunkKey> after, Epoch after_epoch,
                                 size_t max) const;
  // Extents of capacity().extents_free that the owner has promised to somebody. A large write goes
  // straight to extents of its own only while it leaves these, and some more; else, like a small
  // one, through the log.
  void SetExtentsPromised(uint64_t extents);
  uint64_t extents_promised() const;
  // Extents that `entry` would newly take; what admission holds against capacity().extents_free.
  uint32_t ExtentsNeeded(SliceId slice, const wire::EntryHeader& entry) const;

  // ---- Request ids (R10)
  // ----------------------------------------------------------------------------
  enum class RequestState : uint8_t { kUnknown, kKnown, kBelowLowWater, kStaleIncarnation };
  struct RequestLookup {
    RequestState state{};
    EntryId entry;  // kKnown: the entry that carries it, by its present identity
  };
  RequestLookup FindRequest(SliceId slice, SdcId client, Incarnation incarnation,
                            RequestId request) const;
  // Everything known, for the joining stream.
  std::vector<wire::RequestRecord> Requests(SliceId slice) const;
  // The client's lower incarnations are fenced for good, or (incarnation 0) the client is removed.
  void DropClient(const Now& now, SdcId client, Incarnation below, Output out);
  // Low-water mark that came without a write.
  void SetLowWater(SliceId slice, SdcId client, Incarnation incarnation, RequestId low_water);

  // Cheap, but every 32 batches, or when asked to, goes through everything.
  void CheckInvariants(bool everything = false) const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  std::unique_ptr<StoreImpl> impl_;
};

}  // namespace gabion::store
