#include "core/sdc/mdm_session.h"

#include <utility>

#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/wire/management.h"

namespace gabion::sdc {
namespace {

constexpr Duration kHeartbeatInterval = std::chrono::seconds(1);
constexpr Duration kSilenceMax = std::chrono::seconds(3);
// A registration is answered when its fence is complete: up to a lease, or two after a restart of
// the MDM.
constexpr Duration kRegistrationMax = std::chrono::seconds(10);

std::string_view ToString(MdmSession::State state) {
  switch (state) {
    case MdmSession::State::kDown:
      return "down";
    case MdmSession::State::kRegistering:
      return "registering";
    case MdmSession::State::kAwaitingMap:
      return "awaiting map";
    case MdmSession::State::kCurrent:
      return "current";
  }
  UNREACHABLE();
}

}  // namespace

MdmSession::MdmSession(const Options& options)
    : options_(options), link_({.dial_base = options.dial_base, .timer = options.link_timer}) {}

void MdmSession::Start(const Now& now, Effects& effects) {
  const Link::Change change = link_.Start(
      now, {.role = wire::PeerRole::kMdm, .id = 0, .incarnation = {}, .addresses = options_.mdms},
      effects);
  CHECK(change == Link::Change::kNone);
}

void MdmSession::OnHelloReply(const Now& now, const MessageEvent& event, const Identity& identity,
                              Progress* progress, Effects& effects) {
  const auto& reply = std::get<wire::HelloReply>(event.message.body);
  switch (link_.OnHelloReply(now, event.conn, reply, effects)) {
    case Link::Change::kUp:
      state_ = State::kRegistering;
      last_heard_ = now.boot;
      Register(identity, effects);
      effects.SetTimer(options_.timer, now.boot + kHeartbeatInterval);
      return;
    case Link::Change::kDown:
      BecomeDown();
      break;
    case Link::Change::kNone:
      break;
  }
  if (link_.refusal() == wire::Status::kStaleIncarnation) {
    progress->fatal = "a newer run of client " + options_.name +
                      " is registered; stop one of the two, or give them different names";
    return;
  }
  if (!link_.error().empty()) LogOnce(Severity::kWarning, link_.error(), effects);
}

void MdmSession::OnDisconnected(const Now& now, const DisconnectedEvent& event, Effects& effects) {
  if (link_.OnDisconnected(now, event, effects) == Link::Change::kDown) {
    BecomeDown();
    LogOnce(Severity::kWarning,
            "the connection to the MDM was lost; I/O goes on with the known map", effects);
  }
}

void MdmSession::OnMessage(const Now& now, const MessageEvent& event, Identity* identity,
                           Progress* progress, Effects& effects) {
  CHECK(link_.up() && event.conn == link_.conn());
  last_heard_ = now.boot;
  const Result<proto::Management> management = wire::ParseManagement(event.message);
  if (!management) {
    Reconnect(now, management.error().message, effects);
    return;
  }
  switch (management->body_case()) {
    case proto::Management::kSdcRegisterReply:
      OnRegistered(management->sdc_register_reply(), identity, effects);
      return;
    case proto::Management::kMapUpdate:
      OnMap(now, management->map_update(), progress, effects);
      return;
    case proto::Management::kSdcHeartbeatReply: {
      const proto::SdcHeartbeatReply& reply = management->sdc_heartbeat_reply();
      if (reply.number() != unanswered_ || unanswered_ == 0) return;
      answered_ = std::exchange(unanswered_, 0);
      answered_version_ = reply.map_version();
      ConfirmIfApplied(progress, effects);
      return;
    }
    default:
      Reconnect(now, "the MDM sent a message that is not for a client", effects);
  }
}

void MdmSession::OnRegistered(const proto::SdcRegisterReply& reply, Identity* identity,
                              Effects& effects) {
  if (state_ != State::kRegistering) return;
  const SdcId id(reply.sdc());
  const ClusterId cluster(reply.cluster());
  // A refusal may be cured by an administrator: the timer asks again.
  if (!reply.error().empty()) {
    LogOnce(Severity::kError, "the MDM refuses this client: " + reply.error(), effects);
    return;
  }
  if (!id.valid() || !cluster.valid() || (identity->id().valid() && identity->id() != id) ||
      (identity->cluster().valid() && identity->cluster() != cluster)) {
    LogOnce(Severity::kError,
            "the MDM takes this client for " + ToString(id) + " of cluster " + ToString(cluster) +
                ", its own state says " + ToString(identity->id()) + " of " +
                ToString(identity->cluster()),
            effects);
    return;
  }
  identity->Learn(cluster, id, effects);
  state_ = State::kAwaitingMap;
  map_.ExpectFull();
}

void MdmSession::OnMap(const Now& now, const proto::MapUpdate& update, Progress* progress,
                       Effects& effects) {
  // Before the registration is answered a map would belong to no known session.
  if (state_ != State::kAwaitingMap && state_ != State::kCurrent) return;
  switch (map_.Apply(update)) {
    case MapCache::Outcome::kApplied:
      break;
    case MapCache::Outcome::kOld:
      return;
    case MapCache::Outcome::kGap:
      Reconnect(now, "a version of the map is missing", effects);
      return;
    case MapCache::Outcome::kMalformed:
      Reconnect(now, "impossible map: " + map_.error(), effects);
      return;
  }
  progress->map_changed = true;
  if (state_ == State::kAwaitingMap) {
    state_ = State::kCurrent;
    LogOnce(Severity::kInfo, "registered; map version " + std::to_string(map_.version()), effects);
  }
  ConfirmIfApplied(progress, effects);
}

void MdmSession::ConfirmIfApplied(Progress* progress, Effects& effects) {
  if (answered_ > confirmed_ && map_.current() && map_.version() >= answered_version_) {
    confirmed_ = answered_;
    progress->confirmed = true;
  }
  if (state_ == State::kCurrent && unanswered_ == 0 && ask_again_) SendHeartbeat({}, effects);
}

void MdmSession::OnTimer(const Now& now, const Identity& identity,
                         const std::vector<SdsId>& unreachable, Effects& effects) {
  if (state_ == State::kDown) return;
  const bool registering = state_ == State::kRegistering;
  if (now.boot - last_heard_ >= (registering ? kRegistrationMax : kSilenceMax)) {
    Reconnect(now, "the MDM is silent", effects);
    return;
  }
  effects.SetTimer(options_.timer, now.boot + kHeartbeatInterval);
  if (registering) {
    Register(identity, effects);
  } else if (unanswered_ == 0) {
    SendHeartbeat(unreachable, effects);
  }
}

uint64_t MdmSession::Ask(const Now&, Effects& effects) {
  if (state_ != State::kCurrent || unanswered_ != 0) {
    ask_again_ = true;
    return number_ + 1;
  }
  SendHeartbeat({}, effects);
  return unanswered_ != 0 ? number_ : number_ + 1;
}

void MdmSession::SendHeartbeat(const std::vector<SdsId>& unreachable, Effects& effects) {
  proto::Management management;
  proto::SdcHeartbeat* heartbeat = management.mutable_sdc_heartbeat();
  heartbeat->set_number(number_ + 1);
  heartbeat->set_applied_version(map_.version());
  for (SdsId sds : unreachable) heartbeat->add_unreachable_sds(sds.value());
  ask_again_ = !Send(management, effects);
  if (!ask_again_) unanswered_ = ++number_;
}

void MdmSession::Register(const Identity& identity, Effects& effects) {
  proto::Management management;
  proto::SdcRegister* request = management.mutable_sdc_register();
  request->set_sdc(identity.id().value());
  request->set_name(options_.name);
  request->set_incarnation(identity.incarnation().value());
  // Without memory for it nothing is sent, and the timer asks again.
  (void)Send(management, effects);
}

void MdmSession::Reconnect(const Now& now, std::string_view reason, Effects& effects) {
  LogOnce(Severity::kWarning, "connecting to the MDM again: " + std::string(reason), effects);
  (void)link_.Reconnect(now, effects);
  BecomeDown();
}

void MdmSession::BecomeDown() {
  state_ = State::kDown;
  // What was asked on the lost connection is asked again on the next.
  if (unanswered_ != 0) ask_again_ = true;
  unanswered_ = 0;
}

bool MdmSession::Send(const proto::Management& management, Effects& effects) {
  wire::Message message = wire::ToMessage(management, 0, *options_.pool);
  if (message.payload.empty()) return false;
  effects.Send(link_.conn(), message.body, std::move(message.payload));
  return true;
}

void MdmSession::LogOnce(Severity severity, std::string text, Effects& effects) {
  if (text == last_log_) return;
  last_log_ = text;
  effects.Log(severity, std::move(text));
}

std::string MdmSession::Dump() const {
  return "mdm: " + std::string(ToString(state_)) + ", map version " +
         std::to_string(map_.version()) + ", heartbeat " + std::to_string(number_) +
         ", confirmed " + std::to_string(confirmed_) + "; " + link_.Dump() + "\n";
}

uint64_t MdmSession::StateHash() const {
  uint64_t hash = mix64(link_.StateHash() ^ map_.StateHash());
  hash = mix64(hash + number_) + mix64(hash + confirmed_);
  return mix64(hash + unanswered_ * 8 + static_cast<uint64_t>(state_));
}

}  // namespace gabion::sdc
