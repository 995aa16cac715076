// A first-in-first-out queue of fixed capacity.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace gabion {

// Memory is taken at construction only. A value. T is default-constructible; a popped place is
// reset to T(), so that what it held is let go at once.
template <class T>
class Ring {
 public:
  explicit Ring(size_t capacity) : places_(capacity) {}

  size_t size() const { return size_; }
  size_t capacity() const { return places_.size(); }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == places_.size(); }

  // False, and nothing changes, when the ring is full.
  [[nodiscard]] bool push_back(T value) {
    if (full()) return false;
    places_[PlaceOf(size_)] = std::move(value);
    ++size_;
    return true;
  }

  // The oldest. The ring is not empty.
  T pop_front() {
    CHECK(!empty());
    T value = std::exchange(places_[first_], T());
    first_ = first_ + 1 == places_.size() ? 0 : first_ + 1;
    --size_;
    return value;
  }

  // Index 0 is the oldest; index < size().
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

 private:
  size_t PlaceOf(size_t index) const {
    const size_t place = first_ + index;
    return place < places_.size() ? place : place - places_.size();
  }

  std::vector<T> places_;
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace gabion
