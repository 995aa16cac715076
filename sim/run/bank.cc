#include "sim/run/bank.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "sim/run/pool.h"

namespace gabion::sim {

namespace {

constexpr PlantedBug kBugs[] = {
    {"R2-lease-over-too-early", "R2: a lease is over only after lease * k"},
    {"R5-lease-never-ends", "R5: without a lease nothing is admitted"},
    {"R5-read-without-lease", "R5: a read needs the lease until its data was read"},
    {"R6-grant-without-fence", "R6: no grant to an SDS that lacks an old fence"},
    {"R7-ack-before-secondary", "R7: acknowledged is durable on the whole in-sync set"},
    {"R7-secondary-acks-before-durable", "R7: a replica acknowledges what is durable"},
    {"R8-read-uncommitted", "R8: reads return only committed data"},
    {"R10-retry-without-confirmation", "R10: a retry waits until the earlier connection is closed"},
    {"R10-new-id-on-retry", "R10: a retry keeps its request id"},
    {"R10-no-dedupe", "R10: a known id is not admitted again"},
    {"R10-old-connection-not-closed", "R10: a new connection closes the older one first"},
    {"R12-promote-before-lease-over", "R12: no new primary before the old lease is over"},
    {"R13-promote-out-of-sync", "R13: only members of the in-sync set become primary"},
    {"R14-no-exchange", "R14: present members exchange their tails first"},
    {"R14-no-void", "R14: who took no part voids what lies above the recorded end"},
    {"R15a-uncommitted-overwrites", "R15a: only committed entries overwrite when destaging"},
    {"R18-tail-not-carried", "R18: an epoch start carries the tail over"},
    {"R19-ack-without-joiner", "R19: after T complete nothing is acknowledged without T"},
    {"R20-old-incarnation-kept-present", "R20: members are (SDS, incarnation)"},
    {"R20-report-of-an-older-epoch", "R20: a report of another epoch is refused"},
    {"R20-stale-incarnation-accepted", "R20: a message of another incarnation is refused"},
    {"R21-renew-while-taking", "R21: no renewal while the role is taken away"},
    {"R22-void-live-lease", "R22: a new incarnation voids a lease only with lock and devices"},
    {"act-before-durable", "the MDM acts on what is committed"},
    {"duplicate-replicate-applied", "a duplicate replicate is not appended again"},
    {"epoch-not-checked-at-secondary", "R20: a replicate of another epoch is refused"},
    {"join-skips-log-entries", "R19: the walk covers entries still in the log"},
    {"joining-copy-without-lock", "R19: a copy is made under the range lock"},
    {"map-update-lost-version", "map updates have no gaps"},
    {"partial-write-merge-unlocked", "a partial block is merged under the range lock"},
    {"reign-not-checked", "a request of another reign is refused"},
    {"sdc-error-does-not-stick", "the first error of a split request sticks"},
    {"sdc-fails-timeout-unfenced", "a timed-out write fails only after its fence"},
    {"sdc-stale-map-kept", "a client follows its map"},
    {"unmap-answers-before-fence", "an unmap is answered when its fence is complete"},
    {"unmap-not-checked", "an unmapped client is refused"},
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
