#include "sim/run/bank.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "sim/run/pool.h"

namespace gabion::sim {

namespace {

constexpr PlantedBug kBugs[] = {
    {"R10-retry-without-confirmation",
     "R10: a retry waits for the close of the earlier connection"},
    {"R10-new-id-on-retry", "R10: a retry keeps its request id"},
    {"R10-old-connection-not-closed", "R10: a new connection closes the older one first"},
};

[[maybe_unused]] double WallSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

std::span<const PlantedBug> AllPlantedBugs() { return kBugs; }

int RunBugBank([[maybe_unused]] const BankOptions& options) {
#ifndef GABION_BUGBANK
  std::fprintf(stderr, "gabion-sim: planted bugs are in gabion-sim-bugbank only\n");
  return 2;
#else
  uint64_t missed = 0;
  uint64_t tried = 0;
  std::vector<double> times;
  for (const PlantedBug& bug : kBugs) {
    if (!options.bug.empty() && options.bug != bug.name) continue;
    ++tried;
    PoolOptions pool;
    pool.first_seed = options.first_seed;
    pool.runs = options.runs;
    pool.jobs = options.jobs;
    pool.bug = std::string(bug.name);
    uint64_t runs = 0;
    RunOutcome found;
    const double started = WallSeconds();
    RunPool(pool, [&](const RunOutcome& outcome) {
      ++runs;
      if (!outcome.summary.failed) return true;
      found = outcome;
      return false;
    });
    const double seconds = WallSeconds() - started;
    if (found.summary.failed) {
      times.push_back(seconds);
      std::printf("%-36s found in run %4llu, %6.1f s, seed %llu, by %s\n",
                  std::string(bug.name).c_str(), static_cast<unsigned long long>(runs), seconds,
                  static_cast<unsigned long long>(found.summary.seed), found.checker.c_str());
    } else {
      ++missed;
      std::printf("%-36s NOT FOUND in %llu runs, %.1f s (%s)\n", std::string(bug.name).c_str(),
                  static_cast<unsigned long long>(runs), seconds, std::string(bug.rule).c_str());
    }
    std::fflush(stdout);
  }
  if (tried == 0) {
    std::fprintf(stderr, "gabion-sim-bugbank: no planted bug \"%s\"\n", options.bug.c_str());
    return 2;
  }
  std::sort(times.begin(), times.end());
  std::printf("%llu of %llu found", static_cast<unsigned long long>(tried - missed),
              static_cast<unsigned long long>(tried));
  if (!times.empty()) std::printf(", median %.1f s", times[times.size() / 2]);
  std::printf("\n");
  return missed == 0 ? 0 : 1;
#endif
}

}  // namespace gabion::sim
