#include "disk/layer/memory_device.h"

#include <sys/mman.h>

#include <cstring>

#include "core/base/check.h"

namespace gabion::disk {

MemoryDevice::MemoryDevice(uint64_t size_bytes) : size_bytes_(size_bytes) {
  void* const memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED) << size_bytes << " bytes of memory";
  bytes_ = static_cast<std::byte*>(memory);
}

void MemoryDevice::Touch() {
  constexpr uint64_t kPageBytes = 4096;
  for (uint64_t at = 0; at < size_bytes_; at += kPageBytes) {
    static_cast<volatile std::byte*>(bytes_)[at] = bytes_[at];
  }
}

MemoryDevice::~MemoryDevice() { ::munmap(bytes_, size_bytes_); }

DeviceInfo MemoryDevice::info() const {
  return {.size_bytes = size_bytes_, .block_bytes = 4096, .volatile_cache = false, .discard = true};
}

void MemoryDevice::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  CHECK_LE(effect.offset_bytes, size_bytes_);
  CHECK_LE(effect.length_bytes, size_bytes_ - effect.offset_bytes);
  std::byte* at = bytes_ + effect.offset_bytes;
  switch (effect.op) {
    case DiskOp::kRead:
      for (const Slice& slice : slices) {
        // The target of a read is its owner's, who waits for the completion before it looks.
        std::memcpy(const_cast<std::byte*>(slice.data()), at, slice.size());
        at += slice.size();
      }
      break;
    case DiskOp::kWrite:
    case DiskOp::kDurableWrite:
      for (const Slice& slice : slices) {
        std::memcpy(at, slice.data(), slice.size());
        at += slice.size();
      }
      break;
    case DiskOp::kDiscard:
      std::memset(at, 0, effect.length_bytes);
      break;
    case DiskOp::kFlush:
      break;
  }
  done_.push_back({.device = effect.device, .tag = effect.tag, .status = DiskStatus::kOk});
}

void MemoryDevice::Collect(std::vector<DiskDoneEvent>& done) {
  done.insert(done.end(), done_.begin(), done_.end());
  done_.clear();
}

}  // namespace gabion::disk
