// S4: checksums bound to a place. The CRC32C of a block travels plain from the client to the store;
// what the store keeps, in memory and in checkpoints, is seeded with where the block is in its
// volume: (V-tree, chunk, block). So a home, or content in the log, that metadata attributes to
// another block than it was written for does not match, even though it is whole. Not the volume
// version: versions share extents.
#pragma once

#include <cstdint>

#include "core/base/bug.h"
#include "core/base/mix.h"
#include "core/store/store.h"

namespace gabion::store {

// Plain to bound, and bound to plain. A CRC is affine: to begin with another seed changes the CRC
// of 4 KiB by something that depends on the seed alone, so a mask drawn from the place does what a
// seed does.
inline uint32_t BindCrc(uint32_t crc, const ChunkKey& key, uint32_t block) {
  if (PLANTED_BUG("S4-checksum-of-no-place")) return crc;
  const uint64_t within = uint64_t{key.chunk} << 32 | block;
  return crc ^ static_cast<uint32_t>(mix64(mix64(key.vtree.value() + 1) + within) >> 32);
}

}  // namespace gabion::store
