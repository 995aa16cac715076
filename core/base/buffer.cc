#include "core/base/buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/check.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define GABION_ADDRESS_SANITIZER
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GABION_ADDRESS_SANITIZER
#endif
#ifdef GABION_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace gabion {

namespace {

// Class 0 is 512 B, class i > 0 is 4 KiB << (i - 1).
constexpr size_t kClasses = 10;

constexpr size_t ClassOf(size_t size) {
  if (size <= BufferPool::kSizeMin) return 0;
  return 1 + static_cast<size_t>(std::bit_width((size - 1) / BufferPool::kAlignment));
}

constexpr size_t CapacityOf(size_t size_class) {
  if (size_class == 0) return BufferPool::kSizeMin;
  return size_t{BufferPool::kAlignment} << (size_class - 1);
}

static_assert(ClassOf(1) == 0 && ClassOf(512) == 0);
static_assert(ClassOf(513) == 1 && ClassOf(4096) == 1 && ClassOf(4097) == 2);
static_assert(ClassOf(BufferPool::kClassSizeMax) == kClasses - 1);
static_assert(CapacityOf(kClasses - 1) == BufferPool::kClassSizeMax);

constexpr size_t CapacityFor(size_t size) {
  if (size <= BufferPool::kClassSizeMax) return CapacityOf(ClassOf(size));
  return (size + BufferPool::kAlignment - 1) / BufferPool::kAlignment * BufferPool::kAlignment;
}

// Read-only, so it may be shared by all pools.
alignas(BufferPool::kAlignment) constexpr std::byte kZeroes[BufferPool::kZeroesSizeMax] = {};

// A kept buffer must not be touched: under AddressSanitizer whoever does so is reported.
void Poison([[maybe_unused]] const internal::Buffer& buffer) {
#ifdef GABION_ADDRESS_SANITIZER
  __asan_poison_memory_region(buffer.payload, buffer.capacity_bytes);
#endif
}
void Unpoison([[maybe_unused]] const internal::Buffer& buffer) {
#ifdef GABION_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(buffer.payload, buffer.capacity_bytes);
#endif
}

}  // namespace

namespace internal {

// Lives until both the pool and the last buffer in use are gone.
struct PoolState {
  size_t bytes_max;
  BufferPool::Stats stats{};
  std::array<Buffer*, kClasses> kept{};  // last in, first out
  uint64_t buffers_in_use = 0;
  bool pool_gone = false;
};

namespace {

// Null when the system has no memory. The payload is zeros.
Buffer* NewBuffer(PoolState* pool, size_t capacity_bytes) {
  const size_t alignment = std::min<size_t>(capacity_bytes, BufferPool::kAlignment);
  void* payload = std::aligned_alloc(alignment, capacity_bytes);
  if (payload == nullptr) return nullptr;
  std::memset(payload, 0, capacity_bytes);
  auto* buffer = new (std::nothrow) Buffer{.pool = pool,
                                           .payload = static_cast<std::byte*>(payload),
                                           .next_free = nullptr,
                                           .capacity_bytes = capacity_bytes,
                                           .references = 0};
  if (buffer == nullptr) {
    std::free(payload);
    return nullptr;
  }
  ++pool->stats.heap_allocations;
  return buffer;
}

void DeleteBuffer(Buffer* buffer) {
  std::free(buffer->payload);
  delete buffer;
}

Buffer* TakeKept(PoolState* pool, size_t size_class) {
  Buffer* buffer = pool->kept[size_class];
  if (buffer == nullptr) return nullptr;
  pool->kept[size_class] = buffer->next_free;
  pool->stats.bytes_kept -= buffer->capacity_bytes;
  Unpoison(*buffer);
  return buffer;
}

void Keep(PoolState* pool, Buffer* buffer) {
  const size_t size_class = ClassOf(buffer->capacity_bytes);
  Poison(*buffer);
  buffer->next_free = pool->kept[size_class];
  pool->kept[size_class] = buffer;
  pool->stats.bytes_kept += buffer->capacity_bytes;
}

// Returns kept buffers to the heap, largest first, until at most `bytes` are kept.
void TrimTo(PoolState* pool, size_t bytes) {
  for (size_t size_class = kClasses; size_class-- > 0;) {
    while (pool->stats.bytes_kept > bytes && pool->kept[size_class] != nullptr) {
      DeleteBuffer(TakeKept(pool, size_class));
    }
  }
}

}  // namespace

void Recycle(Buffer* buffer) {
  PoolState* pool = buffer->pool;
  CHECK_EQ(buffer->references, 0);
  CHECK_GT(pool->buffers_in_use, 0);
  --pool->buffers_in_use;
  pool->stats.bytes_in_use -= buffer->capacity_bytes;
  if (!pool->pool_gone && buffer->capacity_bytes <= BufferPool::kClassSizeMax) {
    Keep(pool, buffer);
    return;
  }
  DeleteBuffer(buffer);
  if (pool->pool_gone && pool->buffers_in_use == 0) delete pool;
}

}  // namespace internal

Slice Slice::Sub(uint32_t offset, uint32_t size) const& { return Slice(*this).Sub(offset, size); }

Slice Slice::Sub(uint32_t offset, uint32_t size) && {
  CHECK_LE(offset, size_);
  CHECK_LE(size, size_ - offset);
  Slice sub = std::move(*this);
  sub.data_ += offset;
  sub.size_ = size;
  return sub;
}

std::span<std::byte> Slice::mutable_span() {
  if (empty()) return {};
  CHECK(unique()) << "only an unshared buffer may be written";
  return {const_cast<std::byte*>(data_), size_};
}

BufferPool::BufferPool(Options options)
    : state_(new internal::PoolState{.bytes_max = options.bytes_max}) {}

BufferPool::~BufferPool() {
  Trim();
  if (state_->buffers_in_use == 0) {
    delete state_;
  } else {
    state_->pool_gone = true;
  }
}

Slice BufferPool::Allocate(uint32_t size) {
  CHECK_GT(size, 0);
  Stats& stats = state_->stats;
  const size_t capacity = CapacityFor(size);
  if (stats.bytes_in_use > state_->bytes_max || capacity > state_->bytes_max - stats.bytes_in_use) {
    ++stats.refusals;
    return {};
  }
  internal::Buffer* buffer = nullptr;
  if (capacity <= kClassSizeMax) buffer = internal::TakeKept(state_, ClassOf(capacity));
  if (buffer == nullptr) {
    internal::TrimTo(state_, state_->bytes_max - stats.bytes_in_use - capacity);
    buffer = internal::NewBuffer(state_, capacity);
  }
  if (buffer == nullptr) {
    ++stats.refusals;
    return {};
  }
  buffer->references = 1;
  ++state_->buffers_in_use;
  stats.bytes_in_use += capacity;
  stats.bytes_in_use_peak = std::max(stats.bytes_in_use_peak, stats.bytes_in_use);
  return Slice(buffer->payload, buffer, size);
}

Slice BufferPool::Zeroes(uint32_t size) {
  CHECK_LE(size, kZeroesSizeMax);
  return size == 0 ? Slice() : Slice(kZeroes, nullptr, size);
}

void BufferPool::Trim() { internal::TrimTo(state_, 0); }

const BufferPool::Stats& BufferPool::stats() const { return state_->stats; }

}  // namespace gabion
