// Small numbers below a limit.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace gabion::store {

// Allocates only when the limit is set.
class NumberSet {
 public:
  void Reset(uint32_t limit);
  void insert(uint32_t number);
  void erase(uint32_t number);
  bool contains(uint32_t number) const { return (words_[number / 64] >> number % 64 & 1u) != 0; }
  bool empty() const { return size_ == 0; }
  uint32_t size() const { return size_; }
  // Removes the lowest one.
  uint32_t TakeFirst();
  void swap(NumberSet& other) noexcept { std::swap(*this, other); }

 private:
  std::vector<uint64_t> words_;
  uint32_t size_ = 0;
  uint32_t first_word_ = 0;  // all words below are zero
};

}  // namespace gabion::store
