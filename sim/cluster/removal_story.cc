#include "sim/cluster/removal_story.h"

#include <algorithm>

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

proto::AdminRequest RemovalOf(uint64_t device, bool cancel) {
  proto::AdminRequest request;
  request.mutable_device_remove()->set_device(std::to_string(device));
  request.mutable_device_remove()->set_cancel(cancel);
  return request;
}

}  // namespace

RemovalStory::RemovalStory(Cluster* cluster)
    : cluster_(cluster),
      world_(&cluster->world()),
      stream_(world_->choices().Open(StreamKind::kFault, 105)) {}

void RemovalStory::Run(TrueTime end) {
  end_ = end;
  over_ = false;
  Schedule();
}

bool RemovalStory::IsThere() const {
  const auto& devices = cluster_->last_status().devices();
  return std::any_of(devices.begin(), devices.end(),
                     [&](const proto::Device& device) { return device.id() == device_; });
}

bool RemovalStory::Settled() const {
  return state_ == State::kIdle || (state_ == State::kLeaving && !IsThere());
}

std::string RemovalStory::Describe() const { return "device " + std::to_string(device_); }

void RemovalStory::Schedule() {
  const Duration pause =
      world_->choices().TailOf(stream_, Site::kFaultWhen, seconds(5), seconds(30));
  const TrueTime when = world_->now() + pause.count() + 1;
  if (when >= end_) return;
  world_->At(when, [this] {
    if (!over_) Remove();
  });
}

void RemovalStory::Remove() {
  Choices& choices = world_->choices();
  const auto& devices = cluster_->last_status().devices();
  const auto count = static_cast<uint64_t>(devices.size());
  device_ = devices[static_cast<int>(choices.Below(stream_, Site::kFaultWhat, count))].id();
  state_ = State::kAsked;
  cluster_->Command(RemovalOf(device_, false), [this](const proto::AdminReply& reply) {
    state_ = State::kIdle;
    // Gone already, or the others have no room: that is an answer, too.
    if (reply.code() != proto::AdminReply::OK) return;
    state_ = State::kLeaving;
    if (world_->choices().Below(stream_, Site::kFaultWhat, 3) != 2) return;
    const Duration pause =
        world_->choices().TailOf(stream_, Site::kFaultLength, milliseconds(300), seconds(8));
    world_->After(over_ ? Duration(0) : pause, [this] { Cancel(); });
  });
}

void RemovalStory::Cancel() {
  if (state_ != State::kLeaving) return;
  state_ = State::kCancelling;
  cluster_->Command(RemovalOf(device_, true), [this](const proto::AdminReply& reply) {
    state_ = State::kIdle;
    if (reply.code() != proto::AdminReply::OK && reply.code() != proto::AdminReply::NOT_FOUND) {
      world_->Fail("admin", "calling a removal off was refused: " + reply.error());
      return;
    }
    if (!over_) Schedule();
  });
}

}  // namespace gabion::sim
