// Reads on their way: where each block is, which disk reads fetch it, and whether it is what it
// should be. A block may move (destaging, relocation) while its read waits; a mismatch is therefore
// looked up again before it is believed. Where the checksums are not in memory, their page is read
// together with the blocks. What clients read of homes is kept in the read cache.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/store/state.h"

namespace gabion::store {

class Reads {
 public:
  Reads(const Options& options, DeviceState* state, Counters* counters);
  void Open(const Geometry& geometry) { geometry_ = geometry; }

  struct Range {
    SliceId slice;
    ChunkKey key;
    uint32_t first_block = 0;
    uint32_t count = 0;
    bool from_device = false;  // and not from the read cache, which does not learn of it either
  };
  void Start(const Range& range, Slice target, Tag tag, DiskTag tag_base, Output out);
  // One entry's payload; `item` is not touched after the call.
  void StartItem(const Item& item, Slice target, Tag tag, DiskTag tag_base, Output out);

  // `slot`: what was added to tag_base.
  void OnDiskDone(uint64_t slot, DiskStatus status, DiskTag tag_base, Output out);
  // Tries again what waits for memory. False: it is still short.
  bool Advance(DiskTag tag_base, Output out);
  void Fail(std::vector<Done>& done);
  // Something that a read may have been looking at was given away.
  void PlacesMoved() { ++moves_; }

  bool waits_for_memory() const { return !waiting_.empty(); }
  uint32_t in_flight() const { return static_cast<uint32_t>(ops_.size() - free_.size()); }

 private:
  static constexpr uint32_t kNoPage = UINT32_MAX;
  struct Block {
    uint32_t index = 0;         // in the target
    uint32_t crc = 0;           // plain
    uint64_t offset_bytes = 0;  // on the device
    uint32_t page = kNoPage;    // in `pages`, with the checksum in it; kNoPage: it is known
    uint32_t place = kNoPlace;
  };
  struct Page {
    HomeTable::PageRead read;
    Slice block;
  };
  struct Operation {
    bool active = false;
    Tag tag = 0;
    Range range;  // count 0: an entry
    Slice target;
    std::vector<Block> from_disk;
    std::vector<Page> pages;
    bool is_lost = false;  // its checksums are not what the directory expects
    uint32_t outstanding = 0;
    uint32_t attempts = 0;
    uint64_t moves = 0;
    bool io_error = false;
  };

  uint32_t NewOperation();
  // What is small enough for the read cache, and not of an entry.
  bool UsesCache(const Operation& operation) const;
  // Copies a block of the target. `crc`: what it must be; nothing: that is not in memory.
  bool TakeFromCache(Operation& operation, uint32_t index, uint64_t offset_bytes,
                     std::optional<uint32_t> crc);
  // What was read and verified goes to the cache.
  void Keep(const Operation& operation);
  // Fills `from_disk` and `pages`; copies or zeroes the rest.
  void Resolve(Operation& operation);
  void ResolveHome(Operation& operation, uint32_t index, uint32_t block,
                   const PlacedExtent& placed);
  // The checksums that came with the pages. False: a page is not what it should be.
  bool TakePages(Operation& operation);
  bool Verify(const Operation& operation) const;
  // Waits when memory is short.
  void Submit(uint32_t slot, DiskTag tag_base, Output out);
  void Finish(uint32_t slot, DoneStatus status, std::vector<Done>& done);

  Options options_;
  DeviceState* state_;
  Counters* counters_;
  Geometry geometry_;
  std::vector<std::unique_ptr<Operation>> ops_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> waiting_;
  uint64_t moves_ = 0;
};

}  // namespace gabion::store
