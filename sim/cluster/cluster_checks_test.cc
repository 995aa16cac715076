// The checkers that look at a whole cluster, at histories that are right and at wrong ones: disks
// that forget, clocks beyond the bound, a manager that stands still, servers that never come back.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/wire/management.h"
#include "sim/cluster/agreement_check.h"
#include "sim/cluster/atlas.h"
#include "sim/cluster/durability_check.h"
#include "sim/cluster/equal_copies.h"
#include "sim/cluster/kill_story.h"
#include "sim/cluster/recovery_check.h"
#include "sim/cluster/removal_story.h"
#include "sim/cluster/single_primary.h"
#include "sim/scenario/scenario.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A cluster in which every choice is the benign one.
struct Bench {
  explicit Bench(const ClusterOptions& options)
      : choices(Tape()),
        world({}, &choices, &arena),
        cluster(&world, options),
        watch(cluster.mdm()),
        stage(&cluster, &watch) {
    world.Observe(&watch);
    EXPECT_TRUE(cluster.SetUp(Duration(seconds(60)).count())) << Failed();
  }

  std::string Failed() const { return world.failure().checker + ": " + world.failure().message; }
  Disk& DiskOf(NodeIndex node) { return *world.node(node).disks[1].disk; }
  TrueTime In(Duration length) const { return world.now() + length.count(); }

  PageArena arena;
  Choices choices;
  World world;
  Cluster cluster;
  ConfigWatch watch;
  Stage stage;
};

// ---- Durability, equal replicas --------------------------------------------------------------

TEST(ClusterChecks, DurabilityAcceptsWhatIsOnBothDisks) {
  Bench bench(SmallCluster(3));
  for (uint64_t chunk = 0; chunk < 4; ++chunk) bench.stage.WriteAndWait(chunk << 20, 8192);
  const DurabilityResult result = CheckDurability(bench.cluster, bench.watch, true);
  EXPECT_EQ(result.wrong, "");
  EXPECT_EQ(result.replicas, 8u);
  EXPECT_FALSE(bench.world.failure().happened()) << bench.Failed();
}

TEST(ClusterChecks, DurabilityFindsAnAcknowledgedWriteThatADiskForgot) {
  for (const bool of_primary : {false, true}) {
    SCOPED_TRACE(of_primary);
    Bench bench(SmallCluster(3));
    bench.stage.WriteAndWait(0);
    const NodeIndex node = of_primary ? bench.stage.Primary() : bench.stage.Secondary();
    const DiskImage before = bench.DiskOf(node).durable_image();
    bench.stage.Sleep(milliseconds(1));  // what begins when the other ends may come before it
    bench.stage.WriteAndWait(0);
    bench.world.Kill(node);
    EXPECT_EQ(CheckDurability(bench.cluster, bench.watch, false).wrong, "");
    bench.DiskOf(node).RollBackTo(before);
    const std::string wrong = CheckDurability(bench.cluster, bench.watch, false).wrong;
    EXPECT_NE(wrong.find("was acknowledged or read after it"), std::string::npos) << wrong;
  }
}

TEST(ClusterChecks, DurabilityFindsADiskThatLostEverything) {
  Bench bench(SmallCluster(3));
  bench.stage.WriteAndWait(0);
  const NodeIndex node = bench.stage.Secondary();
  bench.world.Kill(node);
  bench.DiskOf(node).Wipe();
  EXPECT_NE(CheckDurability(bench.cluster, bench.watch, false).wrong, "");
}

// A write that nobody was told of may be there or not, but at rest on both copies or on none.
TEST(ClusterChecks, ConvergenceFindsReplicasThatDiffer) {
  Bench bench(SmallCluster(3));
  bench.stage.WriteAndWait(0);
  const NodeIndex node = bench.stage.Secondary();
  const NodeIndex client = bench.cluster.sdc()[0];
  const DiskImage before = bench.DiskOf(node).durable_image();
  bench.world.Cut(bench.stage.Primary(), client);
  bench.cluster.workload().Write(0, 0, 0, 4096);
  bench.stage.Sleep(milliseconds(50));
  bench.world.Kill(client);
  bench.stage.Sleep(seconds(1));
  bench.world.Kill(node);
  EXPECT_EQ(CheckDurability(bench.cluster, bench.watch, true).wrong, "");
  bench.DiskOf(node).RollBackTo(before);
  EXPECT_EQ(CheckDurability(bench.cluster, bench.watch, false).wrong, "");
  const std::string wrong = CheckDurability(bench.cluster, bench.watch, true).wrong;
  EXPECT_NE(wrong.find("differ in its chunk number 0 at block 0"), std::string::npos) << wrong;
}

TEST(ClusterChecks, EqualCopiesFiresWhenAServerHasFoundADifference) {
  PageArena arena;
  Choices choices(1);
  World world({}, &choices, &arena);
  const NodeIndex server = AddScript(world, [](const Now&, const Event&, Effects&) {});
  const NodeIndex other = AddScript(world, [](const Now&, const Event&, Effects&) {});
  world.Start(server);
  world.Start(other);
  EqualCopies right(&world, {server}, [](const Role&) { return uint64_t{0}; });
  EqualCopies wrong(&world, {server}, [](const Role&) { return uint64_t{1}; });
  right.OnStepped(server, StopEvent());
  wrong.OnStepped(other, StopEvent());
  EXPECT_FALSE(world.failure().happened());
  wrong.OnStepped(server, StopEvent());
  EXPECT_EQ(world.failure().checker, "equal-copies");
}

// ---- Single primary --------------------------------------------------------------------------

ClusterOptions WithClocks(int64_t manager_ppm, int64_t server_ppm) {
  ClusterOptions options = SmallCluster(3);
  options.drift_ppm = {manager_ppm};
  options.drift_ppm.resize(1 + options.sds_count, server_ppm);
  return options;
}

TEST(ClusterChecks, SinglePrimaryAcceptsClocksAtTheEndsOfTheBound) {
  Bench bench(WithClocks(9'900, -9'900));
  SinglePrimary check(&bench.world, bench.cluster.sds());
  bench.world.Observe(&check);
  bench.stage.WriteAndWait(0);
  const NodeIndex primary = bench.stage.Primary();
  bench.stage.CutFromAll(primary);
  bench.stage.Sleep(seconds(5));
  EXPECT_NE(bench.stage.Primary(), primary);
  bench.stage.HealFromAll(primary);
  bench.stage.WaitMirrored();
  EXPECT_FALSE(bench.world.failure().happened()) << bench.Failed();
}

// The manager counts 1.4 s in a second, and the servers 0.9 s: leases last longer than it believes.
TEST(ClusterChecks, SinglePrimaryFindsALeaseThatOutlivesItsEnd) {
  Bench bench(WithClocks(400'000, -100'000));
  SinglePrimary check(&bench.world, bench.cluster.sds());
  bench.world.Observe(&check);
  bench.stage.WriteAndWait(0);
  bench.stage.CutFromAll(bench.stage.Primary());
  bench.stage.Sleep(seconds(5));
  EXPECT_EQ(bench.world.failure().checker, "single-primary") << bench.Failed();
}

// ---- The atlas: may a disk lose its content now? ---------------------------------------------

TEST(ClusterChecks, TheAtlasLetsNothingBeLostUnlessAllIsWell) {
  Bench bench(SmallCluster(3));
  const Atlas atlas(&bench.cluster, &bench.watch);
  const auto well = [&] { return atlas.AllIsWell(); };
  bench.stage.WriteAndWait(0);
  bench.stage.WaitFor("all is well", seconds(5), well);
  const NodeIndex a = bench.cluster.sds()[0];
  const NodeIndex b = bench.cluster.sds()[1];
  bench.world.Cut(a, b);
  EXPECT_FALSE(well()) << "a cut";
  bench.world.Heal(a, b);
  EXPECT_TRUE(well());
  bench.world.Cut(bench.cluster.mdm(), b);
  EXPECT_FALSE(well()) << "a cut from the manager";
  bench.world.Heal(bench.cluster.mdm(), b);
  bench.world.Pause(b, kForever);
  EXPECT_FALSE(well()) << "a pause";
  bench.world.Resume(b);
  EXPECT_TRUE(well());
  bench.world.ArmCrash(b, 1'000'000, true);
  EXPECT_FALSE(well()) << "a crash to come";
  bench.world.Kill(b);
  EXPECT_FALSE(well()) << "a process that is not there";
  bench.world.Start(b);
  EXPECT_FALSE(well()) << "a process that knows nothing yet";
  bench.stage.WaitFor("all is well again", seconds(60), well);
  EXPECT_FALSE(bench.stage.failed()) << bench.Failed();
}

TEST(ClusterChecks, TheAtlasLetsNothingBeLostWhileACopyIsMissing) {
  Bench bench(SmallCluster(3));
  const Atlas atlas(&bench.cluster, &bench.watch);
  const auto well = [&] { return atlas.AllIsWell(); };
  bench.stage.WriteAndWait(0);
  bench.stage.WaitFor("all is well", seconds(5), well);
  bench.DiskOf(bench.stage.Secondary()).trouble().gone = true;
  bench.stage.WriteAndWait(0);
  EXPECT_FALSE(well());
  EXPECT_FALSE(bench.stage.failed()) << bench.Failed();
}

// ---- Fail-over time --------------------------------------------------------------------------

TEST(ClusterChecks, FailOverTimeIsKeptByTheManagerAndMissedWithoutIt) {
  for (const bool manager_stands_still : {false, true}) {
    SCOPED_TRACE(manager_stands_still);
    Bench bench(SmallCluster(3));
    FaultInjector injector(
        &bench.world, FaultPlan(),
        {.mdms = {bench.cluster.mdm()}, .sdss = bench.cluster.sds(), .sdcs = {}});
    KillStory story(&bench.cluster, &injector);
    EXPECT_EQ(story.Judge(), "");
    story.Run(bench.In(seconds(60)));
    if (manager_stands_still) {
      bench.world.Pause(bench.cluster.mdm(), bench.In(seconds(3)));
    }
    const TrueTime end = bench.In(seconds(5));
    for (uint64_t i = 0; bench.world.now() < end && !bench.stage.failed(); ++i) {
      bench.stage.WriteAndWait(i % 4 << 20);
      bench.stage.Sleep(milliseconds(5));
    }
    EXPECT_EQ(story.Judge().empty(), !manager_stands_still) << story.Judge();
    EXPECT_FALSE(bench.stage.failed()) << bench.Failed();
  }
}

// ---- Recovery: liveness and convergence ------------------------------------------------------

TEST(ClusterChecks, RecoveryAcceptsAClusterThatIsWellAgain) {
  Bench bench(SmallCluster(3));
  bench.stage.WriteAndWait(0);
  bench.world.Kill(bench.stage.Secondary());
  bench.stage.WriteAndWait(0);
  for (const NodeIndex node : bench.cluster.sds()) bench.world.Start(node);
  CheckRecovery(bench.cluster, "after a kill");
  EXPECT_FALSE(bench.world.failure().happened()) << bench.Failed();
}

TEST(ClusterChecks, RecoveryFindsARequestThatNeverEnds) {
  Bench bench(SmallCluster(3));
  const NodeIndex a = bench.stage.Primary();
  const NodeIndex b = bench.stage.Secondary();
  bench.world.Kill(a);
  bench.world.Kill(b);
  bench.cluster.workload().Write(0, 0, 0, 4096);
  CheckRecovery(bench.cluster, "after two kills");
  EXPECT_EQ(bench.world.failure().checker, "liveness");
  EXPECT_NE(bench.world.failure().message.find("has waited since"), std::string::npos)
      << bench.Failed();
}

TEST(ClusterChecks, RecoveryFindsASecondCopyThatNeverComesBack) {
  Bench bench(SmallCluster(2));
  bench.world.Kill(bench.stage.Secondary());
  bench.stage.WriteAndWait(0);
  CheckRecovery(bench.cluster, "after a kill");
  EXPECT_EQ(bench.world.failure().checker, "convergence") << bench.Failed();
}

// ---- Agreement: who acts, and what is on the devices -----------------------------------------

// What the manager would say of the first slice if it were otherwise.
void Tell(Bench& bench, const std::function<void(proto::SliceConfig&)>& change) {
  proto::Management management;
  proto::SliceConfig* config = management.mutable_config_update()->add_slices();
  *config = bench.watch.slices().begin()->second;
  config->set_epoch(config->epoch() + 1);
  change(*config);
  BufferPool pool({});
  bench.watch.OnSend(bench.cluster.mdm(), 0, wire::ToMessage(management, 0, pool));
}

TEST(ClusterChecks, AgreementAcceptsAClusterAtRest) {
  Bench bench(SmallCluster(3));
  for (uint64_t chunk = 0; chunk < 4; ++chunk) bench.stage.WriteAndWait(chunk << 20, 8192);
  // What was on its devices is made anew elsewhere, and forgotten when it is back.
  const NodeIndex node = bench.stage.Secondary();
  bench.world.Kill(node);
  bench.stage.Sleep(seconds(8));
  bench.world.Start(node);
  bench.stage.WaitMirrored();
  bench.stage.Sleep(seconds(10));
  EXPECT_TRUE(bench.cluster.WaitMirrored(bench.In(seconds(1))));
  EXPECT_EQ(CheckActing(bench.cluster, bench.watch, bench.cluster.sds()), "");
  EXPECT_EQ(CheckReplicas(bench.cluster, bench.watch), "");
  EXPECT_FALSE(bench.stage.failed()) << bench.Failed();
}

TEST(ClusterChecks, AgreementFindsWhoActsInAnOldEpoch) {
  Bench bench(SmallCluster(3));
  Tell(bench, [](proto::SliceConfig&) {});
  const std::string wrong = CheckActing(bench.cluster, bench.watch, bench.cluster.sds());
  EXPECT_NE(wrong.find("acts as primary of slice"), std::string::npos) << wrong;
}

TEST(ClusterChecks, AgreementFindsAMemberThatDoesNotAct) {
  Bench bench(SmallCluster(3));
  const NodeIndex node = bench.stage.Primary();
  bench.world.Kill(node);
  bench.world.Start(node);
  bench.stage.Sleep(std::chrono::microseconds(100));
  const std::string wrong = CheckActing(bench.cluster, bench.watch, bench.cluster.sds());
  EXPECT_NE(wrong.find("does not act as"), std::string::npos) << wrong;
}

TEST(ClusterChecks, AgreementFindsAReplicaThatNobodyCountsOn) {
  Bench bench(SmallCluster(3));
  EXPECT_EQ(CheckReplicas(bench.cluster, bench.watch), "");
  Tell(bench, [](proto::SliceConfig& config) { config.clear_secondary(); });
  const std::string wrong = CheckReplicas(bench.cluster, bench.watch);
  EXPECT_NE(wrong.find("that nobody counts on"), std::string::npos) << wrong;
}

TEST(ClusterChecks, AgreementFindsAReplicaThatIsMissing) {
  Bench bench(SmallCluster(3));
  Tell(bench, [](proto::SliceConfig& config) { config.set_slice(999); });
  const std::string wrong = CheckReplicas(bench.cluster, bench.watch);
  EXPECT_NE(wrong.find("no replica of slice"), std::string::npos) << wrong;
}

// ---- Removals --------------------------------------------------------------------------------

TEST(ClusterChecks, RemovalsComeAboutAndARemovalThatCannotIsNotSettled) {
  for (const bool possible : {true, false}) {
    SCOPED_TRACE(possible);
    Bench bench(SmallCluster(3));
    for (uint64_t chunk = 0; chunk < 4; ++chunk) bench.stage.WriteAndWait(chunk << 20, 8192);
    RemovalStory story(&bench.cluster);
    EXPECT_TRUE(story.Settled());
    const NodeIndex leaving = bench.cluster.NodeOfSds(bench.cluster.last_status().devices(0).sds());
    const NodeIndex other = bench.cluster.sds()[leaving == bench.cluster.sds()[0] ? 1 : 0];
    // The manager does not know it yet; nobody else has room for what moves away.
    if (!possible) bench.world.Kill(other);
    story.Run(bench.In(seconds(1)));
    bench.stage.WaitFor("a removal is under way", seconds(1), [&] { return !story.Settled(); });
    story.End();
    EXPECT_EQ(
        bench.cluster.WaitForStatus(bench.In(seconds(90)),
                                    [&](const proto::ClusterStatus&) { return story.Settled(); }),
        possible);
    EXPECT_FALSE(bench.stage.failed()) << bench.Failed();
  }
}

}  // namespace
}  // namespace gabion::sim
