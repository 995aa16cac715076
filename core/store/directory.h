// Whose each place of the device is: all chunks that have extents outside the log, packed into
// leaves of less than a block, in memory. It is the truth of ownership; pages of homes
// (home_table.h) add the checksums. A checkpoint writes the leaves that changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "core/base/bytes.h"
#include "core/store/directory_leaf.h"
#include "core/store/slot_table.h"

namespace gabion::store {

class Directory {
 public:
  // Of a leaf; its length comes before it in the block.
  static constexpr size_t kLeafBytesMax = SlotTable::kContentBytes - sizeof(uint32_t);

  void Reset(const Geometry& geometry, uint64_t log_key);

  // False: the chunk has no places; `chunk` is empty.
  bool Find(const DirectoryKey& key, PlacedChunk* chunk) const;
  // Without extents: forgets the chunk. Takes at most one more leaf.
  void Put(const DirectoryKey& key, const PlacedChunk& chunk);
  // Forgets the slice's chunks, and calls `visit` with each of their places.
  void EraseSlice(SliceId slice, absl::FunctionRef<void(uint32_t place)> visit);
  uint32_t leaves_free() const { return free_.size(); }

  // The chunks from a key on, ascending; until the directory changes.
  class Cursor {
   public:
    bool valid() const { return valid_; }
    const DirectoryKey& key() const { return reader_.key(); }
    PlacedChunk chunk() const;
    void Next();

   private:
    friend class Directory;
    const Directory* directory_ = nullptr;
    absl::btree_map<DirectoryKey, uint32_t>::const_iterator leaf_;
    LeafReader reader_;
    bool valid_ = false;
  };
  Cursor From(const DirectoryKey& key) const;

  // ---- Checkpoint: as SlotTable; what changes after the cut is the next checkpoint's. (A slice
  // may be dropped meanwhile, and its record not be durable in the end.)
  void BeginCheckpoint(uint64_t checkpoint_number);
  std::optional<uint64_t> NextToWrite(std::span<std::byte> block);
  size_t root_bytes() const { return table_.root_bytes(); }
  void EncodeRoot(ByteWriter& writer) const { table_.EncodeRoot(writer); }

  // ---- Recovery: the root, then what NextRead asks for, then FinishRead. False: this is no
  // directory. Whether places are in range, and nobody else's, is the caller's to see.
  [[nodiscard]] bool DecodeRoot(ByteReader& reader) { return table_.DecodeRoot(reader); }
  std::optional<SlotTable::Range> NextRead();
  [[nodiscard]] bool OnRead(const SlotTable::Range& range, std::span<const std::byte> bytes);
  [[nodiscard]] bool FinishRead();

  // What it takes, the free space in its leaves included.
  size_t memory_bytes() const;
  size_t leaves() const { return order_.size(); }
  // Everything agrees with everything; O(size).
  void Check() const;

 private:
  using Bytes = std::vector<std::byte>;
  // By the lowest key that belongs into a leaf.
  using Order = absl::btree_map<DirectoryKey, uint32_t>;

  Order::const_iterator LeafOf(const DirectoryKey& key) const;
  // The leaf is about to change.
  void Touch(uint32_t number);
  // Replaces bytes of a leaf by `scratch_`.
  void Splice(uint32_t number, size_t begin, size_t end);
  void Split(Order::const_iterator leaf);
  // After something went: with a neighbour, when both fit well into one leaf.
  void Merge(Order::const_iterator leaf);
  // Appends the content of the leaf `right` to `left`, its neighbour, and removes it.
  void Join(Order::const_iterator left, Order::const_iterator right);
  void RemoveLeaf(Order::const_iterator leaf);
  void SetBytes(uint32_t number, std::span<const std::byte> bytes);

  SlotTable table_;
  Order order_;
  std::vector<Bytes> leaves_;  // by number; empty: free
  NumberSet free_;
  size_t bytes_ = 0;  // capacity of all leaves
  Bytes scratch_;
  // Of leaves to write that changed since the checkpoint began: what they were then.
  absl::btree_map<uint32_t, Bytes> frozen_;
  bool reading_leaves_ = false;
};

}  // namespace gabion::store
