// An administrator who has devices removed while everything goes on, and sometimes changes his
// mind. What is accepted comes about when the faults are over: the device is empty, and gone.
#pragma once

#include <cstdint>
#include <string>

#include "sim/cluster/cluster.h"

namespace gabion::sim {

class RemovalStory {
 public:
  explicit RemovalStory(Cluster* cluster);

  // Some removals before `end`.
  void Run(TrueTime end);
  // The faults are over; no more removals.
  void End() { over_ = true; }
  // Every removal that was accepted, and not called off, has come about.
  bool Settled() const;
  std::string Describe() const;

 private:
  enum class State : uint8_t { kIdle, kAsked, kLeaving, kCancelling };

  void Schedule();
  void Remove();
  void Cancel();
  bool IsThere() const;

  Cluster* cluster_;
  World* world_;
  Stream stream_;
  TrueTime end_ = 0;
  bool over_ = true;
  State state_ = State::kIdle;
  uint64_t device_ = 0;
};

}  // namespace gabion::sim
