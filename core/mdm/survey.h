// What devices say that they hold (R23): for each slice the newest epoch that was started there,
// and whom its configuration named. Asked for by a repository that was restored from an older copy.
// Volatile: a restarted manager asks again.
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/wire/management.pb.h"

namespace gabion::mdm {

class Survey {
 public:
  struct Recorded {
    Epoch epoch;
    uint64_t issuer = 0;
    DeviceId primary;  // 0: whom the epoch named is on another device
    DeviceId secondary;
    DeviceId joining;

    friend bool operator==(const Recorded&, const Recorded&) = default;
  };
  // By device: what it holds of one slice.
  using Holders = absl::btree_map<DeviceId, Recorded>;

  // Replaces what the device said before. False: it makes no sense; nothing changed.
  bool Note(SdsId sds, const proto::SdsSurvey& report);
  // It was removed.
  void Forget(DeviceId device) { devices_.erase(device); }

  // It has been opened, and has said what it holds.
  bool HasReported(DeviceId device) const { return devices_.contains(device); }
  const Recorded* Find(DeviceId device, SliceId slice) const;
  Holders HoldersOf(SliceId slice) const;
  uint64_t GenerationMax() const;  // of all epochs that were reported

  struct Reported {
    SdsId sds;
    absl::btree_map<SliceId, Recorded> replicas;
  };
  const absl::btree_map<DeviceId, Reported>& devices() const { return devices_; }

 private:
  absl::btree_map<DeviceId, Reported> devices_;
};

}  // namespace gabion::mdm
