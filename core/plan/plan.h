// Where replicas go: pure functions from an inventory to a plan. No clock, no state, no randomness;
// equal inputs give equal plans.
//
// Terms: a *domain* is what two copies of a slice must not share: the fault set of the SDS, or the
// SDS itself when it has none. The caller numbers domains.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/ids.h"

namespace gabion::plan {

struct Device {
  DeviceId id;
  SdsId sds;
  uint64_t domain = 0;
  uint64_t size_bytes = 0;
  uint64_t used_bytes = 0;
  uint32_t replicas = 0;   // slices with a replica here, joining ones included
  uint32_t primaries = 0;  // of them, primaries
  uint32_t joins = 0;      // joinings under way with this device as source or target
};

struct Pair {
  DeviceId primary;
  DeviceId secondary;
};

// Places `slice_count` slices on empty devices. Replicas per device are proportional to its size as
// far as the domains allow; primaries are half of a device's replicas, within one; the partners of
// a device are spread, so that a rebuild reads from many. Empty when fewer than two domains have
// devices.
std::vector<Pair> PlaceSlices(std::span<const Device> devices, uint32_t slice_count);

struct TargetRequest {
  DeviceId source;            // the device of the copy that is left
  uint64_t bytes_needed = 0;  // what the new replica will take, as far as known
  uint32_t joins_per_device_max = 1;
};

// The device for a new copy: another domain than the source's, with room, with the fewest replicas
// for its size; ties go to the smaller id. Nothing when there is none now: no candidate at all, or
// all of them (or the source) have their share of joinings.
std::optional<DeviceId> ChooseTarget(std::span<const Device> devices, const TargetRequest& request);

// Bytes that all pairs of replicas can hold when every slice keeps two copies in different domains:
// half of the sum, less when one domain has more than all others together.
uint64_t NetCapacity(std::span<const Device> devices);

}  // namespace gabion::plan
