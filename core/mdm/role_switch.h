// Role switches by agreement (docs/replication.md, section 4): the primary of a healthy slice is
// asked to drain and release it, and the secondary takes over without waiting for a lease. Three
// reasons: others cannot reach a primary that the manager still hears, its device is to be emptied,
// or primaries have piled up on some devices. Always paced; what does not come about in time is
// called off.
//
//   ask (AskRelease, same epoch) -> RELEASED -> (e+1, S, P)         failover.h
//                                \-> nothing in time -> (e+1, P, S)  called off
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

class RoleSwitch {
 public:
  struct Options {
    Duration balance_delay{};  // a pool must have been whole for this long
  };

  explicit RoleSwitch(const Options& options) : options_(options) {}

  // Notes what is under way, what came of it, and since when pools are whole.
  void Observe(const View& view);
  // Marks slices that may not be switched now, for the decisions about members.
  void Annotate(View& view) const;

  struct Decision {
    std::vector<SliceId> ask;          // to be asked to release
    std::vector<SliceState> call_off;  // next epochs, with everybody where they are
  };
  Decision Decide(const View& view) const;

  // Pools of which all slices have had two acting copies for the delay.
  std::vector<PoolId> CalmPools(Instant now) const;

  uint64_t StateHash() const;

 private:
  struct Asked {
    Instant at;
    Epoch epoch;
    Member primary;
    bool suspect = false;
  };

  struct Pause {
    Instant until;
    uint32_t count = 0;
  };
  using Pauses = absl::btree_map<SliceId, Pause>;

  // Twice as long as the last one, from 10 s up to 10 s << `doublings_max`.
  static void Extend(Pauses& pauses, SliceId id, Instant now, uint32_t doublings_max);
  static bool IsPaused(const Pauses& pauses, SliceId id, Instant now);

  std::vector<SliceId> Suspects(const View& view, size_t max) const;
  std::vector<SliceId> Leaving(const View& view, size_t max) const;
  void AskForBalance(const View& view, PoolId pool, size_t max, std::vector<SliceId>* ask) const;

  Options options_;
  absl::btree_map<SliceId, Asked> asked_;
  Pauses in_vain_;        // asked, and nothing came of it
  Pauses after_suspect_;  // switched because of a complaint; the next one may say the opposite
  absl::btree_map<SdsId, Instant> avoided_until_;  // was a suspect: gets no role for balance
  absl::btree_map<PoolId, Instant> whole_since_;
};

}  // namespace gabion::mdm
