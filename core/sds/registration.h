// This process and the active MDM: identity, registration, heartbeats (replication.md, R1, R6,
// R22).
//
//   journal opened -> incarnation raised -> durable -> on all known devices -> link dialled
//   -> SdsRegister -> kRegistered
//
// The incarnation is durable, there and on the devices, before any connection is made. One that has
// been used before (the state directory is an old copy, or another process has it) ends this run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/role/link.h"
#include "core/sds/config.h"
#include "core/sds/context.h"
#include "core/sds/sds.h"
#include "core/store/journal.h"
#include "core/wire/management.pb.h"

namespace gabion::sds {

struct Identity {
  ClusterId cluster;
  SdsId sds;
  Incarnation incarnation;
  uint64_t generation = 0;  // highest of the repository seen (R23)
  std::vector<KnownDevice> devices;
  uint64_t run = 0;  // of this run alone; not remembered
};

class Registration {
 public:
  enum class State : uint8_t {
    kStarting,
    kRaising,
    kMarking,
    kConnecting,
    kRegistering,
    kRegistered,
    kEnding,  // what was learnt becomes durable, then this run ends
    kFailed
  };

  Registration(const Options& options, BufferPool* pool);

  void OnStart(Context& ctx, const StartEvent& event);
  void OnStateDiskDone(Context& ctx, const DiskDoneEvent& event);
  bool OwnsDial(DialTag dial) const { return link_.Owns(dial); }
  void OnConnected(Context& ctx, const ConnectedEvent& event);
  void OnConnectFailed(Context& ctx, const ConnectFailedEvent& event);
  void OnDisconnected(Context& ctx, const DisconnectedEvent& event);
  void OnLinkTimer(Context& ctx);
  void OnHeartbeatTimer(Context& ctx);
  // After each step: goes on when the devices carry the incarnation, or at the latest when the
  // timer says so.
  void AdvanceMarking(Context& ctx, bool late);
  // A device was used by this incarnation of another run, or by a higher one.
  void OnNewerIncarnation(Context& ctx, Incarnation newer, const std::string& why);
  // The configuration may name other devices now.
  void RememberDevices(Context& ctx);
  bool OwnsConn(ConnId conn) const;
  void OnMessage(Context& ctx, const wire::Message& message);

  void SendHeartbeat(Context& ctx, bool hand_back);
  // The handed-back lease was heard.
  bool hand_back_heard() const { return hand_back_number_ != 0 && heard_ >= hand_back_number_; }
  void Disconnect(Context& ctx);

  State state() const { return state_; }
  bool registered() const { return state_ == State::kRegistered; }
  uint64_t heard() const { return heard_; }  // highest heartbeat that the MDM answered
  // The first heartbeat of this registration; the MDM may know nothing of earlier ones.
  uint64_t first_number() const { return first_number_; }
  std::string Dump() const;
  uint64_t StateHash() const;
  void CheckInvariants() const { link_.CheckInvariants(); }

 private:
  void OnJournalFailed(Context& ctx);
  void OnOpened(Context& ctx);
  void Save(Context& ctx);
  void Register(Context& ctx);
  void OnReply(Context& ctx, const proto::SdsRegisterReply& reply);
  void OnGrant(Context& ctx, const proto::SdsGrant& grant);
  bool Send(Context& ctx, const proto::Management& management);  // false: no memory
  void SendSurveys(Context& ctx);
  void LostMdm(Context& ctx);
  void StopActing(Context& ctx);

  State state_ = State::kStarting;
  store::Journal journal_;
  uint64_t awaited_record_ = 0;
  Link link_;
  std::string why_ending_;
  std::string said_;  // last refusal, so that it is logged once
  Duration lease_{};
  Duration heartbeat_ = std::chrono::milliseconds(200);
  uint64_t number_ = 0;
  uint64_t heard_ = 0;
  uint64_t first_number_ = 0;
  uint64_t hand_back_number_ = 0;
  Instant heard_at_{};
  bool full_received_ = false;  // on this connection
};

const char* ToString(Registration::State state);

}  // namespace gabion::sds
