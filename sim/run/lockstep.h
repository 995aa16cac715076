// Two runs that should be the same, side by side, and the first event in which they differ.
//
// Each run is a process of its own. After every kEventsPerCheckpoint events it says what a rolling
// hash over all of them has come to, and goes on when the other says the same. Where they differ,
// both hand over the events since they last agreed, and bisection finds the first that differs. No
// run is repeated, so a difference that shows once is seen.
//
// What depends on memory shows because the two differ in it: the second process has run the same
// run before, has its addresses not randomised, and gets memory from the heap filled with a byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/world/world.h"

namespace gabion::sim {

// In the process that runs: the run's tracer.
class EventLog : public Tracer {
 public:
  static constexpr uint32_t kEventsPerCheckpoint = 4096;

  // File descriptors: from and to the process that compares.
  EventLog(int in, int out) : in_(in), out_(out) {}

  void Line(std::string_view line) override;
  void EventEnded(const QueuedEvent& event, const RollingHash& hash) override;
  // The run is over. `state`: of what there is at the end, which must be equal, too.
  void Finish(const RollingHash& state);

 private:
  struct Entry {
    uint64_t digest = 0;  // over all events up to this one
    std::string text;
  };

  void Checkpoint(bool last);

  int in_;
  int out_;
  RollingHash digest_;
  std::string lines_;  // of the event that is under way
  std::vector<Entry> entries_;
  uint64_t count_ = 0;
};

struct Comparison {
  std::string error{};  // empty: both ran
  bool equal = false;
  uint64_t event = 0;    // which is the first that differs, from 1; equal: how many there were
  std::string before{};  // the last events that are equal
  std::string first{};   // the event in the first run, and in the second; empty: it was over
  std::string second{};

  std::string ToText() const;
};

// Runs two programs that write an EventLog to their standard output and read answers from their
// input. The second gets --again besides: it makes the run once before, unseen.
Comparison Compare(const std::vector<std::string>& first, const std::vector<std::string>& second);

}  // namespace gabion::sim
