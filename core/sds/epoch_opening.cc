// How a primary starts an epoch (replication.md, R14, R18; docs/roles.md, "A slice at an SDS").
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/checksum.h"
#include "core/sds/entry_check.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

using wire::Status;

namespace {

constexpr uint64_t kFetchesInFlight = 8;

}  // namespace

void Primary::SetPhase(Context& ctx, Phase phase) {
  if (phase == phase_) return;
  ctx.Log(Severity::kDebug,
          absl::StrCat("slice ", ToString(key_.slice), " epoch ", ToString(config_.epoch),
                       ": primary ", ToString(phase_), " -> ", ToString(phase)));
  phase_ = phase;
}

void Primary::OnConfig(Context& ctx, const SliceConfig& config) {
  if (config.epoch == config_.epoch) {
    config_.release = config.release;
    return;
  }
  CHECK(config.epoch > config_.epoch);
  const bool other_reign = config.reign != config_.reign;
  join_.Release(ctx, *this);
  join_.Reset();
  examinations_.Release(ctx, *this);
  repairs_.Release(ctx, *this);
  config_ = config;
  released_ = false;
  ahead_ = Epoch();
  write_waits_ = false;
  start_issued_ = false;
  start_durable_ = false;
  open_reported_ = 0;
  secondary_ = Follower();
  joining_ = Follower();
  if (config_.secondary.has_value()) secondary_.member = *config_.secondary;
  if (config_.joining.has_value()) joining_.member = *config_.joining;
  SetPhase(ctx, Phase::kAwaitingDevice);
  if (!counted_undrained_) {
    ctx.node.outstanding.Add(ConfigVersion());
    counted_undrained_ = true;
  }
  if (other_reign && !PLANTED_BUG("reign-not-checked")) {
    std::vector<SlotTag> stale;
    ctx.node.requests.ForEach([&](SlotTag tag, Request& request) {
      if (request.replica == key_ && !request.admitted()) stale.push_back(tag);
    });
    for (const SlotTag tag : stale) Refuse(ctx, tag, Status::kWrongReign);
  }
}

void Primary::AdvanceOpening(Context& ctx) {
  switch (phase_) {
    case Phase::kAwaitingDevice:
      if (store::Store* store = StoreOf(ctx)) OpenOnDevice(ctx, *store);
      return;
    case Phase::kAwaitingTail:
      if (secondary_.state == Follower::State::kTailKnown) OnExchange(ctx);
      return;
    case Phase::kAwaitingFetch:
      AdvanceFetch(ctx);
      return;
    case Phase::kAwaitingStart:
      MaybeServe(ctx);
      return;
    case Phase::kAwaitingAdopt:
    case Phase::kServing:
    case Phase::kNeedsResync:
    case Phase::kStopped:
      return;
  }
}

void Primary::OpenOnDevice(Context& ctx, store::Store& store) {
  const store::SliceFacts* facts = store.Find(key_.slice);
  self_ = facts == nullptr ? Lineage() : LineageOf(*facts);
  if (facts != nullptr && facts->needs_resync) {
    // A new issuer without other members: somebody chose this copy, and accepts what it lacks
    // (R13).
    const bool forced = config_.issuer != self_.issuer && !config_.secondary && !config_.joining;
    if (joined_ != self_.started && !forced) {
      BecomeNeedsResync(ctx, /*self=*/true, "its log was damaged, or it was told so");
      return;
    }
    // The joining that just ended made its content good (S2).
    const store::Tag mark = ctx.node.ops.Add({.kind = OpKind::kMark, .replica = key_});
    store.SetNeedsResync(ctx.now, key_.slice, false, mark, ctx.node.Out(ctx));
  }
  if (self_.started >= config_.epoch) {
    // The metadata went back (R23): this side has seen a later epoch than its MDM's.
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(key_.slice), ": epoch ", ToString(self_.started),
                         " was started here, but the MDM names epoch ", ToString(config_.epoch),
                         ". The repository was restored from an older state; this replica stops"));
    // The very epoch may have been started by this process, before the device went and came back.
    if (self_.started > config_.epoch) ahead_ = self_.started;
    SetPhase(ctx, Phase::kStopped);
    ctx.node.HeartbeatSoon(ctx);
    return;
  }
  const bool exchange = config_.secondary.has_value() && config_.secondary->present;
  if (exchange) secondary_.state = Follower::State::kAwaitingTail;
  if (exchange && !PLANTED_BUG("R14-no-exchange")) {
    SetPhase(ctx, Phase::kAwaitingTail);
  } else {
    BeginStart(ctx);
  }
}

void Primary::OnTailReply(Context& ctx, const wire::TailReply& reply, const Slice& payload) {
  Follower* follower = FindFollower(reply.pair);
  if (follower == nullptr || follower->state != Follower::State::kAwaitingTail) return;
  if (Refused(ctx, *follower, reply.status)) return;
  std::vector<wire::HistoryItem> history;
  if (!ParseList(payload, reply.history_count, &history) ||
      !ValidHistory(history, reply.started_epoch) || reply.tail_count > store::kTailEntriesMax) {
    ctx.node.sessions.Violation(ctx, follower->conn, "a tail reply that makes no sense");
    Retry(ctx, *follower);
    return;
  }
  if (reply.started_epoch > config_.epoch) {
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(key_.slice), ": epoch ", ToString(reply.started_epoch),
                         " was started on device ", ToString(follower->member.device),
                         ", but the MDM names epoch ", ToString(config_.epoch),
                         ". The repository was restored from an older state; this replica stops"));
    ahead_ = reply.started_epoch;
    SetPhase(ctx, Phase::kStopped);
    ctx.node.HeartbeatSoon(ctx);
    return;
  }
  follower->lineage = LineageOf(reply, history);
  follower->in_sync_epoch = reply.in_sync_epoch;
  follower->in_sync_issuer = reply.in_sync_issuer;
  follower->state = Follower::State::kTailKnown;
  Progress(ctx, *follower);
  if (follower != &joining_) return;
  const bool resumes = FindResumeEnd(reply.cursor, history_).has_value();
  join_.set_base(FindJoinBase(follower->lineage, reply.in_sync_epoch, history_),
                 resumes ? reply.cursor : wire::JoinCursor());
  follower->state = Follower::State::kAwaitingStart;
  follower->asked = false;
}

void Primary::OnExchange(Context& ctx) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  if (secondary_.lineage.started >= config_.epoch) {
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(key_.slice), ": device ",
                         ToString(secondary_.member.device), " started epoch ",
                         ToString(secondary_.lineage.started), ", the MDM names epoch ",
                         ToString(config_.epoch), "; this replica stops"));
    SetPhase(ctx, Phase::kStopped);
    return;
  }
  plan_ = PlanExchange(self_, secondary_.lineage);
  switch (plan_.verdict) {
    case Verdict::kSelfNeedsResync:
      BecomeNeedsResync(ctx, /*self=*/true, "it lacks what the other replica has");
      return;
    case Verdict::kPeerNeedsResync:
      BecomeNeedsResync(ctx, /*self=*/false, "it lacks what this replica has");
      return;
    case Verdict::kOk:
      break;
  }
  if (!plan_.adopt) {
    BeginFetch(ctx, plan_);
    return;
  }
  const Lineage& peer = secondary_.lineage;
  const std::vector<store::Rename> renames = RenamesOf(plan_.tail, self_.started, peer.started);
  const store::Tag tag = ctx.node.ops.Add(
      {.kind = OpKind::kAdopt, .replica = key_, .instance = instance_, .epoch = config_.epoch});
  SetPhase(ctx, Phase::kAwaitingAdopt);
  store->StartEpoch(ctx.now, key_.slice,
                    {.epoch = peer.started,
                     .issuer = peer.issuer,
                     .end = plan_.tail.end,
                     .in_sync = true,
                     .history = peer.history,
                     .renames = renames,
                     .start = plan_.tail.start,
                     // Whom that epoch named is on the other side.
                     .members = {}},
                    tag, ctx.node.Out(ctx));
}

void Primary::BeginFetch(Context& ctx, const ExchangePlan& plan) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  const store::SliceFacts* facts = store->Find(key_.slice);
  self_ = facts == nullptr ? Lineage() : LineageOf(*facts);
  if (plan.committed > self_.committed) {
    store->SetCommitPoint(ctx.now, key_.slice, {self_.started, Seq(plan.committed)},
                          ctx.node.Out(ctx));
    self_.committed = plan.committed;
  }
  fetch_got_ = plan.fetch_from - 1;
  fetch_asked_ = fetch_got_;
  SetPhase(ctx, Phase::kAwaitingFetch);
  AdvanceFetch(ctx);
}

void Primary::AdvanceFetch(Context& ctx) {
  if (fetch_got_ >= plan_.fetch_to) {
    BeginStart(ctx);
    return;
  }
  if (secondary_.state == Follower::State::kStopped) return;  // only a newer epoch goes on
  const ConnId conn = ctx.node.peers.Conn(secondary_.member);
  if (conn != secondary_.conn) {
    secondary_.conn = conn;
    fetch_asked_ = fetch_got_;
  }
  if (!conn.valid()) return;
  if (secondary_.retry_at != kNever && ctx.now.boot < secondary_.retry_at) return;
  secondary_.retry_at = kNever;
  while (fetch_asked_ < plan_.fetch_to && fetch_asked_ - fetch_got_ < kFetchesInFlight) {
    ++fetch_asked_;
    const uint64_t theirs = fetch_asked_ + static_cast<uint64_t>(plan_.fetch_shift);
    ctx.effects.Send(conn, wire::FetchEntry{.pair = PairOf(secondary_),
                                            .entry = {secondary_.lineage.started, Seq(theirs)}});
  }
}

void Primary::OnFetchReply(Context& ctx, const wire::FetchReply& reply, const Slice& payload) {
  Follower* follower = FindFollower(reply.pair);
  if (follower != &secondary_ || phase_ != Phase::kAwaitingFetch) return;
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  if (reply.status == Status::kIoError) {
    BecomeNeedsResync(ctx, /*self=*/false, "an entry of its tail is damaged");
    return;
  }
  if (reply.status != Status::kOk) {
    fetch_asked_ = fetch_got_;
    Refused(ctx, secondary_, reply.status);
    return;
  }
  const uint64_t theirs = fetch_got_ + 1 + static_cast<uint64_t>(plan_.fetch_shift);
  if (reply.entry.id != EntryId{secondary_.lineage.started, Seq(theirs)}) return;  // asked twice
  if (!ValidEntry(reply.entry, payload, reply.block_crc)) {
    ctx.node.sessions.Violation(ctx, secondary_.conn, "a fetched entry that makes no sense");
    fetch_asked_ = fetch_got_;
    Retry(ctx, secondary_);
    return;
  }
  if (LogRoomForTail(*ctx.node.devices.FindUp(key_.device)) <
      payload.size() + store::kAppendOverheadBytes) {
    fetch_asked_ = fetch_got_;
    Retry(ctx, secondary_);
    return;
  }
  ++fetch_got_;
  wire::EntryHeader header = reply.entry;
  header.id = {self_.started, Seq(fetch_got_)};
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kAppend,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = ++append_count_});
  store->Append(ctx.now, key_.slice, header, payload,
                std::span(reply.block_crc).first(payload.size() / wire::kBlockBytes), tag,
                ctx.node.Out(ctx));
  Progress(ctx, secondary_);
}

// The log of the new epoch: what the store holds above the commit point, with the clients and
// payloads that a primary that stays primary still has.
void Primary::RebuildLog(Context& ctx, store::Store& store, const Lineage& lineage) {
  Fifo<InFlight> old = std::exchange(log_, Fifo<InFlight>());
  size_t old_committed = std::exchange(committed_count_, 0);
  uncommitted_bytes_ = 0;
  retained_bytes_ = 0;
  next_seq_ = 1;
  std::vector<wire::EntryHeader> tail;
  if (!lineage.empty() && !PLANTED_BUG("R18-tail-not-carried")) tail = store.Tail(key_.slice);
  CHECK(PLANTED_BUG("R18-tail-not-carried") || tail.size() == lineage.last - lineage.committed)
      << "slice " << key_.slice << " tail " << tail.size() << " last " << lineage.last
      << " committed " << lineage.committed;
  size_t next_tail = 0;
  const auto push = [&](InFlight entry) {
    // What is carried over goes without credits (R24): they were void with the last epoch.
    entry.secondary_used = entry.joining_used = {};
    entry.header.id = {config_.epoch, Seq(next_seq_++)};
    const uint64_t bytes = entry.header.kind == wire::EntryKind::kWrite
                               ? uint64_t{entry.header.block_count} * wire::kBlockBytes
                               : 0;
    uncommitted_bytes_ += bytes + kEntryOverheadBytes;
    retained_bytes_ += bytes + kEntryOverheadBytes;
    log_.push_back(std::move(entry));
  };
  const auto push_unknown = [&](const wire::EntryHeader& header) {
    InFlight entry{.header = header, .payload_state = InFlight::Payload::kAbsent};
    if (header.kind != wire::EntryKind::kWrite) entry.payload_state = InFlight::Payload::kHere;
    entry.lock = locks_.AcquireInPlace({.vtree = header.vtree,
                                        .chunk = header.chunk,
                                        .first_block = header.first_block,
                                        .block_count = header.block_count});
    ctx.node.outstanding.Add(entry.admitted_at);
    push(std::move(entry));
  };
  while (!old.empty()) {
    InFlight entry = old.pop_front();
    if (old_committed > 0) {
      --old_committed;
      continue;
    }
    while (next_tail < tail.size() && tail[next_tail].id < entry.header.id) {
      push_unknown(tail[next_tail++]);
    }
    if (next_tail < tail.size() && tail[next_tail].id == entry.header.id) {
      ++next_tail;
      if (entry.payload_state == InFlight::Payload::kLoading) {
        entry.payload_state = InFlight::Payload::kAbsent;
      }
      push(std::move(entry));
    } else if (entry.header.id.epoch == lineage.started &&
               entry.header.id.seq.value() <= lineage.committed) {
      CommitEntry(ctx, entry);  // the other side knew that it was committed
    } else {
      DropEntry(ctx, entry);
    }
  }
  while (next_tail < tail.size()) push_unknown(tail[next_tail++]);
}

void Primary::BeginStart(Context& ctx) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return;
  const store::SliceFacts* facts = store->Find(key_.slice);
  self_ = facts == nullptr ? Lineage() : LineageOf(*facts);
  RebuildLog(ctx, *store, self_);
  // Everything of ended epochs that this side needs is here.
  ctx.node.devices.FindUp(key_.device)->credits.Settle(key_.slice);
  history_ = ExtendHistory(self_);
  previous_epoch_ = self_.started;
  end_ = {self_.started, Seq(self_.committed)};
  carried_ = log_.size();
  const TailPlan plan{.end = end_, .start = Seq(), .first = self_.committed + 1, .count = carried_};
  const std::vector<store::Rename> renames = RenamesOf(plan, self_.started, config_.epoch);
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kStart,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = append_count_});
  SetPhase(ctx, Phase::kAwaitingStart);
  start_issued_ = true;
  if (config_.secondary.has_value() && config_.secondary->present) {
    secondary_.state = Follower::State::kAwaitingStart;
    secondary_.asked = false;
  }
  store->StartEpoch(ctx.now, key_.slice,
                    {.epoch = config_.epoch,
                     .issuer = config_.issuer,
                     .end = end_,
                     .in_sync = true,
                     .history = history_,
                     .renames = renames,
                     .start = Seq(),
                     .members = MembersOf(config_)},
                    tag, ctx.node.Out(ctx));
}

void Primary::MaybeServe(Context& ctx) {
  if (!start_durable_) return;
  if (config_.secondary.has_value() && config_.secondary->present && !secondary_.active()) return;
  SetPhase(ctx, Phase::kServing);
  if (counted_undrained_) ctx.node.outstanding.Remove(ConfigVersion());
  counted_undrained_ = false;
  ctx.Log(Severity::kInfo,
          absl::StrCat("slice ", ToString(key_.slice), " serves epoch ", ToString(config_.epoch),
                       secondary_.active()  ? " with a secondary"
                       : secondary_absent() ? " with its secondary absent"
                                            : " alone",
                       ", ", log_.size(), " entries carried over"));
  if (config_.joining.has_value() && config_.joining->present) {
    joining_.state = Follower::State::kAwaitingTail;
  }
}

void Primary::BecomeNeedsResync(Context& ctx, bool self, std::string_view why) {
  const DeviceId device = self ? key_.device : secondary_.member.device;
  ctx.Log(Severity::kError, absl::StrCat("slice ", ToString(key_.slice), " epoch ",
                                         ToString(config_.epoch), ": the replica on device ",
                                         ToString(device), " needs a resync: ", std::string(why)));
  if (!self) {
    secondary_.needs_resync = true;
    secondary_.state = Follower::State::kStopped;
  }
  SetPhase(ctx, Phase::kNeedsResync);
}

}  // namespace gabion::sds
