// The control loops as functions of what the manager sees: who is asked to hand over, who is
// dropped, which copies move, and that none of it goes on for ever.
#include "core/mdm/role_switch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "core/mdm/failover.h"
#include "core/mdm/moves.h"
#include "core/mdm/rebuild.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kGib = uint64_t{1} << 30;

// SDSs with a device each, all well, and one volume on slices that are placed as a test says.
class RoleSwitchTest : public testing::Test {
 protected:
  // By index of the SDS: where primary and secondary are.
  using Placement = std::vector<std::pair<size_t, size_t>>;

  void Build(size_t sds_count, const Placement& placement) {
    proto::Command command;
    command.mutable_create_repository()->set_cluster(7);
    repository_.Apply(command);
    command.mutable_add_pool()->set_name("p");
    command.mutable_add_pool()->set_slice_count(static_cast<uint32_t>(placement.size()));
    const uint64_t pool = repository_.Apply(command).id;
    for (size_t i = 0; i < sds_count; ++i) AddSds(pool);
    proto::CreateVolume* volume = command.mutable_create_volume();
    volume->set_name("v");
    volume->set_pool(pool);
    volume->set_size_bytes(kGib);
    for (const auto& [primary, secondary] : placement) {
      proto::PlacedSlice* placed = volume->add_placement();
      placed->set_primary_device(devices_[primary].value());
      placed->set_secondary_device(devices_[secondary].value());
    }
    repository_.Apply(command);
  }

  void AddSds(uint64_t pool) {
    proto::Command command;
    command.mutable_add_sds()->set_name("s" + std::to_string(sdss_.size()));
    const uint64_t sds = repository_.Apply(command).id;
    command.mutable_register_sds()->set_sds(sds);
    command.mutable_register_sds()->set_incarnation(1);
    repository_.Apply(command);
    command.mutable_add_device()->set_sds(sds);
    command.mutable_add_device()->set_pool(pool);
    command.mutable_add_device()->set_path("/dev/vdb");
    const uint64_t device = repository_.Apply(command).id;
    proto::DeviceOutcome* outcome = command.mutable_report_devices()->add_devices();
    outcome->set_device(device);
    outcome->set_state(proto::DEVICE_UP);
    outcome->set_size_bytes(10 * kGib);
    repository_.Apply(command);
    sdss_.push_back(SdsId(sds));
    devices_.push_back(DeviceId(device));
  }

  // Everybody is well.
  View Look() {
    View view{.repository = repository_, .now = now_, .sdss = {}, .devices = {}, .slices = {}};
    for (const SdsId sds : sdss_) {
      view.sdss[sds] = {
          .alive = true, .lease_over = false, .old_lease_over = true, .silent = false};
    }
    for (const DeviceId device : devices_) view.devices[device].usable = true;
    return view;
  }
  View Seen() {
    View view = Look();
    view.accusers = accusers_;
    view.missed_lately = missed_lately_;
    roles_.Annotate(view);
    return view;
  }

  // What the manager does with the decision.
  RoleSwitch::Decision Decide() {
    roles_.Observe(Seen());
    RoleSwitch::Decision decision = roles_.Decide(Seen());
    Commit(decision.call_off);
    if (!decision.ask.empty()) {
      proto::Command command;
      for (const SliceId id : decision.ask) command.mutable_ask_release()->add_slices(id.value());
      repository_.Apply(command);
    }
    roles_.Observe(Seen());
    return decision;
  }

  void Commit(const std::vector<SliceState>& slices) {
    proto::Command command;
    for (const SliceState& slice : slices) {
      *command.mutable_change_slices()->add_slices() = ToProto(slice);
    }
    if (!slices.empty()) repository_.Apply(command);
  }

  // Those that were asked release, and the others take over.
  void Release(const std::vector<SliceId>& slices) {
    std::vector<SliceState> out;
    View view = Seen();
    for (const SliceId id : slices) view.slices[id].released = true;
    for (const SliceId id : slices) {
      const auto next = DecideSlice(view, *repository_.FindSlice(id));
      ASSERT_TRUE(next);
      out.push_back(*next);
    }
    Commit(out);
  }

  const SliceState& slice(size_t index) {
    return std::next(repository_.slices().begin(), index)->second;
  }
  size_t PrimariesOf(size_t sds) {
    return static_cast<size_t>(
        std::count_if(repository_.slices().begin(), repository_.slices().end(),
                      [&](const auto& entry) { return entry.second.primary.sds == sdss_[sds]; }));
  }
  void ClientMisses(uint64_t client, size_t sds) {
    accusers_[sdss_[sds]].insert({.is_sdc = true, .id = client});
  }
  void Pass(Duration duration) { now_ += duration; }

  Repository repository_;
  std::vector<SdsId> sdss_;
  std::vector<DeviceId> devices_;
  RoleSwitch roles_{{.balance_delay = seconds(5)}};
  absl::btree_map<SdsId, absl::btree_set<Accuser>> accusers_;
  absl::btree_map<SdsId, absl::btree_set<Accuser>> missed_lately_;
  Instant now_{seconds(1000)};
};

TEST_F(RoleSwitchTest, FewSlicesAreAskedAtATime) {
  Build(2, Placement(50, {0, 1}));
  ClientMisses(1, 0);
  const auto first = Decide().ask;
  EXPECT_EQ(first.size(), 16u);
  EXPECT_TRUE(Decide().ask.empty());  // so many drain
  Release({first[0], first[1], first[2]});
  EXPECT_EQ(Decide().ask.size(), 3u);
}

TEST_F(RoleSwitchTest, ASliceThatWasTakenFromASuspectIsNotGivenBackAtOnce) {
  Build(2, Placement(4, {0, 1}));
  ClientMisses(1, 0);
  const auto asked = Decide().ask;
  ASSERT_EQ(asked.size(), 4u);
  Release(asked);
  // Another client misses the new primary, and nobody the old one.
  accusers_.clear();
  ClientMisses(2, 1);
  EXPECT_TRUE(Decide().ask.empty());
  Pass(seconds(9));
  EXPECT_TRUE(Decide().ask.empty());
  Pass(seconds(2));
  Release(Decide().ask);
  EXPECT_EQ(PrimariesOf(0), 4u);
  // Complaints that contradict each other are followed less and less often.
  roles_ = RoleSwitch({.balance_delay = std::chrono::hours(24)});
  size_t switches = 0;
  for (int i = 0; i < 3000; ++i, Pass(seconds(1))) {
    accusers_.clear();
    ClientMisses(1, PrimariesOf(0) == 0 ? 1 : 0);
    const auto ask = Decide().ask;
    if (!ask.empty()) ++switches;
    Release(ask);
  }
  EXPECT_GE(switches, 6u);
  EXPECT_LE(switches, 10u);  // after 10, 20, ... 640, 640, 640 s
}

TEST_F(RoleSwitchTest, AClientThatReachesNobodyMovesNothing) {
  Build(3, {{0, 1}, {1, 2}, {2, 0}});
  for (size_t sds = 0; sds < 3; ++sds) ClientMisses(1, sds);
  for (int i = 0; i < 100; ++i, Pass(seconds(1))) ASSERT_TRUE(Decide().ask.empty());
}

TEST_F(RoleSwitchTest, AClientThatMissedTheOtherALittleWhileAgoIsNoReason) {
  Build(2, Placement(4, {0, 1}));
  ClientMisses(1, 0);
  missed_lately_[sdss_[1]].insert({.is_sdc = true, .id = 1});
  EXPECT_TRUE(Decide().ask.empty());
  // Two others do reach the other one.
  ClientMisses(2, 0);
  EXPECT_EQ(Decide().ask.size(), 4u);
}

TEST_F(RoleSwitchTest, WhatIsNotReleasedInTimeIsCalledOffAndLeftAlone) {
  Build(2, Placement(4, {0, 1}));
  ClientMisses(1, 0);
  ASSERT_EQ(Decide().ask.size(), 4u);
  const Epoch epoch = slice(0).epoch;
  Pass(milliseconds(1900));
  EXPECT_TRUE(Decide().call_off.empty());
  EXPECT_EQ(slice(0).epoch, epoch);
  Pass(milliseconds(200));
  EXPECT_EQ(Decide().call_off.size(), 4u);
  EXPECT_GT(slice(0).epoch, epoch);
  EXPECT_FALSE(slice(0).release);
  EXPECT_EQ(slice(0).primary.device, devices_[0]);
  EXPECT_EQ(slice(0).reign.value(), epoch.value());  // clients go on
  Pass(seconds(9));
  EXPECT_TRUE(Decide().ask.empty());
  Pass(seconds(2));
  EXPECT_EQ(Decide().ask.size(), 4u);
}

TEST_F(RoleSwitchTest, PrimariesAreSpreadWhenThePoolHasBeenWholeForAWhile) {
  Build(2, Placement(4, {0, 1}));
  EXPECT_TRUE(Decide().ask.empty());
  Pass(seconds(4));
  EXPECT_TRUE(Decide().ask.empty());
  // One device is gone for a moment: the pool begins to be whole anew.
  View view = Look();
  view.devices[devices_[1]].usable = false;
  roles_.Observe(view);
  Pass(seconds(2));
  EXPECT_TRUE(Decide().ask.empty());
  Pass(seconds(5));
  const auto asked = Decide().ask;
  ASSERT_EQ(asked.size(), 2u);
  Release(asked);
  EXPECT_EQ(PrimariesOf(0), 2u);
  for (int i = 0; i < 200; ++i, Pass(seconds(1))) ASSERT_TRUE(Decide().ask.empty()) << i;
}

TEST_F(RoleSwitchTest, ASuspectGetsNoPrimariesForBalanceForAMinute) {
  Build(2, {{0, 1}, {0, 1}, {1, 0}, {1, 0}});
  ClientMisses(1, 0);
  Release(Decide().ask);
  ASSERT_EQ(PrimariesOf(0), 0u);
  accusers_.clear();
  (void)Decide();
  for (int i = 0; i < 58; ++i, Pass(seconds(1))) ASSERT_TRUE(Decide().ask.empty()) << i;
  Pass(seconds(3));
  EXPECT_EQ(Decide().ask.size(), 2u);
}

TEST_F(RoleSwitchTest, ASuspectsMemberStaysUntilThatWasTriedInVain) {
  Build(3, {{0, 1}, {0, 2}});
  // 0 does not reach 1 and 2, and both say the same of it.
  const auto outcome = [&](Duration needed, bool in_vain) {
    View view = Look();
    for (const auto& [id, slice] : repository_.slices()) {
      view.slices[id] = {
          .member_needed = true, .member_needed_long = true, .member_needed_for = needed};
      if (in_vain) view.may_not_switch.insert(id);
    }
    for (const size_t sds : {1, 2}) {
      view.accusers[sdss_[sds]].insert({.is_sdc = false, .id = sdss_[0].value()});
      view.accusers[sdss_[0]].insert({.is_sdc = false, .id = sdss_[sds].value()});
    }
    view.accusers[sdss_[0]].insert({.is_sdc = true, .id = 9});
    return DecideSlice(view, slice(0));
  };
  EXPECT_FALSE(outcome(seconds(1), false));
  const auto in_vain = outcome(seconds(1), true);
  ASSERT_TRUE(in_vain);
  EXPECT_FALSE(in_vain->secondary);
  // However many wait for their turn to be switched, nobody's writes wait for ever.
  const auto too_long = outcome(seconds(6), false);
  ASSERT_TRUE(too_long);
  EXPECT_FALSE(too_long->secondary);
}

TEST_F(RoleSwitchTest, APrimaryThatMissesOneMemberAloneIsNoSuspect) {
  Build(3, {{0, 1}, {0, 2}});
  View view = Look();
  const SliceId id = slice(0).id;
  view.slices[id] = {
      .member_needed = true, .member_needed_long = true, .member_needed_for = seconds(1)};
  view.accusers[sdss_[1]].insert({.is_sdc = false, .id = sdss_[0].value()});
  roles_.Observe(view);
  EXPECT_TRUE(roles_.Decide(view).ask.empty());
  const auto next = DecideSlice(view, slice(0));
  ASSERT_TRUE(next);
  EXPECT_EQ(next->primary.device, devices_[0]);
  EXPECT_FALSE(next->secondary);
}

// A leaving device's primaries hand over, its secondaries move, and then it holds nothing.
TEST_F(RoleSwitchTest, ALeavingDeviceEndsEmptyWhateverItsRoles) {
  Build(3, {{0, 1}, {1, 0}, {0, 2}, {2, 0}, {1, 2}, {2, 1}});
  proto::Command evacuate;
  evacuate.mutable_evacuate_devices()->add_devices(devices_[0].value());
  repository_.Apply(evacuate);
  Rebuild rebuild({.delay = seconds(10), .joins_per_device_max = 2});
  size_t epochs = 0;
  for (int i = 0; i < 40 && repository_.HeldBy(devices_[0]) != 0; ++i, Pass(seconds(1))) {
    Release(Decide().ask);
    rebuild.Observe(Seen());
    std::vector<SliceState> moves = DecideMoves(
        Seen(), rebuild, {.joins_per_device_max = 1, .max = 100, .calm = roles_.CalmPools(now_)});
    epochs += moves.size();
    for (const SliceState& move : moves) {
      EXPECT_EQ(move.secondary.device, devices_[0]);  // nobody else moves
      EXPECT_TRUE(move.secondary.present);
    }
    Commit(moves);
    rebuild.Observe(Seen());
    std::vector<SliceState> complete;
    for (SliceState& move : moves) {
      move.epoch = repository_.NextEpoch(move);
      move.secondary = std::exchange(move.joining, Member());
      complete.push_back(move);
    }
    Commit(complete);
  }
  EXPECT_EQ(repository_.HeldBy(devices_[0]), 0u);
  EXPECT_EQ(epochs, 4u);
  EXPECT_EQ(EmptiedDevices(repository_), std::vector<DeviceId>{devices_[0]});
}

TEST_F(RoleSwitchTest, AMoveThatFailsIsTriedLessAndLessOftenAndDelaysNoRebuild) {
  Build(3, {{0, 1}});
  proto::Command evacuate;
  evacuate.mutable_evacuate_devices()->add_devices(devices_[1].value());
  repository_.Apply(evacuate);
  Rebuild rebuild({.delay = seconds(10), .joins_per_device_max = 1});
  size_t tries = 0;
  for (int i = 0; i < 600; ++i, Pass(milliseconds(100))) {
    rebuild.Observe(Seen());
    const auto moves =
        DecideMoves(Seen(), rebuild, {.joins_per_device_max = 1, .max = 100, .calm = {}});
    if (moves.empty()) continue;
    ++tries;
    Commit(moves);
    rebuild.Observe(Seen());
    std::vector<SliceState> failed = {slice(0)};
    failed[0].epoch = repository_.NextEpoch(failed[0]);
    failed[0].joining = Member();
    Commit(failed);
    proto::Command forget;
    proto::StaleReplica* replica = forget.mutable_forget_replicas()->add_replicas();
    replica->set_slice(slice(0).id.value());
    replica->set_device(devices_[2].value());
    repository_.Apply(forget);
  }
  EXPECT_GE(tries, 5u);  // at 0, 1, 3, 7, 15, 31 s
  EXPECT_LE(tries, 6u);
  // Its secondary fails for good: the other place is tried at once.
  SliceState alone = slice(0);
  alone.epoch = repository_.NextEpoch(alone);
  alone.secondary = Member();
  Commit({alone});
  rebuild.Observe(Seen());
  const auto joins = rebuild.Decide(Seen(), 100);
  ASSERT_EQ(joins.size(), 1u);
  EXPECT_EQ(joins[0].joining.device, devices_[2]);
}

TEST_F(RoleSwitchTest, ReplicasSpreadToANewDeviceAndThenStay) {
  Build(3, {{0, 1}, {1, 2}, {2, 0}, {0, 2}, {1, 0}, {2, 1}, {0, 1}, {1, 2}});
  AddSds(repository_.pools().begin()->first.value());
  Rebuild rebuild({.delay = seconds(10), .joins_per_device_max = 2});
  size_t moved = 0;
  for (int i = 0; i < 200; ++i, Pass(seconds(1))) {
    Release(Decide().ask);
    rebuild.Observe(Seen());
    std::vector<SliceState> moves = DecideMoves(
        Seen(), rebuild, {.joins_per_device_max = 1, .max = 100, .calm = roles_.CalmPools(now_)});
    if (now_ < Instant(seconds(1005))) {
      EXPECT_TRUE(moves.empty());
    }
    ASSERT_TRUE(i <= 60 || moves.empty()) << "it does not come to rest";
    moved += moves.size();
    Commit(moves);
    for (SliceState& move : moves) {
      move.epoch = repository_.NextEpoch(move);
      move.secondary = std::exchange(move.joining, Member());
    }
    Commit(moves);
  }
  EXPECT_EQ(moved, 4u);
  EXPECT_EQ(repository_.HeldBy(devices_[3]), 4u);
}

}  // namespace
}  // namespace gabion::mdm
