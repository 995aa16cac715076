#include "sim/checker/stamp.h"

#include <array>
#include <cstring>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sim {

namespace {

constexpr size_t kWords = kStampSectorBytes / 8;
using Sector = std::array<uint64_t, kWords>;

void MakeSector(Stamp stamp, uint64_t volume, uint64_t sector, Sector& words) {
  const uint64_t base = mix64(stamp ^ mix64((volume << 40) ^ (sector + 1)));
  words[0] = stamp;
  for (size_t i = 1; i < kWords; ++i) words[i] = base + i * 0x9e3779b97f4a7c15u;
}

}  // namespace

void FillStamped(std::span<std::byte> bytes, Stamp stamp, uint64_t volume, uint64_t first_sector) {
  CHECK_EQ(bytes.size() % kStampSectorBytes, 0u);
  CHECK_NE(stamp, kZeroStamp);
  Sector words;
  for (size_t at = 0; at < bytes.size(); at += kStampSectorBytes) {
    MakeSector(stamp, volume, first_sector++, words);
    std::memcpy(bytes.data() + at, words.data(), kStampSectorBytes);
  }
}

std::optional<Stamp> ReadStamp(std::span<const std::byte> sector, uint64_t volume,
                               uint64_t sector_index) {
  CHECK_EQ(sector.size(), size_t{kStampSectorBytes});
  Sector found;
  std::memcpy(found.data(), sector.data(), kStampSectorBytes);
  Sector expected;
  if (found[0] == kZeroStamp) {
    expected.fill(0);
  } else {
    MakeSector(found[0], volume, sector_index, expected);
  }
  if (found != expected) return std::nullopt;
  return found[0];
}

}  // namespace gabion::sim
