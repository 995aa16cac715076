// One outgoing connection that a role keeps alive: dial, hello exchange, and again with backoff
// when it is lost or refused. Addresses are tried in turn.
//
//            Start            connected           HelloReply ok
//   kIdle ----------> kDialling ------> kAwaitingHello ------> kUp
//     ^                 ^    |                |                 |
//     | Stop            |    | failed, late   | refused, late,  | lost, Reconnect
//     | (anywhere)      |    v                v lost            v
//     +-------------- kBackoff <--------------+-----------------+
//
// A value. The owner routes: ConnectedEvent and ConnectFailedEvent by Owns(dial), TimerEvent by the
// timer tag, DisconnectedEvent and MessageEvent by conn(). A handler whose event is not (or no
// longer) this link's does nothing; a late connection of a dial that was given up is closed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/wire/data.h"

namespace gabion {

class Link {
 public:
  struct Options {
    DialTag dial_base = 1;  // not 0; its DialTags are [dial_base, dial_base + 2^32)
    TimerTag timer = 0;     // the one timer that it sets
    Duration dial_timeout = std::chrono::seconds(1);
    Duration hello_timeout = std::chrono::seconds(1);
    // The pause before the next dial. It starts at min, doubles when all addresses have failed once
    // more, and starts again at min after a successful hello.
    Duration backoff_min = std::chrono::milliseconds(50);
    Duration backoff_max = std::chrono::seconds(1);
  };

  // Who must answer.
  struct Peer {
    wire::PeerRole role{};
    uint64_t id = 0;          // 0: any
    Incarnation incarnation;  // 0: any
    std::vector<Address> addresses;

    friend bool operator==(const Peer&, const Peer&) = default;
  };

  enum class State : uint8_t { kIdle, kBackoff, kDialling, kAwaitingHello, kUp };

  // What an event did to the connection as its user sees it.
  enum class Change : uint8_t { kNone, kUp, kDown };

  explicit Link(const Options& options);

  // Dials at once. When started already: another peer (role, id or incarnation) gives the old
  // connection up (Change kDown if it was up) and dials at once; new addresses alone leave a
  // connection as it is. Without addresses the link waits in kIdle for a Start with some.
  Change Start(const Now& now, Peer peer, Effects& effects);
  // Closes what is open; no retry.
  Change Stop(Effects& effects);
  // For an owner that gives the connection up (a silent peer): closes it and dials after the
  // backoff.
  Change Reconnect(const Now& now, Effects& effects);

  bool Owns(DialTag dial) const {
    return dial >= options_.dial_base && dial - options_.dial_base <= UINT32_MAX;
  }

  // Sends the hello: `self` with target and target_incarnation filled in from the peer. The owner
  // gives a connection number higher than every earlier one of its incarnation.
  void OnConnected(const Now& now, const ConnectedEvent& event, const wire::Hello& self,
                   Effects& effects);
  void OnConnectFailed(const Now& now, const ConnectFailedEvent& event, Effects& effects);
  Change OnDisconnected(const Now& now, const DisconnectedEvent& event, Effects& effects);
  // kUp: the peer is who it should be; see reply(). Otherwise refusal() and error() say why not.
  Change OnHelloReply(const Now& now, ConnId conn, const wire::HelloReply& reply, Effects& effects);
  void OnTimer(const Now& now, Effects& effects);

  State state() const { return state_; }
  bool up() const { return state_ == State::kUp; }
  // Valid in kAwaitingHello and kUp.
  ConnId conn() const { return conn_; }
  const Peer& peer() const { return peer_; }
  // The peer's hello of this connection; meaningful in kUp.
  const wire::HelloReply& reply() const { return reply_; }
  // Why the last hello was refused, by either side; kOk after a successful one and before any.
  wire::Status refusal() const { return refusal_; }
  // The last failure, for people: names the address and the reason. Empty once up.
  const std::string& error() const { return error_; }

  void CheckInvariants() const;
  std::string Dump() const;  // one line
  uint64_t StateHash() const;

 private:
  void Dial(const Now& now, Effects& effects);
  // Closes the connection, if any, and dials again after the backoff. `failed_attempt`: move on to
  // the next address.
  Change GiveUp(const Now& now, bool failed_attempt, Effects& effects);
  void SetDeadline(Instant when, Effects& effects);
  // kOk, or why this peer is not the one.
  wire::Status Check(const wire::HelloReply& reply) const;
  void Fail(std::string_view reason);
  const Address& address() const { return peer_.addresses[address_index_]; }

  Options options_;
  Peer peer_;
  State state_ = State::kIdle;
  size_t address_index_ = 0;
  uint32_t failed_in_round_ = 0;  // addresses tried without success since the backoff last grew
  uint32_t attempt_ = 0;          // low 32 bits of the dial tag: a late answer misses
  Duration backoff_;
  Instant deadline_ = kNever;
  ConnId conn_;
  ClusterId cluster_;  // of the hello sent on this connection
  wire::HelloReply reply_;
  wire::Status refusal_ = wire::Status::kOk;
  std::string error_;
};

std::string_view ToString(Link::State state);

}  // namespace gabion
