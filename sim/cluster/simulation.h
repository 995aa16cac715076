// One run: a cluster drawn from the seed, faults and load together, then healing, and all checks.
//
// Over budget any number of disks may be damaged, for good: the run checks only that nothing lies.
// What reads return is what may be there, or they fail, or wait.
//
//   set-up (no faults) -> load under faults -> healed: all I/O completes, all slices are mirrored,
//   everything reads back, nothing moves any more -> power cut of everybody -> the same again
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "sim/cluster/cluster.h"
#include "sim/fault/classes.h"
#include "sim/world/choice.h"
#include "sim/world/world.h"

namespace gabion::sim {

struct RunOptions {
  uint64_t seed = 1;
  Duration load = std::chrono::seconds(60);
  bool over_budget = false;
  const Tape* tape = nullptr;  // drives the run instead of the seed
  bool record = false;         // keep the tape in the report
  bool dump_state = false;     // keep what the roles say at the end, failed or not
  Tracer* tracer = nullptr;
  // Called before the first event: a look inside for the report of an abort.
  std::function<void(const World&, const Choices&)> on_ready{};
};

struct RunReport {
  Failure failure;
  Workload::Stats workload;
  WorldStats world;
  RollingHash hash;
  TrueTime simulated = 0;
  uint64_t fail_overs = 0;
  uint64_t epochs = 0;
  PerFault<bool> enabled;
  PerFault<uint64_t> fired;
  std::string shape;  // of the cluster, for people
  std::string dump;   // of a failed run: what each role says
  Tape tape;
};

RunReport RunSimulation(const RunOptions& options, PageArena* arena);

}  // namespace gabion::sim
