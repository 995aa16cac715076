// Blocks of metadata on the device, of which a checkpoint writes those that changed.
//
//   root (in the checkpoint area) -> map blocks -> blocks
//
// Blocks and map blocks have two slots each. A checkpoint writes what changed into the slot that
// the last one does not name, so a crash leaves the last one whole. Whoever names a block knows its
// checksum: a block that is stale, torn or misplaced does not match. What is in the blocks is their
// owner's business: the directory's leaves, or pages of homes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/base/bytes.h"
#include "core/store/layout.h"
#include "core/store/number_set.h"

namespace gabion::store {

class SlotTable {
 public:
  struct Layout {
    uint64_t maps_offset = 0;
    uint64_t blocks_offset = 0;
    uint32_t blocks = 0;
    uint64_t map_magic = 0;
    uint64_t block_magic = 0;
    uint64_t log_key = 0;
  };
  enum class Slot : uint8_t { kNone, kFirst, kSecond };
  // Where the newest copy of a block is, and what it must look like.
  struct Reference {
    uint32_t crc = 0;
    Slot slot = Slot::kNone;
    bool operator==(const Reference&) const = default;
  };
  // Fills in what follows the header; false: the block is empty and need not be on the device.
  using Encode = absl::FunctionRef<bool(uint32_t number, std::span<std::byte> content)>;
  // False: the content makes no sense.
  using Visit = absl::FunctionRef<bool(uint32_t number, std::span<const std::byte> content)>;

  static constexpr size_t kContentBytes = kBlockBytes - sizeof(TableBlockHeader);

  void Reset(const Layout& layout);

  // ---- Checkpoint
  void MarkDirty(uint32_t number) { dirty_.insert(number); }
  uint32_t dirty() const { return dirty_.size(); }
  bool is_dirty(uint32_t number) const { return dirty_.contains(number); }
  // The checkpoint that has begun has not given this block out yet.
  bool awaits_writing(uint32_t number) const { return to_write_.contains(number); }
  // What changed so far is to be written.
  void BeginCheckpoint(uint64_t checkpoint_number);
  // The next block to write, maps last: fills `block` and says where on the device it goes.
  // Nothing: all of them were given out.
  std::optional<uint64_t> NextToWrite(std::span<std::byte> block, Encode encode);
  size_t root_bytes() const { return maps_.size() * kRootEntryBytes; }
  // Of the blocks given out; complete when none is left.
  void EncodeRoot(ByteWriter& writer) const;

  // ---- Single blocks
  const Reference& reference(uint32_t number) const { return references_[number]; }
  uint64_t OffsetOf(uint32_t number, const Reference& reference) const;
  static bool Matches(std::span<const std::byte> block, const Reference& reference);

  // ---- Recovery: the root, then the maps, and if they are wanted the blocks.
  [[nodiscard]] bool DecodeRoot(ByteReader& reader);
  struct Range {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;  // at most kIoBytesMax
  };
  std::optional<Range> NextMaps() { return NextUsed(maps_, &next_map_, layout_.maps_offset); }
  [[nodiscard]] bool OnMaps(const Range& range, std::span<const std::byte> bytes);
  std::optional<Range> NextBlocks() {
    return NextUsed(references_, &next_block_, layout_.blocks_offset);
  }
  [[nodiscard]] bool OnBlocks(const Range& range, std::span<const std::byte> bytes, Visit visit);

  size_t memory_bytes() const { return references_.size() * sizeof(Reference); }

 private:
  static constexpr size_t kRootEntryBytes = 5;

  // Fills in the header of `block` and refers to it; where it goes.
  uint64_t Give(std::span<std::byte> block, uint64_t magic, uint32_t number, uint64_t region_offset,
                Reference& reference);
  void EncodeMap(uint32_t number, std::span<std::byte> block) const;
  bool DecodeMap(uint32_t number, std::span<const std::byte> content);
  // The range of blocks of a region from the first one that is in use, `next` on.
  static std::optional<Range> NextUsed(const std::vector<Reference>& references, uint32_t* next,
                                       uint64_t region_offset);
  static bool ForEachRead(const Range& range, std::span<const std::byte> bytes,
                          uint64_t region_offset, const std::vector<Reference>& references,
                          Visit visit);

  Layout layout_;
  uint64_t checkpoint_number_ = 0;
  std::vector<Reference> references_;
  std::vector<Reference> maps_;
  NumberSet dirty_;
  NumberSet to_write_;
  NumberSet maps_to_write_;
  // Recovery.
  uint32_t next_map_ = 0;
  uint32_t next_block_ = 0;
};

}  // namespace gabion::store
