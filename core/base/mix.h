// A 64-bit finaliser: spreads every input bit over all output bits.
#pragma once

#include <cstdint>

namespace gabion {

// The finaliser of SplitMix64 (Stafford's variant 13): a bijection on 64 bits with mix64(0) == 0.
// Part of the protocol (chunk to slice) and of every recorded seed: its values never change.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace gabion
