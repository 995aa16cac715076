#include "sim/cluster/recovery_check.h"

namespace gabion::sim {

namespace {

constexpr Duration kCompletionMax = std::chrono::seconds(30);
constexpr Duration kRedundancyMax = std::chrono::seconds(90);

}  // namespace

void CheckRecovery(Cluster& cluster, const std::string& when) {
  World& world = cluster.world();
  Workload& workload = cluster.workload();
  workload.AllowTimeOuts(world.now() + kCompletionMax.count());
  if (!world.RunUntil(world.now() + kCompletionMax.count(), [&] { return workload.Idle(); })) {
    world.Fail("liveness", "I/O does not complete within " + ToString(kCompletionMax) + " " + when +
                               ": " + workload.DescribeOldest());
    return;
  }
  if (!cluster.WaitMirrored(world.now() + kRedundancyMax.count())) {
    world.Fail("convergence", "not all slices are mirrored " + ToString(kRedundancyMax) + " " +
                                  when + ": " + cluster.last_status().ShortDebugString());
    return;
  }
  // Again when a clean stop from before the healing comes in between.
  const TrueTime end = world.now() + kCompletionMax.count();
  do {
    if (world.RunUntil(end, [&] { return workload.Idle(); })) workload.ReadAll(0);
    if (!world.RunUntil(end, [&] { return workload.Idle(); })) {
      world.Fail("liveness",
                 "reading everything does not complete " + when + ": " + workload.DescribeOldest());
      return;
    }
  } while (!workload.ReadAllComplete());
}

}  // namespace gabion::sim
