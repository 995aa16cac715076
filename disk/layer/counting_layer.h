// Counts what reaches the device.
#pragma once

#include <array>
#include <vector>

#include "disk/layer/block_layer.h"

namespace gabion::disk {

class CountingLayer final : public PassingLayer {
 public:
  struct Count {
    uint64_t operations = 0;
    uint64_t bytes = 0;
  };

  // Writes at or above `homes_from_bytes` are counted apart: home_writes() brings something home,
  // and durable ones are of large writes, straight to where they stay.
  explicit CountingLayer(BlockLayer* below, uint64_t homes_from_bytes = UINT64_MAX)
      : PassingLayer(below), homes_from_bytes_(homes_from_bytes) {}

  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;

  const Count& count(DiskOp op) const { return counts_[static_cast<size_t>(op)]; }
  uint64_t bytes_written() const {
    return count(DiskOp::kWrite).bytes + count(DiskOp::kDurableWrite).bytes;
  }
  uint64_t home_writes() const { return home_writes_; }
  uint64_t redirected_writes() const { return redirected_writes_; }

  // From now on the sizes of durable writes are kept, in order.
  void RecordDurableSizes() { record_ = true; }
  std::vector<uint32_t> TakeDurableSizes();

 private:
  std::array<Count, 5> counts_{};
  uint64_t homes_from_bytes_;
  uint64_t home_writes_ = 0;
  uint64_t redirected_writes_ = 0;
  bool record_ = false;
  std::vector<uint32_t> durable_sizes_;
};

// Answers discards and keeps the bytes: many devices have no discard.
class NoDiscardLayer final : public PassingLayer {
 public:
  explicit NoDiscardLayer(BlockLayer* below) : PassingLayer(below) {}

  DeviceInfo info() const override;
  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;
  void Collect(std::vector<DiskDoneEvent>& done) override;
  void Wait(Duration limit) override;

 private:
  std::vector<DiskDoneEvent> answered_;
};

}  // namespace gabion::disk
