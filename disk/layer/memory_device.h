// A device in memory: what a store costs when the disk costs nothing. Requests are carried out when
// they are queued, in order.
#pragma once

#include <cstddef>
#include <vector>

#include "disk/layer/block_layer.h"

namespace gabion::disk {

class MemoryDevice final : public BlockLayer {
 public:
  explicit MemoryDevice(uint64_t size_bytes);
  MemoryDevice(const MemoryDevice&) = delete;
  MemoryDevice& operator=(const MemoryDevice&) = delete;
  ~MemoryDevice() override;

  DeviceInfo info() const override;
  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;
  void Submit() override {}
  void Collect(std::vector<DiskDoneEvent>& done) override;
  void Wait(Duration /*limit*/) override {}

  // Takes all of its memory now, for whoever measures: a first write to a page costs more than the
  // write.
  void Touch();
  std::span<const std::byte> bytes() const { return {bytes_, size_bytes_}; }

 private:
  uint64_t size_bytes_;
  std::byte* bytes_;  // pages that were never written take no memory
  std::vector<DiskDoneEvent> done_;
};

}  // namespace gabion::disk
