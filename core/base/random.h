// Counter-based randomness: draw `index` of stream `stream` of node `node` under `seed` is a pure
// function of the four, so a draw added in one place changes no other. Integers only, equal on
// every compiler.
//
// One draw per full expression: compilers evaluate arguments in different orders.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/mix.h"

namespace gabion {

namespace internal {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio, odd

constexpr uint64_t StreamKey(uint64_t seed, uint64_t node, uint64_t stream) {
  return mix64(mix64(mix64(seed + kGolden) + node + kGolden) + stream + kGolden);
}

constexpr uint64_t DrawOfKey(uint64_t key, uint64_t index) {
  return mix64(key + mix64(index + kGolden));
}

}  // namespace internal

// 64 uniform bits.
constexpr uint64_t Draw(uint64_t seed, uint64_t node, uint64_t stream, uint64_t index) {
  return internal::DrawOfKey(internal::StreamKey(seed, node, stream), index);
}

// The draws of one stream in order. A value: a copy continues from the same place.
class RandomStream {
 public:
  constexpr RandomStream(uint64_t seed, uint64_t node, uint64_t stream)
      : key_(internal::StreamKey(seed, node, stream)) {}

  // 64 uniform bits: Draw(seed, node, stream, counter()), then the counter rises by one.
  constexpr uint64_t Next() { return internal::DrawOfKey(key_, counter_++); }

  // Uniform in [0, n); n > 0. Each value's probability is within 2^-64 of 1/n.
  uint64_t Below(uint64_t n);

  // Uniform in [lo, hi], both ends included; lo <= hi.
  uint64_t Range(uint64_t lo, uint64_t hi);

  // True with probability numerator/denominator (at least 1: always; 0: never); denominator > 0.
  bool Chance(uint64_t numerator, uint64_t denominator);

  // Exponential-like in [0, max]: mean `mean` before the cut at `max`, each further 2/3 of the mean
  // half as likely as the one before.
  uint64_t Tail(uint64_t mean, uint64_t max);

  // One of `items`, all equally likely; `items` is not empty.
  template <class T>
  T& Pick(std::span<T> items) {
    return items[Below(items.size())];
  }
  template <class Container>
  auto& Pick(Container& items) {
    return Pick(std::span(items));
  }

  // How many draws were made.
  constexpr uint64_t counter() const { return counter_; }

  friend constexpr bool operator==(const RandomStream&, const RandomStream&) = default;

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace gabion
