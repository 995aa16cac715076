// Accepted connections: clients and other SDSs. Order of a client's connections (R10):
//
//   hello of a higher connection number   the older connection is closed and what it had not
//                                         admitted is discarded; then the hello is answered
//   hello of a higher incarnation         the same, and the answer waits until everything admitted
//                                         for lower incarnations is settled
//   anything not higher                   refused
//
// So the answer to a hello confirms that nothing of an earlier connection can still be admitted.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/event.h"
#include "core/sds/context.h"
#include "core/wire/data.h"

namespace gabion::sds {

struct Connection {
  ConnId conn;
  Address peer;
  bool ready = false;    // its hello was answered with kOk
  bool waiting = false;  // its hello is accepted but not answered yet
  wire::PeerRole role{};
  uint64_t id = 0;
  Incarnation incarnation;
  ConnectionNumber number;
};

class Sessions {
 public:
  void OnConnected(Context& ctx, const ConnectedEvent& event);
  void OnDisconnected(Context& ctx, ConnId conn);
  void OnHello(Context& ctx, ConnId conn, const wire::Hello& hello);
  // Answers hellos that waited for something to drain.
  void Advance(Context& ctx);
  // The configuration names another incarnation of a client, or none: its connections are closed.
  void OnClientsChanged(Context& ctx);

  // A protocol violation: counted, logged once per peer address, closed.
  void Violation(Context& ctx, ConnId conn, std::string_view what);

  // Null unless the hello was answered and the connection is not given up.
  const Connection* FindReady(ConnId conn) const;
  bool IsReady(ConnId conn) const { return FindReady(conn) != nullptr; }
  // Accepted and not given up, whatever its hello.
  bool Knows(ConnId conn) const { return connections_.contains(conn); }
  uint64_t violations() const { return violations_; }
  size_t size() const { return connections_.size(); }
  uint64_t StateHash() const;
  void CheckInvariants() const;

 private:
  using PeerKey = std::pair<wire::PeerRole, uint64_t>;
  struct Session {
    Incarnation incarnation;
    ConnectionNumber highest;
    ConnId conn;           // the one of `highest`, while it lives
    bool cleaned = false;  // the request ids of lower incarnations are dropped
  };

  void Answer(Context& ctx, Connection& connection);
  void Refuse(Context& ctx, ConnId conn, wire::HelloReply reply, wire::Status status);
  void Drop(Context& ctx, ConnId conn);

  absl::btree_map<ConnId, Connection> connections_;
  absl::btree_map<PeerKey, Session> sessions_;
  absl::btree_map<Address, uint64_t> reported_;
  uint64_t violations_ = 0;
  uint32_t waiting_ = 0;
};

}  // namespace gabion::sds
