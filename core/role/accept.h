// The acceptor's side of the hello: who may speak on a connection that was accepted.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/base/ids.h"
#include "core/wire/data.h"

namespace gabion {

// Who answers. An SDS that is not registered yet has no cluster and no id: it refuses everybody
// with kUnavailable.
struct Acceptor {
  wire::PeerRole role{};
  ClusterId cluster;
  uint64_t id = 0;
  Incarnation incarnation;
};

// Checks what can be checked without knowing the peer: version overlap, role (one of `allowed`),
// cluster, target. Only an MDM lets peers in that have no id (`sender` 0: not registered yet) or,
// then, no cluster (0: not learnt yet); an admin never has an id. On kOk the acceptor applies its
// own rules (registered, incarnation and connection number, R10 and R22), sets another status if it
// must refuse, and sends the reply; a refusal is followed by a close.
wire::HelloReply AnswerHello(const Acceptor& self, const wire::Hello& hello,
                             std::initializer_list<wire::PeerRole> allowed);

}  // namespace gabion
