#include "core/sds/sessions.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/mix.h"
#include "core/role/accept.h"
#include "core/sds/node.h"

namespace gabion::sds {

using wire::PeerRole;
using wire::Status;

namespace {

constexpr size_t kReportedPeersMax = 1024;

Acceptor SelfOf(const Node& node) {
  return {.role = PeerRole::kSds,
          .cluster = node.self.cluster,
          .id = node.self.sds.value(),
          .incarnation = node.self.incarnation};
}

}  // namespace

void Sessions::OnConnected(Context& ctx, const ConnectedEvent& event) {
  if (connections_.size() >= ctx.node.options.connections_max) {
    ctx.effects.Close(event.conn);
    return;
  }
  connections_[event.conn] = {.conn = event.conn, .peer = event.peer};
}

void Sessions::OnDisconnected(Context& ctx, ConnId conn) { Drop(ctx, conn); }

void Sessions::Drop(Context& ctx, ConnId conn) {
  const auto found = connections_.find(conn);
  if (found == connections_.end()) return;
  const Connection connection = found->second;
  connections_.erase(found);
  if (connection.waiting) --waiting_;
  if (connection.ready && connection.role == PeerRole::kSdc) ctx.node.DiscardRequestsOf(ctx, conn);
  const auto session = sessions_.find(PeerKey(connection.role, connection.id));
  if (session != sessions_.end() && session->second.conn == conn) session->second.conn = ConnId();
}

void Sessions::Refuse(Context& ctx, ConnId conn, wire::HelloReply reply, Status status) {
  reply.status = status;
  ctx.effects.Send(conn, reply);
  ctx.effects.Close(conn);
  Drop(ctx, conn);
}

void Sessions::OnHello(Context& ctx, ConnId conn, const wire::Hello& hello) {
  const auto found = connections_.find(conn);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  if (connection.ready || connection.waiting) return Violation(ctx, conn, "a second hello");
  const wire::HelloReply reply =
      AnswerHello(SelfOf(ctx.node), hello, {PeerRole::kSds, PeerRole::kSdc});
  if (reply.status != Status::kOk) return Refuse(ctx, conn, reply, reply.status);
  if (ctx.node.stopping) return Refuse(ctx, conn, reply, Status::kUnavailable);

  if (hello.role == PeerRole::kSdc) {
    const std::optional<Incarnation> named = ctx.node.config.FindClient(SdcId(hello.sender));
    if (!named.has_value()) return Refuse(ctx, conn, reply, Status::kUnknownPeer);
    if (hello.incarnation != *named) {
      // A higher one than the configuration names is not registered as far as this SDS knows yet.
      return Refuse(ctx, conn, reply,
                    hello.incarnation < *named ? Status::kStaleIncarnation : Status::kUnknownPeer);
    }
  }
  Session& session = sessions_[PeerKey(hello.role, hello.sender)];
  if (std::pair(hello.incarnation, hello.connection) <=
      std::pair(session.incarnation, session.highest)) {
    return Refuse(ctx, conn, reply, Status::kStaleIncarnation);
  }
  const ConnId older = session.conn;
  if (hello.incarnation != session.incarnation) session.cleaned = false;
  session.incarnation = hello.incarnation;
  session.highest = hello.connection;
  session.conn = conn;
  connection.role = hello.role;
  connection.id = hello.sender;
  connection.incarnation = hello.incarnation;
  connection.number = hello.connection;
  connection.waiting = true;
  ++waiting_;
  if (older.valid() && !PLANTED_BUG("R10-old-connection-not-closed")) {
    ctx.effects.Close(older);
    Drop(ctx, older);
  }
  Advance(ctx);
}

void Sessions::Advance(Context& ctx) {
  if (waiting_ == 0) return;
  for (auto& [conn, connection] : connections_) {
    if (!connection.waiting) continue;
    if (connection.role == PeerRole::kSdc &&
        ctx.node.HasAdmittedBelow(SdcId(connection.id), connection.incarnation)) {
      continue;
    }
    Answer(ctx, connection);
  }
}

void Sessions::Answer(Context& ctx, Connection& connection) {
  connection.waiting = false;
  connection.ready = true;
  --waiting_;
  Session& session = sessions_[PeerKey(connection.role, connection.id)];
  if (connection.role == PeerRole::kSdc && !session.cleaned) {
    // It was registered, so the fence on its lower incarnations is complete (R10).
    session.cleaned = true;
    ctx.node.DropClientIds(ctx, SdcId(connection.id), connection.incarnation);
  }
  ctx.effects.Send(connection.conn, wire::HelloReply{.cluster = ctx.node.self.cluster,
                                                     .responder = ctx.node.self.sds.value(),
                                                     .incarnation = ctx.node.self.incarnation,
                                                     .status = Status::kOk,
                                                     .version = wire::kVersionMax,
                                                     .role = PeerRole::kSds});
}

void Sessions::OnClientsChanged(Context& ctx) {
  std::vector<ConnId> fenced;
  for (const auto& [conn, connection] : connections_) {
    if (connection.role != PeerRole::kSdc) continue;
    const std::optional<Incarnation> named = ctx.node.config.FindClient(SdcId(connection.id));
    if (named.has_value() && *named == connection.incarnation) continue;
    fenced.push_back(conn);
  }
  for (const ConnId conn : fenced) {
    ctx.effects.Close(conn);
    Drop(ctx, conn);
  }
}

void Sessions::Violation(Context& ctx, ConnId conn, std::string_view what) {
  ++violations_;
  const auto found = connections_.find(conn);
  if (found != connections_.end()) {
    Address peer = found->second.peer;
    peer.port = 1;  // one peer, whatever its ports
    if (reported_.size() < kReportedPeersMax && reported_[peer]++ == 0) {
      ctx.Log(Severity::kWarning,
              absl::StrCat("closing a connection from ", found->second.peer.ToString(), ": ",
                           std::string(what)));
    }
  }
  if (found == connections_.end() && reported_[Address()]++ == 0) {
    ctx.Log(Severity::kWarning,
            absl::StrCat("closing a connection to another SDS: ", std::string(what)));
  }
  ctx.effects.Close(conn);
  Drop(ctx, conn);
}

const Connection* Sessions::FindReady(ConnId conn) const {
  const auto found = connections_.find(conn);
  return found != connections_.end() && found->second.ready ? &found->second : nullptr;
}

uint64_t Sessions::StateHash() const {
  uint64_t hash = 7;
  for (const auto& [conn, connection] : connections_) {
    hash = mix64(hash + conn.value()) + connection.id + (connection.ready ? 1 : 0);
  }
  for (const auto& [key, session] : sessions_) {
    hash = mix64(hash + key.second) + session.highest.value() + session.incarnation.value();
  }
  return hash;
}

void Sessions::CheckInvariants() const {
  uint32_t waiting = 0;
  for (const auto& [conn, connection] : connections_) {
    CHECK(connection.conn == conn);
    CHECK(!(connection.ready && connection.waiting));
    if (connection.waiting) ++waiting;
  }
  CHECK_EQ(waiting, waiting_);
}

}  // namespace gabion::sds
