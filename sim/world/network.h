// The network of a world as plain data: links between nodes, connections, messages in flight. What
// happens on it is in world_network.cc.
//
// A connection carries messages in order, at most once, whole, until it breaks; then an unknown
// tail is lost, and neither end need notice. A lost packet is a delay, a cut link holds what was
// sent until it heals or the connection breaks.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/ids.h"
#include "core/role/event.h"
#include "core/wire/message.h"
#include "sim/world/choice.h"
#include "sim/world/event_queue.h"

namespace gabion::sim {

using NodeIndex = uint16_t;

inline constexpr TrueTime kForever = INT64_MAX;

// From one node to another.
struct LinkState {
  Stream stream;
  Duration base_delay{0};
  uint32_t cuts = 0;           // partitions that block it now
  TrueTime clogged_until = 0;  // what arrives earlier arrives then
};

struct ConnectionEnd {
  enum class State : uint8_t { kDialling, kOpen, kClosed };

  NodeIndex node = 0;
  uint32_t boot = 0;
  State state = State::kDialling;
  DialTag dial = 0;               // of the dialling end
  TrueTime last_arrival = 0;      // of anything on its way to this end
  TrueTime lost_from = kForever;  // what would arrive then or later is lost
  std::vector<uint32_t> held;     // slots in flight that wait for the link to heal
};

// End 0 dialled, end 1 accepted. A ConnId is 1 + 2 * index + end.
struct Connection {
  ConnectionEnd ends[2];
  bool broken = false;
};

struct InFlight {
  enum class Kind : uint8_t { kMessage, kEstablished, kClosing };

  uint32_t connection = 0;
  uint8_t to = 0;  // end
  Kind kind{};
  wire::Message message;
};

struct Dial {
  NodeIndex from = 0;
  uint32_t boot = 0;
  DialTag tag = 0;
  Address address;
};

inline ConnId ConnOf(uint32_t connection, uint32_t end) {
  return ConnId(1 + 2 * uint64_t{connection} + end);
}

}  // namespace gabion::sim
