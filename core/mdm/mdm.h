// The MDM role: owns all metadata, decides every epoch, is never in the I/O path. One manager so
// far; its repository is durable in a journal on the state device before anybody acts on a
// decision.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/role.h"

namespace gabion::mdm {

struct Options {
  std::string name = "mdm1";
  uint64_t entropy =
      0;  // host's random number; becomes the cluster id when a repository is created
  Duration lease = std::chrono::milliseconds(1000);
  Duration heartbeat = std::chrono::milliseconds(200);
  // A member that a primary needs and that has not been heard for this long is out (shrink row).
  Duration unreachable = std::chrono::milliseconds(500);
  // A slice with one copy waits this long for the other to come back before a new copy is made
  // elsewhere.
  Duration rebuild_delay = std::chrono::seconds(10);
  uint32_t joins_per_device_max = 4;  // concurrent joins per device, source and target side each
  // What only improves (even primaries, even fill) waits until a pool has been whole for this long.
  Duration balance_delay = std::chrono::seconds(5);
  // The state folder is known to be an old copy: nothing is granted before `gabion mdm restored`.
  bool hold = false;
  // Clock drift that leases allow for, in parts per thousand, either way (R2).
  uint32_t drift_permille = 10;
};

std::unique_ptr<Role> MakeMdm(const Options& options, const RoleResources& resources);

}  // namespace gabion::mdm
