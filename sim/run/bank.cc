#include "sim/run/bank.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "sim/run/pool.h"

namespace gabion::sim {

namespace {

constexpr PlantedBug kBugs[] = {
    {"R2-lease-over-too-early", "R2: a lease is over only after lease * k", 9},
    {"R5-lease-never-ends", "R5: without a lease nothing is admitted", 1},
    {"R5-read-without-lease", "R5: a read needs the lease until its data was read", 59},
    {"R6-drain-not-awaited", "R6: a fence is complete when it is drained, not when it is applied",
     0},
    {"R7-ack-before-secondary", "R7: acknowledged is durable on the whole in-sync set", 1},
    {"R7-secondary-acks-before-durable", "R7: a replica acknowledges what is durable", 148},
    {"R8-read-uncommitted", "R8: reads return only committed data", 17},
    {"R10-retry-without-confirmation", "R10: a retry waits until the earlier connection is closed",
     59},
    {"R10-new-id-on-retry", "R10: a retry keeps its request id", 20},
    {"R10-no-dedupe", "R10: a known id is not admitted again", 20},
    {"R10-old-connection-not-closed", "R10: a new connection closes the older one first", 0},
    {"R12-promote-before-lease-over", "R12: no new primary before the old lease is over", 3},
    {"R13-promote-out-of-sync", "R13: only members of the in-sync set become primary", 1},
    {"R14-no-exchange", "R14: present members exchange their tails first", 192},
    {"R14-no-void", "R14: who took no part voids what lies above the recorded end", 192},
    {"R15a-uncommitted-overwrites", "R15a: only committed entries overwrite when destaging", 3},
    {"R18-tail-not-carried", "R18: an epoch start carries the tail over", 2},
    {"R19-ack-without-joiner", "R19: after T complete nothing is acknowledged without T", 459},
    {"R20-old-incarnation-kept-present", "R20: members are (SDS, incarnation)", 2},
    {"R20-stale-incarnation-accepted", "R20: a message of another incarnation is refused", 0},
    {"R21-renew-while-taking", "R21: no renewal while the role is taken away", 119},
    {"R22-void-live-lease", "R22: a new incarnation voids a lease only with lock and devices", 12},
    {"R22-device-of-another-run-accepted", "R22: a device knows the newest run that has used it",
     0},
    {"R24-credits-kept", "R24: credits that others wait for are given back", 0},
    {"R24-log-promised-twice", "R24: room in a log is promised to one primary", 0},
    {"R24-log-room-not-asked", "R24: a write is admitted when every log has room for it", 0},
    {"R24-no-extent-credits", "R24: a write is admitted when everybody has extents for it", 0},
    {"S1-acknowledged-out-of-order", "S1: batches are acknowledged in their order", 0},
    {"S1-batch-not-durable", "S1: a batch is acknowledged when it and all before it are durable",
     0},
    {"S1-generation-not-checked", "S1: a batch of an earlier run does not continue the log", 0},
    {"S1-journal-not-proven", "a record of the journal counts when it is proven", 0},
    {"S1-journal-predecessor-not-checked", "a batch of the journal names its predecessor", 0},
    {"S1-predecessor-not-checked", "S1: a batch names its predecessor's checksum", 0},
    {"S1-redirect-not-awaited", "S1: a batch follows the extents that it names", 0},
    {"S1-redirect-not-durable", "S1: the extents that a batch names are durable", 0},
    {"S2-damage-is-a-torn-tail", "S2: a damaged log is no torn tail", 0},
    {"S2-idle-log-not-sealed", "S2: an idle log is sealed by a batch that proves the last one", 0},
    {"S2-verdict-not-kept", "S2: a damaged log's verdict outlives a restart", 0},
    {"S3-failed-flush-believed", "S3: an error of a flush fails the device", 3},
    {"S3-failed-home-write-believed", "S3: an error of a write fails the device", 0},
    {"S4-cache-keeps-what-was-overwritten", "S4: the read cache forgets what is overwritten", 0},
    {"S4-cache-learns-what-has-moved", "S4: the read cache takes what has not moved meanwhile", 0},
    {"S4-checksum-of-no-place", "S4: a checksum is bound to its place", 0},
    {"S4-old-page-taken", "S4: a page that was read while it moved is read again", 0},
    {"S4-page-not-verified", "S4: a page of homes is verified", 0},
    {"S4-read-not-verified", "S4: what is read is verified", 3},
    {"S5-no-reserve", "S5: extents are kept for trims and destaging", 0},
    {"S6-extent-with-two-owners", "S6: an extent has one owner", 0},
    {"S6-extent-without-owner", "S6: an extent has an owner or is free", 9},
    {"S8-checkpoint-over-the-last-one", "S8: the last checkpoint is not overwritten", 0},
    {"S8-dirty-page-evicted", "S8: a page that changed stays until a checkpoint has it", 0},
    {"S8-extent-reused-at-once", "S8: an extent is reused after the next checkpoint", 0},
    {"S8-leaf-changes-after-the-cut", "S8: a checkpoint shows leaves as they were at its cut", 0},
    {"S8-log-reused-after-one-superblock", "S8: the log is reused when both superblocks say so", 0},
    {"S8-old-home-released-at-the-floor", "S8: an old home is reused after the next checkpoint", 0},
    {"S8-page-over-the-last-one", "S8: a page of the last checkpoint is not overwritten", 92},
    {"S8-redirect-released-at-once", "S8: a voided extent is reused after the next checkpoint", 0},
    {"S8-superblock-before-flush", "S8: a superblock follows what it names", 1},
    {"act-before-durable", "the MDM acts on what is committed", 165},
    {"copy-forgets-carried-over", "a copy is as young as the youngest entry that it holds", 0},
    {"drop-forgotten-while-device-opens", "a replica to forget is forgotten when it is gone", 16},
    {"duplicate-replicate-applied", "a duplicate replicate is not appended again", 41},
    {"epoch-not-checked-at-secondary", "R20: a replicate of another epoch is refused", 0},
    {"join-base-counts-carried-over", "R14: a joining starts where the target holds everything", 0},
    {"join-skips-log-entries", "R19: the walk covers entries still in the log", 1},
    {"joining-copy-without-lock", "R19: a copy is made under the range lock", 144},
    {"map-update-lost-version", "map updates have no gaps", 0},
    {"partial-write-merge-unlocked", "a partial block is merged under the range lock", 3},
    {"reign-not-checked", "a request of another reign is refused", 0},
    {"scan-trusts-damaged-copy", "S7: only a copy that verifies is taken for another", 4},
    {"scan-without-lock", "S7: copies are compared at rest, under the range lock", 0},
    {"sdc-error-does-not-stick", "the first error of a split request sticks", 0},
    {"sdc-fails-timeout-unfenced", "a timed-out write fails only after its fence", 208},
    {"sdc-stale-map-kept", "a client follows its map", 1},
    {"unmap-answers-before-fence", "an unmap is answered when its fence is complete", 159},
    {"unmap-not-checked", "an unmapped client is refused", 130},
};

// A bug that random runs find in a hundred runs is not missed by a thousand.
[[maybe_unused]] constexpr uint32_t kGateRunsMax = 100;
[[maybe_unused]] constexpr uint64_t kGateLimit = 1'000;

[[maybe_unused]] double WallSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The first failing run with the bug; a run that did not fail when there is none.
[[maybe_unused]] RunOutcome Search(const PlantedBug& bug, uint64_t first_seed, uint64_t runs_max,
                                   uint32_t jobs, uint64_t* runs) {
  PoolOptions pool;
  pool.first_seed = first_seed;
  pool.runs = runs_max;
  pool.jobs = jobs;
  pool.bug = std::string(bug.name);
  RunOutcome found;
  RunPool(pool, [&](const RunOutcome& outcome) {
    ++*runs;
    if (!outcome.summary.failed) return true;
    found = outcome;
    return false;
  });
  return found;
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
    if (options.gate && (bug.runs == 0 || bug.runs > kGateRunsMax)) continue;
    ++tried;
    const double started = WallSeconds();
    uint64_t runs = 0;
    const uint64_t limit = options.gate ? kGateLimit : options.runs;
    const RunOutcome found = Search(bug, options.first_seed, limit, options.jobs, &runs);
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
