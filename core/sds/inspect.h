// What checkers outside the product may ask an SDS role about itself. Reads only.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/role.h"

namespace gabion::sds {

// The slices for which this role, made by MakeSds, would admit client requests at `now`, in order.
void AppendServedSlices(const Role& sds, const Now& now, std::vector<SliceId>* slices);

// The slices in which this role acts as primary, serving or not, and the epochs in which it does.
void AppendPrimaryEpochs(const Role& sds, std::vector<std::pair<SliceId, Epoch>>* epochs);

// The slices that it follows as a secondary in sync, with a device that works, and the epochs.
void AppendFollowedEpochs(const Role& sds, std::vector<std::pair<SliceId, Epoch>>* epochs);

// Extents of which it found both copies to match their checksums and to differ (S7).
uint64_t CopiesThatDiffered(const Role& sds);

}  // namespace gabion::sds
