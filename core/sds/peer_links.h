// Connections that this SDS dials, as a primary, to those that hold the other replicas.
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/link.h"
#include "core/sds/config.h"
#include "core/sds/context.h"

namespace gabion::sds {

class PeerLinks {
 public:
  // Dials whom the primaries of this SDS need, hangs up on the others.
  void Update(Context& ctx);
  void StopAll(Context& ctx);

  // The connection to that incarnation of the member's SDS; invalid while there is none.
  ConnId Conn(const Member& member) const;
  // Whose connection it is; invalid when it is none of these.
  SdsId OwnerOf(ConnId conn) const;

  bool OnConnected(Context& ctx, const ConnectedEvent& event);
  bool OnConnectFailed(Context& ctx, const ConnectFailedEvent& event);
  bool OnDisconnected(Context& ctx, const DisconnectedEvent& event);
  void OnHelloReply(Context& ctx, ConnId conn, const wire::HelloReply& reply);
  void OnTimer(Context& ctx, uint32_t slot);

  void CheckInvariants() const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  struct Peer {
    uint32_t slot = 0;
    Link link;
  };
  Peer* FindConn(ConnId conn);

  absl::btree_map<SdsId, Peer> peers_;
  uint32_t next_slot_ = 1;
};

}  // namespace gabion::sds
