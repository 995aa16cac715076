#include "core/sdc/piece_crc.h"

#include <algorithm>
#include <cstddef>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/wire/data.h"

namespace gabion::sdc {
namespace {

// `visit(index, piece)` for each piece until it returns false; true when all were visited.
template <class Visit>
bool ForEachPiece(uint32_t offset_bytes, std::span<const std::byte> data, size_t pieces_max,
                  Visit visit) {
  size_t size = wire::kBlockBytes - offset_bytes % wire::kBlockBytes;
  for (size_t i = 0; !data.empty(); ++i) {
    CHECK_LT(i, pieces_max);
    size = std::min(size, data.size());
    if (!visit(i, data.first(size))) return false;
    data = data.subspan(size);
    size = wire::kBlockBytes;
  }
  return true;
}

}  // namespace

void FillPieceCrcs(uint32_t offset_bytes, std::span<const std::byte> data,
                   std::span<uint32_t> crcs) {
  ForEachPiece(offset_bytes, data, crcs.size(), [&](size_t i, std::span<const std::byte> piece) {
    crcs[i] = Crc32c(piece);
    return true;
  });
}

bool PieceCrcsMatch(uint32_t offset_bytes, std::span<const std::byte> data,
                    std::span<const uint32_t> crcs) {
  return ForEachPiece(
      offset_bytes, data, crcs.size(),
      [&](size_t i, std::span<const std::byte> piece) { return crcs[i] == Crc32c(piece); });
}

}  // namespace gabion::sdc
