// How a request on a volume falls into parts, each of one chunk and of at most kDataBytesMax of
// data.
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

// The first part of [begin, end). Requests without data (trim, zeroes) are split at chunks only.
inline ChunkRange FirstRange(uint64_t begin, uint64_t end, bool has_data) {
  CHECK_LT(begin, end);
  const uint64_t chunk = begin / wire::kChunkBytes;
  CHECK_LE(chunk, uint64_t{UINT32_MAX});
  const auto offset = static_cast<uint32_t>(begin % wire::kChunkBytes);
  const uint32_t length_max =
      std::min(wire::kChunkBytes - offset, has_data ? wire::kDataBytesMax : wire::kChunkBytes);
  return {static_cast<uint32_t>(chunk), offset,
          static_cast<uint32_t>(std::min<uint64_t>(end - begin, length_max))};
}

}  // namespace gabion::sdc
