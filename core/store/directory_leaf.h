// A leaf of the directory: chunks and the places of their extents, packed (docs/store-format.md
// shows the bytes). An entry is a key, relative to that of the entry before, and a body.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.h"
#include "core/store/layout.h"
#include "core/store/store.h"

namespace gabion::store {

inline constexpr uint32_t kNoPlace = UINT32_MAX;

struct DirectoryKey {
  SliceId slice;
  ChunkKey chunk;
  auto operator<=>(const DirectoryKey&) const = default;
};

// Where one extent of a chunk is, when it is not in the log.
struct PlacedExtent {
  uint32_t place = kNoPlace;
  uint16_t present = 0;  // bit i: block i of the extent has data; 0: it has no place
  Epoch modified;
  bool operator==(const PlacedExtent&) const = default;
};

struct PlacedChunk {
  Epoch born;            // see Chunk::born
  uint16_t extents = 0;  // bit i: extent i has a place
  std::array<PlacedExtent, kExtentsPerChunk> extent{};
  bool operator==(const PlacedChunk&) const = default;

  void Set(uint32_t number, const PlacedExtent& placed);
  void Clear(uint32_t number);
};

// Appends an entry; `previous` is null for the first one of a leaf.
void AppendKey(const DirectoryKey* previous, const DirectoryKey& key, std::vector<std::byte>* to);
void AppendBody(const PlacedChunk& chunk, std::vector<std::byte>* to);

// Walks the entries of a leaf. The bytes may be anything.
class LeafReader {
 public:
  LeafReader() = default;
  explicit LeafReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // The next entry; keys ascend. False at the end, or when the bytes are no leaf: then ok() is
  // false.
  bool Next();
  bool ok() const { return ok_; }

  // Of the entry that Next() came to; valid while it returned true.
  const DirectoryKey& key() const { return key_; }
  size_t begin() const { return begin_; }
  size_t body() const { return body_; }  // where the part begins that depends on no other entry
  size_t end() const { return end_; }
  [[nodiscard]] bool Decode(PlacedChunk* chunk) const;

 private:
  bool Fail();

  std::span<const std::byte> bytes_;
  DirectoryKey key_;
  size_t begin_ = 0;
  size_t body_ = 0;
  size_t end_ = 0;
  bool ok_ = true;
};

}  // namespace gabion::store
