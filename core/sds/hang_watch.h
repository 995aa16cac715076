// Which devices hang: they have something to do, and complete nothing. Time in which this process
// itself stood still does not count: its timers run before the news of its disks.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::sds {

class HangWatch {
 public:
  // Between two looks at least; what is more is time in which this process did not run.
  static constexpr Duration kLookMax = std::chrono::milliseconds(500);

  void OnOpened(DeviceIndex device);
  // After a step: what it asks of devices.
  void OnStarted(const Effects& effects);
  void OnDone(DeviceIndex device);

  // At any pace.
  void Look(Instant now);
  // At the last look; of a device that was opened.
  Duration SilentFor(DeviceIndex device) const;

 private:
  struct Progress {
    uint32_t in_flight = 0;
    bool any = false;  // since the last look
    Duration silent{};
  };

  std::vector<Progress> progress_;  // by DeviceIndex
  Instant looked_at_{};
};

}  // namespace gabion::sds
