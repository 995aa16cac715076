// The epoch table (docs/replication.md, section 4) as a pure function: what the manager knows about
// a slice in, its next epoch out. Rows about joining and leaving are here; the choice of a new
// copy's place is in rebuild.h.
//
// With P the primary, S the secondary, T the joining member of epoch e; ' = in its present
// incarnation; (-) absent:
//
//   P acts                                          P does not act, R12 holds
//   ------------------------------------------      --------------------------------------------
//   S able, not present or older: (P, S')           S able:              (S', P' or P(-))
//   S needed and out, or needs resync: (P, -)       only P able:         (P', S(-))
//   S needed and well, P missed by others: (S, P)
//   S's device failed for good: (P, -)              P needs resync:      (S', -), needs S able
//   S's device down, SDS up: (P, S(-))              neither, P's device given up: (P(-), S(-))
//   T complete: (P, T); T out or failed: (P, S)     T is dropped in every one of these
//   released, S able: (S, P); else (P, S) anew
// A device that went back to an older content counts as one whose replicas need resync; they are
// forgotten, not kept for a delta.
#pragma once

#include <optional>
#include <vector>

#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

// R12: may an epoch name another primary than this one's?
bool MayReplacePrimary(const View& view, const SliceState& slice);

// The next epoch of the slice, or nothing when the present one is right.
std::optional<SliceState> DecideSlice(const View& view, const SliceState& slice);

// All slices that need a new epoch now, at most `max`.
std::vector<SliceState> DecideSlices(const View& view, size_t max);

}  // namespace gabion::mdm
