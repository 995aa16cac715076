#include "sim/cluster/rest_check.h"

#include <cstdlib>
#include <map>

namespace gabion::sim {

namespace {

constexpr Duration kLook = std::chrono::milliseconds(500);
// Copies move and roles are switched a few at a time; a suspect is avoided for a minute.
constexpr Duration kRestlessMax = std::chrono::seconds(180);
constexpr Duration kSuspectsAvoided = std::chrono::seconds(61);

std::string CheckEven(const ConfigWatch& watch) {
  std::map<uint64_t, int> surplus;  // primaries minus secondaries, by device
  for (const auto& [id, slice] : watch.slices()) {
    if (!slice.has_secondary() || slice.has_joining()) {
      return "slice " + std::to_string(id) + " is not at rest: " + slice.ShortDebugString();
    }
    ++surplus[slice.primary().device()];
    --surplus[slice.secondary().device()];
  }
  for (const auto& [device, count] : surplus) {
    if (std::abs(count) <= 1) continue;
    return "device " + std::to_string(device) + " is primary of " + std::to_string(count) +
           " slices more than it is secondary of";
  }
  return {};
}

}  // namespace

std::string CheckRest(World& world, const ConfigWatch& watch, Duration quiet) {
  const TrueTime begin = world.now();
  TrueTime since = begin;
  uint64_t epochs = watch.epochs();
  while (world.now() - since < quiet.count()) {
    if (since - begin > kRestlessMax.count()) {
      return "new epochs are issued " + ToString(kRestlessMax) + " after the faults";
    }
    world.RunUntil(world.now() + kLook.count());
    if (world.failure().happened()) return {};
    if (watch.epochs() == epochs) continue;
    epochs = watch.epochs();
    since = world.now();
  }
  return quiet > kSuspectsAvoided ? CheckEven(watch) : std::string();
}

}  // namespace gabion::sim
