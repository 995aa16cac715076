#include "core/sds/secondary.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/mix.h"
#include "core/sds/entry_check.h"
#include "core/sds/extent_data.h"
#include "core/sds/lineage.h"
#include "core/sds/node.h"

namespace gabion::sds {

using wire::Status;

namespace {

// As far as this side knows the entries.
uint64_t CommittedBy(EntryId commit_point, Epoch epoch, uint64_t received) {
  return commit_point.epoch == epoch ? std::min(commit_point.seq.value(), received) : 0;
}

}  // namespace

const char* ToString(Secondary::Phase phase) {
  switch (phase) {
    case Secondary::Phase::kAwaitingStart:
      return "awaiting start";
    case Secondary::Phase::kStarting:
      return "starting";
    case Secondary::Phase::kFollowing:
      return "following";
  }
  UNREACHABLE();
}

Secondary::Secondary(ReplicaKey key, const SliceConfig& config, bool joining, Epoch joined,
                     uint64_t instance)
    : key_(key), config_(config), joining_(joining), joined_(joined), instance_(instance) {}

wire::PairHeader Secondary::Pair() const {
  const Member& self = joining_ ? *config_.joining : *config_.secondary;
  return {.slice = key_.slice,
          .epoch = config_.epoch,
          .primary_incarnation = config_.primary.incarnation,
          .replica_incarnation = self.incarnation,
          .replica_device = key_.device};
}

store::Store* Secondary::StoreOf(Context& ctx) const {
  Device* device = ctx.node.devices.FindUp(key_.device);
  return device == nullptr ? nullptr : device->store.get();
}

void Secondary::OnTailQuery(Context& ctx, ConnId conn, const wire::TailQuery&) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  wire::TailReply reply{.pair = Pair()};
  Slice payload;
  if (const store::SliceFacts* facts = store->Find(key_.slice)) {
    const Lineage lineage = LineageOf(*facts);
    const std::span<const wire::HistoryItem> history(facts->history);
    payload = MakeList(*ctx.node.resources.pool, history);
    reply.started_epoch = facts->started_epoch;
    reply.issuer = facts->issuer;
    reply.commit_point = facts->commit_point;
    reply.history_count = static_cast<uint32_t>(history.size());
    reply.tail_count = static_cast<uint32_t>(lineage.last - lineage.committed);
    if (!facts->needs_resync) {
      reply.in_sync_epoch = facts->in_sync_epoch;
      reply.in_sync_issuer = facts->in_sync_issuer;
      reply.cursor = facts->cursor;
    } else if (!joining_ && joined_ != facts->started_epoch) {
      reply.status = Status::kNeedsResync;
    }
    if (payload.empty() && !history.empty()) reply.status = Status::kBusy;
  }
  if (reply.status != Status::kOk) {
    reply.history_count = 0;
    payload = Slice();
  }
  ctx.effects.Send(conn, reply, std::move(payload));
}

void Secondary::OnFetchEntry(Context& ctx, ConnId conn, const wire::FetchEntry& fetch) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  wire::FetchReply reply{.pair = Pair()};
  reply.entry.id = fetch.entry;
  const wire::EntryHeader* header = store->FindEntry(key_.slice, fetch.entry);
  if (header == nullptr) {
    reply.status = Status::kIoError;
    ctx.effects.Send(conn, reply);
    return;
  }
  reply.entry = *header;
  if (header->kind != wire::EntryKind::kWrite) {
    ctx.effects.Send(conn, reply);
    return;
  }
  Slice target = ctx.node.resources.pool->Allocate(
      uint32_t{header->block_count} * wire::kBlockBytes, BufferUse::kPeer);
  if (target.empty()) {
    reply.status = Status::kBusy;
    ctx.effects.Send(conn, reply);
    return;
  }
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kFetchRead,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = conn.value(),
                                           .entry = *header,
                                           .target = std::move(target)});
  Op& op = ctx.node.ops.At(tag);
  store->ReadEntry(ctx.now, key_.slice, fetch.entry, op.target, op.crc, tag, ctx.node.Out(ctx));
}

void Secondary::ReplyStart(Context& ctx, ConnId conn, Status status) {
  ctx.effects.Send(conn, wire::EpochStartReply{.pair = Pair(),
                                               .held_count = static_cast<uint32_t>(
                                                   std::min<uint64_t>(durable_, UINT32_MAX)),
                                               .status = status,
                                               .credits = CreditsNow(ctx)});
}

void Secondary::OnEpochStart(Context& ctx, ConnId conn, const wire::EpochStart& start,
                             const Slice& payload) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  std::vector<wire::HistoryItem> history;
  if (!ParseList(payload, start.history_count, &history) ||
      !ValidHistory(history, start.pair.epoch) || (start.joining != 0) != joining_ ||
      start.renamed_count > store::kTailEntriesMax || start.start.value() > kSeqMax) {
    ctx.node.sessions.Violation(ctx, conn, "an epoch start that makes no sense");
    return;
  }
  conn_ = conn;
  if (phase_ == Phase::kFollowing) return ReplyStart(ctx, conn, Status::kOk);
  if (phase_ == Phase::kStarting) return;  // answered when the record is durable
  if (const store::SliceFacts* facts = store->Find(key_.slice)) {
    if (facts->started_epoch >= config_.epoch) {
      ctx.Log(
          Severity::kCritical,
          absl::StrCat("slice ", ToString(key_.slice), ": epoch ", ToString(facts->started_epoch),
                       " was started here, the primary names ", ToString(config_.epoch)));
      return ReplyStart(ctx, conn, Status::kAhead);
    }
  }
  if (joining_) {
    StartJoining(ctx, start, history);
  } else {
    StartInSync(ctx, conn, start, history);
  }
}

void Secondary::StartInSync(Context& ctx, ConnId conn, const wire::EpochStart& start,
                            std::span<const wire::HistoryItem> history) {
  store::Store* store = StoreOf(ctx);
  const store::SliceFacts* facts = store->Find(key_.slice);
  const Lineage self = facts == nullptr ? Lineage() : LineageOf(*facts);
  const Lineage source{.history = {history.begin(), history.end()},
                       .started = config_.epoch,
                       .issuer = start.issuer};
  const std::optional<TailPlan> plan = PlanFollow(self, source);
  const bool damaged = facts != nullptr && facts->needs_resync;
  if (!plan.has_value() || (damaged && joined_ != self.started)) {
    return ReplyStart(ctx, conn, Status::kNeedsResync);
  }
  // The joining that just ended made its content good (S2).
  if (damaged) {
    const store::Tag mark = ctx.node.ops.Add({.kind = OpKind::kMark, .replica = key_});
    store->SetNeedsResync(ctx.now, key_.slice, false, mark, ctx.node.Out(ctx));
  }
  phase_ = Phase::kStarting;
  received_ = plan->count;
  carried_ = start.renamed_count;
  const std::vector<store::Rename> renames = RenamesOf(*plan, self.started, config_.epoch);
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kFollowStart,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = received_});
  store->StartEpoch(ctx.now, key_.slice,
                    {.epoch = config_.epoch,
                     .issuer = start.issuer,
                     .end = plan->end,
                     .in_sync = true,
                     .history = history,
                     .renames = renames,
                     .start = plan->start,
                     .members = MembersOf(config_)},
                    tag, ctx.node.Out(ctx));
}

void Secondary::OnReplicate(Context& ctx, ConnId conn, const wire::Replicate& message,
                            const Slice& payload) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  conn_ = conn;
  const uint64_t seq = message.entry.id.seq.value();
  if (message.entry.id.epoch != message.pair.epoch ||
      !ValidEntry(message.entry, payload, message.block_crc)) {
    ctx.node.sessions.Violation(ctx, conn, "a replicate that makes no sense");
    return;
  }
  const auto refuse = [&](Status status) {
    ctx.effects.Send(conn, wire::ReplicateAck{.pair = Pair(),
                                              .durable = Seq(durable_),
                                              .credits = CreditsNow(ctx),
                                              .status = status});
  };
  if (phase_ != Phase::kFollowing) return refuse(Status::kBehind);
  if (seq > received_ + 1) return refuse(Status::kBehind);
  wire::EntryHeader header = message.entry;
  header.id.epoch = config_.epoch;
  const bool again = seq <= received_;
  if (again) {
    ack_owed_ = true;  // it came again after a reconnect
    if (!PLANTED_BUG("duplicate-replicate-applied")) {
      ctx.node.MarkDirty(key_);
      return;
    }
    header.id.seq = Seq(received_ + 1);
  }
  Device* device = ctx.node.devices.FindUp(key_.device);
  CHECK(device != nullptr);  // it has the store
  const CreditsUsed used{.extents_used = message.extents_used,
                         .log_used = message.log_used,
                         .extents_max = ExtentsTouched(header),
                         .log_bytes = payload.size() + store::kAppendOverheadBytes};
  using Cover = DeviceCredits::Cover;
  const Cover cover = again ? Cover::kUncovered : DeviceCredits::Judge(promise_, used);
  // T is sent what was admitted before it made its first promise.
  const bool may_be_uncovered = joining_ || seq <= carried_ || again;
  if (cover == Cover::kImplausible || (cover == Cover::kUncovered && !may_be_uncovered)) {
    ctx.node.sessions.Violation(ctx, conn, "a replicate that takes what was not promised");
    return;
  }
  const uint64_t decided =
      std::max(committed_, CommittedBy(message.commit_point, config_.epoch, received_));
  if (received_ + 1 - decided > store::kTailEntriesMax) {
    ctx.node.sessions.Violation(ctx, conn, "more undecided entries than a slice may have");
    return;
  }
  if (cover == Cover::kUncovered) {
    const uint64_t room = joining_ ? LogRoomForClients(*device) : LogRoomForTail(*device);
    if (room < used.log_bytes) return refuse(Status::kBusy);
  } else if (store->append_room() < used.log_bytes) {
    ++ctx.node.counters.promises_broken;
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(key_.slice), ": no room in the log of device ",
                         ToString(key_.device), " for an entry to which it was promised"));
    return refuse(Status::kBusy);
  }
  if (header.kind == wire::EntryKind::kWrite &&
      store->ExtentsNeeded(key_.slice, header) > store->capacity().extents_free) {
    return refuse(Status::kNoSpace);
  }
  ++received_;
  if (cover == Cover::kCovered) device->credits.Use(&promise_, used);
  if (received_ == carried_) SettleIfHere(ctx);
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kFollowAppend,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = received_});
  store->Append(ctx.now, key_.slice, header, payload,
                std::span(message.block_crc).first(payload.size() / wire::kBlockBytes), tag,
                ctx.node.Out(ctx));
  if (PLANTED_BUG("R7-secondary-acks-before-durable")) {
    durable_ = received_;
    ack_owed_ = true;
    ctx.node.MarkDirty(key_);
  }
  OnCommitPoint(ctx, message.commit_point);
}

void Secondary::OnCommitPoint(Context& ctx, EntryId commit_point) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || phase_ != Phase::kFollowing) return;
  if (commit_point.epoch != config_.epoch) return;
  const EntryId known{config_.epoch, Seq(CommittedBy(commit_point, config_.epoch, received_))};
  committed_ = std::max(committed_, known.seq.value());
  if (!known.seq.valid() || known <= store->Find(key_.slice)->commit_point) return;
  store->SetCommitPoint(ctx.now, key_.slice, known, ctx.node.Out(ctx));
}

// ---- Credits (R24)

wire::Credits Secondary::CreditsNow(Context& ctx) {
  wire::Credits credits;
  if (Device* device = ctx.node.devices.FindUp(key_.device)) {
    // What was carried over needs its place first.
    if (settled()) device->credits.TopUp(&promise_, CreditRoomOf(*device));
    credits.window_bytes = WindowBytes(*device);
  }
  credits.extents_limit = promise_.extents_limit;
  credits.log_limit = promise_.log_limit;
  return credits;
}

void Secondary::OnCreditsRequest(Context& ctx, ConnId conn, const wire::CreditsRequest& request) {
  Device* device = ctx.node.devices.FindUp(key_.device);
  if (device == nullptr) return;
  conn_ = conn;
  if (phase_ != Phase::kFollowing) {
    ctx.effects.Send(conn, wire::ReplicateAck{.pair = Pair(), .status = Status::kBehind});
    return;
  }
  if (request.log_wanted > kLogCreditsMin ||
      !device->credits.GiveBack(&promise_, request.log_used)) {
    ctx.node.sessions.Violation(ctx, conn, "a request for credits that makes no sense");
    return;
  }
  if (settled() && request.log_wanted > 0 &&
      !device->credits.Ask(instance_, &promise_, request.log_wanted, ctx.now.boot,
                           CreditRoomOf(*device))) {
    ctx.node.RecallCredits(ctx, *device);
  }
  ack_owed_ = true;
  ctx.node.MarkDirty(key_);
}

void Secondary::RefillCredits(Context& ctx) {
  const Device* device = ctx.node.devices.FindUp(key_.device);
  if (device == nullptr || !settled()) return;
  if (!device->credits.IsShort(promise_, CreditRoomOf(*device))) return;
  const Promise before = promise_;
  CreditsNow(ctx);
  if (promise_.extents_limit == before.extents_limit && promise_.log_limit == before.log_limit) {
    return;
  }
  ack_owed_ = true;
  ctx.node.MarkDirty(key_);
}

void Secondary::RecallCredits(Context& ctx) {
  if (phase_ != Phase::kFollowing || promise_.log_left() == 0) return;
  if (!ctx.node.sessions.IsReady(conn_)) return;
  ctx.effects.Send(
      conn_,
      wire::ReplicateAck{
          .pair = Pair(), .durable = Seq(durable_), .credits = CreditsNow(ctx), .give_back = 1});
}

void Secondary::SettleIfHere(Context& ctx) {
  Device* device = ctx.node.devices.FindUp(key_.device);
  if (device != nullptr && settled()) device->credits.Settle(key_.slice);
}

// ---- Completions
// -----------------------------------------------------------------------------------

void Secondary::OnDone(Context& ctx, const Op& op, store::DoneStatus status) {
  if (op.kind == OpKind::kServeRead) return OnServeRead(ctx, op, status);
  if (op.kind == OpKind::kFetchRead) {
    wire::FetchReply reply{.pair = Pair(), .entry = op.entry};
    if (status != store::DoneStatus::kOk) reply.status = Status::kIoError;
    std::copy(op.crc.begin(), op.crc.end(), reply.block_crc.begin());
    const ConnId conn(op.a);
    if (!ctx.node.sessions.IsReady(conn)) return;
    ctx.effects.Send(conn, reply, reply.status == Status::kOk ? op.target : Slice());
    return;
  }
  if (status != store::DoneStatus::kOk) return;  // the device failed, and says so
  ctx.node.MarkDirty(key_);
  switch (op.kind) {
    case OpKind::kScanFix:
      return OnFixDurable(ctx, op);
    case OpKind::kFollowStart:
      if (phase_ != Phase::kStarting) return;
      phase_ = Phase::kFollowing;
      durable_ = op.a;
      ctx.Log(
          Severity::kDebug,
          absl::StrCat("slice ", ToString(key_.slice), " follows epoch ", ToString(config_.epoch),
                       joining_ ? " joining" : " in sync", ", holds ", received_));
      SettleIfHere(ctx);
      ReplyStart(ctx, conn_, Status::kOk);
      return;
    case OpKind::kFollowAppend:
      durable_ = std::max(durable_, op.a);
      ack_owed_ = true;
      return;
    case OpKind::kJoinAppend:
      stream_durable_ = std::max(stream_durable_, op.a);
      join_ack_owed_ = true;
      return;
    default:
      return;
  }
}

void Secondary::Advance(Context& ctx) {
  store::Store* store = StoreOf(ctx);
  const bool reachable = ctx.node.sessions.IsReady(conn_);
  if (store != nullptr && reachable && ack_owed_) {
    ctx.effects.Send(
        conn_,
        wire::ReplicateAck{.pair = Pair(), .durable = Seq(durable_), .credits = CreditsNow(ctx)});
  }
  if (reachable && join_ack_owed_) {
    ctx.effects.Send(conn_, wire::JoinAck{.pair = Pair(), .stream = stream_durable_});
  }
  // Without the connection nothing is owed: the primary sends again what it has no answer for.
  ack_owed_ = false;
  join_ack_owed_ = false;
}

void Secondary::CheckInvariants(const Node&) const {
  CHECK_LE(promise_.extents_used, promise_.extents_limit);
  CHECK_LE(promise_.log_used, promise_.log_limit);
  CHECK_LE(durable_, received_);
  CHECK_LE(stream_durable_, stream_received_);
  CHECK(phase_ == Phase::kFollowing || stream_received_ == 0);
}

std::string Secondary::Dump() const {
  return absl::StrCat(
      joining_ ? "joining " : "secondary ", ToString(phase_), " epoch ", ToString(config_.epoch),
      " received ", received_, " durable ", durable_,
      joining_ ? absl::StrCat(" stream ", stream_durable_, "/", stream_received_) : std::string());
}

uint64_t Secondary::StateHash() const {
  uint64_t hash = mix64(config_.epoch.value() + static_cast<uint64_t>(phase_));
  hash = mix64(hash + received_ * 3 + durable_);
  hash = mix64(hash + promise_.extents_limit * 7 + promise_.extents_used);
  hash = mix64(hash + promise_.log_limit * 7 + promise_.log_used);
  return mix64(hash + stream_received_ * 5 + stream_durable_);
}

}  // namespace gabion::sds
