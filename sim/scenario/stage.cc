#include "core/base/mix.h"
#include "sim/cluster/single_primary.h"
#include "sim/scenario/scenario.h"

namespace gabion::sim {

const proto::SliceConfig* Stage::SliceOf(uint32_t volume, uint32_t chunk) {
  const VolumeId id = workload().volume_id(volume);
  for (const proto::Volume& known : cluster_->last_status().volumes()) {
    if (known.id() != id.value()) continue;
    for (const proto::Pool& pool : cluster_->last_status().pools()) {
      if (pool.id() != known.pool()) continue;
      const uint64_t slice =
          pool.first_slice() + (mix64(known.vtree()) + chunk) % pool.slice_count();
      const auto at = watch_->slices().find(slice);
      if (at != watch_->slices().end()) return &at->second;
    }
  }
  Expect(false, "the slice of a chunk is known");
  return nullptr;
}

NodeIndex Stage::NodeOfMember(uint64_t sds) {
  const NodeIndex node = cluster_->NodeOfSds(sds);
  Expect(node < world().node_count(), "a member of a slice is a known SDS");
  return node < world().node_count() ? node : cluster_->sds()[0];
}

NodeIndex Stage::Primary(uint32_t volume, uint32_t chunk) {
  const proto::SliceConfig* slice = SliceOf(volume, chunk);
  return slice == nullptr ? cluster_->sds()[0] : NodeOfMember(slice->primary().sds());
}

NodeIndex Stage::Secondary(uint32_t volume, uint32_t chunk) {
  const proto::SliceConfig* slice = SliceOf(volume, chunk);
  return slice == nullptr ? cluster_->sds()[0] : NodeOfMember(slice->secondary().sds());
}

NodeIndex Stage::Bystander() {
  for (const NodeIndex node : cluster_->sds()) {
    if (node != Primary() && node != Secondary()) return node;
  }
  Expect(false, "there is an SDS without a copy");
  return cluster_->sds()[0];
}

void Stage::Sleep(Duration duration) { world().RunUntil(world().now() + duration.count()); }

void Stage::Expect(bool good, std::string_view what) {
  if (!good) world().Fail("scenario", "not true: " + std::string(what));
}

void Stage::WaitFor(std::string_view what, Duration within,
                    const std::function<bool()>& condition) {
  if (failed()) return;
  Expect(world().RunUntil(world().now() + within.count(), condition),
         std::string(what) + " within " + ToString(within));
}

void Stage::AcceptOlderRepository() {
  auto code = std::make_shared<int>(-1);
  proto::AdminRequest request;
  request.mutable_mdm_restored()->set_accept_older_repository(true);
  cluster_->Command(request, [code](const proto::AdminReply& reply) { *code = reply.code(); });
  WaitFor("the command is answered", std::chrono::seconds(5), [code] { return *code >= 0; });
  Expect(*code == proto::AdminReply::OK, "the command is accepted");
}

void Stage::WriteLater(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client, bool* done) {
  workload().Write(client, 0, offset_bytes, length_bytes,
                   [done](int error, const Slice&) { *done = error == 0; });
}

void Stage::ReadLater(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client, bool* done) {
  workload().Read(client, 0, offset_bytes, length_bytes,
                  [done](int error, const Slice&) { *done = error == 0; });
}

void Stage::WriteAndWait(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client) {
  if (failed()) return;
  auto done = std::make_shared<bool>(false);
  workload().Write(client, 0, offset_bytes, length_bytes,
                   [done](int error, const Slice&) { *done = error == 0; });
  WaitFor("a write completes", std::chrono::seconds(10), [done] { return *done; });
}

void Stage::ReadAndWait(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client) {
  if (failed()) return;
  auto done = std::make_shared<bool>(false);
  workload().Read(client, 0, offset_bytes, length_bytes,
                  [done](int error, const Slice&) { *done = error == 0; });
  WaitFor("a read completes", std::chrono::seconds(10), [done] { return *done; });
}

void Stage::CutBoth(NodeIndex a, NodeIndex b) {
  world().Cut(a, b);
  world().Cut(b, a);
}

void Stage::HealBoth(NodeIndex a, NodeIndex b) {
  world().Heal(a, b);
  world().Heal(b, a);
}

void Stage::CutFromAll(NodeIndex node) {
  for (NodeIndex other = 0; other < world().node_count(); ++other) {
    if (other != node) CutBoth(node, other);
  }
}

void Stage::HealFromAll(NodeIndex node) {
  for (NodeIndex other = 0; other < world().node_count(); ++other) {
    if (other != node) HealBoth(node, other);
  }
}

void Stage::WaitMirrored(Duration within) {
  if (failed()) return;
  Expect(cluster_->WaitMirrored(world().now() + within.count()), "all slices are mirrored again");
}

void Stage::ReadEverything() {
  if (failed()) return;
  workload().ReadAll(0);
  WaitFor("everything reads back", std::chrono::seconds(30), [this] { return workload().Idle(); });
}

std::string RunScenarioScript(const Scenario& scenario, Tracer* tracer) {
  PageArena arena;
  // Every choice is the benign one.
  const Tape tape;
  Choices choices(tape);
  World world({}, &choices, &arena);
  world.TraceTo(tracer);
  Cluster cluster(&world, scenario.options);
  ConfigWatch watch(cluster.mdm());
  world.Observe(&watch);
  SinglePrimary single_primary(&world, cluster.sds());
  world.Observe(&single_primary);
  if (!cluster.SetUp(Duration(std::chrono::seconds(60)).count())) {
    world.Fail("set-up", "the cluster was not ready: " + cluster.last_status().ShortDebugString());
  }
  Stage stage(&cluster, &watch);
  world.Observe(&stage);
  if (!stage.failed()) scenario.script(stage);
  if (!stage.failed()) return {};
  return world.failure().checker + " at " + std::to_string(world.failure().time / 1'000) +
         " us: " + world.failure().message + "\n" + world.Dump();
}

}  // namespace gabion::sim
