#include "disk/layer/counting_layer.h"

#include <utility>

namespace gabion::disk {

void CountingLayer::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  Count& count = counts_[static_cast<size_t>(effect.op)];
  ++count.operations;
  count.bytes += effect.length_bytes;
  if (effect.op == DiskOp::kDurableWrite && record_) {
    durable_sizes_.push_back(static_cast<uint32_t>(effect.length_bytes));
  }
  const bool in_homes = effect.offset_bytes >= homes_from_bytes_;
  if (effect.op == DiskOp::kWrite && in_homes) ++home_writes_;
  if (effect.op == DiskOp::kDurableWrite && in_homes) ++redirected_writes_;
  below().Queue(effect, slices);
}

std::vector<uint32_t> CountingLayer::TakeDurableSizes() {
  record_ = false;
  return std::exchange(durable_sizes_, {});
}

DeviceInfo NoDiscardLayer::info() const {
  DeviceInfo info = below().info();
  info.discard = false;
  return info;
}

void NoDiscardLayer::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  if (effect.op == DiskOp::kDiscard) {
    answered_.push_back({effect.device, effect.tag, DiskStatus::kOk});
    return;
  }
  below().Queue(effect, slices);
}

void NoDiscardLayer::Collect(std::vector<DiskDoneEvent>& done) {
  done.insert(done.end(), answered_.begin(), answered_.end());
  answered_.clear();
  below().Collect(done);
}

void NoDiscardLayer::Wait(Duration limit) {
  if (answered_.empty()) below().Wait(limit);
}

}  // namespace gabion::disk
