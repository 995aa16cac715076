// Checksums of what is outside the log, and once more whose it is: one record for each place of the
// device, in pages. Which record counts, the directory says: those of places that are nobody's are
// leftovers. Pages are read when they are needed, and kept within a budget; those that changed stay
// until the next checkpoint has written them.
//
//   not in memory --OnPageRead--> clean --Set--> dirty --checkpoint written--> clean --> evicted
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/store/directory_leaf.h"
#include "core/store/layout.h"
#include "core/store/slot_table.h"
#include "core/store/store.h"

namespace gabion::store {

// An extent's content outside the log, and whose it is. As on the device (docs/store-format.md).
struct Home {
  SliceId slice;
  VtreeId vtree;
  VolumeVersion version;
  Epoch modified;
  uint32_t chunk = 0;
  uint16_t present = 0;  // bit i: block i of the extent has data; 0: no record
  uint8_t extent = 0;
  uint8_t reserved = 0;
  std::array<uint32_t, kBlocksPerExtent> crc{};  // bound to their blocks (S4)

  ChunkKey key() const { return {vtree, version, chunk}; }
  // Whether this is the record of what the directory knows.
  bool IsOf(const DirectoryKey& owner, uint32_t number, const PlacedExtent& placed) const;
};
static_assert(sizeof(Home) == 104 && std::is_trivially_copyable_v<Home>);

class HomeTable {
 public:
  using Page = std::array<Home, kHomesPerPage>;
  static_assert(sizeof(Page) <= SlotTable::kContentBytes);
  // What a page in memory takes.
  static constexpr size_t kFrameBytes = sizeof(Page) + 48;
  // Pinned pages may be more for a while.
  static constexpr uint32_t kFramesMin = 1;

  // No place has a record; nothing is on the device.
  void Reset(const Geometry& geometry, uint64_t log_key);

  static uint32_t PageOf(uint32_t place) { return place / kHomesPerPage; }

  // ---- Pages in memory
  bool cached(uint32_t page) const { return frame_of_[page] != 0; }
  // Its page must be in memory.
  const Home& at(uint32_t place);
  void Set(uint32_t place, const Home& home);
  // Whether the page is in memory or on the device.
  bool exists(uint32_t page) const;
  // A page without a record: there was none, or it is lost.
  void AddEmpty(uint32_t page);
  // A pinned page stays in memory.
  void Pin(uint32_t page);
  void Unpin(uint32_t page);

  // ---- Pages on the device
  struct PageRead {
    uint32_t page = 0;
    SlotTable::Reference reference;
    uint64_t offset_bytes = 0;
  };
  PageRead ToRead(uint32_t page) const;
  // False: this is not what was asked for. Otherwise the page is in memory, unless a newer one has
  // taken the place of the one that was asked for.
  [[nodiscard]] bool OnPageRead(const PageRead& read, std::span<const std::byte> block);
  // Whether the page is still where it was when the read began, and nowhere else.
  bool IsCurrent(const PageRead& read) const;
  // The record of a place, in a block that OnPageRead found to be good.
  static Home HomeIn(std::span<const std::byte> block, uint32_t place);

  // ---- Budget
  void SetBudget(size_t bytes);
  uint32_t frames_max() const { return frames_max_; }
  uint32_t frames() const { return frames_used_; }
  uint32_t dirty_pages() const { return table_.dirty(); }
  // Pages that may be dirty at a time: a round that would change more of them ends early.
  uint32_t dirty_max() const { return frames_max_ - frames_max_ / 4; }
  bool is_dirty(uint32_t page) const { return table_.is_dirty(page); }
  size_t cached_bytes() const { return frames_used_ * kFrameBytes; }
  // Of what is there for each page, in memory or not.
  size_t index_bytes() const { return frame_of_.size() * sizeof(uint32_t) + table_.memory_bytes(); }

  // ---- Checkpoint: as SlotTable. Pages do not change before CheckpointWritten.
  void BeginCheckpoint(uint64_t checkpoint_number);
  std::optional<uint64_t> NextToWrite(std::span<std::byte> block);
  // Every block that was given out is on the device: it can be read there.
  void CheckpointWritten();
  size_t root_bytes() const { return table_.root_bytes(); }
  void EncodeRoot(ByteWriter& writer) const { table_.EncodeRoot(writer); }

  // ---- Recovery: the root, then what NextRead asks for.
  [[nodiscard]] bool DecodeRoot(ByteReader& reader) { return table_.DecodeRoot(reader); }
  std::optional<SlotTable::Range> NextRead() { return table_.NextMaps(); }
  [[nodiscard]] bool OnRead(const SlotTable::Range& range, std::span<const std::byte> bytes) {
    return table_.OnMaps(range, bytes);
  }

  void Check() const;

 private:
  struct Frame {
    std::unique_ptr<Page> page;  // null: free
    uint32_t number = 0;
    uint16_t pins = 0;
    bool referenced = false;  // since the hand came by last
    bool written = false;     // given to the checkpoint that is being written
  };

  Frame& FrameOf(uint32_t page);
  bool evictable(const Frame& frame) const;
  // Makes room for one more, if anything can go.
  void Evict();
  Page& Add(uint32_t page);

  SlotTable table_;
  std::vector<uint32_t> frame_of_;  // by page: 1 + index of its frame; 0: not in memory
  std::vector<Frame> frames_;
  std::vector<uint32_t> free_frames_;
  std::vector<uint32_t> written_;  // frames
  uint32_t frames_used_ = 0;
  uint32_t frames_max_ = kFramesMin;
  uint32_t hand_ = 0;
  bool writing_ = false;
};

}  // namespace gabion::store
