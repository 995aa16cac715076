#include "sim/cluster/simulation.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/base/check.h"
#include "sim/cluster/access_story.h"
#include "sim/cluster/agreement_check.h"
#include "sim/cluster/atlas.h"
#include "sim/cluster/config_watch.h"
#include "sim/cluster/durability_check.h"
#include "sim/cluster/equal_copies.h"
#include "sim/cluster/kill_story.h"
#include "sim/cluster/recovery_check.h"
#include "sim/cluster/removal_story.h"
#include "sim/cluster/rest_check.h"
#include "sim/cluster/single_primary.h"
#include "sim/cluster/twin_story.h"
#include "sim/fault/injector.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kSetUpMax = seconds(60);
// After healing devices that are to be removed are empty and gone within this.
constexpr Duration kRemovalMax = seconds(90);
constexpr Duration kStatusMax = seconds(10);
// Over budget: how long everything is read, before and after the last power cut.
constexpr Duration kReadMax = seconds(30);

ClusterOptions DrawCluster(Choices& choices, const FaultPlan& faults) {
  const Stream stream = choices.Open(StreamKind::kPlan, 0);
  ClusterOptions options;
  options.sds_count = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 3, 5));
  options.devices_per_sds = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 1, 2));
  options.sdc_count = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 1, 3));
  options.volume_count = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 1, 3));
  options.slice_count = 4u << choices.Below(stream, Site::kShape, 3);
  options.volume_bytes = (uint64_t{1} << choices.Range(stream, Site::kShape, 1, 3)) << 20;
  options.volatile_cache = choices.Below(stream, Site::kShape, 4) != 3;
  options.block_bytes = choices.Below(stream, Site::kShape, 3) == 2 ? 512 : 4096;
  // The smallest log that a store takes: it wraps, and blocks go home, in most runs.
  if (choices.Below(stream, Site::kShape, 3) != 0) options.log_bytes = 4 << 20;
  options.twin = choices.Below(stream, Site::kShape, 6) == 5;
  options.rebuild_delay = seconds(choices.Range(stream, Site::kShape, 2, 12));
  options.drift_ppm_max = faults.drift_ppm_max;
  options.wall_offset_max = faults.wall_offset_max;
  options.client.pause_mean = milliseconds(choices.Range(stream, Site::kShape, 15, 90));
  options.client.depth = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 1, 12));
  options.client.bytes_max = (4u << 10) << choices.Below(stream, Site::kShape, 7);
  options.client.read_percent = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 20, 60));
  options.client.zero_percent = static_cast<uint32_t>(choices.Range(stream, Site::kShape, 0, 12));
  options.client.hot_percent =
      choices.Below(stream, Site::kShape, 3) == 2 ? 80 : 15;  // clients that meet often
  options.client.small_sectors = choices.Below(stream, Site::kShape, 4) != 0;
  // Without faults the bound on fail-over is judged, and a time-out would hide it. Over budget the
  // reader of everything must get on.
  const bool times_out = choices.Below(stream, Site::kShape, 4) == 3;
  if ((times_out && faults.any) || faults.over_budget) {
    options.io_timeout = milliseconds(choices.Range(stream, Site::kShape, 300, 4'000));
  }
  options.client.large = choices.Below(stream, Site::kShape, 4) == 3;
  // Over and over, and fast, in a quarter of the runs.
  if (choices.Below(choices.Open(StreamKind::kPlan, 10), Site::kShape, 4) == 3) {
    options.scan_interval = seconds(1);
    options.scan_bytes_per_second = 64 << 20;
  }
  // Where there is hardly any memory, pages of checksums come and go; a small read cache turns
  // over.
  const Stream memory = choices.Open(StreamKind::kPlan, 11);
  if (choices.Below(memory, Site::kShape, 3) == 2) options.store_memory_bytes = 1;
  if (choices.Below(memory, Site::kShape, 3) == 2) {
    options.read_cache_bytes = (uint64_t{64} << 10) << choices.Below(memory, Site::kShape, 6);
  }
  return options;
}

std::string Describe(const ClusterOptions& options) {
  return std::to_string(options.sds_count) + " SDS x " + std::to_string(options.devices_per_sds) +
         ", " + std::to_string(options.sdc_count) + " SDC, " +
         std::to_string(options.volume_count) + " volumes of " +
         std::to_string(options.volume_bytes >> 20) + " MiB, " +
         std::to_string(options.slice_count) + " slices" +
         (options.scan_interval == Duration() ? "" : ", scanned") +
         (options.store_memory_bytes == 0 ? "" : ", short of memory") +
         (options.read_cache_bytes == 0 ? "" : ", cached");
}

// From the seed or the tape, and recording from the first choice on if asked.
Choices MakeChoices(const RunOptions& options) {
  Choices choices = options.tape == nullptr ? Choices(options.seed) : Choices(*options.tape);
  if (options.record) choices.Record();
  return choices;
}

class Simulation {
 public:
  Simulation(const RunOptions& options, PageArena* arena)
      : options_(options),
        choices_(MakeChoices(options)),
        plan_(DrawFaultPlan(choices_, options.over_budget)),
        world_(DrawWorld(), &choices_, arena),
        cluster_(&world_, DrawCluster(choices_, plan_)),
        watch_(cluster_.mdm()),
        single_primary_(&world_, WithTwin(cluster_)),
        equal_copies_(&world_, WithTwin(cluster_)),
        atlas_(&cluster_, &watch_),
        injector_(&world_, plan_, MakeTargets()) {
    world_.TraceTo(options.tracer);
    world_.Observe(&watch_);
    world_.Observe(&single_primary_);
    // Over budget a device may come back with an older content, whose checksums match.
    if (!options.over_budget) world_.Observe(&equal_copies_);
    if (cluster_.options().twin) {
      twin_ = std::make_unique<TwinStory>(&cluster_, &watch_, &injector_);
    }
    if (options.over_budget) return;
    if (!plan_.any) {
      kill_ = std::make_unique<KillStory>(&cluster_, &injector_);
    } else if (choices_.Below(choices_.Open(StreamKind::kPlan, 6), Site::kShape, 4) == 3) {
      access_ = std::make_unique<AccessStory>(&cluster_);
    } else if (choices_.Below(choices_.Open(StreamKind::kPlan, 8), Site::kShape, 3) == 2 &&
               !MayLose(plan_)) {
      removal_ = std::make_unique<RemovalStory>(&cluster_);
    }
  }

  RunReport Run() {
    if (options_.on_ready) options_.on_ready(world_, choices_);
    Phases();
    RunReport report{.failure = world_.failure(),
                     .workload = cluster_.workload().stats(),
                     .world = world_.stats(),
                     .hash = world_.hash(),
                     .simulated = world_.now(),
                     .fail_overs = watch_.fail_overs(),
                     .epochs = watch_.epochs(),
                     .enabled = plan_.enabled,
                     .fired = world_.fired(),
                     .shape = Describe(cluster_.options()),
                     .dump = {},
                     .tape = {}};
    report.hash.Add(choices_.digest());
    for (NodeIndex node = 0; node < world_.node_count(); ++node) {
      if (world_.Running(node)) report.hash.Add(world_.node(node).role->StateHash());
    }
    if (report.failure.happened() || options_.dump_state) report.dump = world_.Dump();
    if (options_.record) report.tape = choices_.RecordedTape();
    return report;
  }

 private:
  static std::vector<NodeIndex> WithTwin(const Cluster& cluster) {
    std::vector<NodeIndex> nodes = cluster.sds();
    if (cluster.options().twin) nodes.push_back(cluster.twin());
    return nodes;
  }

  FaultInjector::Targets MakeTargets() {
    FaultInjector::Targets targets{.mdms = {cluster_.mdm()},
                                   .sdss = cluster_.sds(),
                                   .sdcs = cluster_.sdc(),
                                   .rot_from_bytes = cluster_.FirstDataByte(),
                                   .log_from_bytes = cluster_.FirstLogByte(),
                                   .log_to_bytes = cluster_.FirstDataByte()};
    // A twin begins with a copy of the first SDS's state, or takes its place.
    targets.state = cluster_.options().twin ? FaultInjector::Targets::State::kNeverDamaged
                                            : FaultInjector::Targets::State::kAnyCopyBack;
    if (options_.over_budget) return targets;
    // With a twin about, nobody can say which process counts.
    const bool may = !cluster_.options().twin;
    targets.may_lose = [this, may](NodeIndex) { return may && atlas_.AllIsWell(); };
    return targets;
  }

  World::Options DrawWorld() {
    const Stream stream = choices_.Open(StreamKind::kPlan, 3);
    World::Options world;
    world.through_codec = choices_.Below(stream, Site::kShape, 8) == 7;
    // A store checks all it knows, so mostly now and then; in some runs after every step.
    world.check_every = choices_.Below(stream, Site::kShape, 16) == 15 ? 1 : 32;
    return world;
  }

  bool Failed() const { return world_.failure().happened(); }

  void Phases() {
    if (!cluster_.SetUp(world_.now() + kSetUpMax.count())) {
      world_.Fail("set-up", "the cluster was not ready after " + ToString(kSetUpMax));
      return;
    }
    const TrueTime end = world_.now() + options_.load.count();
    if (options_.over_budget) return OverBudget(end);
    CheckDurabilityAtSomeInstants(end);
    CheckDurabilityAtSomePromotions();
    if (twin_ != nullptr && plan_.enabled[Fault::kPause]) {
      const Stream stream = choices_.Open(StreamKind::kPlan, 5);
      const auto length = static_cast<uint64_t>(options_.load.count());
      const auto when = static_cast<TrueTime>(choices_.Below(stream, Site::kFaultWhen, length));
      world_.At(world_.now() + when, [this, end] {
        if (world_.now() < end) twin_->Happen();
      });
    }
    if (access_ != nullptr) access_->Run(end);
    if (kill_ != nullptr) kill_->Run(end);
    if (removal_ != nullptr) removal_->Run(end);
    if (MayDamage(plan_)) cluster_.workload().AllowIoErrors();
    injector_.Run(end);
    cluster_.workload().Run(end);
    world_.RunUntil(end);
    if (Failed()) return;
    if (kill_ != nullptr) {
      if (std::string late = kill_->Judge(); !late.empty()) {
        world_.Fail("fail-over-time", std::move(late));
        return;
      }
    }
    Trace("==== the faults are over; everything heals");
    if (twin_ != nullptr) twin_->End();
    if (access_ != nullptr) access_->End();
    if (removal_ != nullptr) removal_->End();
    injector_.HealAll();
    if (!Recover("after the faults", false) || !ComeToRest()) return;
    Trace("==== power cut of everybody");
    for (const NodeIndex node : WithTwin(cluster_)) world_.PowerCut(node);
    world_.PowerCut(cluster_.mdm());
    (void)Recover("after the power cut", true);
  }

  // Whatever is read is right. Nothing need come about.
  void OverBudget(TrueTime end) {
    Workload& workload = cluster_.workload();
    workload.AllowAnyError();
    injector_.Run(end);
    workload.Run(end);
    world_.RunUntil(end);
    Trace("==== the faults are over; damage stays");
    injector_.HealAll();
    ReadWhatIsThere();
    Trace("==== power cut of everybody");
    for (const NodeIndex node : cluster_.sds()) world_.PowerCut(node);
    world_.PowerCut(cluster_.mdm());
    ReadWhatIsThere();
  }

  void ReadWhatIsThere() {
    const TrueTime end = world_.now() + kReadMax.count();
    const NodeIndex reader = cluster_.sdc()[0];
    if (!world_.RunUntil(end, [&] { return world_.Running(reader); })) return;
    cluster_.workload().ReadAll(0);
    world_.RunUntil(end);
  }

  bool Recover(const std::string& when, bool check_copies) {
    CheckRecovery(cluster_, when);
    // Every acknowledged write is on both copies, and the copies are equal.
    if (check_copies && !Failed()) CheckCopies(true);
    return !Failed();
  }

  // What the manager does by itself ends: removals, moves, role switches.
  bool ComeToRest() {
    if (removal_ != nullptr &&
        !cluster_.WaitForStatus(world_.now() + kRemovalMax.count(),
                                [&](const proto::ClusterStatus&) { return removal_->Settled(); })) {
      world_.Fail("removal", removal_->Describe() + " is not gone " + ToString(kRemovalMax) +
                                 " after the faults: " + cluster_.last_status().ShortDebugString());
      return false;
    }
    const bool is_long = choices_.Below(choices_.Open(StreamKind::kPlan, 9), Site::kShape, 4) == 3;
    std::string restless = CheckRest(world_, watch_, is_long ? seconds(70) : seconds(10));
    if (!restless.empty()) world_.Fail("rest", std::move(restless));
    if (!Failed()) CheckThatAllAgree();
    return !Failed();
  }

  void CheckThatAllAgree() {
    // Which devices there are now.
    if (!cluster_.WaitMirrored(world_.now() + kStatusMax.count())) {
      world_.Fail("convergence", "the manager does not answer, or not all is mirrored any more");
      return;
    }
    std::string wrong = CheckActing(cluster_, watch_, WithTwin(cluster_));
    // A disk that was rolled back holds again what it had forgotten, and nobody frees it yet (seed
    // 61230494).
    if (wrong.empty() && world_.fired()[Fault::kRolledBack] == 0) {
      wrong = CheckReplicas(cluster_, watch_);
    }
    if (!wrong.empty()) world_.Fail("convergence", std::move(wrong));
  }

  void CheckCopies(bool identical, std::optional<uint64_t> only = std::nullopt) {
    // An image of an SDS counts as a copy before it has fetched what it lacks.
    if (!identical && twin_ != nullptr && twin_->happened()) return;
    if (!identical && injector_.disks_unsure()) return;
    const DurabilityResult result = CheckDurability(cluster_, watch_, identical, only);
    if (!result.wrong.empty()) world_.Fail(identical ? "convergence" : "durability", result.wrong);
  }

  void CheckDurabilityAtSomeInstants(TrueTime end) {
    const Stream stream = choices_.Open(StreamKind::kPlan, 4);
    const uint64_t count = choices_.Below(stream, Site::kShape, 3);
    for (uint64_t i = 0; i < count; ++i) {
      const auto length = static_cast<uint64_t>(end - world_.now());
      const auto when = static_cast<TrueTime>(choices_.Below(stream, Site::kShape, length));
      world_.At(world_.now() + when, [this] { CheckCopies(false); });
    }
  }

  // What a joining forgot shows at once, before later writes can hide it.
  void CheckDurabilityAtSomePromotions() {
    watch_.OnPromotion([this, stream = choices_.Open(StreamKind::kPlan, 7)](uint64_t slice) {
      if (choices_.Below(stream, Site::kShape, 4) != 3) return;
      world_.At(world_.now(), [this, slice] { CheckCopies(false, slice); });
    });
  }

  void Trace(std::string_view text) {
    if (world_.tracing()) world_.Trace(cluster_.admin(), text);
  }

  RunOptions options_;
  Choices choices_;
  FaultPlan plan_;
  World world_;
  Cluster cluster_;
  ConfigWatch watch_;
  SinglePrimary single_primary_;
  EqualCopies equal_copies_;
  Atlas atlas_;
  FaultInjector injector_;
  // Null: not in this run.
  std::unique_ptr<TwinStory> twin_;
  std::unique_ptr<AccessStory> access_;
  std::unique_ptr<KillStory> kill_;
  std::unique_ptr<RemovalStory> removal_;
};

}  // namespace

RunReport RunSimulation(const RunOptions& options, PageArena* arena) {
  Simulation simulation(options, arena);
  return simulation.Run();
}

}  // namespace gabion::sim
