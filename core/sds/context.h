// What every component of the SDS gets with an event, and the tags by which answers find their way.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/base/time.h"
#include "core/role/effects.h"

namespace gabion::sds {

struct Node;

struct Context {
  const Now& now;
  Effects& effects;
  Node& node;

  void Log(Severity severity, std::string text) { effects.Log(severity, std::move(text)); }
};

enum class TimerKind : uint8_t {
  kHeartbeat = 1,
  kLease = 2,
  kMdmLink = 3,
  kCommitPoints = 4,
  kWake = 5,
  kStop = 6,
  kDeviceStore = 7,  // index: slot of the device
  kDeviceRetry = 8,
  kPeerLink = 9,  // index: slot of the peer
  kMarking = 10,
  kScan = 11,  // index: slot of the device
};

constexpr TimerTag TimerOf(TimerKind kind, uint32_t index = 0) {
  return (uint64_t{static_cast<uint8_t>(kind)} << 32) | index;
}
constexpr TimerKind KindOf(TimerTag tag) { return static_cast<TimerKind>(tag >> 32); }
constexpr uint32_t IndexOf(TimerTag tag) { return static_cast<uint32_t>(tag); }

// Each link has 2^32 dial tags: the MDM's first, then one range per peer.
constexpr DialTag DialBase(uint64_t index) { return index << 32; }

}  // namespace gabion::sds
