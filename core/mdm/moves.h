// Replicas that move although nothing is lost: away from devices that are to be removed, and to
// devices that are emptier than others. Always the secondary moves; a primary hands its role over
// first (role_switch.h):
//
//   (e, P, S) -> (e+1, P, S, joining T) -> (e+2, P, T)        S stays in sync until T is complete
//
// Lost redundancy comes first: a pool with a degraded slice is not evened out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/ids.h"
#include "core/mdm/rebuild.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

struct MoveOptions {
  uint32_t joins_per_device_max = 1;
  size_t max = 0;  // next epochs
  // Pools that may be evened out now.
  std::vector<PoolId> calm;
};

// Next epochs of slices that are to get a joining member beside their secondary.
std::vector<SliceState> DecideMoves(const View& view, const Rebuild& rebuild,
                                    const MoveOptions& options);

// Devices that are to be removed and hold nothing any more.
std::vector<DeviceId> EmptiedDevices(const Repository& repository);
// SDSs that are to be removed and have no device any more.
std::vector<SdsId> EmptiedSdss(const Repository& repository);

}  // namespace gabion::mdm
