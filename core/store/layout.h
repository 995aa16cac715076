// Where things are on a device, and the fixed structs of the format (docs/store-format.md shows the
// bytes). Positions in the log are 64-bit byte counts that only grow; the place of a position is
// its remainder by the size of the ring.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/wire/data.h"

namespace gabion::store {

using wire::kBlockBytes;
using wire::kBlocksPerChunk;
using wire::kBlocksPerExtent;
using wire::kExtentBytes;
using wire::kExtentsPerChunk;

inline constexpr uint32_t kFormatVersion = 5;
inline constexpr uint64_t kHeadBytes = 1 << 20;  // both superblocks and what is kept free for later
inline constexpr std::array<uint64_t, 2> kSuperblockOffset = {0, 512 << 10};
inline constexpr uint64_t kLogBytesMin = 4 << 20;
inline constexpr uint64_t kLogBytesDefaultMin = 8 << 20;
inline constexpr uint64_t kLogBytesDefaultMax = uint64_t{4} << 30;
inline constexpr uint32_t kExtentsMin = 32;
inline constexpr uint32_t kIoBytesMax = 1 << 20;  // of one read or write of our own
inline constexpr uint32_t kHomesPerPage = 38;
inline constexpr uint32_t kBlocksPerMap = 768;
// Leaves of the directory, of about 4000 bytes and 11/25 full at least, have room for 27 bytes of
// each extent. A chunk with a single extent takes 10 to 13.
inline constexpr uint32_t kExtentsPerLeaf = 64;
inline constexpr uint32_t kLeavesMin = 24;

inline constexpr Duration kSealDelay = std::chrono::milliseconds(100);
inline constexpr Duration kIdleDelay = std::chrono::seconds(1);
inline constexpr Duration kMemoryRetryDelay = std::chrono::milliseconds(1);

constexpr uint64_t RoundUp(uint64_t bytes, uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}
constexpr uint64_t RoundDown(uint64_t bytes, uint64_t unit) { return bytes / unit * unit; }

struct Geometry {
  uint64_t device_bytes = 0;
  uint64_t area_bytes = 0;  // of each of the two checkpoint areas
  uint64_t log_bytes = 0;
  uint32_t extents_total = 0;

  uint64_t area_offset(uint32_t area) const { return kHeadBytes + area * area_bytes; }
  // The directory, then the pages of homes: each block has two slots, one behind the other.
  static uint64_t SlotBytes(uint32_t blocks) { return uint64_t{blocks} * 2 * kBlockBytes; }
  static uint32_t Maps(uint32_t blocks) { return (blocks + kBlocksPerMap - 1) / kBlocksPerMap; }
  uint32_t leaves() const { return extents_total / kExtentsPerLeaf + kLeavesMin; }
  uint32_t pages() const { return extents_total / kHomesPerPage + 1; }
  uint64_t leaf_maps_offset() const { return kHeadBytes + 2 * area_bytes; }
  uint64_t leaves_offset() const { return leaf_maps_offset() + SlotBytes(Maps(leaves())); }
  uint64_t page_maps_offset() const { return leaves_offset() + SlotBytes(leaves()); }
  uint64_t pages_offset() const { return page_maps_offset() + SlotBytes(Maps(pages())); }
  uint64_t log_offset() const { return RoundUp(pages_offset() + SlotBytes(pages()), kExtentBytes); }
  uint64_t extents_offset() const { return log_offset() + log_bytes; }
  uint64_t extent_offset(uint32_t place) const {
    return extents_offset() + uint64_t{place} * kExtentBytes;
  }
  uint64_t log_place(uint64_t position) const { return log_offset() + position % log_bytes; }

  // Largest batch. An eighth of the ring, so that what a wrap leaves unused stays small.
  uint64_t batch_bytes_max() const {
    const uint64_t eighth = RoundDown(log_bytes / 8, kBlockBytes);
    return eighth < (1280 << 10) ? eighth : (1280 << 10);
  }
  // Of the ring: for the store's own records, which make room.
  uint64_t log_reserve() const { return log_bytes / 16; }
  // Extents that clients cannot take (S5).
  uint32_t reserve() const { return extents_total / 128 + 4; }
  // Extents that entries in the log may have of their own: half of what the ring holds, as for its
  // ordinary records, so that the index stays within its bounds.
  uint32_t redirected_max() const { return static_cast<uint32_t>(log_bytes / 2 / kExtentBytes); }

  friend bool operator==(const Geometry&, const Geometry&) = default;
};

// Nothing when the device is too small. `log_bytes` 0: the default.
std::optional<Geometry> ComputeGeometry(uint64_t device_bytes, uint64_t log_bytes);

// ---- Superblock
// ------------------------------------------------------------------------------------

inline constexpr uint64_t kSuperblockMagic = 0x314b4c424e424147;  // "GABNBLK1"
inline constexpr uint32_t kFlagDamaged = 1;                       // every replica needs resync (S2)

struct Superblock {
  uint64_t magic = kSuperblockMagic;
  uint32_t crc = 0;  // CRC32C of the 4 KiB with this field zero
  uint32_t version = kFormatVersion;
  uint64_t features = 0;  // a bit that is not known: refuse
  uint64_t sequence = 0;  // the higher one is valid
  ClusterId cluster;
  SdsId sds;
  DeviceId device;
  uint64_t log_key = 0;  // in every batch header: tells this store's batches from leftovers
  uint64_t device_bytes = 0;
  uint64_t area_bytes = 0;
  uint64_t log_bytes = 0;
  uint32_t extents_total = 0;
  uint32_t flags = 0;
  uint64_t recovery_generation = 0;
  uint64_t recovery_position = 0;  // batches at or above it are of recovery_generation or later
  uint64_t checkpoint_number = 0;
  uint64_t checkpoint_bytes = 0;
  uint64_t checkpoint_position = 0;    // the state is that of all batches below
  uint64_t checkpoint_generation = 0;  // batches at or above checkpoint_position are not older
  uint64_t tail_position = 0;          // the log below is not needed
  uint32_t checkpoint_area = 0;
  uint32_t checkpoint_crc = 0;
  uint32_t previous_crc = 0;  // of the last batch below checkpoint_position
  uint32_t reserved = 0;
  Incarnation incarnation;  // of the SDS, when it last opened the device (R22)
  uint64_t run = 0;         // and which run that was

  Geometry geometry() const {
    return {.device_bytes = device_bytes,
            .area_bytes = area_bytes,
            .log_bytes = log_bytes,
            .extents_total = extents_total};
  }
};
static_assert(sizeof(Superblock) == 184 && std::is_trivially_copyable_v<Superblock>);

// ---- Directory and pages of homes
// ------------------------------------------------------------------

inline constexpr uint64_t kLeafMapMagic = 0x3150414d4641454c;  // "LEAFMAP1"
inline constexpr uint64_t kLeafMagic = 0x314641454c524944;     // "DIRLEAF1"
inline constexpr uint64_t kPageMapMagic = 0x3150414d53454d48;  // "HMESMAP1"
inline constexpr uint64_t kPageMagic = 0x314547415053454d;     // "MESPAGE1"

// For people: what names a block has its checksum.
struct TableBlockHeader {
  uint64_t magic = 0;
  uint64_t log_key = 0;
  uint64_t number = 0;             // of the map, leaf or page
  uint64_t checkpoint_number = 0;  // that wrote it
  std::array<uint64_t, 4> reserved{};
};
static_assert(sizeof(TableBlockHeader) == 64);

// ---- Log
// -------------------------------------------------------------------------------------------

inline constexpr uint64_t kBatchMagic = 0x3148435442424147;  // "GABBTCH1"

// Then the records, then one CRC32C for each payload block, then zeroes up to header_bytes, then
// the payload blocks.
struct BatchHeader {
  uint64_t magic = kBatchMagic;
  uint32_t crc = 0;           // CRC32C of header_bytes with this field zero
  uint32_t header_bytes = 0;  // a multiple of 4 KiB
  uint64_t log_key = 0;
  uint64_t generation = 0;
  uint64_t position = 0;
  uint64_t durable_up_to = 0;  // every batch below was durable when this one was written
  DeviceId device;
  uint32_t previous_crc = 0;  // of the batch before
  uint32_t record_count = 0;
  uint32_t record_bytes = 0;
  uint32_t payload_blocks = 0;

  uint64_t total_bytes() const { return header_bytes + uint64_t{payload_blocks} * kBlockBytes; }
};
static_assert(sizeof(BatchHeader) == 72 && std::is_trivially_copyable_v<BatchHeader>);

enum class RecordType : uint8_t {
  kEntry = 1,
  kCommitPoint = 2,
  kEpochStart = 3,
  kVoid = 4,
  kCopy = 5,
  kDrop = 6,
  kRequests = 7,
  kNeedsResync = 8,
  kInSync = 9,
  kDropSlice = 10,
  kFloor = 11,
  kRelocate = 12,
  kDropClient = 13,
  kCursor = 14,
};

struct RecordHeader {
  RecordType type{};
  std::array<uint8_t, 3> reserved{};
  uint32_t body_bytes = 0;
  uint32_t payload_blocks = 0;
  uint32_t reserved2 = 0;
};
static_assert(sizeof(RecordHeader) == 16);

inline constexpr uint32_t kRequestsPerRecord = 1024;
inline constexpr uint32_t kRenamesMax = 8192;
inline constexpr uint32_t kHistoryMax = 1024;  // older items are forgotten: then a full copy

}  // namespace gabion::store
