// Connections to SDSs: dialled on demand and kept, watched while they owe answers.
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/sdc/io.h"

namespace gabion::sdc {
namespace {

constexpr uint32_t kLowWaterItemsMax = 4096;  // in one heartbeat

std::string_view Name(uint8_t state) {
  static constexpr std::array<std::string_view, 7> kNames = {
      "awaiting route",   "awaiting id", "awaiting link", "awaiting pause",
      "awaiting confirm", "sent",        "unconfirmed"};
  return kNames[state];
}

}  // namespace

Io::Io(const IoOptions& options)
    : options_(options), requests_(options.requests_max), parts_(options.parts_max) {
  CHECK(options.pool != nullptr);
  CHECK_GT(options.requests_max, 0u);
  CHECK_GT(options.parts_max, 0u);
  CHECK_GT(options.connection_timeout.count(), 0);
}

SdsSession* Io::SessionOf(Context& context, SdsId sds) {
  const auto it = session_by_sds_.find(sds);
  if (it != session_by_sds_.end()) {
    SdsSession& session = sessions_[it->second];
    if (session.link.state() != Link::State::kIdle) return &session;
  }
  const std::vector<Address>* addresses = context.mdm.map().AddressesOf(sds);
  if (addresses == nullptr || addresses->empty()) return nullptr;
  const auto index =
      it != session_by_sds_.end() ? it->second : static_cast<uint32_t>(sessions_.size());
  if (it == session_by_sds_.end()) {
    sessions_.push_back({.sds = sds,
                         .index = index,
                         .link = Link({.dial_base = options_.dial_base + (uint64_t{index} << 32),
                                       .timer = options_.session_timers + index})});
    session_by_sds_[sds] = index;
  }
  SdsSession& session = sessions_[index];
  const Link::Change change = session.link.Start(
      context.now,
      {.role = wire::PeerRole::kSds, .id = sds.value(), .incarnation = {}, .addresses = *addresses},
      context.effects);
  CHECK(change == Link::Change::kNone);
  return &session;
}

SdsSession* Io::FindByConn(ConnId conn) {
  const auto it = session_by_conn_.find(conn);
  return it == session_by_conn_.end() ? nullptr : &sessions_[it->second];
}

bool Io::OnConnected(Context& context, const ConnectedEvent& event, const wire::Hello& self) {
  if (event.dial < options_.dial_base) return false;
  const uint64_t index = (event.dial - options_.dial_base) >> 32;
  if (index >= sessions_.size()) return false;
  SdsSession& session = sessions_[index];
  session.link.OnConnected(context.now, event, self, context.effects);
  if (session.link.conn() == event.conn) session_by_conn_[event.conn] = session.index;
  return true;
}

bool Io::OnConnectFailed(Context& context, const ConnectFailedEvent& event) {
  if (event.dial < options_.dial_base) return false;
  const uint64_t index = (event.dial - options_.dial_base) >> 32;
  if (index >= sessions_.size()) return false;
  sessions_[index].link.OnConnectFailed(context.now, event, context.effects);
  return true;
}

bool Io::OnDisconnected(Context& context, const DisconnectedEvent& event) {
  SdsSession* session = FindByConn(event.conn);
  if (session == nullptr) return false;
  session_by_conn_.erase(event.conn);
  const Link::Change change = session->link.OnDisconnected(context.now, event, context.effects);
  if (change == Link::Change::kDown) {
    context.effects.Log(Severity::kWarning, "the connection to SDS " + ToString(session->sds) +
                                                " was lost; it owed " +
                                                std::to_string(session->owed) + " answers");
  }
  OnLinkChange(context, *session, change);
  Pump(context);
  return true;
}

bool Io::OnMessage(Context& context, const MessageEvent& event) {
  SdsSession* session = FindByConn(event.conn);
  if (session == nullptr) return false;
  if (session->link.conn() != event.conn) return true;  // given up already
  const wire::Body& body = event.message.body;
  if (const auto* hello = std::get_if<wire::HelloReply>(&body)) {
    const Link::Change change =
        session->link.OnHelloReply(context.now, event.conn, *hello, context.effects);
    if (change == Link::Change::kUp) OnProcess(*session, hello->incarnation);
    OnLinkChange(context, *session, change);
    Pump(context);
    return true;
  }
  if (!session->link.up()) {
    GiveUp(context, *session, "a message came before the hello reply");
    return true;
  }
  session->silent_since = context.now.boot;
  if (const auto* write = std::get_if<wire::WriteReply>(&body)) {
    OnWriteReply(context, *session, *write);
  } else if (const auto* read = std::get_if<wire::ReadReply>(&body)) {
    OnReadReply(context, *session, *read, event.message.payload);
  } else if (const auto* presence = std::get_if<wire::PresenceReply>(&body)) {
    OnPresenceReply(context, *session, *presence, event.message.payload);
  } else if (!std::holds_alternative<wire::SessionHeartbeatReply>(body)) {
    ++counters_.malformed;
    GiveUp(context, *session, "a message that is not for a client");
  }
  Pump(context);
  return true;
}

bool Io::OnTimer(Context& context, TimerTag tag) {
  if (tag == options_.pause_timer) {
    OnPauseTimer(context);
  } else if (tag == options_.watch_timer) {
    OnWatchTimer(context);
  } else if (tag >= options_.session_timers && tag - options_.session_timers < sessions_.size()) {
    sessions_[tag - options_.session_timers].link.OnTimer(context.now, context.effects);
  } else {
    return false;
  }
  return true;
}

void Io::OnProcess(SdsSession& session, Incarnation incarnation) {
  if (session.incarnation == incarnation) return;
  session.incarnation = incarnation;
  parts_.ForEach([&](SlotTag, Part& part) {
    if (part.session == session.index && part.attempt_out()) part.uncertain = !part.is_read;
  });
}

void Io::OnLinkChange(Context& context, SdsSession& session, Link::Change change) {
  switch (change) {
    case Link::Change::kNone:
      return;
    case Link::Change::kDown:
      for (SlotTag tag : Collect([&](const Part& part) {
             return part.state == PartState::kSent && part.session == session.index;
           })) {
        Part* part = parts_.Find(tag);
        if (PLANTED_BUG("R10-retry-without-confirmation")) {
          if (part == nullptr) continue;
          RetireAttempt(*part);
          TrySend(context, tag);
          continue;
        }
        part->state = PartState::kUnconfirmed;
      }
      session.owed = 0;
      session.wants_sign = false;
      return;
    case Link::Change::kUp:
      break;
  }
  CHECK_EQ(session.owed, 0u);
  session.silent_since = context.now.boot;
  for (auto& [slice, state] : slices_) {
    if (context.mdm.map().RouteOf(slice).sds == session.sds) state.low_water_told = RequestId(1);
  }
  // The hello reply says that the SDS has closed every earlier connection of this client and has
  // discarded what it had not admitted (R10).
  for (SlotTag tag : Collect([&](const Part& part) {
         return part.session == session.index &&
                (part.state == PartState::kUnconfirmed || part.state == PartState::kAwaitingLink);
       })) {
    Part* part = parts_.Find(tag);
    if (part == nullptr) continue;
    if (part->attempt_out()) RetireAttempt(*part);
    TrySend(context, tag);
  }
  ArmWatch(context);
}

void Io::GiveUp(Context& context, SdsSession& session, std::string_view reason) {
  context.effects.Log(Severity::kWarning, "connecting to SDS " + ToString(session.sds) +
                                              " again: " + std::string(reason));
  OnLinkChange(context, session, session.link.Reconnect(context.now, context.effects));
}

void Io::ArmWatch(Context& context) {
  if (watch_armed_) return;
  watch_armed_ = true;
  Duration interval = options_.connection_timeout / 6;
  if (options_.io_timeout.count() > 0) interval = std::min(interval, options_.io_timeout / 4);
  interval = std::max<Duration>(interval, std::chrono::milliseconds(1));
  context.effects.SetTimer(options_.watch_timer, context.now.boot + interval);
}

void Io::OnWatchTimer(Context& context) {
  watch_armed_ = false;
  ExpireRequests(context);
  for (SdsSession& session : sessions_) WatchSession(context, session);
  SendHeartbeats(context);
  if (!requests_.empty()) ArmWatch(context);
  Pump(context);
}

void Io::WatchSession(Context& context, SdsSession& session) {
  session.wants_sign = false;
  if (!session.link.up() || session.owed == 0) return;
  const Duration silent = context.now.boot - session.silent_since;
  session.wants_sign = silent >= options_.connection_timeout / 3;
  if (silent < options_.connection_timeout) return;
  GiveUp(context, session, "silent for " + ToString(silent) + " while it owes answers");
}

void Io::SendHeartbeats(Context& context) {
  for (auto& [slice, state] : slices_) {
    // A slice with writes under way tells with them.
    if (state.ids.outstanding() > 0 || state.ids.low_water() <= state.low_water_told) continue;
    const auto it = session_by_sds_.find(context.mdm.map().RouteOf(slice).sds);
    if (it == session_by_sds_.end() || !sessions_[it->second].link.up()) continue;
    std::vector<wire::LowWaterItem>& marks = sessions_[it->second].marks;
    if (marks.size() == kLowWaterItemsMax) continue;
    marks.push_back({slice, state.ids.low_water()});
    state.low_water_told = state.ids.low_water();
  }
  for (SdsSession& session : sessions_) {
    if (session.marks.empty() && !session.wants_sign) continue;
    wire::SessionHeartbeat heartbeat;
    Slice payload;
    if (!session.marks.empty()) {
      const auto bytes = std::as_bytes(std::span(session.marks));
      payload = options_.pool->Allocate(static_cast<uint32_t>(bytes.size()));
      // Without memory the marks travel with the next write.
      if (!payload.empty()) {
        std::copy(bytes.begin(), bytes.end(), payload.mutable_span().begin());
        heartbeat.count = static_cast<uint32_t>(session.marks.size());
      }
      session.marks.clear();
    }
    context.effects.Send(session.link.conn(), heartbeat, std::move(payload));
  }
}

std::vector<SdsId> Io::Unreachable() const {
  std::vector<bool> waited_for(sessions_.size());
  parts_.ForEach([&](SlotTag, const Part& part) {
    if (part.state == PartState::kAwaitingLink || part.state == PartState::kUnconfirmed) {
      waited_for[part.session] = true;
    }
  });
  std::vector<SdsId> found;
  for (const auto& [sds, index] : session_by_sds_) {
    if (waited_for[index] && !sessions_[index].link.up()) found.push_back(sds);
  }
  return found;
}

void Io::CheckInvariants() const {
  std::vector<uint32_t> owed(sessions_.size());
  absl::btree_map<SlotTag, uint32_t> parts_of_request;
  absl::btree_map<SliceId, std::pair<uint32_t, uint32_t>> of_slice;  // ids out, awaiting id
  parts_.ForEach([&](SlotTag, const Part& part) {
    ++parts_of_request[part.request];
    if (part.state == PartState::kSent) ++owed[part.session];
    if (part.attempt_out() && !part.is_read) CHECK(part.message.request.valid());
    if (part.message.request.valid()) ++of_slice[part.message.target.slice].first;
    if (part.state == PartState::kAwaitingId) ++of_slice[part.message.target.slice].second;
  });
  requests_.ForEach([&](SlotTag tag, const Request& request) {
    CHECK_EQ(request.parts_open, parts_of_request[tag]);
    CHECK(request.cursor <= request.end);
    CHECK(request.parts_open > 0 || request.cursor < request.end);
  });
  CHECK_EQ(parts_of_request.size(), requests_.size());
  for (const auto& [slice, state] : slices_) {
    state.ids.CheckInvariants();
    CHECK_EQ(state.ids.outstanding(), of_slice[slice].first);
    CHECK_EQ(state.awaiting_id, of_slice[slice].second);
    CHECK(state.awaiting_id == 0 || !state.ids.CanAssign());
    CHECK(state.low_water_told <= state.ids.low_water());
  }
  for (const SdsSession& session : sessions_) {
    session.link.CheckInvariants();
    CHECK_EQ(session.owed, owed[session.index]);
    CHECK(session.owed == 0 || session.link.up());
  }
  CHECK(opened_.empty());
}

std::string Io::Dump() const {
  std::string text =
      "io: " + std::to_string(requests_.size()) + " requests, " + std::to_string(parts_.size()) +
      " parts, " + std::to_string(counters_.attempts) + " attempts, " +
      std::to_string(counters_.retries) + " retries, " + std::to_string(counters_.bad_checksums) +
      " bad checksums, " + std::to_string(counters_.malformed) + " malformed, " +
      std::to_string(counters_.timeouts) + " time-outs\n";
  parts_.ForEach([&](SlotTag, const Part& part) {
    const wire::IoTarget& target = part.message.target;
    text += std::string("  ") + (part.is_read ? "read" : "write") + " volume " +
            ToString(target.volume) + " chunk " + std::to_string(target.chunk) + " slice " +
            ToString(target.slice) + " id " + ToString(part.message.request) + ": " +
            std::string(Name(static_cast<uint8_t>(part.state))) + ", attempts " +
            std::to_string(part.attempts) + ", last refusal " +
            std::string(wire::StatusName(part.refusal)) + "\n";
  });
  for (const SdsSession& session : sessions_) {
    text += "  sds " + ToString(session.sds) + ": owes " + std::to_string(session.owed) + "; " +
            session.link.Dump() + "\n";
  }
  return text;
}

uint64_t Io::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash + value) ^ value; };
  requests_.ForEach([&](SlotTag tag, const Request& request) {
    add(tag.value());
    add(request.tag);
    add(request.cursor);
    add(request.parts_open);
    add(static_cast<uint64_t>(request.error));
  });
  parts_.ForEach([&](SlotTag tag, const Part& part) {
    add(tag.value());
    add(static_cast<uint64_t>(part.state));
    add(part.message.request.value());
    add(part.reign.value());
  });
  for (const auto& [slice, state] : slices_) {
    add(slice.value());
    add(state.ids.low_water().value());
    add(state.ids.next());
  }
  for (const SdsSession& session : sessions_) add(session.link.StateHash());
  return hash;
}

}  // namespace gabion::sdc
