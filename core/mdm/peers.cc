// What SDSs, SDCs and administrators say to the MDM, and what it answers.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/mdm/mdm_role.h"
#include "core/mdm/removal.h"
#include "core/mdm/scan_orders.h"
#include "core/mdm/status.h"
#include "core/role/accept.h"
#include "core/wire/management.h"

namespace gabion::mdm {
namespace {

// This manager's member id; there is one so far.
constexpr uint64_t kMemberId = 1;
constexpr size_t kConnectionsMax = 4096;
constexpr size_t kRegistrationsMax = 4096;
constexpr size_t kAdminCommandsMax = 256;
constexpr size_t kWaitingMax = 1024;
// An answer that is not due after this says so, and what was committed stays.
constexpr Duration kAnswerTimeout = std::chrono::seconds(30);

std::string FiguresText(const proto::DeviceFigures& figures) {
  const auto mib = [](uint64_t bytes) { return absl::StrCat(bytes >> 20, " MiB/s"); };
  return absl::StrCat("writes ", mib(figures.write_bytes_per_second()), " and reads ",
                      mib(figures.read_bytes_per_second()), " in a row; ",
                      figures.writes_per_second(), " durable writes/s and ",
                      figures.reads_per_second(), " reads/s of 4 KiB at random; blocks of ",
                      figures.block_bytes(), " bytes; ", figures.volatile_cache() ? "a" : "no",
                      " volatile cache");
}

}  // namespace

void MdmRole::OnConnected(const Now& now, const ConnectedEvent& event, Effects& effects) {
  if (event.dial != 0 || connections_.size() >= kConnectionsMax) {
    ++refused_messages_;
    effects.Close(event.conn);
    return;
  }
  Connection connection;
  connection.accepted_at = now.boot;
  connections_.emplace(event.conn, connection);
}

void MdmRole::OnDisconnected(const DisconnectedEvent& event) {
  const auto at = connections_.find(event.conn);
  if (at == connections_.end()) return;
  const Connection connection = at->second;
  connections_.erase(at);
  if (connection.sds.valid() && registrar_.ConnOf(connection.sds) == event.conn) {
    registrar_.Detach(connection.sds);
    config_.Detach(connection.sds);
    look_again_ = true;
  }
  if (connection.sdc.valid() && maps_.ConnOf(connection.sdc) == event.conn) {
    maps_.Detach(connection.sdc);
  }
}

// The DisconnectedEvent of our own close finds nothing more to do.
void MdmRole::CloseConnection(ConnId conn, Effects& effects) {
  effects.Close(conn);
  OnDisconnected({conn});
}

void MdmRole::OnMessage(const Now& now, const MessageEvent& event, Effects& effects) {
  const auto at = connections_.find(event.conn);
  if (at == connections_.end()) return;  // closed by us, while this was on its way
  Connection& connection = at->second;
  if (const auto* hello = std::get_if<wire::Hello>(&event.message.body)) {
    if (!connection.greeted) {
      OnHello(event.conn, connection, *hello, effects);
      return;
    }
  } else if (const auto* body = std::get_if<wire::ManagementBody>(&event.message.body)) {
    Result<proto::Management> management = wire::ParseManagement(event.message);
    if (connection.greeted && management) {
      OnManagement(now, event.conn, connection, body->tag, *std::move(management), effects);
      return;
    }
  }
  ++refused_messages_;
  effects.Log(Severity::kWarning, absl::StrCat("closed a connection: unexpected message of type ",
                                               event.message.type()));
  CloseConnection(event.conn, effects);
}

void MdmRole::OnHello(ConnId conn, Connection& connection, const wire::Hello& hello,
                      Effects& effects) {
  const Acceptor self{.role = wire::PeerRole::kMdm,
                      .cluster = repository_.cluster(),
                      .id = kMemberId,
                      .incarnation = repository_.mdm_incarnation()};
  wire::HelloReply reply = AnswerHello(
      self, hello, {wire::PeerRole::kSds, wire::PeerRole::kSdc, wire::PeerRole::kAdmin});
  if (phase_ != Phase::kServing) reply.status = wire::Status::kUnavailable;
  effects.Send(conn, reply);
  if (reply.status != wire::Status::kOk) {
    ++refused_messages_;
    CloseConnection(conn, effects);
    return;
  }
  connection.role = hello.role;
  connection.greeted = true;
  connection.is_of_cluster = hello.cluster == repository_.cluster();
}

void MdmRole::OnManagement(const Now& now, ConnId conn, Connection& connection, uint64_t tag,
                           proto::Management management, Effects& effects) {
  const bool is_sds = connection.role == wire::PeerRole::kSds;
  const bool is_sdc = connection.role == wire::PeerRole::kSdc;
  const bool is_admin = connection.role == wire::PeerRole::kAdmin;
  if (is_sds && management.has_sds_register() && sds_registrations_.size() < kRegistrationsMax) {
    SdsRegistration registration;
    registration.conn = conn;
    registration.tag = tag;
    registration.request = std::move(*management.mutable_sds_register());
    sds_registrations_.push_back(std::move(registration));
  } else if (is_sds && management.has_sds_heartbeat()) {
    // Before its registration is answered an SDS has nothing to say.
    if (connection.sds.valid()) {
      OnSdsHeartbeat(now, conn, connection.sds, management.sds_heartbeat(), effects);
    }
  } else if (is_sds && management.has_sds_survey()) {
    if (connection.sds.valid() &&
        registrar_.OnSurvey(repository_, connection.sds, conn, management.sds_survey())) {
      look_again_ = true;
    }
  } else if (is_sdc && management.has_sdc_register() &&
             sdc_registrations_.size() < kRegistrationsMax) {
    SdcRegistration registration;
    registration.conn = conn;
    registration.tag = tag;
    registration.request = std::move(*management.mutable_sdc_register());
    sdc_registrations_.push_back(std::move(registration));
  } else if (is_sdc && management.has_sdc_heartbeat()) {
    uint64_t version = 0;
    if (!connection.sdc.valid() ||
        !maps_.OnHeartbeat(connection.sdc, conn, management.sdc_heartbeat(), now.boot, &version)) {
      return;
    }
    sdc_by_name_.erase(connection.sdc);
    proto::Management answer;
    answer.mutable_sdc_heartbeat_reply()->set_number(management.sdc_heartbeat().number());
    answer.mutable_sdc_heartbeat_reply()->set_map_version(version);
    Reply(conn, tag, answer, effects);
  } else if (is_admin && management.has_admin_request()) {
    OnAdminRequest(now, conn, tag, std::move(*management.mutable_admin_request()), effects);
  } else {
    ++refused_messages_;
    effects.Log(Severity::kWarning,
                absl::StrCat("closed a connection: management message ",
                             static_cast<int>(management.body_case()),
                             " does not fit the sender's role, or too many wait"));
    CloseConnection(conn, effects);
  }
}

void MdmRole::OnSdsHeartbeat(const Now& now, ConnId conn, SdsId sds,
                             const proto::SdsHeartbeat& heartbeat, Effects& effects) {
  bool changed = false;
  const bool was_current = registrar_.outdated().empty();
  if (!registrar_.OnHeartbeat(repository_, sds, conn, heartbeat, now.boot, &changed)) {
    ++refused_messages_;
    return;
  }
  if (was_current && !registrar_.outdated().empty()) {
    effects.Log(Severity::kCritical, registrar_.outdated());
  }
  look_again_ = look_again_ || changed;
  if (changed) VoidOldLease(sds);
  config_.OnReport(sds, heartbeat);
  const auto taking = taking_.find(sds);
  if (taking != taking_.end() && config_.applied(sds) >= taking->second) {
    leases_.SetTaking(sds, false);
    taking_.erase(taking);
  }
  bool granted = false;
  if (heartbeat.hand_back()) {
    leases_.HandBack(sds);
    look_again_ = true;
    effects.Log(Severity::kInfo, absl::StrCat("SDS ", repository_.FindSds(sds)->name(),
                                              " shuts down and hands its lease back"));
  } else {
    granted = registrar_.outdated().empty() && registrar_.Hears(sds, now.boot) &&
              leases_.TryGrant(sds, config_.FenceOf(sds), now.boot);
  }
  proto::Management answer;
  proto::SdsGrant* grant = answer.mutable_sds_grant();
  grant->set_number(heartbeat.number());
  grant->set_granted(granted);
  grant->set_config_version(config_.version(sds));
  registrar_.AddScanOrders(sds, grant);
  Reply(conn, 0, answer, effects);
}

void MdmRole::VoidOldLease(SdsId sds) {
  if (leases_.IsOldOver(sds, now_) || !registrar_.ProvesOldGone(repository_, sds)) return;
  leases_.VoidOld(sds);
  look_again_ = true;
}

void MdmRole::BeginSdsRegistration(const Now& now, SdsRegistration registration, Effects& effects) {
  const auto connection = connections_.find(registration.conn);
  if (connection == connections_.end()) return;  // gone while it waited
  if (connection->second.is_of_cluster) {
    registrar_.NoteRegistration(repository_, registration.request);
  }
  if (!registrar_.outdated().empty()) effects.Log(Severity::kCritical, registrar_.outdated());
  const Registrar::Verdict verdict = registrar_.Judge(repository_, registration.request);
  if (!verdict.error.empty()) return RefuseSds(registration, verdict, effects);
  if (connection->second.sds.valid() && connection->second.sds != verdict.sds) {
    ++refused_messages_;  // one connection is one SDS
    CloseConnection(registration.conn, effects);
    return;
  }
  if (!verdict.needs_commit) {
    FinishSdsRegistration(now, registration, verdict.sds, effects);
    return;
  }
  registration.is_new_incarnation = verdict.is_new_incarnation;
  registration.has_same_lock = verdict.has_same_lock;
  proto::Command command;
  proto::RegisterSds* body = command.mutable_register_sds();
  body->set_sds(verdict.sds.value());
  body->set_incarnation(registration.request.incarnation());
  body->set_run(registration.request.run());
  body->set_state_lock(registration.request.state_lock());
  *body->mutable_addresses() = registration.request.addresses();
  Propose(now, std::move(command), std::move(registration), effects);
}

void MdmRole::RefuseSds(const SdsRegistration& registration, const Registrar::Verdict& verdict,
                        Effects& effects) {
  proto::Management answer;
  answer.mutable_sds_register_reply()->set_error(verdict.error);
  answer.mutable_sds_register_reply()->set_superseded(verdict.superseded);
  answer.mutable_sds_register_reply()->set_cluster(repository_.cluster().value());
  answer.mutable_sds_register_reply()->set_generation(repository_.generation());
  effects.Log(Severity::kWarning, absl::StrCat("registration refused: ", verdict.error));
  Reply(registration.conn, registration.tag, answer, effects);
}

void MdmRole::FinishSdsRegistration(const Now& now, const SdsRegistration& registration, SdsId sds,
                                    Effects& effects) {
  if (!connections_.contains(registration.conn)) return;
  const Registrar::Attached attached =
      registrar_.Attach(repository_, sds, registration.conn, registration.request, now.boot);
  if (attached.replaced.valid()) CloseConnection(attached.replaced, effects);
  connections_.at(registration.conn).sds = sds;
  look_again_ = true;
  VoidOldLease(sds);
  proto::Management answer;
  proto::SdsRegisterReply* reply = answer.mutable_sds_register_reply();
  reply->set_cluster(repository_.cluster().value());
  reply->set_sds(sds.value());
  reply->set_lease_ms(static_cast<uint64_t>(ToMillis(options_.lease)));
  reply->set_heartbeat_ms(static_cast<uint64_t>(ToMillis(options_.heartbeat)));
  reply->set_generation(repository_.generation());
  Reply(registration.conn, registration.tag, answer, effects);
  config_.Attach(repository_, sds, registration.conn, attached.must_apply,
                 registrar_.LostDevices(repository_, sds), effects);
  effects.Log(Severity::kInfo,
              absl::StrCat("SDS ", repository_.FindSds(sds)->name(), " registered, incarnation ",
                           registration.request.incarnation()));
}

void MdmRole::BeginSdcRegistration(const Now& now, SdcRegistration registration, Effects& effects) {
  const auto connection = connections_.find(registration.conn);
  if (connection == connections_.end()) return;
  const proto::SdcRegister& request = registration.request;
  registration.sdc =
      request.sdc() != 0 ? SdcId(request.sdc()) : FindSdcByName(repository_, request.name());
  const proto::Sdc* sdc = repository_.FindSdc(registration.sdc);
  const auto unheard = sdc_by_name_.find(registration.sdc);
  std::string error;
  if (sdc == nullptr && repository_.IsOfLostRepository(request.sdc())) {
    const std::string name = request.name().substr(0, 64);
    registrar_.NoteLostSdc(name, registration.sdc);
    error = absl::StrCat("SDC ", request.sdc(), " (", name,
                         ") was added after the copy of the MDM's repository was made: `gabion sdc "
                         "add ",
                         name, "` takes it in again");
  } else if (sdc == nullptr) {
    error = absl::StrCat("no SDC \"", request.name().substr(0, 64),
                         "\" is approved: add it with `gabion sdc add`, or correct its name");
  } else if (request.incarnation() == 0 || request.incarnation() < sdc->incarnation()) {
    error = absl::StrCat("SDC ", sdc->name(), " came with incarnation ", request.incarnation(),
                         ", but ", sdc->incarnation(),
                         " has been seen: another process runs under this name, or its state "
                         "directory is an old copy; stop one of them");
  } else if (request.sdc() == 0 && request.incarnation() == sdc->incarnation() &&
             (unheard == sdc_by_name_.end() || unheard->second != request.incarnation())) {
    error = absl::StrCat("SDC ", sdc->name(),
                         " has registered from another state directory: start it with that one, "
                         "or add this one under a name of its own");
  }
  if (!error.empty()) {
    proto::Management answer;
    answer.mutable_sdc_register_reply()->set_error(error);
    answer.mutable_sdc_register_reply()->set_cluster(repository_.cluster().value());
    effects.Log(Severity::kWarning, absl::StrCat("registration refused: ", error));
    Reply(registration.conn, registration.tag, answer, effects);
    return;
  }
  if (connection->second.sdc.valid() && connection->second.sdc != registration.sdc) {
    ++refused_messages_;
    CloseConnection(registration.conn, effects);
    return;
  }
  if (request.sdc() != 0) {
    sdc_by_name_.erase(registration.sdc);
  } else {
    sdc_by_name_[registration.sdc] = request.incarnation();
  }
  if (request.incarnation() == sdc->incarnation()) {
    FinishSdcRegistration(now, registration, effects);
    return;
  }
  proto::Command command;
  command.mutable_register_sdc()->set_sdc(registration.sdc.value());
  command.mutable_register_sdc()->set_incarnation(request.incarnation());
  Propose(now, std::move(command), std::move(registration), effects);
}

// The answer follows when lower incarnations are fenced (MapStream::Flush).
void MdmRole::FinishSdcRegistration(const Now& now, const SdcRegistration& registration,
                                    Effects& effects) {
  if (!connections_.contains(registration.conn)) {
    // Its lower incarnations may say no more, whoever comes next.
    const ConnId old = maps_.ConnOf(registration.sdc);
    if (old.valid()) CloseConnection(old, effects);
    return;
  }
  const ConnId replaced = maps_.Attach(registration.sdc, registration.conn, registration.tag,
                                       Incarnation(registration.request.incarnation()), now.boot);
  if (replaced.valid()) CloseConnection(replaced, effects);
  connections_.at(registration.conn).sdc = registration.sdc;
}

void MdmRole::OnAdminRequest(const Now& now, ConnId conn, uint64_t tag, proto::AdminRequest request,
                             Effects& effects) {
  proto::AdminReply reply;
  if (request.has_status()) {
    *reply.mutable_status() =
        MakeStatus(MakeView(now), registrar_, maps_, request.status().slices());
    reply.mutable_status()->set_uptime_ms(static_cast<uint64_t>(ToMillis(now.boot - started_at_)));
    ReplyAdmin(conn, tag, reply, effects);
    return;
  }
  if (request.has_device_scan()) {
    ReplyAdmin(conn, tag, OrderScan(MakeView(now), request.device_scan(), &registrar_), effects);
    return;
  }
  if (admin_commands_.size() >= kAdminCommandsMax || waiting_.size() >= kWaitingMax) {
    reply.set_code(proto::AdminReply::UNAVAILABLE);
    reply.set_error(absl::StrCat("the MDM has ", admin_commands_.size() + waiting_.size(),
                                 " commands waiting: repeat in a moment"));
    ReplyAdmin(conn, tag, reply, effects);
    return;
  }
  admin_commands_.push_back({.conn = conn, .tag = tag, .request = std::move(request)});
}

void MdmRole::BeginAdminCommand(const Now& now, AdminCommand admin, Effects& effects) {
  const View view = MakeView(now);
  AdminDecision decision = DecideAdmin(view, admin.request);
  if (!decision.reply) {
    effects.Log(Severity::kInfo,
                absl::StrCat("command of ", admin.request.user().substr(0, 64), ": ",
                             decision.command.ShortDebugString().substr(0, 256)));
    if (decision.command.has_force_slice()) {
      // R21: it may be frozen, and wake while this is on its way.
      const proto::ForceSlice& force = decision.command.force_slice();
      const SliceState* slice = repository_.FindSlice(SliceId(force.slice()));
      if (slice != nullptr && slice->primary.device != DeviceId(force.member().device())) {
        StopRenewing(slice->primary.sds);
      }
    }
    Propose(now, std::move(decision.command), std::move(admin), effects);
  } else if (decision.reply->code() == proto::AdminReply::OK) {
    FinishAdminCommand(now, admin, decision.reply->id(), effects);  // done before
  } else {
    ReplyAdmin(admin.conn, admin.tag, *decision.reply, effects);
  }
}

void MdmRole::FinishAdminCommand(const Now& now, const AdminCommand& admin, uint64_t id,
                                 Effects& effects) {
  Waiting waiting;
  waiting.conn = admin.conn;
  waiting.tag = admin.tag;
  waiting.await = AwaitOf(admin.request);
  waiting.id = id;
  waiting.deadline = now.boot + kAnswerTimeout;
  waiting.name = admin.request.device_add().sds();
  waiting.note = NoteOf(repository_, admin.request, id);
  if (waiting.await == Await::kAccessApplied || waiting.await == Await::kAccessDrained) {
    const proto::Volume* volume = repository_.FindVolume(VolumeId(id));
    for (const auto& [sds, state] : repository_.sdss()) {
      const bool concerned =
          admin.request.has_sdc_remove() ||
          (volume != nullptr && repository_.HasPool(sds, PoolId(volume->pool())));
      if (concerned) waiting.lacking.push_back({sds, config_.version(sds)});
    }
    if (waiting.await == Await::kAccessDrained && PLANTED_BUG("unmap-answers-before-fence")) {
      waiting.lacking.clear();
    }
  }
  waiting_.push_back(std::move(waiting));
  AnswerWaiting(now, effects);
}

bool MdmRole::IsAnswerDue(const Now& now, Waiting& waiting, proto::AdminReply& reply) const {
  reply.set_id(waiting.id);
  reply.set_note(waiting.note);
  if (waiting.await == Await::kDevice) {
    const proto::Device* device = repository_.FindDevice(DeviceId(waiting.id));
    const bool over = device == nullptr || device->state() == proto::DEVICE_UP ||
                      device->state() == proto::DEVICE_TESTED;
    if (over && device != nullptr && device->has_figures()) {
      reply.set_note(FiguresText(device->figures()));
    }
    if (over) return true;
    if (device->state() == proto::DEVICE_FAILED) {
      reply.set_code(proto::AdminReply::CONFLICT);
      reply.set_error(absl::StrCat("SDS \"", waiting.name, "\" cannot use ", device->path(), ": ",
                                   device->error(), " (device ", waiting.id,
                                   "; when that is put right, repeat `gabion device add`)"));
      return true;
    }
    if (const std::string why = registrar_.ErrorOf(DeviceId(waiting.id)); !why.empty()) {
      reply.set_code(proto::AdminReply::CONFLICT);
      reply.set_error(absl::StrCat("SDS \"", waiting.name, "\" cannot use ", device->path(), ": ",
                                   why, " (it keeps trying; to give up: `gabion device remove ",
                                   waiting.id, "`)"));
      return true;
    }
    if (now.boot < waiting.deadline) return false;
    reply.set_code(proto::AdminReply::UNAVAILABLE);
    reply.set_error(absl::StrCat(
        "device ", waiting.id, " (", device->path(), ") is added, but SDS \"", waiting.name,
        "\" has not reported it up after ", gabion::ToString(kAnswerTimeout),
        ": see `gabion status` and the log of that SDS"));
    return true;
  }
  const bool drained =
      waiting.await == Await::kAccessDrained && !PLANTED_BUG("R6-drain-not-awaited");
  std::erase_if(waiting.lacking, [&](const std::pair<SdsId, uint64_t>& item) {
    const auto& [sds, version] = item;
    if (repository_.FindSds(sds) == nullptr) return true;
    if (!leases_.IsOldOver(sds, now.boot)) return false;
    if (leases_.IsOver(sds, now.boot)) return true;
    return (drained ? config_.drained(sds) : config_.applied(sds)) >= version;
  });
  if (waiting.lacking.empty()) return true;
  if (drained || now.boot < waiting.deadline) return false;  // a fence ends with the lease
  reply.set_code(proto::AdminReply::UNAVAILABLE);
  reply.set_error(absl::StrCat("the change is made, but SDS \"",
                               repository_.FindSds(waiting.lacking.front().first)->name(),
                               "\" has not taken it over after ", gabion::ToString(kAnswerTimeout),
                               ": see the log of that SDS"));
  return true;
}

void MdmRole::AnswerWaiting(const Now& now, Effects& effects) {
  std::erase_if(waiting_, [&](Waiting& waiting) {
    if (!connections_.contains(waiting.conn)) return true;
    proto::AdminReply reply;
    if (!IsAnswerDue(now, waiting, reply)) return false;
    ReplyAdmin(waiting.conn, waiting.tag, reply, effects);
    return true;
  });
}

void MdmRole::Reply(ConnId conn, uint64_t tag, const proto::Management& management,
                    Effects& effects) {
  const auto at = connections_.find(conn);
  if (at == connections_.end()) return;
  wire::Message message = wire::ToMessage(management, tag, *pool_);
  if (message.payload.empty()) {
    // No memory for an answer: the asker sees the connection go, and asks again.
    effects.Close(conn);
    return;
  }
  effects.Send(conn, message.body, std::move(message.payload));
}

void MdmRole::ReplyAdmin(ConnId conn, uint64_t tag, const proto::AdminReply& reply,
                         Effects& effects) {
  proto::Management management;
  *management.mutable_admin_reply() = reply;
  Reply(conn, tag, management, effects);
}

}  // namespace gabion::mdm
