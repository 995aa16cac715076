#include "core/sds/extent_data.h"

#include <bit>
#include <cstring>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/sds/entry_check.h"

namespace gabion::sds {

namespace {

// The greatest key below `key`; nothing below the first.
std::optional<store::ChunkKey> Before(store::ChunkKey key) {
  if (key.chunk > 0) return store::ChunkKey{key.vtree, key.version, key.chunk - 1};
  if (key.version.valid()) {
    return store::ChunkKey{key.vtree, VolumeVersion(key.version.value() - 1), UINT32_MAX};
  }
  if (key.vtree.valid()) {
    return store::ChunkKey{VtreeId(key.vtree.value() - 1), VolumeVersion(UINT64_MAX), UINT32_MAX};
  }
  return std::nullopt;
}

}  // namespace

std::optional<store::ChunkSummary> FindChunk(const store::Store& store, SliceId slice,
                                             const store::ChunkKey& key, Epoch after_epoch) {
  const std::vector<store::ChunkSummary> found = store.List(slice, Before(key), after_epoch, 1);
  if (found.empty() || found.front().key != key) return std::nullopt;
  return found.front();
}

std::optional<Slice> PackExtent(BufferPool& pool, const Slice& data, uint16_t present,
                                ExtentCrcs* crc) {
  const auto blocks = static_cast<uint32_t>(std::popcount(present));
  if (blocks == 0) return Slice();
  CHECK_EQ(data.size(), wire::kExtentBytes);
  Slice packed = data;
  const bool whole = blocks == wire::kBlocksPerExtent;
  if (!whole) {
    packed = pool.Allocate(blocks * wire::kBlockBytes, BufferUse::kPeer);
    if (packed.empty()) return std::nullopt;
  }
  size_t at = 0;
  for (uint32_t block = 0; block < wire::kBlocksPerExtent; ++block) {
    if ((present >> block & 1) == 0) continue;
    const auto from = data.span().subspan(size_t{block} * wire::kBlockBytes, wire::kBlockBytes);
    (*crc)[block] = Crc32c(from);
    if (!whole) std::memcpy(packed.mutable_span().data() + at, from.data(), from.size());
    at += wire::kBlockBytes;
  }
  return packed;
}

std::vector<uint32_t> PackedCrcs(const ExtentCrcs& crc, uint16_t present) {
  std::vector<uint32_t> packed;
  packed.reserve(wire::kBlocksPerExtent);
  for (uint32_t block = 0; block < wire::kBlocksPerExtent; ++block) {
    if ((present >> block & 1) != 0) packed.push_back(crc[block]);
  }
  return packed;
}

uint32_t PackedOffset(uint16_t present, uint32_t block) {
  CHECK((present >> block & 1) != 0);
  const auto before = static_cast<uint16_t>(present & ((1u << block) - 1));
  return static_cast<uint32_t>(std::popcount(before)) * wire::kBlockBytes;
}

bool ValidExtent(const Slice& payload, uint16_t present, const ExtentCrcs& crc) {
  const auto blocks = static_cast<uint32_t>(std::popcount(present));
  return payload.size() == blocks * wire::kBlockBytes &&
         ChecksumsMatch(payload, PackedCrcs(crc, present));
}

}  // namespace gabion::sds
