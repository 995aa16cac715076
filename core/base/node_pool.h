// Memory for the nodes of containers whose members come and go with every request: what was freed
// is used again, so that after warm-up nothing comes from the heap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace gabion {

// Pieces of any size, aligned to 16 bytes, cut from slabs; a free list for each size up to
// kNodeBytesMax, larger ones come from the heap each time. Slabs go with the pool: it is as large
// as its users once were together. Belongs to one thread, and outlives its users.
class NodePool {
 public:
  static constexpr size_t kNodeBytesMax = 1024;

  NodePool() = default;
  NodePool(const NodePool&) = delete;
  NodePool& operator=(const NodePool&) = delete;
  ~NodePool();

  void* Allocate(size_t bytes);  // > 0
  void Free(void* node, size_t bytes);

  size_t bytes_in_use() const { return bytes_in_use_; }  // of nodes up to kNodeBytesMax
  size_t bytes_reserved() const { return bytes_reserved_; }

 private:
  static constexpr size_t kStep = 16;
  static constexpr size_t kSlabBytesMin = 4 << 10;
  static constexpr size_t kSlabBytesMax = 256 << 10;

  struct FreeNode {
    FreeNode* next;
  };

  void* Carve(size_t bytes);

  std::array<FreeNode*, kNodeBytesMax / kStep + 1> free_{};  // by size in steps
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
  std::byte* next_ = nullptr;  // rest of the last slab
  size_t left_ = 0;
  size_t bytes_in_use_ = 0;
  size_t bytes_reserved_ = 0;
};

// For containers of the standard library and Abseil.
template <class T>
class PoolAllocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::false_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  PoolAllocator(NodePool* pool) : pool_(pool) {}  // NOLINT: a pool is what a container is given
  template <class U>
  PoolAllocator(const PoolAllocator<U>& other) : pool_(other.pool()) {}  // NOLINT: rebinding

  T* allocate(size_t count) {
    static_assert(alignof(T) <= 16);
    return static_cast<T*>(pool_->Allocate(count * sizeof(T)));
  }
  void deallocate(T* memory, size_t count) { pool_->Free(memory, count * sizeof(T)); }

  NodePool* pool() const { return pool_; }
  template <class U>
  bool operator==(const PoolAllocator<U>& other) const {
    return pool_ == other.pool();
  }

 private:
  NodePool* pool_;
};

// One object from a pool.
template <class T>
struct PoolDeleter {
  NodePool* pool = nullptr;
  void operator()(T* object) const {
    object->~T();
    pool->Free(object, sizeof(T));
  }
};
template <class T>
using PoolPtr = std::unique_ptr<T, PoolDeleter<T>>;

template <class T, class... Arguments>
PoolPtr<T> MakePooled(NodePool* pool, Arguments&&... arguments) {
  static_assert(alignof(T) <= 16);
  return PoolPtr<T>(new (pool->Allocate(sizeof(T))) T(std::forward<Arguments>(arguments)...),
                    PoolDeleter<T>{pool});
}

}  // namespace gabion
