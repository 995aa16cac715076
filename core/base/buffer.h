// Payload memory: a pool of aligned, reference-counted buffers, and views into them.
//
// A pool, its buffers and every slice of them belong to one thread; counts are not atomic. Slices
// may outlive their pool (a simulated node crashes while its disk still holds blocks): each buffer
// then frees itself with its last slice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace gabion {

namespace internal {
struct Buffer;
struct PoolState;
struct Slab;
}  // namespace internal

// Bytes [data(), data() + size()) of a buffer that this slice helps to keep alive. Copying costs
// one increment. Not to be confused with the storage slice that a SliceId names. Empty by default.
class Slice {
 public:
  Slice() = default;
  Slice(const Slice& other) : data_(other.data_), buffer_(other.buffer_), size_(other.size_) {
    Retain();
  }
  Slice(Slice&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        buffer_(std::exchange(other.buffer_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Slice& operator=(Slice other) noexcept {
    swap(other);
    return *this;
  }
  ~Slice() { Release(); }

  void swap(Slice& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(buffer_, other.buffer_);
    std::swap(size_, other.size_);
  }

  const std::byte* data() const { return data_; }
  uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<const std::byte> span() const { return {data_, size_}; }

  // Bytes [offset, offset + size) of this slice, sharing its buffer. Within bounds, or CHECK fails.
  // The view of a moved-from slice is empty.
  Slice Sub(uint32_t offset, uint32_t size) const&;
  Slice Sub(uint32_t offset, uint32_t size) &&;

  // For whoever fills the buffer before it is shared: CHECKs that this is the buffer's only slice.
  // An empty slice gives an empty span.
  std::span<std::byte> mutable_span();

  // Copies payload to [offset, offset + bytes.size()) of this slice, which must be the buffer's
  // only one. Everything that copies payload does it here: the pool counts it.
  void CopyFrom(uint32_t offset, std::span<const std::byte> bytes);

  // No other slice refers to the buffer. False for empty slices and for zeroes.
  bool unique() const;

 private:
  friend class BufferPool;

  Slice(const std::byte* data, internal::Buffer* buffer, uint32_t size)
      : data_(data), buffer_(buffer), size_(size) {}

  inline void Retain();
  inline void Release();

  const std::byte* data_ = nullptr;
  internal::Buffer* buffer_ = nullptr;  // null: nothing to keep alive (empty, or zeroes)
  uint32_t size_ = 0;
};

// What a buffer is for. Work that others wait for must find memory when clients hold all that they
// may have (R24): two servers full of writes would otherwise wait for each other's replicates.
enum class BufferUse : uint8_t {
  kClient,  // requests of clients: up to 5/8 of the budget
  kPeer,    // between servers, and to finish requests: up to 7/8
  kOwn,     // metadata, logs, destaging, heartbeats: all of it
};

// Hands out buffers of 512 B, 4 KiB, 8 KiB ... 1 MiB (the least that holds the request), and above
// that of the size asked for, rounded up to 4 KiB. Free buffers up to 1 MiB are kept for reuse, so
// after warm-up nothing is allocated from the heap. Small ones are cut from slabs, which double
// what there is of a size up to 256 KiB at a time: an aligned block of the heap for each would cost
// twice its size. A slab goes back to the heap when none of its buffers is in use and the budget
// wants it.
class BufferPool {
 public:
  static constexpr uint32_t kSizeMin = 512;
  static constexpr uint32_t kAlignment = 4096;
  static constexpr uint32_t kClassSizeMax = 1u << 20;
  static constexpr uint32_t kZeroesSizeMax = 1u << 20;

  struct Options {
    // Of buffers in use, and, as far as whole slabs can go back, of those kept for reuse.
    size_t bytes_max = size_t{64} << 20;
  };

  struct Stats {
    size_t bytes_in_use = 0;  // buffers that slices refer to, by their own size
    size_t bytes_in_use_peak = 0;
    size_t bytes_kept = 0;          // free buffers kept for reuse
    uint64_t heap_allocations = 0;  // slabs ever taken from the heap
    uint64_t refusals = 0;          // Allocate calls that returned an empty slice
    uint64_t bytes_copied = 0;      // by Slice::CopyFrom
  };

  explicit BufferPool(Options options);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // A slice of exactly `size` > 0 bytes at the start of a buffer of its own, aligned to 4 KiB (to
  // 512 B when size <= 512). Empty when the budget is exhausted: wait for slices to go, or refuse
  // the work. The bytes are what the last user left, zeros at first: a run's bytes depend on the
  // run alone.
  [[nodiscard]] Slice Allocate(uint32_t size, BufferUse use = BufferUse::kOwn);

  // `size` <= kZeroesSizeMax read-only zero bytes, aligned to 4 KiB. Costs no memory and no budget;
  // never empty but for size 0.
  [[nodiscard]] static Slice Zeroes(uint32_t size);

  // Returns all slabs without a buffer in use to the heap.
  void Trim();

  const Stats& stats() const;

 private:
  internal::PoolState* state_;  // outlives the pool while slices remain
};

namespace internal {

// Out of line, so that the payload stays aligned.
struct Buffer {
  Slab* slab;
  std::byte* payload;
  Buffer* next_free;
  uint32_t references;
};

// Called when the last slice goes.
void Recycle(Buffer* buffer);

}  // namespace internal

inline void Slice::Retain() {
  if (buffer_ != nullptr) ++buffer_->references;
}

inline void Slice::Release() {
  if (buffer_ != nullptr && --buffer_->references == 0) internal::Recycle(buffer_);
}

inline bool Slice::unique() const { return buffer_ != nullptr && buffer_->references == 1; }

}  // namespace gabion
