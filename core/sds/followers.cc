// A primary and the members that follow it: what to send next, what an answer means.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/sds/entry_check.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

using wire::Status;

namespace {

constexpr Duration kBehindPause = std::chrono::milliseconds(10);
constexpr Duration kPoolPause = std::chrono::milliseconds(10);
constexpr Duration kCreditsPause = std::chrono::milliseconds(10);

}  // namespace

wire::PairHeader Primary::PairOf(const Follower& follower) const {
  return {.slice = key_.slice,
          .epoch = config_.epoch,
          .primary_incarnation = config_.primary.incarnation,
          .replica_incarnation = follower.member.incarnation,
          .replica_device = follower.member.device};
}

Follower* Primary::FindFollower(const wire::PairHeader& pair) {
  if (pair.epoch != config_.epoch) return nullptr;
  if (pair.primary_incarnation != config_.primary.incarnation) return nullptr;
  for (Follower* follower : {&secondary_, &joining_}) {
    if (!follower->member.device.valid() || follower->member.device != pair.replica_device)
      continue;
    if (follower->member.incarnation != pair.replica_incarnation &&
        !PLANTED_BUG("R20-stale-incarnation-accepted")) {
      continue;
    }
    return follower;
  }
  return nullptr;
}

// Sends what the follower's state asks for, as far as its connection goes.
void Primary::Pump(Context& ctx, Follower& follower) {
  if (follower.state == Follower::State::kNone || follower.state == Follower::State::kStopped ||
      follower.state == Follower::State::kTailKnown) {
    return;
  }
  const ConnId conn = ctx.node.peers.Conn(follower.member);
  if (conn != follower.conn) {
    follower.conn = conn;
    follower.asked = false;
    follower.sent = follower.acked;
    follower.retry_at = kNever;
    if (&follower == &joining_) join_.OnReconnect();
  }
  if (!conn.valid()) return;
  if (follower.retry_at != kNever && ctx.now.boot < follower.retry_at) return;
  follower.retry_at = kNever;
  switch (follower.state) {
    case Follower::State::kAwaitingTail:
      if (!follower.asked) ctx.effects.Send(conn, wire::TailQuery{.pair = PairOf(follower)});
      follower.asked = true;
      return;
    case Follower::State::kAwaitingStart:
      if (!follower.asked) SendEpochStart(ctx, follower);
      return;
    case Follower::State::kActive:
      PumpEntries(ctx, follower);
      return;
    case Follower::State::kNone:
    case Follower::State::kTailKnown:
    case Follower::State::kStopped:
      return;
  }
}

void Primary::SendEpochStart(Context& ctx, Follower& follower) {
  const bool joining = &follower == &joining_;
  if (joining && !follower.start.has_value()) {
    // From here on everything that is not committed yet is kept until T has it.
    follower.start = committed_seq();
    follower.acked = *follower.start;
    follower.sent = *follower.start;
  }
  const std::span<const wire::HistoryItem> history(history_);
  const Slice payload = MakeList(*ctx.node.resources.pool, history);
  if (payload.empty() && !history.empty()) {
    follower.retry_at = SaturatingAdd(ctx.now.boot, kPoolPause);
    ctx.node.WakeAt(key_, follower.retry_at);
    return;
  }
  ctx.effects.Send(follower.conn,
                   wire::EpochStart{.pair = PairOf(follower),
                                    .issuer = config_.issuer,
                                    .previous_epoch = previous_epoch_,
                                    .end = end_,
                                    .history_count = static_cast<uint32_t>(history.size()),
                                    .renamed_count = joining ? 0 : static_cast<uint32_t>(carried_),
                                    .joining = static_cast<uint8_t>(joining ? 1 : 0),
                                    .start = Seq(joining ? *follower.start : 0)},
                   payload);
  follower.asked = true;
}

void Primary::OnEpochStartReply(Context& ctx, const wire::EpochStartReply& reply) {
  Follower* follower = FindFollower(reply.pair);
  if (follower == nullptr) return;
  if (follower->active() && reply.status == Status::kOk) {
    TakeCredits(*follower, reply.credits);  // it was asked again
    return;
  }
  if (follower->state != Follower::State::kAwaitingStart) return;
  if (Refused(ctx, *follower, reply.status)) return;
  follower->state = Follower::State::kActive;
  follower->credits = reply.credits;
  if (follower == &secondary_) {
    follower->acked = std::min<uint64_t>(reply.held_count, last_seq());
    follower->sent = follower->acked;
  }
  Progress(ctx, *follower);
  if (follower == &joining_) join_.Begin(ctx, *this);
}

void Primary::TakeCredits(Follower& follower, const wire::Credits& credits) {
  // Answers that do not come from the replica itself promise nothing.
  if (credits.window_bytes == 0) return;
  follower.credits.extents_limit = std::max(follower.credits.extents_limit, credits.extents_limit);
  follower.credits.window_bytes = credits.window_bytes;
  follower.credits.log_limit = std::max(follower.credits.log_limit, credits.log_limit);
}

void Primary::AskCredits(Context& ctx, Follower& follower, uint64_t log_bytes) {
  if (follower.acked < last_seq()) return;
  if (follower.ask_at == kNever || ctx.now.boot >= follower.ask_at) {
    const ConnId conn = ctx.node.peers.Conn(follower.member);
    if (conn.valid() && conn == follower.conn) {
      ctx.effects.Send(conn, wire::CreditsRequest{.pair = PairOf(follower),
                                                  .log_used = follower.log_used,
                                                  .log_wanted = log_bytes});
    }
    follower.ask_at = SaturatingAdd(ctx.now.boot, kCreditsPause);
  }
  ctx.node.WakeAt(key_, follower.ask_at);
}

// Only when nothing is on its way: an entry that is has its place there. A write that waits asks
// again, behind those that have waited for longer; nobody holds a part and waits for the rest.
void Primary::GiveBackCredits(Context& ctx, Follower& follower) {
  if (!follower.give_back || follower.acked < last_seq()) return;
  if (PLANTED_BUG("R24-credits-kept")) return;
  follower.give_back = false;
  follower.log_used = std::max(follower.log_used, follower.credits.log_limit);
  ctx.effects.Send(follower.conn,
                   wire::CreditsRequest{.pair = PairOf(follower), .log_used = follower.log_used});
}

void Primary::PumpEntries(Context& ctx, Follower& follower) {
  GiveBackCredits(ctx, follower);
  while (follower.sent < last_seq()) {
    if (follower.probing && follower.sent > follower.acked) return;
    const uint64_t seq = follower.sent + 1;
    CHECK_GE(seq, first_seq());
    InFlight& entry = EntryAt(seq);
    if (entry.payload_state != InFlight::Payload::kHere) {
      if (entry.payload_state == InFlight::Payload::kAbsent) {
        LoadEntry(ctx, entry, seq - first_seq());
      }
      return;
    }
    const InFlight::Used& used = &follower == &joining_ ? entry.joining_used : entry.secondary_used;
    wire::Replicate message{.pair = PairOf(follower),
                            .entry = entry.header,
                            .commit_point = {config_.epoch, Seq(committed_seq())},
                            .extents_used = used.extents,
                            .log_used = used.log_bytes};
    std::copy_n(entry.crc.begin(), message.block_crc.size(), message.block_crc.begin());
    ctx.effects.Send(follower.conn, message, entry.payload);
    follower.sent = seq;
    follower.commit_told = committed_seq();
  }
}

void Primary::LoadEntry(Context& ctx, InFlight& entry, size_t index) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  const uint32_t bytes = uint32_t{entry.header.block_count} * wire::kBlockBytes;
  Slice target = ctx.node.resources.pool->Allocate(bytes, BufferUse::kPeer);
  if (target.empty()) {
    ctx.node.WakeAt(key_, SaturatingAdd(ctx.now.boot, kPoolPause));
    return;
  }
  entry.payload_state = InFlight::Payload::kLoading;
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kLoadEntry,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = first_seq() + index,
                                           .entry = entry.header,
                                           .target = target});
  Op& op = ctx.node.ops.At(tag);
  target = Slice();  // the operation's is the only one, so that the store may fill it
  store->ReadEntry(ctx.now, key_.slice, op.entry.id, op.target, op.crc, tag, ctx.node.Out(ctx));
}

void Primary::OnEntryLoaded(Context& ctx, const Op& op, store::DoneStatus status) {
  if (op.epoch != config_.epoch || op.a < first_seq() || op.a > last_seq()) return;
  InFlight& entry = EntryAt(op.a);
  if (entry.payload_state != InFlight::Payload::kLoading) return;
  if (status != store::DoneStatus::kOk) {
    // Its own tail is damaged: what it cannot send, it cannot commit.
    BecomeNeedsResync(ctx, /*self=*/true, "an entry of its tail cannot be read");
    return;
  }
  entry.payload = op.target;
  std::copy(op.crc.begin(), op.crc.end(), entry.crc.begin());
  entry.payload_state = InFlight::Payload::kHere;
}

void Primary::OnReplicateAck(Context& ctx, const wire::ReplicateAck& ack) {
  Follower* follower = FindFollower(ack.pair);
  if (follower == nullptr || !follower->active()) return;
  TakeCredits(*follower, ack.credits);
  if (ack.give_back != 0) follower->give_back = true;
  const uint64_t durable = std::min(ack.durable.value(), follower->sent);
  if (durable > follower->acked && ack.status != Status::kWrongEpoch) {
    follower->acked = durable;
    follower->probing = false;
    Progress(ctx, *follower);
    // What was committed before it arrived at T has waited for this alone.
    if (follower == &joining_) Trim(ctx);
  }
  Refused(ctx, *follower, ack.status);
}

// What an answer other than kOk means. True: there was such an answer.
bool Primary::Refused(Context& ctx, Follower& follower, Status status) {
  if (status == Status::kOk) return false;
  const bool joining = &follower == &joining_;
  switch (status) {
    case Status::kBusy:  // no memory, or no room in its log
      follower.probing = follower.active();
      Retry(ctx, follower);
      return true;
    case Status::kBehind:  // it has not applied this configuration yet, or misses an entry
    case Status::kUnavailable:
      Retry(ctx, follower);
      return true;
    case Status::kNoSpace:
      follower.no_space = true;
      break;
    case Status::kNeedsResync:
      follower.needs_resync = true;
      break;
    default:  // an epoch or incarnation that is not ours: a newer configuration is on its way here
      break;
  }
  ctx.Log(Severity::kInfo,
          absl::StrCat("slice ", ToString(key_.slice), " epoch ", ToString(config_.epoch),
                       ": device ", ToString(follower.member.device),
                       " refuses: ", std::string(wire::StatusName(status))));
  if (joining) {
    join_.Fail(ctx, *this, std::string(wire::StatusName(status)));
  }
  follower.state = Follower::State::kStopped;
  if (follower.owed_since == kNever) follower.owed_since = ctx.now.boot;
  return true;
}

void Primary::Retry(Context& ctx, Follower& follower) {
  follower.asked = false;
  follower.sent = follower.acked;
  if (&follower == &joining_) join_.OnReconnect();
  follower.retry_at = SaturatingAdd(ctx.now.boot, kBehindPause);
  ctx.node.WakeAt(key_, follower.retry_at);
}

void Primary::Progress(Context& ctx, Follower& follower) { follower.owed_since = ctx.now.boot; }

bool Primary::Owed(const Follower& follower) const {
  switch (follower.state) {
    case Follower::State::kNone:
      return false;
    case Follower::State::kAwaitingTail:
    case Follower::State::kAwaitingStart:
      return true;
    case Follower::State::kTailKnown:
      return phase_ == Phase::kAwaitingFetch;
    case Follower::State::kActive:
      if (follower.acked < last_seq()) return true;
      // A joining that cannot be reached is given up, also when nobody writes.
      return &follower == &joining_ &&
             (join_.stream_owed() || (join_.forwards() && !follower.conn.valid()));
    case Follower::State::kStopped:
      return follower.acked < last_seq() || !serving();
  }
  UNREACHABLE();
}

void Primary::WatchSilence(Context& ctx) {
  for (Follower* follower : {&secondary_, &joining_}) {
    if (!Owed(*follower)) {
      follower->owed_since = kNever;
    } else if (follower->owed_since == kNever) {
      follower->owed_since = ctx.now.boot;
    }
  }
  const bool binding = join_.binding() && !PLANTED_BUG("R19-ack-without-joiner");
  if (joining_.state != Follower::State::kNone && joining_.state != Follower::State::kStopped &&
      !binding && Silent(ctx, joining_, kJoiningPatience)) {
    join_.Fail(ctx, *this, "it does not answer");
    joining_.state = Follower::State::kStopped;
    Trim(ctx);
  }
}

bool Primary::Silent(Context& ctx, const Follower& follower, Duration patience) const {
  return follower.owed_since != kNever && ctx.now.boot - follower.owed_since > patience;
}

void Primary::AddCommitPoints(Context& ctx) {
  if (!serving()) return;
  for (Follower* follower : {&secondary_, &joining_}) {
    if (!follower->active() || follower->commit_told >= committed_seq()) continue;
    const ConnId conn = ctx.node.peers.Conn(follower->member);
    if (!conn.valid() || conn != follower->conn) continue;
    ctx.node.AddCommitPoint(
        conn, {.pair = PairOf(*follower), .commit_point = {config_.epoch, Seq(committed_seq())}});
    follower->commit_told = committed_seq();
  }
}

void Primary::AddReports(Context& ctx, proto::SdsHeartbeat* heartbeat) {
  const auto add = [&](proto::SliceReport::Kind kind, const Member& member) {
    proto::SliceReport* report = heartbeat->add_reports();
    report->set_kind(kind);
    report->set_slice(config_.slice.value());
    report->set_epoch(config_.epoch.value());
    report->set_primary_incarnation(config_.primary.incarnation.value());
    report->set_device(member.device.value());
    report->set_device_incarnation(member.incarnation.value());
    report->set_progress_permille(join_.progress_permille());
  };
  if (phase_ == Phase::kNeedsResync) {
    add(proto::SliceReport::NEEDS_RESYNC,
        secondary_.needs_resync ? secondary_.member : config_.primary);
  } else if (secondary_.needs_resync) {
    add(proto::SliceReport::NEEDS_RESYNC, secondary_.member);
  }
  if (released_) add(proto::SliceReport::RELEASED, config_.primary);
  if (ahead_.valid()) {
    add(proto::SliceReport::AHEAD, config_.primary);
    heartbeat->mutable_reports(heartbeat->reports_size() - 1)->set_seen_epoch(ahead_.value());
  }
  const Duration unreachable = ctx.node.options.unreachable;
  const bool absent_needed = secondary_absent() && (write_waits_ || committed_count_ < log_.size());
  const bool short_for_long =
      secondary_.short_since != kNever && ctx.now.boot - secondary_.short_since > unreachable;
  if (absent_needed || secondary_.no_space || short_for_long ||
      Silent(ctx, secondary_, unreachable)) {
    add(proto::SliceReport::MEMBER_NEEDED, *config_.secondary);
  }
  if (joining_.needs_resync) add(proto::SliceReport::NEEDS_RESYNC, joining_.member);
  switch (join_.phase()) {
    case JoinSource::Phase::kComplete:
      add(proto::SliceReport::JOIN_COMPLETE, joining_.member);
      if (joining_.no_space || Silent(ctx, joining_, unreachable)) {
        add(proto::SliceReport::MEMBER_NEEDED, joining_.member);
      }
      break;
    case JoinSource::Phase::kFailed:
      add(proto::SliceReport::JOIN_FAILED, joining_.member);
      break;
    case JoinSource::Phase::kIds:
    case JoinSource::Phase::kWalking:
    case JoinSource::Phase::kDraining:
      add(proto::SliceReport::NONE, joining_.member);
      break;
    case JoinSource::Phase::kIdle:
      break;
  }
  // Until the MDM has answered a heartbeat that said so, and again in each registration.
  if (open_reported_ < ctx.node.registration.first_number()) open_reported_ = 0;
  if (serving() && (open_reported_ == 0 || open_reported_ > ctx.node.registration.heard())) {
    add(proto::SliceReport::OPEN, config_.primary);
    if (open_reported_ == 0) open_reported_ = heartbeat->number();
  }
}

}  // namespace gabion::sds
