// How a request on a volume falls into parts, each of one chunk and of at most kDataBytesMax of
// data, such that an SDS can log each as one entry.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/check.h"
#include "core/wire/data.h"

namespace gabion::sdc {

struct ChunkRange {
  uint32_t chunk = 0;
  uint32_t offset_bytes = 0;  // within the chunk
  uint32_t length_bytes = 0;
};

// The first part of [begin, end). With data: at most kDataBlocksMax blocks, one touched at an edge
// included (an entry of the log holds no more). Without (trim, zeroes): whole blocks of one chunk, or
// a range within one block.
inline ChunkRange FirstRange(uint64_t begin, uint64_t end, bool has_data) {
  CHECK_LT(begin, end);
  const uint64_t chunk = begin / wire::kChunkBytes;
  CHECK_LE(chunk, uint64_t{UINT32_MAX});
  const auto offset = static_cast<uint32_t>(begin % wire::kChunkBytes);
  const uint32_t in_block = offset % wire::kBlockBytes;
  const uint32_t to_chunk_end = wire::kChunkBytes - offset;
  auto length = static_cast<uint32_t>(std::min<uint64_t>(end - begin, to_chunk_end));
  if (has_data) {
    length = std::min(length, wire::kDataBytesMax - in_block);
  } else if (in_block != 0) {
    length = std::min(length, wire::kBlockBytes - in_block);
  } else if (length > wire::kBlockBytes) {
    length -= length % wire::kBlockBytes;
  }
  return {static_cast<uint32_t>(chunk), offset, length};
}

}  // namespace gabion::sdc
