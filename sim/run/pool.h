// Runs seeds in child processes, several at a time, so that a CHECK that fails in a role ends one
// run and not the program. A child runs many seeds; when it dies, another goes on behind the seed
// that killed it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/base/time.h"
#include "sim/cluster/simulation.h"

namespace gabion::sim {

// What a child tells about one run. Plain bytes, followed by the texts.
struct RunSummary {
  uint64_t seed = 0;
  uint64_t events = 0;
  uint64_t completed = 0;
  uint64_t bytes = 0;
  int64_t simulated_ns = 0;
  int64_t longest_ns = 0;
  int64_t wall_ns = 0;  // how long it took; 0 when its process died
  uint64_t fail_overs = 0;
  uint64_t hash_high = 0;
  uint64_t hash_low = 0;
  PerFault<uint64_t> fired;
  PerFault<bool> enabled;
  bool failed = false;
  bool diverged = false;  // the second run of the seed was another one
  uint32_t checker_bytes = 0;
  uint32_t message_bytes = 0;
};

struct RunOutcome {
  RunSummary summary;
  std::string checker;
  std::string message;
};

struct PoolOptions {
  uint64_t first_seed = 1;
  uint64_t runs = 1;
  uint32_t jobs = 1;
  bool twice = false;
  Duration load = std::chrono::seconds(60);
  bool over_budget = false;
  std::string bug;               // of the bug bank; empty: none
  double seconds_max = 0;        // wall time; 0: no limit
  double run_seconds_max = 120;  // wall time of one run: then it hangs
};

// `on_outcome` returns false to stop.
void RunPool(const PoolOptions& options, const std::function<bool(const RunOutcome&)>& on_outcome);

// One run in a child of its own. With a tape it is driven by that.
RunOutcome RunInChild(const RunOptions& options, const std::string& bug, double seconds_max);

}  // namespace gabion::sim
