#include "core/sds/range_lock.h"

#include <cstddef>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sds {

bool RangeLock::Free(const Bucket& bucket, size_t index) {
  for (size_t i = 0; i < index; ++i) {
    if (Conflict(bucket[i], bucket[index])) return false;
  }
  return true;
}

size_t RangeLock::BucketOf(VtreeId vtree, uint32_t chunk) {
  return (mix64(vtree.value()) + chunk) % kBuckets;
}

RangeLock::Item& RangeLock::Push(const Range& range, Mode mode, Owner owner) {
  CHECK_GT(range.block_count, 0);
  Bucket& bucket = buckets_[BucketOf(range.vtree, range.chunk)];
  bucket.push_back({.vtree = range.vtree,
                    .chunk = range.chunk,
                    .id = next_id_++,
                    .owner = owner,
                    .first = range.first_block,
                    .end = uint32_t{range.first_block} + range.block_count,
                    .mode = mode});
  ++count_;
  return bucket.back();
}

bool RangeLock::Acquire(const Range& range, Mode mode, Owner owner, Handle* handle) {
  CHECK_EQ(handle->id, 0u);
  Item& item = Push(range, mode, owner);
  *handle = {.range = range, .id = item.id};
  const Bucket& bucket = buckets_[BucketOf(range.vtree, range.chunk)];
  item.granted = Free(bucket, bucket.size() - 1);
  return item.granted;
}

RangeLock::Handle RangeLock::AcquireInPlace(const Range& range) {
  Item& item = Push(range, Mode::kExclusive, 0);
  item.granted = true;
  item.in_place = true;
  return {.range = range, .id = item.id};
}

void RangeLock::Release(Handle* handle, std::vector<Owner>* granted) {
  if (handle->id == 0) return;
  Bucket& bucket = buckets_[BucketOf(handle->range.vtree, handle->range.chunk)];
  size_t at = 0;
  while (at < bucket.size() && bucket[at].id != handle->id) ++at;
  CHECK_LT(at, bucket.size());
  bucket.erase(bucket.begin() + static_cast<std::ptrdiff_t>(at));
  --count_;
  *handle = Handle();
  for (size_t i = at; i < bucket.size(); ++i) {
    if (bucket[i].granted || !Free(bucket, i)) continue;
    bucket[i].granted = true;
    granted->push_back(bucket[i].owner);
  }
}

void RangeLock::AddExclusive(VtreeId vtree, uint32_t chunk, wire::ChunkPresence* blocks) const {
  for (const Item& item : buckets_[BucketOf(vtree, chunk)]) {
    if (item.vtree != vtree || item.chunk != chunk) continue;
    if (!item.granted || item.mode != Mode::kExclusive) continue;
    for (uint32_t block = item.first; block < item.end; ++block) {
      blocks->blocks[block / 64] |= uint64_t{1} << (block % 64);
    }
  }
}

void RangeLock::CheckInvariants() const {
  size_t count = 0;
  for (const Bucket& bucket : buckets_) {
    count += bucket.size();
    for (size_t i = 0; i < bucket.size(); ++i) {
      if (!bucket[i].in_place) CHECK_EQ(bucket[i].granted, Free(bucket, i));
    }
  }
  CHECK_EQ(count, count_);
}

}  // namespace gabion::sds
