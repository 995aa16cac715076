// Promise: when nothing goes wrong any more, the cluster comes to rest. No slice gets another
// epoch, and every device is primary of half of its replicas, within one.
#pragma once

#include <string>

#include "core/base/time.h"
#include "sim/cluster/config_watch.h"
#include "sim/world/world.h"

namespace gabion::sim {

// Runs the world until no epoch has been issued for `quiet`. Empty, or what does not come to rest.
// Whether primaries are even is judged when `quiet` is longer than the time for which the manager
// avoids an SDS that was suspect.
std::string CheckRest(World& world, const ConfigWatch& watch, Duration quiet);

}  // namespace gabion::sim
