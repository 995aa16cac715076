#include "sim/cluster/access_story.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string VolumeName(uint32_t volume) { return "vol" + std::to_string(volume + 1); }
std::string SdcName(uint32_t client) { return "sdc" + std::to_string(client + 1); }

}  // namespace

AccessStory::AccessStory(Cluster* cluster)
    : cluster_(cluster),
      world_(&cluster->world()),
      stream_(world_->choices().Open(StreamKind::kFault, 103)) {}

void AccessStory::Run(TrueTime end) {
  end_ = end;
  over_ = false;
  Schedule();
}

void AccessStory::End() {
  over_ = true;
  if (taken_) Map();
}

void AccessStory::Schedule() {
  const Duration pause =
      world_->choices().TailOf(stream_, Site::kFaultWhen, seconds(4), seconds(20));
  const TrueTime when = world_->now() + pause.count() + 1;
  if (when >= end_) return;
  world_->At(when, [this] {
    if (!over_) Unmap();
  });
}

void AccessStory::Unmap() {
  Choices& choices = world_->choices();
  const auto clients = static_cast<uint64_t>(cluster_->sdc().size());
  client_ = static_cast<uint32_t>(choices.Below(stream_, Site::kFaultWhat, clients));
  volume_ = static_cast<uint32_t>(
      choices.Below(stream_, Site::kFaultWhat, cluster_->workload().volume_count()));
  cluster_->workload().OnUnmapping(client_, volume_);
  proto::AdminRequest request;
  request.mutable_volume_unmap()->set_volume(VolumeName(volume_));
  request.mutable_volume_unmap()->set_sdc(SdcName(client_));
  cluster_->Command(request, [this](const proto::AdminReply& reply) {
    if (reply.code() != proto::AdminReply::OK) {
      world_->Fail("admin", "an unmap was refused: " + reply.error());
      return;
    }
    taken_ = true;
    cluster_->workload().OnUnmapped(client_, volume_);
    const Duration pause = over_ ? Duration(0)
                                 : world_->choices().TailOf(stream_, Site::kFaultLength,
                                                            milliseconds(500), seconds(3));
    world_->After(pause, [this] { Map(); });
  });
}

void AccessStory::Map() {
  if (!taken_) return;
  taken_ = false;
  cluster_->workload().OnMapping(client_, volume_);
  proto::AdminRequest request;
  request.mutable_volume_map()->set_volume(VolumeName(volume_));
  request.mutable_volume_map()->set_sdc(SdcName(client_));
  cluster_->Command(request, [this](const proto::AdminReply& reply) {
    if (reply.code() != proto::AdminReply::OK) {
      world_->Fail("admin", "a map was refused: " + reply.error());
      return;
    }
    cluster_->workload().OnMapped(client_, volume_);
    if (!over_) Schedule();
  });
}

}  // namespace gabion::sim
