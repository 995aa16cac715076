// How a request on a volume falls into parts that one message may carry (wire::IoTarget): each in
// one chunk; data touches at most kDataBlocksMax blocks; zeroes and trims are whole blocks or touch
// at most as many.
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

// The first part of [begin, end).
inline ChunkRange FirstRange(uint64_t begin, uint64_t end, bool has_data) {
  CHECK_LT(begin, end);
  constexpr uint64_t kBlock = wire::kBlockBytes;
  const uint64_t chunk = begin / wire::kChunkBytes;
  CHECK_LE(chunk, uint64_t{UINT32_MAX});
  const uint64_t first_block = begin / kBlock;
  const uint64_t window_end = (first_block + wire::kDataBlocksMax) * kBlock;
  uint64_t limit = std::min(end, (chunk + 1) * wire::kChunkBytes);
  if (limit > window_end) {
    if (has_data || begin % kBlock != 0) {
      limit = window_end;  // what follows begins with a whole block
    } else {
      limit -= limit % kBlock;  // the rest of the last block is a part of its own
    }
  }
  return {static_cast<uint32_t>(chunk), static_cast<uint32_t>(begin % wire::kChunkBytes),
          static_cast<uint32_t>(limit - begin)};
}

}  // namespace gabion::sdc
