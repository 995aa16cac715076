// Where extents are when they are not in the log: one record for each place of the device, in pages
// that are written, only those that changed, with each checkpoint.
//
//   root (in the checkpoint area) -> map blocks -> pages of records
//
// Pages and map blocks have two slots each. A checkpoint writes what changed into the slot that the
// last one does not name, so a crash leaves the last one whole. Whoever names a block knows its
// checksum: a block that is stale, torn or misplaced does not match.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/store/layout.h"
#include "core/store/store.h"

namespace gabion::store {

inline constexpr uint32_t kNoPlace = UINT32_MAX;

// An extent's content outside the log, and whose it is. As on the device (docs/store-format.md).
struct Home {
  SliceId slice;
  VtreeId vtree;
  VolumeVersion version;
  Epoch modified;
  Epoch born;  // Chunk::born, in the record of the chunk's first extent; elsewhere it may be older
  uint32_t chunk = 0;
  uint16_t present = 0;  // bit i: block i of the extent has data; 0: the place is nobody's
  uint8_t extent = 0;
  uint8_t reserved = 0;
  std::array<uint32_t, kBlocksPerExtent> crc{};  // bound to their blocks (S4)

  ChunkKey key() const { return {vtree, version, chunk}; }
};
static_assert(sizeof(Home) == 112 && std::is_trivially_copyable_v<Home>);

// Small numbers, below a limit; allocates only when the limit is set.
class NumberSet {
 public:
  void Reset(uint32_t limit);
  void insert(uint32_t number);
  bool contains(uint32_t number) const { return (words_[number / 64] >> number % 64 & 1u) != 0; }
  bool empty() const { return size_ == 0; }
  uint32_t size() const { return size_; }
  // Removes the lowest one.
  uint32_t TakeFirst();
  void swap(NumberSet& other) noexcept { std::swap(*this, other); }

 private:
  std::vector<uint64_t> words_;
  uint32_t size_ = 0;
  uint32_t first_word_ = 0;  // all words below are zero
};

class HomeTable {
 public:
  // Every place is nobody's; nothing is on the device.
  void Reset(const Geometry& geometry, uint64_t log_key);

  const Home& at(uint32_t place) const;
  void Set(uint32_t place, const Home& home);
  void Clear(uint32_t place) { Set(place, Home{}); }

  // ---- Checkpoint
  // What changed so far is to be written, as it is now: changes from now on are the next
  // checkpoint's. (A slice may be dropped meanwhile, and its record not be durable in the end.)
  void BeginCheckpoint(uint64_t checkpoint_number);
  // The next block to write, pages first, then maps: fills `block` and says where on the device it
  // goes. Nothing: all of them were given out.
  std::optional<uint64_t> NextToWrite(std::span<std::byte> block);
  // Of the blocks given out; complete when none is left.
  size_t root_bytes() const { return maps_.size() * kRootEntryBytes; }
  void EncodeRoot(ByteWriter& writer) const;
  uint64_t dirty_pages() const { return dirty_.size(); }

  // ---- Recovery: the root, then `next_read` and `OnRead` until there is nothing to read.
  [[nodiscard]] bool DecodeRoot(ByteReader& reader);
  struct Range {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;  // at most kIoBytesMax
  };
  std::optional<Range> NextRead();
  // False: a block is not what its checksum says.
  [[nodiscard]] bool OnRead(const Range& range, std::span<const std::byte> bytes);
  // Calls `visit(place, home)` for every place that is somebody's, ascending, until it says false.
  template <class Visit>
  bool ForEach(Visit visit) const;

 private:
  static constexpr size_t kRootEntryBytes = 5;
  enum class Slot : uint8_t { kNone, kFirst, kSecond };
  // Where the newest copy of a block is, and what it must look like.
  struct Reference {
    uint32_t crc = 0;
    Slot slot = Slot::kNone;
  };
  using Page = std::array<Home, kHomesPerPage>;

  // Fills in the header of `block` and refers to it; where it goes.
  uint64_t Give(std::span<std::byte> block, uint64_t magic, uint64_t number, uint64_t region_offset,
                Reference& reference);
  // The content when the checkpoint began. False: there is none.
  bool EncodePage(uint32_t number, std::span<std::byte> block);
  void EncodeMap(uint32_t number, std::span<std::byte> block) const;
  bool Matches(std::span<const std::byte> block, const Reference& reference) const;
  bool DecodeMap(uint32_t number, std::span<const std::byte> block);
  // The range of blocks of a region from the first one that is in use, `next` on.
  std::optional<Range> NextUsed(const std::vector<Reference>& references, uint32_t* next,
                                uint64_t region_offset) const;

  Geometry geometry_;
  uint64_t log_key_ = 0;
  uint64_t checkpoint_number_ = 0;
  std::vector<std::unique_ptr<Page>> pages_;  // null: every place in it is nobody's
  std::vector<Reference> references_;         // of pages
  std::vector<Reference> maps_;
  NumberSet dirty_;  // pages
  NumberSet to_write_;
  NumberSet maps_to_write_;
  // Of pages to write that changed since the checkpoint began: what they were then.
  absl::btree_map<uint32_t, std::unique_ptr<Page>> frozen_;
  // Recovery.
  uint32_t next_map_ = 0;
  uint32_t next_page_ = 0;
};

template <class Visit>
bool HomeTable::ForEach(Visit visit) const {
  for (uint32_t number = 0; number < pages_.size(); ++number) {
    if (pages_[number] == nullptr) continue;
    for (uint32_t i = 0; i < kHomesPerPage; ++i) {
      const Home& home = (*pages_[number])[i];
      if (home.present != 0 && !visit(number * kHomesPerPage + i, home)) return false;
    }
  }
  return true;
}

}  // namespace gabion::store
