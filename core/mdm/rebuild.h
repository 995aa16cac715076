// Back to two copies: which slices get a joining member, and where. The former member comes first,
// because it needs only what it missed; a new place is taken after a delay, or at once when the
// former device is lost for good.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"
#include "core/plan/plan.h"

namespace gabion::mdm {

// The devices of a pool as core/plan wants them. `usable_only`: those that could take a replica
// now.
std::vector<plan::Device> PlanDevices(const View& view, PoolId pool, bool usable_only);

class Rebuild {
 public:
  struct Options {
    Duration delay{};
    uint32_t joins_per_device_max = 1;
  };

  explicit Rebuild(const Options& options) : options_(options) {}

  // Notes which slices lack a copy since when.
  void Observe(const View& view);
  // Next epochs of slices that are to get a joining member, or are to give up on an absent one that
  // has been away for the delay.
  std::vector<SliceState> Decide(const View& view, size_t max) const;

  // A joining of this slice did not end without success a moment ago.
  bool MayJoin(SliceId slice, Instant now) const;

  uint64_t StateHash() const;

 private:
  Options options_;
  // Since when the slice has not had two acting copies. Volatile: a restarted manager waits anew.
  absl::btree_map<SliceId, Instant> degraded_since_;
  // Slices with a joining member, and until when those whose joining ended without success wait:
  // a target that is full, or keeps failing, must not cost an epoch, and an item of the slice's
  // history, with every heartbeat.
  struct Failures {
    uint32_t count = 0;
    Instant retry_at;
  };
  absl::btree_map<SliceId, DeviceId> joining_;
  absl::btree_map<SliceId, Failures> failures_;  // until a joining succeeds, or long after
};

}  // namespace gabion::mdm
