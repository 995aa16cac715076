// Messages of the data path: fixed structs, little-endian, laid out so that the struct *is* the
// wire format (docs/wire.md shows the bytes). Management travels as Protobuf in `kManagement`
// frames (core/wire/management.proto).
//
// A message is a fixed struct, an optional payload of whole bytes (user data, or a list that the
// struct describes), and nothing else. Structs that carry data hold one CRC32C per 4 KiB piece.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "core/base/ids.h"

namespace gabion::wire {

inline constexpr uint32_t kBlockBytes = 4096;  // physical block: unit of log, replication, checksum
inline constexpr uint32_t kSectorBytes = 512;  // logical block: unit a client may address
inline constexpr uint32_t kChunkBytes = 1 << 20;  // unit of distribution over a pool
inline constexpr uint32_t kBlocksPerChunk = kChunkBytes / kBlockBytes;
inline constexpr uint32_t kExtentBytes = 64 << 10;
inline constexpr uint32_t kBlocksPerExtent = kExtentBytes / kBlockBytes;
inline constexpr uint32_t kExtentsPerChunk = kChunkBytes / kExtentBytes;
// Largest data payload of one request. The SDC splits at chunks and at this size.
inline constexpr uint32_t kDataBytesMax = 256 << 10;
inline constexpr uint32_t kDataBlocksMax = kDataBytesMax / kBlockBytes;
inline constexpr uint32_t kManagementBytesMax = 16 << 20;
// Request ids that one client may have outstanding in one slice, above its low-water mark (R10).
inline constexpr uint32_t kRequestWindow = 1024;

inline constexpr uint16_t kVersionMin = 2;
inline constexpr uint16_t kVersionMax = 2;

enum class PeerRole : uint8_t { kMdm = 1, kSds = 2, kSdc = 3, kAdmin = 4 };

// Why a request was refused. Each has one meaning, and the sender's reaction is named here.
enum class Status : uint16_t {
  kOk = 0,
  kWrongReign = 1,     // client: fetch the map, resend there (the attempt was not admitted)
  kNotPrimary = 2,     // client: as above
  kNoLease = 3,        // client: wait and resend
  kStaleSnapshot = 4,  // client: fetch the map, resend with the new number
  kNotMapped = 5,      // client: fail the I/O (unmapped, revoked or unknown volume)
  kBadChecksum = 6,    // client: resend; repeated, an I/O error
  kOutOfRange = 7,     // beyond the volume, or a chunk that is not of this slice
  kNoSpace = 8,        // ENOSPC; nothing was written
  kBusy = 9,           // queue full: resend after a pause
  kIoError = 10,       // no good copy of these blocks
  kStaleRequest = 11,  // request id under the low-water mark: already settled (R10)
  kReadOnly = 12,      // write through a read-only mapping
  kWrongEpoch = 13,    // between SDSs: epoch or incarnation mismatch (R20)
  kAhead = 14,         // between SDSs: "I hold a later epoch or entry": the primary stops
  kBehind = 15,        // between SDSs: a gap before this entry: the primary resends
  kNeedsResync = 16,   // between SDSs: this replica may not act
  kUnavailable = 17,   // slice not open yet (epoch starting); resend
  kMalformed = 18,     // a field out of range; counted, connection closed
  kWrongCluster = 19,  // hello: another cluster
  kWrongPeer = 20,     // hello: not the SDS or MDM that was dialled
  kUnsupportedVersion = 21,
  kStaleIncarnation = 22,  // hello: a newer incarnation or connection is known (R10, R22)
  kUnknownPeer = 23,       // hello: not registered or not approved
};

enum class EntryKind : uint8_t {
  kWrite = 1,  // payload: `block_count` whole blocks
  kZero = 2,   // WRITE ZEROES: reads as zeroes; space is given back
  kTrim = 3,   // DISCARD: the same content rule as kZero
};

// ---- Hello: first message of each side of every connection
// ---------------------------------------

struct Hello {
  ClusterId cluster;               // 0: an admin that asks whom it talks to
  uint64_t sender = 0;             // SdsId, SdcId or MDM member id by role; 0 = not registered yet
  uint64_t target = 0;             // the id the dialler expects at this address; 0 = any
  Incarnation incarnation;         // of the sender
  Incarnation target_incarnation;  // of an SDS as the MDM named it; 0 = any
  ConnectionNumber connection;     // grows within an incarnation (R10)
  uint16_t version_min = kVersionMin;
  uint16_t version_max = kVersionMax;
  PeerRole role{};
  std::array<uint8_t, 3> reserved{};
  std::array<uint8_t, 64> credentials{};  // unused until authentication exists; zeroes
};
static_assert(sizeof(Hello) == 120 && std::is_trivially_copyable_v<Hello>);

struct HelloReply {
  ClusterId cluster;
  uint64_t responder = 0;
  Incarnation incarnation;
  Status status{};
  uint16_t version = 0;  // the one to speak
  PeerRole role{};
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(HelloReply) == 32);

// ---- SDC <-> SDS
// ---------------------------------------------------------------------------------

// Addresses bytes [offset, offset + length) of one chunk; both multiples of kSectorBytes. Data
// touches at most kDataBlocksMax blocks; zeroes and trims are whole blocks, or lie within
// kDataBlocksMax of them (else kOutOfRange: an entry of the log holds no more).
struct IoTarget {
  VolumeId volume;
  VtreeId vtree;
  SliceId slice;
  Reign reign;
  uint32_t chunk = 0;
  uint32_t offset_bytes = 0;  // within the chunk
  uint32_t length_bytes = 0;  // <= kDataBytesMax for data; <= kChunkBytes for zero and trim
  uint32_t reserved = 0;
};
static_assert(sizeof(IoTarget) == 48);

struct WriteRequest {
  IoTarget target;
  uint64_t tag = 0;  // echoed
  SnapNumber snap_number;
  RequestId request;    // per (client, slice), from 1
  RequestId low_water;  // every id below is settled at the client
  EntryKind kind{};
  std::array<uint8_t, 7> reserved{};
  // One per piece; piece i is the part of the payload in the i-th 4 KiB block touched.
  std::array<uint32_t, kDataBlocksMax + 1> piece_crc{};
  uint32_t reserved2 = 0;
};
static_assert(sizeof(WriteRequest) == 352);

struct WriteReply {
  uint64_t tag = 0;
  SliceId slice;
  RequestId request;
  Reign reign;  // the SDS's own, so that a client sees that its map is old
  Status status{};
  std::array<uint8_t, 6> reserved{};
};
static_assert(sizeof(WriteReply) == 40);

struct ReadRequest {
  IoTarget target;
  uint64_t tag = 0;
};
static_assert(sizeof(ReadRequest) == 56);

struct ReadReply {  // payload: length_bytes of data when kOk
  uint64_t tag = 0;
  SliceId slice;
  Reign reign;
  uint32_t length_bytes = 0;
  Status status{};
  uint16_t reserved = 0;
  std::array<uint32_t, kDataBlocksMax + 1> piece_crc{};
  uint32_t reserved2 = 0;
};
static_assert(sizeof(ReadReply) == 296);

// Which blocks have data: neither zeroed nor trimmed nor never written. Asked of `chunk_count`
// chunks of one slice: target.chunk and those that follow it there, `chunk_stride` (the pool's
// number of slices) apart. The rest of the target names the whole chunk.
inline constexpr uint32_t kPresenceChunksMax = 128;
struct PresenceRequest {
  IoTarget target;
  uint64_t tag = 0;
  uint32_t chunk_count = 0;
  uint32_t chunk_stride = 0;
};
static_assert(sizeof(PresenceRequest) == 64);

struct PresenceReply {  // payload: `chunk_count` ChunkPresence when kOk
  uint64_t tag = 0;
  SliceId slice;
  Reign reign;
  uint32_t chunk_count = 0;
  Status status{};
  uint16_t reserved = 0;
};
static_assert(sizeof(PresenceReply) == 32);

// Bit i of word w: block 64 * w + i may have data. A clear bit is a promise: the block reads as
// zeroes. What is being changed at the moment counts as data.
struct ChunkPresence {
  std::array<uint64_t, kBlocksPerChunk / 64> blocks{};

  bool Has(uint32_t block) const { return (blocks[block / 64] >> (block % 64) & 1) != 0; }
  friend bool operator==(const ChunkPresence&, const ChunkPresence&) = default;
};
static_assert(sizeof(ChunkPresence) == 32);

// Idle sessions keep their low-water marks moving. Payload: `count` LowWaterItem.
struct SessionHeartbeat {
  uint64_t tag = 0;
  uint32_t count = 0;
  uint32_t reserved = 0;
};
struct LowWaterItem {
  SliceId slice;
  RequestId low_water;
};
struct SessionHeartbeatReply {
  uint64_t tag = 0;
};

// ---- SDS <-> SDS: every message names slice, epoch and both incarnations (R20)
// ---------------------

struct PairHeader {
  SliceId slice;
  Epoch epoch;
  Incarnation primary_incarnation;
  Incarnation replica_incarnation;  // of the secondary or the joining member
  DeviceId replica_device;          // whose replica is meant
};
static_assert(sizeof(PairHeader) == 40);

// What an entry is, whoever carries it: the primary's log, a replicate, a fetched tail.
struct EntryHeader {
  EntryId id;
  VtreeId vtree;
  VolumeVersion version;
  SdcId client;  // 0: made by the primary itself
  Incarnation client_incarnation;
  RequestId request;
  RequestId low_water;
  uint32_t chunk = 0;
  uint16_t first_block = 0;
  uint16_t block_count = 0;
  EntryKind kind{};
  std::array<uint8_t, 7> reserved{};
};
static_assert(sizeof(EntryHeader) == 80);

// Payload: the entry's blocks (kWrite). Sent to the secondary and to a joining member alike.
struct Replicate {
  PairHeader pair;
  EntryHeader entry;
  EntryId commit_point;
  // Of what the replica promised (R24): extents that this and the entries before it in the epoch
  // may newly take there, and bytes of its log that they take or that were given back.
  uint64_t extents_used = 0;
  uint64_t log_used = 0;
  std::array<uint32_t, kDataBlocksMax> block_crc{};
};
static_assert(sizeof(Replicate) == 408);

// What a replica promises to the primary of an epoch (R24): void with the epoch.
struct Credits {
  uint64_t extents_limit = 0;  // Replicate::extents_used may grow to this
  uint64_t window_bytes = 0;   // uncommitted entries, payload and overhead
  uint64_t log_limit = 0;      // Replicate::log_used may grow to this
};
static_assert(sizeof(Credits) == 24);

// Cumulative: every entry of the epoch up to `durable` is durable on the replica.
struct ReplicateAck {
  PairHeader pair;
  Seq durable;
  Credits credits;
  Status status{};
  uint8_t give_back = 0;  // 1: others wait for log bytes; what is not used is wanted back
  std::array<uint8_t, 5> reserved{};
};
static_assert(sizeof(ReplicateAck) == 80);

// A primary that waits for credits asks for them, and one that was asked gives them back. A
// ReplicateAck answers.
struct CreditsRequest {
  PairHeader pair;
  uint64_t log_used = 0;    // bytes used or given back in this epoch, as in Replicate
  uint64_t log_wanted = 0;  // bytes that the next entry takes; 0: none
};
static_assert(sizeof(CreditsRequest) == 56);

// Commit points with nothing to ride on, within 50 ms (R9). Payload: `count` CommitItem.
struct CommitPoints {
  uint32_t count = 0;
  uint32_t reserved = 0;
};
struct CommitItem {
  PairHeader pair;
  EntryId commit_point;
};
static_assert(sizeof(CommitItem) == 56);

// Epoch start, step 1 (R14): the primary asks what the replica holds.
struct TailQuery {
  PairHeader pair;
};
// How far an earlier joining got in this replica: every chunk up to the key was copied in `epoch`,
// and the last of those copies followed entry `after`.
struct JoinCursor {
  Epoch epoch;  // 0: none
  uint64_t issuer = 0;
  Seq after;
  VtreeId vtree;
  VolumeVersion version;
  uint32_t chunk = 0;
  uint32_t reserved = 0;
  friend bool operator==(const JoinCursor&, const JoinCursor&) = default;
};
static_assert(sizeof(JoinCursor) == 48);
// Payload: `history_count` HistoryItem, newest last. The tail needs no list: it is the `tail_count`
// entries of `started_epoch` that follow `commit_point` (or that epoch's first ones when the commit
// point is of an older epoch).
struct TailReply {
  PairHeader pair;
  Epoch started_epoch;   // last epoch with a durable start record here; 0 = empty replica
  uint64_t issuer = 0;   // of that epoch
  EntryId commit_point;  // highest known here
  Epoch in_sync_epoch;   // last epoch that it started as a member of the in-sync set
  uint64_t in_sync_issuer = 0;
  JoinCursor cursor;
  uint32_t history_count = 0;
  uint32_t tail_count = 0;
  Status status{};
  std::array<uint8_t, 6> reserved{};
};
static_assert(sizeof(TailReply) == 152);

struct HistoryItem {
  Epoch epoch;
  uint64_t issuer = 0;
  EntryId end;  // the commit point at which that epoch ended, as its successor's primary knew it
  // Entries (epoch, end.seq + 1 .. last) were carried over by the successor as its 1 .. last -
  // end.seq. A replica that took no part in that start keeps those of them that it has, under the
  // new names (docs/roles.md, "Who voids what"); only what it has above `last` is void.
  Seq last;
};
static_assert(sizeof(HistoryItem) == 40);

// Epoch start, step 2: the primary takes the entries it lacks, one message each way per entry.
struct FetchEntry {
  PairHeader pair;
  EntryId entry;
};
struct FetchReply {
  PairHeader pair;
  EntryHeader entry;
  Status status{};
  std::array<uint8_t, 6> reserved{};
  std::array<uint32_t, kDataBlocksMax> block_crc{};
};
static_assert(sizeof(FetchReply) == 384);

// Epoch start, step 3: the replica voids what the record says, then logs the same start record.
// Payload: `history_count` HistoryItem, the last of `previous_epoch`. The primary's tail becomes
// (epoch, 1 .. renamed_count); the replica finds its own part of it by the history
// (core/sds/lineage.h). It holds back its answer until the record is durable; entries of the tail
// that it lacks follow as ordinary Replicate messages of the new epoch.
struct EpochStart {
  PairHeader pair;
  uint64_t issuer = 0;
  Epoch previous_epoch;  // the primary's last started epoch
  EntryId end;           // (e, c)
  uint32_t history_count = 0;
  uint32_t renamed_count = 0;
  uint8_t joining = 0;  // 1: the replica is not in sync; it does not raise its in-sync epoch
  std::array<uint8_t, 7> reserved{};
  // Joining inside a running epoch: entries up to this seq do not come, copies contain them.
  Seq start;
};
static_assert(sizeof(EpochStart) == 96);
struct EpochStartReply {
  PairHeader pair;
  // Entries (epoch, 1 .. held_count) are durable here; the next one is the first to send.
  uint32_t held_count = 0;
  Status status{};
  uint16_t reserved = 0;
  Credits credits;
};
static_assert(sizeof(EpochStartReply) == 72);

// Joining: the primary copies extents in order; every message of the stream is numbered.
// `after` orders the copy behind every entry forwarded before it.
struct CopyExtent {  // payload: data of the blocks set in `present`; others read as zeroes
  PairHeader pair;
  uint64_t stream = 0;  // from 1, no gaps within (epoch, both incarnations)
  VtreeId vtree;
  VolumeVersion version;
  Epoch modified_epoch;  // the source's
  EntryId after;
  uint32_t chunk = 0;
  uint16_t extent = 0;   // 0..15 within the chunk
  uint16_t present = 0;  // bit i: block i of the extent has data
  std::array<uint32_t, kBlocksPerExtent> block_crc{};
};
static_assert(sizeof(CopyExtent) == 160);
struct DropChunk {  // the source has no such chunk
  PairHeader pair;
  uint64_t stream = 0;
  VtreeId vtree;
  VolumeVersion version;
  EntryId after;
  uint32_t chunk = 0;
  uint32_t reserved = 0;
};
// Everything of the stream before this one brought every chunk up to the key. The replica keeps it.
struct CopyCursor {
  PairHeader pair;
  uint64_t stream = 0;
  VtreeId vtree;
  VolumeVersion version;
  EntryId after;
  uint32_t chunk = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(CopyCursor) == 88);
// Ids of committed entries (R10). Payload: `count` RequestRecord.
struct CopyRequests {
  PairHeader pair;
  uint64_t stream = 0;
  uint32_t count = 0;
  uint32_t reserved = 0;
};
struct RequestRecord {
  SdcId client;
  Incarnation client_incarnation;
  RequestId request;  // 0: the record only carries the low-water mark
  RequestId low_water;
  EntryId entry;
};
static_assert(sizeof(RequestRecord) == 48);
struct JoinAck {  // the stream is durable up to here
  PairHeader pair;
  uint64_t stream = 0;
  Status status{};
  std::array<uint8_t, 6> reserved{};
};
// What the joining side changed after the common epoch: the walk covers the union. Pages of keys in
// ascending order; payload: `count` ChangedChunk.
struct ChangedQuery {
  PairHeader pair;
  Epoch after_epoch;
  VtreeId after_vtree;  // resume behind this key
  VolumeVersion after_version;
  uint32_t after_chunk = 0;
  uint32_t from_start = 0;  // 1: ignore the resume key
};
struct ChangedReply {
  PairHeader pair;
  uint32_t count = 0;
  uint32_t more = 0;
};
struct ChangedChunk {
  VtreeId vtree;
  VolumeVersion version;
  uint32_t chunk = 0;
  uint16_t extents = 0;  // bit i: extent i exists here
  uint16_t changed = 0;  // bit i: extent i was modified after `after_epoch`
};
static_assert(sizeof(ChangedChunk) == 24);

// What the in-sync replica has of an extent. The primary holds the range, so both copies are at
// rest, and asks the one that has everything up to `after`: for its content, because blocks of its
// own are damaged (read repair), or for checksums only, to compare (the scanner, S7).
struct ExtentQuery {
  PairHeader pair;
  uint64_t number = 0;  // echoed
  VtreeId vtree;
  VolumeVersion version;
  EntryId after;
  uint32_t chunk = 0;
  uint16_t extent = 0;
  uint8_t with_content = 0;  // echoed
  uint8_t reserved = 0;
};
static_assert(sizeof(ExtentQuery) == 88);
struct ExtentReply {  // payload with content: the good blocks
  PairHeader pair;
  uint64_t number = 0;
  Status status{};
  uint16_t present = 0;  // blocks with data, damaged ones included; none when not kOk
  uint16_t damaged = 0;  // of these: they do not match their checksums there
  uint8_t with_content = 0;
  uint8_t reserved = 0;
  std::array<uint32_t, kBlocksPerExtent> block_crc{};  // of the good ones

  uint16_t good() const { return static_cast<uint16_t>(present & ~damaged); }
};
static_assert(sizeof(ExtentReply) == 120);
// What the extent is to be, at a replica whose blocks are damaged or differ. Like a copy of a
// joining: it wins over entries up to `after`. Payload: the blocks set in `present`.
struct ScanFix {
  PairHeader pair;
  uint64_t number = 0;  // echoed
  VtreeId vtree;
  VolumeVersion version;
  Epoch modified_epoch;
  EntryId after;
  uint32_t chunk = 0;
  uint16_t extent = 0;
  uint16_t present = 0;
  std::array<uint32_t, kBlocksPerExtent> block_crc{};
};
static_assert(sizeof(ScanFix) == 160);
struct ScanFixReply {  // kOk: it is durable
  PairHeader pair;
  uint64_t number = 0;
  Status status{};
  std::array<uint8_t, 6> reserved{};
};
static_assert(sizeof(ScanFixReply) == 56);
// The secondary's own pass to the primary: which extents of a chunk it has, and which of them are
// damaged. No promise, and no answer: the primary looks for itself.
struct ScanHint {
  PairHeader pair;
  VtreeId vtree;
  VolumeVersion version;
  uint32_t chunk = 0;
  uint16_t extents = 0;
  uint16_t damaged = 0;
};
static_assert(sizeof(ScanHint) == 64);

}  // namespace gabion::wire
