// 128 bits over everything that happens in a run: two runs with equal hashes did the same.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "core/base/ids.h"
#include "core/base/mix.h"

namespace gabion::sim {

struct RollingHash {
  uint64_t high = 0x243f6a8885a308d3u;
  uint64_t low = 0x13198a2e03707344u;

  void Add(uint64_t value) {
    low = mix64(low ^ value);
    high = (high ^ low) * 0x9e3779b97f4a7c15u + value;
  }
  std::string ToString() const { return HexId(high) + HexId(low); }

  friend bool operator==(const RollingHash&, const RollingHash&) = default;
};

}  // namespace gabion::sim
