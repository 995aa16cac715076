// A disk with one arm, in time of its own: requests are served one after the other in the order in
// which they came, and each costs its transfer and a seek by its distance, or the time in which
// what is between passes under the head. Nothing really waits: Wait() moves the clock.
#pragma once

#include <map>
#include <vector>

#include "disk/layer/block_layer.h"

namespace gabion::disk {

class SeekingLayer final : public PassingLayer {
 public:
  struct Options {
    uint64_t bytes_per_second = 200'000'000;
    // To a neighbour and across the whole disk, the wait for the right sector included.
    Duration seek_min = std::chrono::milliseconds(5);
    Duration seek_max = std::chrono::milliseconds(15);
  };

  SeekingLayer(BlockLayer* below, Instant* clock, const Options& options)
      : PassingLayer(below), clock_(*clock), options_(options), free_at_(*clock) {}

  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;
  void Collect(std::vector<DiskDoneEvent>& done) override;
  void Wait(Duration limit) override;

  uint64_t seeks() const { return seeks_; }

 private:
  Duration Transfer(uint64_t bytes) const;
  Duration Seek(uint64_t to_bytes);
  Duration Cost(const DiskEffect& effect);

  Instant& clock_;
  Options options_;
  Instant free_at_;
  uint64_t arm_bytes_ = 0;  // where the last request ended
  uint64_t seeks_ = 0;
  std::multimap<DiskTag, Instant> due_;             // on their way below
  std::multimap<Instant, DiskDoneEvent> finished_;  // below, but not yet in this disk's time
};

}  // namespace gabion::disk
