#include "core/base/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>

namespace gabion {

namespace {

// ISA-L takes an int.
constexpr size_t kPieceSizeMax = size_t{1} << 30;

// Polynomials over GF(2) modulo the Castagnoli polynomial; the highest bit is the coefficient of
// x^0.
constexpr uint32_t kPolynomial = 0x82f63b78;
constexpr uint32_t kOne = 0x80000000;

constexpr uint32_t TimesX(uint32_t a) { return (a >> 1) ^ ((a & 1) != 0 ? kPolynomial : 0); }

constexpr uint32_t Product(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a != 0; a <<= 1, b = TimesX(b)) {
    if ((a & kOne) != 0) product ^= b;
  }
  return product;
}

// [i] = x^(8 * 2^i): what 2^i zero bytes multiply a CRC by.
constexpr std::array<uint32_t, 64> kZeroBytes = [] {
  std::array<uint32_t, 64> powers{};
  powers[0] = kOne >> 8;
  for (size_t i = 1; i < powers.size(); ++i) powers[i] = Product(powers[i - 1], powers[i - 1]);
  return powers;
}();

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t seed) {
  uint32_t state = ~seed;
  while (!bytes.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kPieceSizeMax));
    // ISA-L only reads, though its parameter is not const.
    auto* from = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(piece.data()));
    state = crc32_iscsi(from, static_cast<int>(piece.size()), state);
    bytes = bytes.subspan(piece.size());
  }
  return ~state;
}

// A CRC is linear: a seed adds itself, times x for every bit that follows.
uint32_t Crc32cWithSeed(uint32_t crc, uint64_t size_bytes, uint32_t seed) {
  for (size_t i = 0; size_bytes != 0; ++i, size_bytes >>= 1) {
    if ((size_bytes & 1) != 0) seed = Product(seed, kZeroBytes[i]);
  }
  return crc ^ seed;
}

}  // namespace gabion
