#include "sim/cluster/kill_story.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kSlack = milliseconds(500);
constexpr Duration kRestartBound = seconds(1);
constexpr Duration kDownAtOnce = milliseconds(20);
constexpr Duration kDownLong = seconds(6);

}  // namespace

KillStory::KillStory(Cluster* cluster, FaultInjector* injector)
    : cluster_(cluster),
      world_(&cluster->world()),
      injector_(injector),
      stream_(world_->choices().Open(StreamKind::kFault, 104)) {}

void KillStory::Run(TrueTime end) {
  Choices& choices = world_->choices();
  at_once_ = choices.Below(stream_, Site::kFaultWhat, 2) == 1;
  const std::vector<NodeIndex>& sdss = cluster_->sds();
  const NodeIndex victim = sdss[choices.Below(stream_, Site::kFaultWhat, sdss.size())];
  const auto window = static_cast<uint64_t>(end - world_->now()) / 2;
  const auto when = static_cast<TrueTime>(choices.Below(stream_, Site::kFaultWhen, window));
  world_->At(world_->now() + when, [this, victim] {
    killed_ = true;
    injector_->KeepDown(victim, true);
    world_->Kill(victim);
    world_->After(at_once_ ? kDownAtOnce : kDownLong, [this, victim] {
      injector_->KeepDown(victim, false);
      world_->Start(victim);
    });
  });
}

std::string KillStory::Judge() const {
  if (!killed_) return {};
  const Duration bound = at_once_ ? kRestartBound : cluster_->options().lease + kSlack;
  const Duration longest = cluster_->workload().stats().longest;
  if (longest <= bound) return {};
  return "a request took " + ToString(longest) + " when an SDS was killed and " +
         (at_once_ ? "was back at once" : "stayed down") + "; at most " + ToString(bound) +
         " was promised";
}

}  // namespace gabion::sim
