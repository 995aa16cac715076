// The lowest layer over a real disk: one device of its own AioDisks.
#pragma once

#include <memory>
#include <string>

#include "core/base/result.h"
#include "disk/aio/aio.h"
#include "disk/layer/block_layer.h"

namespace gabion::disk {

class AioLayer final : public BlockLayer {
 public:
  // As AioDisks::Open. `depth`: requests in the kernel at once.
  static Result<std::unique_ptr<AioLayer>> Open(const std::string& path, uint64_t create_bytes,
                                                uint32_t depth = 128);

  DeviceInfo info() const override { return info_; }
  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;
  void Submit() override { disks_->Submit(); }
  void Collect(std::vector<DiskDoneEvent>& done) override { disks_->Collect(done); }
  void Wait(Duration limit) override;

 private:
  AioLayer() = default;

  std::unique_ptr<AioDisks> disks_;
  DeviceInfo info_;
};

}  // namespace gabion::disk
