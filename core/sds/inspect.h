// What checkers outside the product may ask an SDS role about itself. Reads only.
#pragma once

#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/role.h"

namespace gabion::sds {

// The slices for which this role, made by MakeSds, would admit client requests at `now`, in order.
void AppendServedSlices(const Role& sds, const Now& now, std::vector<SliceId>* slices);

}  // namespace gabion::sds
