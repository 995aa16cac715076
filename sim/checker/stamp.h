// What workloads write: every 512 B sector of a write carries the write's stamp, the place it was
// written to, and bytes that follow from both, so that a torn, moved or mixed sector shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace gabion::sim {

inline constexpr uint32_t kStampSectorBytes = 512;

// Names one write for ever: client in the high 16 bits, its operation number below. 0: zeroes, as
// trimmed or never written.
using Stamp = uint64_t;

inline constexpr Stamp kZeroStamp = 0;

constexpr Stamp MakeStamp(uint32_t client, uint64_t operation) {
  return (uint64_t{client + 1} << 48) | operation;
}

// Fills whole sectors; the first is sector `first_sector` of `volume`.
void FillStamped(std::span<std::byte> bytes, Stamp stamp, uint64_t volume, uint64_t first_sector);

// The stamp of one sector; nothing when these bytes were never written to this place in one piece.
std::optional<Stamp> ReadStamp(std::span<const std::byte> sector, uint64_t volume,
                               uint64_t sector_index);

}  // namespace gabion::sim
