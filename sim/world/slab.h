// Values by number, with reuse of free places, last freed first. For what waits in the event queue.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace gabion::sim {

template <class T>
class Slab {
 public:
  uint32_t Add(T value) {
    ++live_;
    if (free_.empty()) {
      values_.push_back(std::move(value));
      return static_cast<uint32_t>(values_.size() - 1);
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    values_[index] = std::move(value);
    return index;
  }
  T Take(uint32_t index) {
    CHECK_GT(live_, 0u);
    --live_;
    T value = std::exchange(values_[index], T());
    free_.push_back(index);
    return value;
  }
  void Free(uint32_t index) { (void)Take(index); }
  T& operator[](uint32_t index) { return values_[index]; }
  const T& operator[](uint32_t index) const { return values_[index]; }
  uint32_t live() const { return live_; }

 private:
  std::vector<T> values_;
  std::vector<uint32_t> free_;
  uint32_t live_ = 0;
};

}  // namespace gabion::sim
