#include "disk/layer/seeking_layer.h"

#include <algorithm>

#include "core/base/check.h"

namespace gabion::disk {

Duration SeekingLayer::Transfer(uint64_t bytes) const {
  return Duration(bytes * 1'000'000'000 / options_.bytes_per_second);
}

Duration SeekingLayer::Seek(uint64_t to_bytes) {
  const bool ahead = to_bytes >= arm_bytes_;
  const uint64_t distance = ahead ? to_bytes - arm_bytes_ : arm_bytes_ - to_bytes;
  const double share = static_cast<double>(distance) / static_cast<double>(info().size_bytes);
  const Duration seek = options_.seek_min + std::chrono::duration_cast<Duration>(
                                                share * (options_.seek_max - options_.seek_min));
  // What lies a little ahead comes by on the same track.
  if (ahead && Transfer(distance) < seek) return Transfer(distance);
  ++seeks_;
  return seek;
}

Duration SeekingLayer::Cost(const DiskEffect& effect) {
  // Neither moves the arm: this disk has no cache.
  if (effect.op == DiskOp::kFlush || effect.op == DiskOp::kDiscard) return {};
  Duration cost = Transfer(effect.length_bytes);
  cost += Seek(effect.offset_bytes);
  arm_bytes_ = effect.offset_bytes + effect.length_bytes;
  return cost;
}

void SeekingLayer::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  free_at_ = std::max(free_at_, clock_) + Cost(effect);
  due_.emplace(effect.tag, free_at_);
  below().Queue(effect, slices);
}

void SeekingLayer::Collect(std::vector<DiskDoneEvent>& done) {
  std::vector<DiskDoneEvent> events;
  below().Collect(events);
  for (const DiskDoneEvent& event : events) {
    const auto due = due_.find(event.tag);
    CHECK(due != due_.end());
    finished_.emplace(due->second, event);
    due_.erase(due);
  }
  while (!finished_.empty() && finished_.begin()->first <= clock_) {
    done.push_back(finished_.begin()->second);
    finished_.erase(finished_.begin());
  }
}

void SeekingLayer::Wait(Duration limit) {
  Instant until = SaturatingAdd(clock_, limit);
  if (!due_.empty()) {
    until = clock_;  // Collect first: only then is its time known
    below().Wait(limit);
  } else if (!finished_.empty()) {
    until = std::min(until, finished_.begin()->first);
  }
  clock_ = std::max(clock_, until);
}

}  // namespace gabion::disk
