#include "core/sds/hang_watch.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace gabion::sds {

void HangWatch::OnOpened(DeviceIndex device) {
  const auto index = static_cast<size_t>(device);
  if (index >= progress_.size()) progress_.resize(index + 1);
  progress_[index] = Progress();
}

void HangWatch::OnStarted(const Effects& effects) {
  for (const DiskEffect& effect : effects.disk) {
    const auto index = static_cast<size_t>(effect.device);
    if (index < progress_.size()) ++progress_[index].in_flight;
  }
}

void HangWatch::OnDone(DeviceIndex device) {
  const auto index = static_cast<size_t>(device);
  if (index >= progress_.size()) return;
  progress_[index].any = true;
  if (progress_[index].in_flight > 0) --progress_[index].in_flight;
}

void HangWatch::Look(Instant now) {
  const Duration since = std::min<Duration>(now - looked_at_, kLookMax);
  looked_at_ = now;
  for (Progress& progress : progress_) {
    const bool waits = progress.in_flight > 0 && !std::exchange(progress.any, false);
    progress.silent = waits ? progress.silent + since : Duration();
  }
}

Duration HangWatch::SilentFor(DeviceIndex device) const {
  CHECK_LT(static_cast<size_t>(device), progress_.size());
  return progress_[static_cast<size_t>(device)].silent;
}

}  // namespace gabion::sds
