#include "core/store/number_set.h"

#include <algorithm>
#include <bit>

#include "core/base/check.h"

namespace gabion::store {

void NumberSet::Reset(uint32_t limit) {
  words_.assign((size_t{limit} + 63) / 64, 0);
  size_ = 0;
  first_word_ = 0;
}

void NumberSet::insert(uint32_t number) {
  if (contains(number)) return;
  words_[number / 64] |= uint64_t{1} << number % 64;
  first_word_ = std::min(first_word_, number / 64);
  ++size_;
}

void NumberSet::erase(uint32_t number) {
  if (!contains(number)) return;
  words_[number / 64] &= ~(uint64_t{1} << number % 64);
  --size_;
}

uint32_t NumberSet::TakeFirst() {
  CHECK_GT(size_, 0u);
  while (words_[first_word_] == 0) ++first_word_;
  uint64_t& word = words_[first_word_];
  const auto bit = static_cast<uint32_t>(std::countr_zero(word));
  word &= word - 1;
  --size_;
  return first_word_ * 64 + bit;
}

}  // namespace gabion::store
