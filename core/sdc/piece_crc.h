// The checksums that travel with data: one CRC32C for each 4 KiB block touched, over the part of
// the data that lies in that block.
#pragma once

#include <cstdint>
#include <span>

namespace gabion::sdc {

// `offset_bytes` is where the data begins in its chunk. At most kDataBlocksMax + 1 pieces, the size
// of `crcs`; the rest of `crcs` is left alone.
void FillPieceCrcs(uint32_t offset_bytes, std::span<const std::byte> data,
                   std::span<uint32_t> crcs);
bool PieceCrcsMatch(uint32_t offset_bytes, std::span<const std::byte> data,
                    std::span<const uint32_t> crcs);

}  // namespace gabion::sdc
