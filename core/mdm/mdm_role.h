// The MDM role: routes events, and lets one command at a time become durable.
//
//   event -> component notes it -> control loops and requests propose a command (validated against
//   the applied state) -> journal -> durable -> Apply -> configurations, maps, answers go out
//
// One command is under way at a time, so what a command was validated against is what it is applied
// to. Nothing is sent that tells of a command before it is durable. With several managers the
// journal becomes the consensus log; the rest stays.
//
//   kStarting -> kRecovering -> kRaising -> kServing
//                  (journal)    (own incarnation, R3)
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/mdm/admin.h"
#include "core/mdm/config_stream.h"
#include "core/mdm/leases.h"
#include "core/mdm/map_stream.h"
#include "core/mdm/mdm.h"
#include "core/mdm/rebuild.h"
#include "core/mdm/registrar.h"
#include "core/mdm/repository.h"
#include "core/mdm/role_switch.h"
#include "core/store/journal.h"

namespace gabion::mdm {

class MdmRole final : public Role {
 public:
  MdmRole(const Options& options, const RoleResources& resources);

  void Step(const Now& now, const Event& event, Effects& effects) override;
  void CheckInvariants() const override;
  std::string Dump() const override;
  void Collect(MetricList& metrics) const override;  // metrics.cc
  uint64_t StateHash() const override;

 private:
  enum class Phase : uint8_t { kStarting, kRecovering, kRaising, kServing, kStopped };

  struct Connection {
    Instant accepted_at;
    wire::PeerRole role{};  // set by the hello
    bool greeted = false;
    bool is_of_cluster = false;  // the hello named it, so it has been registered before
    SdsId sds;                   // registered as
    SdcId sdc;
  };
  struct SdsRegistration {
    ConnId conn;
    uint64_t tag = 0;
    proto::SdsRegister request;
    bool is_new_incarnation = false;  // the command raises it
    bool has_same_lock = false;       // R22
  };
  struct SdcRegistration {
    ConnId conn;
    uint64_t tag = 0;
    proto::SdcRegister request;
    SdcId sdc;
  };
  struct AdminCommand {
    ConnId conn;
    uint64_t tag = 0;
    proto::AdminRequest request;
  };
  // Who proposed, and so who is told.
  using Origin = std::variant<std::monostate, SdsRegistration, SdcRegistration, AdminCommand>;
  struct InFlight {
    uint64_t sequence = 0;
    proto::Command command;
    Origin origin;
  };
  // A committed command whose answer waits for others.
  struct Waiting {
    ConnId conn;
    uint64_t tag = 0;
    Await await{};
    uint64_t id = 0;  // of the answer
    std::string name;
    std::string note;
    Instant deadline = kNever;
    // kAccess...: versions that these SDSs have not reached yet.
    std::vector<std::pair<SdsId, uint64_t>> lacking;
  };

  // mdm_role.cc: life, proposing, committing.
  void Recover(const Now& now, Effects& effects);
  void BecomeServing(const Now& now, Effects& effects);
  // Everything volatile as at the start of a manager.
  void StartServing(const Now& now, Effects& effects);
  // R23: the generation was raised; only who asked for it stays connected.
  void BeginAnew(const Now& now, ConnId keep, Effects& effects);
  void Fail(std::string reason, Effects& effects);
  void FailForJournal(Effects& effects);
  void Propose(const Now& now, proto::Command command, Origin origin, Effects& effects);
  void Commit(const Now& now, Effects& effects);
  void OnApplied(const Now& now, const proto::Command& command, const Changes& changes,
                 Effects& effects);
  void SetTimer(const Now& now, Effects& effects);
  // R21: no grant until it has applied what the next command makes of it.
  void StopRenewing(SdsId primary);
  void CheckMayTake(const Now& now, const proto::Command& command) const;
  bool IsEveryOldLeaseOver(const Now& now) const;

  // control_loops.cc: what the manager does by itself.
  View MakeView(const Now& now) const;
  void Pump(const Now& now, Effects& effects);
  bool ProposeSlices(const Now& now, const View& view, std::vector<SliceState> slices,
                     Effects& effects);
  // What is no emergency; false when nothing is to be done.
  bool Improve(const Now& now, Effects& effects);
  bool ProposeMoves(const Now& now, const View& view, Effects& effects);
  // What devices say of their logs (docs/replication.md, section 7).
  bool ProposeRollBack(const Now& now, const View& view, Effects& effects);
  bool ProposePositions(const Now& now, const View& view, Effects& effects);
  // R23: nothing goes on but the command that says what to do.
  void PumpOutdated(const Now& now, Effects& effects);
  void NoteOutdated(const Now& now, Effects& effects);
  bool ProposeAdoption(const Now& now, Effects& effects);
  bool ProposeReopening(const Now& now, const View& view, Effects& effects);

  // peers.cc: what SDSs, SDCs and administrators say.
  void OnConnected(const Now& now, const ConnectedEvent& event, Effects& effects);
  void OnDisconnected(const DisconnectedEvent& event);
  void OnMessage(const Now& now, const MessageEvent& event, Effects& effects);
  void OnHello(ConnId conn, Connection& connection, const wire::Hello& hello, Effects& effects);
  void OnManagement(const Now& now, ConnId conn, Connection& connection, uint64_t tag,
                    proto::Management management, Effects& effects);
  void OnSdsHeartbeat(const Now& now, ConnId conn, SdsId sds, const proto::SdsHeartbeat& heartbeat,
                      Effects& effects);
  void OnAdminRequest(const Now& now, ConnId conn, uint64_t tag, proto::AdminRequest request,
                      Effects& effects);
  void VoidOldLease(SdsId sds);
  void RefuseSds(const SdsRegistration& registration, const Registrar::Verdict& verdict,
                 Effects& effects);
  void BeginSdsRegistration(const Now& now, SdsRegistration registration, Effects& effects);
  void FinishSdsRegistration(const Now& now, const SdsRegistration& registration, SdsId sds,
                             Effects& effects);
  void BeginSdcRegistration(const Now& now, SdcRegistration registration, Effects& effects);
  void FinishSdcRegistration(const Now& now, const SdcRegistration& registration, Effects& effects);
  void BeginAdminCommand(const Now& now, AdminCommand admin, Effects& effects);
  void FinishAdminCommand(const Now& now, const AdminCommand& admin, uint64_t id, Effects& effects);
  void AnswerWaiting(const Now& now, Effects& effects);
  bool IsAnswerDue(const Now& now, Waiting& waiting, proto::AdminReply& reply) const;
  void Reply(ConnId conn, uint64_t tag, const proto::Management& management, Effects& effects);
  void ReplyAdmin(ConnId conn, uint64_t tag, const proto::AdminReply& reply, Effects& effects);
  void CloseConnection(ConnId conn, Effects& effects);

  Options options_;
  BufferPool* pool_;
  Phase phase_ = Phase::kStarting;
  store::Journal journal_;
  Repository repository_;
  Leases leases_;
  Registrar registrar_;
  ConfigStream config_;
  MapStream maps_;
  Rebuild rebuild_;
  RoleSwitch role_switch_;

  absl::btree_map<ConnId, Connection> connections_;
  std::optional<InFlight> in_flight_;
  std::deque<SdsRegistration> sds_registrations_;
  std::deque<SdcRegistration> sdc_registrations_;
  std::deque<AdminCommand> admin_commands_;
  std::vector<Waiting> waiting_;
  // R21: the primary role was taken from these SDSs; no grant before they have applied this version
  // of their configuration (UINT64_MAX: the command is under way).
  absl::btree_map<SdsId, uint64_t> taking_;
  // Incarnations of SDCs that registered by name and were not heard since: the answer with their id
  // may have been lost, so they may come by name once more. Another process with that name may not:
  // its requests would be taken for theirs (R10).
  absl::btree_map<SdcId, uint64_t> sdc_by_name_;
  bool look_again_ = false;  // something changed that the control loops decide by
  Instant started_at_;
  Instant positions_at_;  // when positions of device logs are noted next
  Instant now_;           // of the last step, for Dump
  Instant timer_at_ = kNever;
  uint64_t refused_messages_ = 0;
};

}  // namespace gabion::mdm
