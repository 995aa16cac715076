// The bug bank: planted bugs (core/base/bug.h), and how soon random runs find each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gabion::sim {

struct PlantedBug {
  std::string_view name;  // as in PLANTED_BUG(...)
  std::string_view rule;  // that it breaks
  uint32_t runs;          // that were needed from seed 1 when this was written; 0: not found yet
};

std::span<const PlantedBug> AllPlantedBugs();

struct BankOptions {
  std::string bug;  // empty: all
  uint64_t first_seed = 1;
  uint64_t runs = 400;  // at most, for each bug
  uint32_t jobs = 1;
  // Only those that are found soon, and a limit that makes not finding one no accident.
  bool gate = false;
};

// A line per bug: by which checker and in which run it was found. 0 when all were.
int RunBugBank(const BankOptions& options);

}  // namespace gabion::sim
