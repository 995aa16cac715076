#include "core/role/accept.h"

#include <algorithm>

namespace gabion {

namespace {

using wire::PeerRole;
using wire::Status;

// A role that runs as a process of its own, with a counted incarnation.
bool HasIncarnation(PeerRole role) {
  return role == PeerRole::kMdm || role == PeerRole::kSds || role == PeerRole::kSdc;
}

Status Judge(const Acceptor& self, const wire::Hello& hello,
             std::initializer_list<PeerRole> allowed) {
  if (hello.version_min > hello.version_max) return Status::kMalformed;
  if (hello.version_min > wire::kVersionMax || hello.version_max < wire::kVersionMin) {
    return Status::kUnsupportedVersion;
  }
  if (std::find(allowed.begin(), allowed.end(), hello.role) == allowed.end()) {
    return Status::kUnknownPeer;
  }
  if (HasIncarnation(hello.role) && (!hello.incarnation.valid() || !hello.connection.valid())) {
    return Status::kMalformed;
  }
  if (!self.cluster.valid() || self.id == 0) return Status::kUnavailable;

  const bool is_registrar = self.role == PeerRole::kMdm;
  const bool is_new = hello.sender == 0;
  if (is_new && hello.role != PeerRole::kAdmin && !is_registrar) return Status::kUnknownPeer;
  if (hello.cluster != self.cluster) {
    // A peer that has an id has a cluster too: without one it could be anybody's SDS 3.
    const bool may_learn = !hello.cluster.valid() && is_new && is_registrar;
    if (!may_learn) return Status::kWrongCluster;
  }
  if (hello.target != 0 && hello.target != self.id) return Status::kWrongPeer;
  if (hello.target_incarnation.valid() && hello.target_incarnation != self.incarnation) {
    return Status::kWrongPeer;
  }
  return Status::kOk;
}

}  // namespace

wire::HelloReply AnswerHello(const Acceptor& self, const wire::Hello& hello,
                             std::initializer_list<wire::PeerRole> allowed) {
  return {.cluster = self.cluster,
          .responder = self.id,
          .incarnation = self.incarnation,
          .status = Judge(self, hello, allowed),
          .version = std::min(hello.version_max, wire::kVersionMax),
          .role = self.role};
}

}  // namespace gabion
