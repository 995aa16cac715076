// Operations in flight: a table of fixed capacity whose tags go stale when their slot is reused.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/base/ids.h"

namespace gabion {

// Slot index in the low 32 bits, the slot's use count (from 1) in the high 32. So a tag is never
// zero, and a tag of an earlier use of a slot misses, until the count wraps after 2^32 uses.
using SlotTag = Id<struct SlotTagTag>;

// Memory is taken at construction only. A value: a copy has the same tags. Visits in slot order, so
// equal histories give equal visits. Freed slots are reused last in, first out.
template <class T>
class SlotTable {
 public:
  explicit SlotTable(uint32_t capacity) : slots_(capacity), live_((size_t{capacity} + 63) / 64) {
    for (uint32_t i = 0; i < capacity; ++i) slots_[i].next_free = i + 1;
  }

  uint32_t size() const { return size_; }
  uint32_t capacity() const { return static_cast<uint32_t>(slots_.size()); }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == capacity(); }

  // The new entry's tag; nothing, and `value` is lost, when the table is full.
  [[nodiscard]] std::optional<SlotTag> Insert(T value) {
    if (full()) return std::nullopt;
    const uint32_t index = first_free_;
    CHECK_LT(index, capacity());
    Slot& slot = slots_[index];
    CHECK(!slot.value.has_value());
    first_free_ = slot.next_free;
    slot.use_count = slot.use_count == UINT32_MAX ? 1 : slot.use_count + 1;
    slot.value.emplace(std::move(value));
    live_[index / 64] |= uint64_t{1} << (index % 64);
    ++size_;
    return TagOf(index);
  }

  // The entry, or null when the tag is stale or was never given. Valid until the entry is erased or
  // the table is moved from or assigned to.
  T* Find(SlotTag tag) {
    Slot* slot = FindSlot(tag);
    return slot == nullptr ? nullptr : &*slot->value;
  }
  const T* Find(SlotTag tag) const { return const_cast<SlotTable*>(this)->Find(tag); }

  // False when the tag is stale or was never given.
  bool Erase(SlotTag tag) { return Take(tag).has_value(); }

  // Erases and returns the entry; nothing when the tag is stale or was never given.
  std::optional<T> Take(SlotTag tag) {
    Slot* slot = FindSlot(tag);
    if (slot == nullptr) return std::nullopt;
    std::optional<T> taken = std::exchange(slot->value, std::nullopt);
    const auto index = static_cast<uint32_t>(slot - slots_.data());
    live_[index / 64] &= ~(uint64_t{1} << (index % 64));
    slot->next_free = first_free_;
    first_free_ = index;
    --size_;
    return taken;
  }

  // Old tags miss afterwards.
  void Clear() {
    ForEach([this](SlotTag tag, T&) { Erase(tag); });
  }

  // `visit(SlotTag, T&)` for every entry in slot order. It may erase the entry it is shown; entries
  // that it inserts may or may not be visited.
  template <class Visit>
  void ForEach(Visit visit) {
    for (uint32_t i = NextLive(0); i < capacity(); i = NextLive(i + 1)) {
      visit(TagOf(i), *slots_[i].value);
    }
  }
  template <class Visit>
  void ForEach(Visit visit) const {
    for (uint32_t i = NextLive(0); i < capacity(); i = NextLive(i + 1)) {
      visit(TagOf(i), std::as_const(*slots_[i].value));
    }
  }

 private:
  struct Slot {
    std::optional<T> value;
    uint32_t use_count = 0;
    uint32_t next_free = 0;  // meaningful while free; capacity ends the list
  };

  static uint32_t IndexOf(SlotTag tag) { return static_cast<uint32_t>(tag.value()); }
  SlotTag TagOf(uint32_t index) const {
    return SlotTag((uint64_t{slots_[index].use_count} << 32) | index);
  }

  Slot* FindSlot(SlotTag tag) {
    const uint32_t index = IndexOf(tag);
    if (index >= capacity()) return nullptr;
    Slot& slot = slots_[index];
    return slot.value.has_value() && TagOf(index) == tag ? &slot : nullptr;
  }

  // The first live slot at or after `index`; capacity when there is none.
  uint32_t NextLive(uint32_t index) const {
    for (size_t word = index / 64; word < live_.size(); ++word) {
      const uint64_t mask = word == index / 64 ? ~uint64_t{0} << (index % 64) : ~uint64_t{0};
      const uint64_t found = live_[word] & mask;
      if (found != 0) return static_cast<uint32_t>(word * 64 + std::countr_zero(found));
    }
    return capacity();
  }

  std::vector<Slot> slots_;
  std::vector<uint64_t> live_;  // a bit for each slot
  uint32_t first_free_ = 0;
  uint32_t size_ = 0;
};

}  // namespace gabion
