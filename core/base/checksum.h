// CRC-32C (Castagnoli, reflected, as in iSCSI, RFC 3720): "123456789" gives 0xe3069283.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace gabion {

// The CRC of `bytes` after bytes whose CRC is `seed`; 0 starts anew. Chains:
//   Crc32c(b, Crc32c(a)) == Crc32c(a followed by b)
// A seed may also be any other number that binds the CRC to a place. No bytes: the seed itself.
[[nodiscard]] uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t seed = 0);

// Crc32c(b, seed), given only Crc32c(b) and the size of b: about 60 ns when the size is a power of
// two, more per bit set.
[[nodiscard]] uint32_t Crc32cWithSeed(uint32_t crc, uint64_t size_bytes, uint32_t seed);

}  // namespace gabion
