#include "core/base/buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/check.h"
#include "core/base/poison.h"

namespace gabion {

namespace {

// Class 0 is 512 B, class i > 0 is 4 KiB << (i - 1).
constexpr size_t kClasses = 10;
constexpr size_t kSlabBytesMax = 256 << 10;  // larger buffers have a slab each

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

}  // namespace

namespace internal {

// Buffers of one size, side by side. Its own list of free buffers is last in, first out.
struct Slab {
  PoolState* pool;
  void* memory;  // what the heap gave
  size_t capacity_bytes;
  uint32_t buffers;
  uint32_t in_use;
  Buffer* free;
  // In the list of slabs with free buffers, some in use or none; in no list while all are in use.
  Slab* next;
  Slab* previous;
  // `buffers` of them.
  Buffer* headers() { return reinterpret_cast<Buffer*>(this + 1); }
};
static_assert(sizeof(Slab) % alignof(Buffer) == 0);

namespace {

// Doubly linked, so that a slab leaves it in no time.
struct SlabList {
  Slab* first = nullptr;

  void Push(Slab* slab) {
    slab->previous = nullptr;
    slab->next = first;
    if (first != nullptr) first->previous = slab;
    first = slab;
  }
  void Remove(Slab* slab) {
    (slab->previous != nullptr ? slab->previous->next : first) = slab->next;
    if (slab->next != nullptr) slab->next->previous = slab->previous;
  }
};

struct SizeClass {
  SlabList partial;  // some buffers in use, some free
  SlabList unused;   // none in use
  uint64_t buffers = 0;
};

}  // namespace

// Lives until both the pool and the last buffer in use are gone.
struct PoolState {
  size_t bytes_max;
  BufferPool::Stats stats{};
  std::array<SizeClass, kClasses> classes{};
  uint64_t buffers_in_use = 0;
  bool pool_gone = false;
};

namespace {

bool IsClassSize(size_t capacity_bytes) { return capacity_bytes <= BufferPool::kClassSizeMax; }

SizeClass& ClassFor(const Slab& slab) { return slab.pool->classes[ClassOf(slab.capacity_bytes)]; }

void* Aligned(void* memory) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory) + BufferPool::kAlignment - 1;
  return reinterpret_cast<void*>(address - address % BufferPool::kAlignment);
}

// Null when the system has no memory. Payloads are zeros.
Slab* NewSlab(PoolState* pool, size_t capacity_bytes, uint32_t buffers) {
  // Not aligned_alloc: calloc knows which memory is zeros already, and does not touch it.
  void* memory = std::calloc(1, capacity_bytes * buffers + BufferPool::kAlignment);
  void* header = std::malloc(sizeof(Slab) + buffers * sizeof(Buffer));
  if (memory == nullptr || header == nullptr) {
    std::free(memory);
    std::free(header);
    return nullptr;
  }
  Slab* slab = new (header) Slab{.pool = pool,
                                 .memory = memory,
                                 .capacity_bytes = capacity_bytes,
                                 .buffers = buffers,
                                 .in_use = 0,
                                 .free = nullptr,
                                 .next = nullptr,
                                 .previous = nullptr};
  auto* payload = static_cast<std::byte*>(Aligned(memory));
  // The first is taken first.
  for (uint32_t i = buffers; i-- > 0;) {
    slab->free = new (slab->headers() + i) Buffer{.slab = slab,
                                                  .payload = payload + i * capacity_bytes,
                                                  .next_free = slab->free,
                                                  .references = 0};
    Poison(slab->free->payload, capacity_bytes);
  }
  ++pool->stats.heap_allocations;
  if (IsClassSize(capacity_bytes)) {
    ClassFor(*slab).buffers += buffers;
    ClassFor(*slab).unused.Push(slab);
    pool->stats.bytes_kept += capacity_bytes * buffers;
  }
  return slab;
}

// Without a buffer in use.
void DeleteSlab(Slab* slab) {
  CHECK_EQ(slab->in_use, 0u);
  const size_t bytes = slab->capacity_bytes * slab->buffers;
  if (IsClassSize(slab->capacity_bytes)) {
    ClassFor(*slab).unused.Remove(slab);
    ClassFor(*slab).buffers -= slab->buffers;
    slab->pool->stats.bytes_kept -= bytes;
  }
  Unpoison(Aligned(slab->memory), bytes);
  std::free(slab->memory);
  std::free(slab);
}

// Returns slabs to the heap, those of large buffers first, until at most `bytes` are kept.
void TrimTo(PoolState* pool, size_t bytes) {
  for (size_t i = kClasses; i-- > 0;) {
    while (pool->stats.bytes_kept > bytes && pool->classes[i].unused.first != nullptr) {
      DeleteSlab(pool->classes[i].unused.first);
    }
  }
}

// The slab to take the next buffer from; null when the system has no memory.
Slab* SlabWithFree(PoolState* pool, size_t capacity_bytes) {
  if (!IsClassSize(capacity_bytes)) return NewSlab(pool, capacity_bytes, 1);
  SizeClass& size_class = pool->classes[ClassOf(capacity_bytes)];
  if (size_class.partial.first != nullptr) return size_class.partial.first;
  if (size_class.unused.first != nullptr) return size_class.unused.first;
  const size_t in_use = pool->stats.bytes_in_use;
  TrimTo(pool, pool->bytes_max - in_use - capacity_bytes);
  // As many as there are, within the budget: at least the one.
  const size_t room = pool->bytes_max - std::min(pool->bytes_max, in_use + pool->stats.bytes_kept);
  const uint64_t wanted = std::min<uint64_t>(
      {size_class.buffers, kSlabBytesMax / capacity_bytes, room / capacity_bytes});
  return NewSlab(pool, capacity_bytes, static_cast<uint32_t>(std::max<uint64_t>(wanted, 1)));
}

Buffer* TakeFrom(Slab* slab) {
  Buffer* buffer = slab->free;
  slab->free = buffer->next_free;
  ++slab->in_use;
  Unpoison(buffer->payload, slab->capacity_bytes);
  if (!IsClassSize(slab->capacity_bytes)) return buffer;
  SizeClass& size_class = ClassFor(*slab);
  const bool was_unused = slab->in_use == 1;
  const bool is_full = slab->in_use == slab->buffers;
  if (was_unused) size_class.unused.Remove(slab);
  if (was_unused && !is_full) size_class.partial.Push(slab);
  if (!was_unused && is_full) size_class.partial.Remove(slab);
  slab->pool->stats.bytes_kept -= slab->capacity_bytes;
  return buffer;
}

void GiveBack(Buffer* buffer) {
  Slab* slab = buffer->slab;
  Poison(buffer->payload, slab->capacity_bytes);
  buffer->next_free = slab->free;
  slab->free = buffer;
  const bool was_full = slab->in_use-- == slab->buffers;
  if (!IsClassSize(slab->capacity_bytes)) {
    DeleteSlab(slab);
    return;
  }
  SizeClass& size_class = ClassFor(*slab);
  const bool is_unused = slab->in_use == 0;
  if (!was_full && is_unused) size_class.partial.Remove(slab);
  if (was_full && !is_unused) size_class.partial.Push(slab);
  if (is_unused) size_class.unused.Push(slab);
  slab->pool->stats.bytes_kept += slab->capacity_bytes;
}

}  // namespace

void Recycle(Buffer* buffer) {
  PoolState* pool = buffer->slab->pool;
  CHECK_EQ(buffer->references, 0);
  CHECK_GT(pool->buffers_in_use, 0);
  --pool->buffers_in_use;
  pool->stats.bytes_in_use -= buffer->slab->capacity_bytes;
  GiveBack(buffer);
  if (!pool->pool_gone) return;
  TrimTo(pool, 0);
  if (pool->buffers_in_use == 0) delete pool;
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

void Slice::CopyFrom(uint32_t offset, std::span<const std::byte> bytes) {
  CHECK_LE(offset, size_);
  CHECK_LE(bytes.size(), size_ - offset);
  if (bytes.empty()) return;
  std::memcpy(mutable_span().data() + offset, bytes.data(), bytes.size());
  buffer_->slab->pool->stats.bytes_copied += bytes.size();
}

namespace {

size_t ShareOf(size_t bytes_max, BufferUse use) {
  switch (use) {
    case BufferUse::kClient:
      return bytes_max / 8 * 5;
    case BufferUse::kPeer:
      return bytes_max / 8 * 7;
    case BufferUse::kOwn:
      return bytes_max;
  }
  UNREACHABLE();
}

}  // namespace

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

Slice BufferPool::Allocate(uint32_t size, BufferUse use) {
  CHECK_GT(size, 0);
  Stats& stats = state_->stats;
  const size_t capacity = CapacityFor(size);
  const size_t share = ShareOf(state_->bytes_max, use);
  if (stats.bytes_in_use > share || capacity > share - stats.bytes_in_use) {
    ++stats.refusals;
    return {};
  }
  internal::Slab* slab = internal::SlabWithFree(state_, capacity);
  if (slab == nullptr) {
    ++stats.refusals;
    return {};
  }
  internal::Buffer* buffer = internal::TakeFrom(slab);
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
