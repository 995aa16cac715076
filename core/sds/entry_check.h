// What a peer sends, before anything of it is used.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "core/base/buffer.h"
#include "core/wire/data.h"

namespace gabion::sds {

// Ranges, sizes and checksums of an entry that came from another SDS.
bool ValidEntry(const wire::EntryHeader& entry, const Slice& payload,
                std::span<const uint32_t> block_crc);

// Extents that it can newly take, at most: where it comes to may lack what this side has.
uint64_t ExtentsTouched(const wire::EntryHeader& entry);

// Are these the checksums of the payload's blocks?
bool ChecksumsMatch(const Slice& payload, std::span<const uint32_t> block_crc);

// A payload that is exactly `count` structs of a kind.
template <class T>
bool ParseList(const Slice& payload, uint64_t count, std::vector<T>* list) {
  if (payload.size() != count * sizeof(T)) return false;
  list->resize(count);
  if (count > 0) std::memcpy(list->data(), payload.data(), payload.size());
  return true;
}

// Visits the structs of such a payload in order. False, and none is visited: it is no such payload.
template <class T, class Visit>
bool VisitList(const Slice& payload, uint64_t count, Visit visit) {
  if (payload.size() != count * sizeof(T)) return false;
  for (uint64_t i = 0; i < count; ++i) {
    T item;
    std::memcpy(&item, payload.data() + i * sizeof(T), sizeof(T));
    visit(item);
  }
  return true;
}

// Empty when the pool's budget is exhausted, or the list is empty.
template <class T>
Slice MakeList(BufferPool& pool, std::span<const T> list) {
  if (list.empty()) return Slice();
  Slice payload = pool.Allocate(static_cast<uint32_t>(list.size_bytes()));
  if (!payload.empty()) std::memcpy(payload.mutable_span().data(), list.data(), list.size_bytes());
  return payload;
}

}  // namespace gabion::sds
