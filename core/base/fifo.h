// A queue that grows by doubling and never shrinks: no allocation once it has been as long as it
// gets.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace gabion {

template <class T>
class Fifo {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  void push_back(T value) {
    if (size_ == places_.size()) Grow();
    places_[PlaceOf(size_)] = std::move(value);
    ++size_;
  }
  T pop_front() {
    CHECK(!empty());
    T value = std::exchange(places_[first_], T());
    first_ = PlaceOf(1);
    --size_;
    return value;
  }

  // Index 0 is the oldest.
  T& operator[](size_t index) {
    CHECK_LT(index, size_);
    return places_[PlaceOf(index)];
  }
  const T& operator[](size_t index) const {
    CHECK_LT(index, size_);
    return places_[PlaceOf(index)];
  }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[size_ - 1]; }
  const T& back() const { return (*this)[size_ - 1]; }

  void clear() {
    while (!empty()) pop_front();
  }
  // Removes what `drop` says, keeping the order of the rest.
  template <class Drop>
  void EraseIf(Drop drop) {
    for (size_t left = size_; left > 0; --left) {
      T value = pop_front();
      if (!drop(value)) push_back(std::move(value));
    }
  }

 private:
  size_t PlaceOf(size_t index) const { return (first_ + index) & (places_.size() - 1); }

  void Grow() {
    std::vector<T> places(places_.empty() ? 8 : places_.size() * 2);
    for (size_t i = 0; i < size_; ++i) places[i] = std::move(places_[PlaceOf(i)]);
    places_ = std::move(places);
    first_ = 0;
  }

  std::vector<T> places_;  // a power of two
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace gabion
