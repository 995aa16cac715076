// The figures over many runs, and whether they reach the goals.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/run/pool.h"

namespace gabion::sim {

// Failures that are likely to be the same have the same: the checker, and what it says without
// numbers.
std::string SignatureOf(const RunOutcome& outcome);

class Summary {
 public:
  void Add(const RunOutcome& outcome);
  uint64_t runs() const { return runs_; }
  uint64_t failed() const { return failed_; }

  // One line while it goes on: how many of `wanted`, how fast, which failures, and how many fault
  // classes have happened at all.
  std::string ToLine(double wall_seconds, uint64_t wanted) const;
  // A page for people. `wall_seconds`: for the rates.
  std::string ToText(double wall_seconds, uint32_t jobs) const;
  // What is below its goal, a line each; empty: nothing. Shares need `runs()` of some hundred to
  // mean anything; fewer are not judged.
  std::string Shortfalls(Duration load) const;

 private:
  uint64_t MedianCompleted() const;

  uint64_t runs_ = 0;
  uint64_t failed_ = 0;
  uint64_t events_ = 0;
  int64_t simulated_ns_ = 0;
  uint64_t with_fail_over_ = 0;
  uint64_t with_power_cut_ = 0;
  uint64_t with_partition_ = 0;
  int64_t longest_ns_ = 0;
  std::vector<uint64_t> completed_;
  PerFault<uint64_t> enabled_runs_;
  PerFault<uint64_t> fired_runs_;
  std::map<std::string, uint64_t> failures_;  // by signature
};

}  // namespace gabion::sim
