#include "disk/layer/aio_layer.h"

#include <poll.h>

#include <algorithm>
#include <utility>

namespace gabion::disk {

namespace {
constexpr auto kDevice = static_cast<DeviceIndex>(1);
}  // namespace

Result<std::unique_ptr<AioLayer>> AioLayer::Open(const std::string& path, uint64_t create_bytes,
                                                 uint32_t depth) {
  Result<std::unique_ptr<AioDisks>> disks = AioDisks::Create({.depth = depth});
  if (!disks) return tl::unexpected(disks.error());
  Result<DeviceInfo> info = (*disks)->Open(kDevice, path, create_bytes);
  if (!info) return tl::unexpected(info.error());
  std::unique_ptr<AioLayer> layer(new AioLayer());
  layer->disks_ = std::move(*disks);
  layer->info_ = *info;
  return layer;
}

void AioLayer::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  DiskEffect mine = effect;
  mine.device = kDevice;
  disks_->Queue(mine, slices);
}

void AioLayer::Wait(Duration limit) {
  if (disks_->has_immediate()) return;
  pollfd ready{disks_->event_fd(), POLLIN, 0};
  limit = std::clamp<Duration>(limit, Duration::zero(), std::chrono::seconds(1));
  const timespec left{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  ::ppoll(&ready, 1, &left, nullptr);
}

}  // namespace gabion::disk
