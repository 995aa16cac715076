#include "core/base/node_pool.h"

#include <algorithm>
#include <new>

#include "core/base/check.h"
#include "core/base/poison.h"

namespace gabion {

static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 16, "slabs are as aligned as nodes must be");

NodePool::~NodePool() { CHECK_EQ(bytes_in_use_, 0u) << "nodes outlive their pool"; }

void* NodePool::Allocate(size_t bytes) {
  CHECK_GT(bytes, 0u);
  if (bytes > kNodeBytesMax) return ::operator new(bytes);
  const size_t steps = (bytes + kStep - 1) / kStep;
  bytes_in_use_ += steps * kStep;
  FreeNode* node = free_[steps];
  if (node == nullptr) return Carve(steps * kStep);
  internal::Unpoison(node, steps * kStep);
  free_[steps] = node->next;
  return node;
}

void NodePool::Free(void* node, size_t bytes) {
  if (bytes > kNodeBytesMax) {
    ::operator delete(node);
    return;
  }
  const size_t steps = (bytes + kStep - 1) / kStep;
  CHECK_GE(bytes_in_use_, steps * kStep);
  bytes_in_use_ -= steps * kStep;
  free_[steps] = new (node) FreeNode{free_[steps]};
  internal::Poison(node, steps * kStep);
}

void* NodePool::Carve(size_t bytes) {
  if (left_ < bytes) {
    // What is left of the last slab is lost: less than a node of at most 1/4 of a slab.
    left_ = std::clamp(bytes_reserved_, kSlabBytesMin, kSlabBytesMax);
    slabs_.push_back(std::unique_ptr<std::byte[]>(new std::byte[left_]));
    next_ = slabs_.back().get();
    bytes_reserved_ += left_;
  }
  std::byte* node = next_;
  next_ += bytes;
  left_ -= bytes;
  return node;
}

}  // namespace gabion
