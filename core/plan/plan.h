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
  bool leaving = false;    // it is being emptied, and gets nothing new
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

// A slice as role balance sees it. No secondary: invalid.
struct PlacedSlice {
  DeviceId primary;
  DeviceId secondary;
  bool may_change = false;  // nothing is under way with it
};

// Which slices (by index, ascending) should exchange the roles of their two copies, so that every
// device comes nearer to being primary of half of its replicas. Empty when no exchange helps: what
// is out of balance then is the remainder of an odd number. Stops after the first `turns_max`;
// asked again with the outcome, it goes on, and it ends.
std::vector<size_t> TurnSlices(std::span<const PlacedSlice> slices, size_t turns_max);

struct Move {
  size_t slice = 0;  // by index: its secondary moves ...
  DeviceId to;       // ... there
};

struct MoveRequest {
  uint32_t joins_per_device_max = 1;
};

// The next replica to move so that devices are filled evenly for their size, or nothing when that
// would gain little: from the fullest device to the emptiest that has room and does not share a
// domain with the primary. `replicas` of the devices are as they will be when what is under way has
// come about; each move makes the sum of the squares smaller, so asked again and again, it ends.
std::optional<Move> ChooseMove(std::span<const Device> devices, std::span<const PlacedSlice> slices,
                               const MoveRequest& request);

// Bytes that all pairs of replicas can hold when every slice keeps two copies in different domains:
// half of the sum, less when one domain has more than all others together.
uint64_t NetCapacity(std::span<const Device> devices);

}  // namespace gabion::plan
