#include "sim/cluster/twin_story.h"

#include "core/sds/inspect.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kReplacedWithin = milliseconds(400);
constexpr Duration kLookAgain = milliseconds(20);
// The old lease ends, an epoch is issued, and the image has what it lacked.
constexpr Duration kQuiet = seconds(5);

}  // namespace

TwinStory::TwinStory(Cluster* cluster, const ConfigWatch* watch, FaultInjector* injector)
    : cluster_(cluster),
      world_(&cluster->world()),
      watch_(watch),
      injector_(injector),
      stream_(world_->choices().Open(StreamKind::kFault, 102)) {
  world_->Observe(this);
}

bool TwinStory::LivesAlone() const {
  for (const auto& [id, slice] : watch_->slices()) {
    const bool mine = cluster_->NodeOfSds(slice.primary().sds()) == cluster_->sds()[0] ||
                      cluster_->NodeOfSds(slice.primary().sds()) == cluster_->twin();
    if (mine && !slice.secondary().present()) return true;
  }
  return false;
}

void TwinStory::Happen() {
  const NodeIndex original = cluster_->sds()[0];
  const NodeIndex mdm = cluster_->mdm();
  if (state_ != State::kNotYet || !world_->Running(original) || !world_->Running(mdm)) return;
  if (world_->node(original).paused || world_->node(mdm).paused || LivesAlone()) return;
  if (world_->choices().Below(stream_, Site::kFaultWhat, 3) == 2) return Race();
  state_ = State::kFrozen;
  injector_->KeepDown(original, true);
  world_->Pause(original, kForever);
  std::vector<Node::NamedDisk>& from = world_->node(original).disks;
  std::vector<Node::NamedDisk>& to = world_->node(cluster_->twin()).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  cluster_->TakeOverByTwin();
  world_->Start(cluster_->twin());
  world_->After(kReplacedWithin, [this] {
    // The MDM may not know of the image: then the frozen machine never comes back.
    if (state_ == State::kFrozen) End();
  });
}

void TwinStory::Race() {
  const NodeIndex original = cluster_->sds()[0];
  const NodeIndex twin = cluster_->twin();
  state_ = State::kRace;
  // Whoever loses ends, and stays so.
  injector_->KeepDown(original, true);
  injector_->KeepDown(twin, true);
  world_->Kill(original);
  std::vector<Node::NamedDisk>& from = world_->node(original).disks;
  std::vector<Node::NamedDisk>& to = world_->node(twin).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  world_->Start(original);
  world_->Start(twin);
}

void TwinStory::OnSend(NodeIndex from, NodeIndex to, const wire::Message& message) {
  const bool of_race =
      state_ == State::kRace && (to == cluster_->twin() || to == cluster_->sds()[0]);
  const bool of_image = state_ == State::kFrozen && to == cluster_->twin();
  if (from != cluster_->mdm() || !(of_race || of_image)) return;
  const Result<proto::Management> management = wire::ParseManagement(message);
  if (!management.has_value() || !management->has_sds_register_reply()) return;
  if (!management->sds_register_reply().error().empty()) return;
  if (of_race) {
    state_ = State::kOver;
    if (to == cluster_->twin()) cluster_->TakeOverByTwin();
    injector_->KeepDown(to, false);
    return;
  }
  state_ = State::kReplaced;
  const Duration delay =
      world_->choices().TailOf(stream_, Site::kFaultLength, milliseconds(100), milliseconds(1'500));
  world_->After(delay, [this] { Wake(); });
}

bool TwinStory::MayWake() const {
  const NodeIndex mdm = cluster_->mdm();
  const auto well = [&](NodeIndex node) {
    const Node& n = world_->node(node);
    return n.role != nullptr && !n.paused && n.crash_countdown == 0 &&
           n.countdown_when_dirty == 0 && !world_->IsCut(node, mdm) && !world_->IsCut(mdm, node);
  };
  if (!well(mdm) || !well(cluster_->twin())) return false;
  for (const NodeIndex node : cluster_->sds()) {
    if (node == cluster_->sds()[0]) continue;
    if (!well(node)) return false;
    std::vector<std::pair<SliceId, Epoch>> epochs;
    sds::AppendPrimaryEpochs(*world_->node(node).role, &epochs);
    for (const auto& [slice, epoch] : epochs) {
      const auto known = watch_->slices().find(slice.value());
      if (known != watch_->slices().end() && epoch < Epoch(known->second.epoch())) return false;
    }
  }
  return true;
}

void TwinStory::Wake() {
  if (state_ != State::kReplaced) return;
  if (LivesAlone()) return End();
  if (!MayWake()) {
    world_->After(kLookAgain, [this] { Wake(); });
    return;
  }
  injector_->Quiet(kQuiet);
  state_ = State::kOver;
  world_->Resume(cluster_->sds()[0]);
}

void TwinStory::End() {
  if (state_ == State::kNotYet) return;
  const NodeIndex original = cluster_->sds()[0];
  if (state_ == State::kRace) {  // nobody has won yet
    world_->Kill(cluster_->twin());
    injector_->KeepDown(original, false);
    state_ = State::kOver;
    return;
  }
  if (state_ != State::kOver && world_->Running(original)) world_->Kill(original);
  state_ = State::kOver;
}

}  // namespace gabion::sim
