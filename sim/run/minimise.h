// Cuts a failing tape down: zeroes choices (0 is always the benign one) while the same checker
// fails.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/time.h"
#include "sim/cluster/simulation.h"
#include "sim/world/choice.h"

namespace gabion::sim {

struct MinimiseOptions {
  Duration load = std::chrono::seconds(60);
  bool over_budget = false;
  std::string bug;
  double seconds_max = 120;  // wall time for all of it
};

struct Minimised {
  Tape tape;
  std::string checker{};
  std::string message{};
  uint64_t choices_before = 0;  // that are not zero
  uint64_t choices_after = 0;
  uint64_t runs = 0;
};

// The tape of a run, failed or not. It runs in a child, and survives an abort there.
Tape RecordTape(RunOptions run, const std::string& bug, double seconds_max);

// `checker` is empty when the tape does not fail at all.
Minimised Minimise(const Tape& tape, const MinimiseOptions& options);

}  // namespace gabion::sim
