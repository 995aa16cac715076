// Leases as the manager counts them (R1-R6, R21, R22). Volatile: a restarted manager assumes that
// every SDS holds a lease granted at that instant (R3).
//
// Two obligations per SDS: the lease of the registered incarnation, and the leases of all lower
// ones together. This is also the ledger that decisions are checked against: a primary is replaced
// only when IsOver says so, or when it has released the slice.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"

namespace gabion::mdm {

// How long the manager must wait on its own clock for `lease` to pass on another's, when both drift
// by up to `drift_permille`: lease * (1+d)/(1-d), rounded up.
Duration LeaseOnOtherClock(Duration lease, uint32_t drift_permille);

class Leases {
 public:
  struct Options {
    Duration lease{};
    uint32_t drift_permille = 10;
  };

  explicit Leases(const Options& options);

  // R3: this manager starts now. `lock_changed`: lower incarnations may be on another host.
  void AssumeGranted(SdsId sds, bool lock_changed, Instant now);
  void Forget(SdsId sds);

  // R22: a higher incarnation was committed; the lease of the lower one runs out, unless ...
  void OnNewIncarnation(SdsId sds, bool has_same_lock);
  // ... the registered one has proved that those with its lock are gone.
  void VoidOld(SdsId sds);

  struct Fence {
    bool lacking = false;  // a committed fence is not applied
    Instant committed_at;  // the oldest such
  };
  // R2, R6: may this heartbeat be granted? Granting counts from now.
  bool TryGrant(SdsId sds, const Fence& fence, Instant now);
  // R21: nothing is renewed while somebody is to be taken from this SDS.
  void SetTaking(SdsId sds, bool taking);
  // Clean shutdown: irrevocable for this incarnation.
  void HandBack(SdsId sds);

  // No right is left of the registered incarnation; of the lower ones.
  bool IsOver(SdsId sds, Instant now) const;
  bool IsOldOver(SdsId sds, Instant now) const;
  bool handed_back(SdsId sds) const;
  // Since when the registered incarnation has had no lease; only when IsOver.
  Instant OverSince(SdsId sds) const;

  // The next instant at which one of them runs out; kNever without.
  Instant NextEnd(Instant now) const;

  std::string Dump(Instant now) const;
  uint64_t StateHash() const;

 private:
  struct State {
    Instant until = Instant::min();
    Instant old_until = Instant::min();
    // Of lower incarnations that showed another state lock: nothing ends these early.
    Instant foreign_until = Instant::min();
    // Since when the lease has been counted as running without a gap; kNever: no grant in this run.
    Instant running_since = kNever;
    bool taking = false;
    bool handed_back = false;
  };

  Duration lease_;
  Duration lease_here_;  // R2
  absl::btree_map<SdsId, State> states_;
};

}  // namespace gabion::mdm
