#include "core/role/link.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion {

namespace {

// What to do about a refusal, for the log.
std::string_view WayOut(wire::Status status) {
  switch (status) {
    case wire::Status::kWrongCluster:
      return "; this daemon's state folder belongs to another cluster: check the address, or give "
             "the daemon a state folder of its own";
    case wire::Status::kWrongPeer:
      return "; another daemon listens at that address: check it";
    case wire::Status::kUnknownPeer:
      return "; it does not know this daemon: gabion sds add, gabion sdc add";
    case wire::Status::kUnsupportedVersion:
      return "; the two speak no common version: update the older one";
    case wire::Status::kStaleIncarnation:
      return "; a newer process with this identity runs: stop one of the two";
    default:
      return "";
  }
}

}  // namespace

Link::Link(const Options& options) : options_(options), backoff_(options.backoff_min) {
  CHECK_NE(options.dial_base, 0u);
  CHECK_GT(options.backoff_min.count(), 0);
  CHECK_LE(options.backoff_min.count(), options.backoff_max.count());
  CHECK_GT(options.dial_timeout.count(), 0);
  CHECK_GT(options.hello_timeout.count(), 0);
}

Link::Change Link::Start(const Now& now, Peer peer, Effects& effects) {
  const bool same_peer = peer.role == peer_.role && peer.id == peer_.id &&
                         peer.incarnation == peer_.incarnation && state_ != State::kIdle;
  if (same_peer && peer.addresses == peer_.addresses) return Change::kNone;
  if (same_peer && !peer.addresses.empty() && conn_.valid()) {
    // The present connection goes on; the next dial starts with the first new address.
    peer_ = std::move(peer);
    address_index_ = 0;
    failed_in_round_ = 0;
    return Change::kNone;
  }
  const Change change = Stop(effects);
  peer_ = std::move(peer);
  address_index_ = 0;
  failed_in_round_ = 0;
  backoff_ = options_.backoff_min;
  refusal_ = wire::Status::kOk;
  error_.clear();
  if (peer_.addresses.empty()) {
    error_ = "no address known";
    return change;
  }
  Dial(now, effects);
  return change;
}

Link::Change Link::Stop(Effects& effects) {
  const Change change = up() ? Change::kDown : Change::kNone;
  if (conn_.valid()) effects.Close(conn_);
  conn_ = ConnId();
  if (deadline_ != kNever) SetDeadline(kNever, effects);
  state_ = State::kIdle;
  return change;
}

Link::Change Link::Reconnect(const Now& now, Effects& effects) {
  if (state_ != State::kAwaitingHello && state_ != State::kUp) return Change::kNone;
  return GiveUp(now, /*failed_attempt=*/state_ == State::kAwaitingHello, effects);
}

void Link::OnConnected(const Now& now, const ConnectedEvent& event, const wire::Hello& self,
                       Effects& effects) {
  if (!Owns(event.dial)) return;
  if (state_ != State::kDialling || event.dial != options_.dial_base + attempt_) {
    effects.Close(event.conn);
    return;
  }
  wire::Hello hello = self;
  hello.target = peer_.id;
  hello.target_incarnation = peer_.incarnation;
  conn_ = event.conn;
  cluster_ = hello.cluster;
  state_ = State::kAwaitingHello;
  SetDeadline(SaturatingAdd(now.boot, options_.hello_timeout), effects);
  effects.Send(conn_, hello);
}

void Link::OnConnectFailed(const Now& now, const ConnectFailedEvent& event, Effects& effects) {
  if (state_ != State::kDialling || event.dial != options_.dial_base + attempt_) return;
  Fail("cannot connect");
  GiveUp(now, /*failed_attempt=*/true, effects);
}

Link::Change Link::OnDisconnected(const Now& now, const DisconnectedEvent& event,
                                  Effects& effects) {
  if (!conn_.valid() || event.conn != conn_) return Change::kNone;
  conn_ = ConnId();  // closed already
  const bool was_up = up();
  Fail(was_up ? "connection lost" : "connection closed before the hello was answered");
  GiveUp(now, /*failed_attempt=*/!was_up, effects);
  return was_up ? Change::kDown : Change::kNone;
}

Link::Change Link::OnHelloReply(const Now& now, ConnId conn, const wire::HelloReply& reply,
                                Effects& effects) {
  if (!conn_.valid() || conn != conn_) return Change::kNone;
  if (up()) {
    // A second hello reply is no part of the protocol; nothing after it can be trusted.
    Fail("second hello reply");
    return GiveUp(now, /*failed_attempt=*/true, effects);
  }
  const wire::Status status = Check(reply);
  if (status != wire::Status::kOk) {
    // Said once, not at every attempt.
    const bool is_news = status != refusal_;
    refusal_ = status;
    Fail("hello refused: " + std::string(wire::StatusName(status)));
    if (is_news) effects.Log(Severity::kWarning, error_ + std::string(WayOut(status)));
    return GiveUp(now, /*failed_attempt=*/true, effects);
  }
  reply_ = reply;
  refusal_ = wire::Status::kOk;
  error_.clear();
  backoff_ = options_.backoff_min;
  failed_in_round_ = 0;
  state_ = State::kUp;
  SetDeadline(kNever, effects);
  return Change::kUp;
}

void Link::OnTimer(const Now& now, Effects& effects) {
  if (now.boot < deadline_) return;  // replaced while it was on its way
  switch (state_) {
    case State::kIdle:
    case State::kUp:
      return;
    case State::kBackoff:
      Dial(now, effects);
      return;
    case State::kDialling:
      Fail("no connection in time");
      GiveUp(now, /*failed_attempt=*/true, effects);
      return;
    case State::kAwaitingHello:
      Fail("no answer to the hello in time");
      GiveUp(now, /*failed_attempt=*/true, effects);
      return;
  }
}

void Link::Dial(const Now& now, Effects& effects) {
  CHECK(!conn_.valid());
  CHECK(!peer_.addresses.empty());
  ++attempt_;  // wraps after 2^32 attempts: long after the first one's answer
  state_ = State::kDialling;
  SetDeadline(SaturatingAdd(now.boot, options_.dial_timeout), effects);
  effects.Connect(options_.dial_base + attempt_, address());
}

Link::Change Link::GiveUp(const Now& now, bool failed_attempt, Effects& effects) {
  const Change change = up() ? Change::kDown : Change::kNone;
  if (conn_.valid()) effects.Close(conn_);
  conn_ = ConnId();
  Duration pause = backoff_;
  if (failed_attempt) {
    address_index_ = (address_index_ + 1) % peer_.addresses.size();
    if (++failed_in_round_ >= peer_.addresses.size()) {
      failed_in_round_ = 0;
      backoff_ = std::min(backoff_ * 2, options_.backoff_max);
    }
  }
  state_ = State::kBackoff;
  SetDeadline(SaturatingAdd(now.boot, pause), effects);
  return change;
}

void Link::SetDeadline(Instant when, Effects& effects) {
  deadline_ = when;
  effects.SetTimer(options_.timer, when);
}

wire::Status Link::Check(const wire::HelloReply& reply) const {
  if (reply.status != wire::Status::kOk) return reply.status;
  if (!reply.cluster.valid()) return wire::Status::kMalformed;
  if (cluster_.valid() && reply.cluster != cluster_) return wire::Status::kWrongCluster;
  if (reply.role != peer_.role) return wire::Status::kWrongPeer;
  if (peer_.id != 0 && reply.responder != peer_.id) return wire::Status::kWrongPeer;
  if (peer_.incarnation.valid() && reply.incarnation != peer_.incarnation) {
    return wire::Status::kWrongPeer;
  }
  if (reply.version < wire::kVersionMin || reply.version > wire::kVersionMax) {
    return wire::Status::kUnsupportedVersion;
  }
  return wire::Status::kOk;
}

void Link::Fail(std::string_view reason) {
  error_ = address().ToString() + ": " + std::string(reason);
}

void Link::CheckInvariants() const {
  const bool connected = state_ == State::kAwaitingHello || state_ == State::kUp;
  CHECK_EQ(connected, conn_.valid());
  const bool waits = state_ != State::kIdle && state_ != State::kUp;
  CHECK_EQ(waits, deadline_ != kNever);
  if (state_ != State::kIdle) CHECK_LT(address_index_, peer_.addresses.size());
  if (state_ != State::kIdle) CHECK_LT(failed_in_round_, peer_.addresses.size());
  CHECK_GE(backoff_.count(), options_.backoff_min.count());
  CHECK_LE(backoff_.count(), options_.backoff_max.count());
}

std::string Link::Dump() const {
  std::string text(ToString(state_));
  if (peer_.id != 0) text += " id " + HexId(peer_.id);
  if (!peer_.addresses.empty()) text += " at " + address().ToString();
  if (conn_.valid()) text += " conn " + gabion::ToString(conn_);
  if (!error_.empty()) text += " (" + error_ + ")";
  return text;
}

uint64_t Link::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash + value + 0x9e3779b97f4a7c15u); };
  add(static_cast<uint64_t>(state_));
  add(static_cast<uint64_t>(peer_.role));
  add(peer_.id);
  add(peer_.incarnation.value());
  for (const Address& a : peer_.addresses) {
    for (const uint8_t byte : a.ip) add(byte);
    add(a.port);
  }
  add(address_index_);
  add(failed_in_round_);
  add(attempt_);
  add(static_cast<uint64_t>(backoff_.count()));
  add(static_cast<uint64_t>(deadline_.time_since_epoch().count()));
  add(conn_.value());
  add(cluster_.value());
  add(static_cast<uint64_t>(refusal_));
  return hash;
}

std::string_view ToString(Link::State state) {
  switch (state) {
    case Link::State::kIdle:
      return "idle";
    case Link::State::kBackoff:
      return "backoff";
    case Link::State::kDialling:
      return "dialling";
    case Link::State::kAwaitingHello:
      return "awaiting hello";
    case Link::State::kUp:
      return "up";
  }
  return "?";
}

}  // namespace gabion
