#include "core/sds/primary.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/mix.h"
#include "core/sds/node.h"

namespace gabion::sds {

const char* ToString(Primary::Phase phase) {
  switch (phase) {
    case Primary::Phase::kAwaitingDevice:
      return "awaiting device";
    case Primary::Phase::kAwaitingTail:
      return "awaiting tail";
    case Primary::Phase::kAwaitingAdopt:
      return "awaiting adoption";
    case Primary::Phase::kAwaitingFetch:
      return "awaiting fetch";
    case Primary::Phase::kAwaitingStart:
      return "awaiting start";
    case Primary::Phase::kServing:
      return "serving";
    case Primary::Phase::kNeedsResync:
      return "needs resync";
    case Primary::Phase::kStopped:
      return "stopped";
  }
  UNREACHABLE();
}

const char* ToString(Follower::State state) {
  switch (state) {
    case Follower::State::kNone:
      return "none";
    case Follower::State::kAwaitingTail:
      return "awaiting tail";
    case Follower::State::kTailKnown:
      return "tail known";
    case Follower::State::kAwaitingStart:
      return "awaiting start";
    case Follower::State::kActive:
      return "active";
    case Follower::State::kStopped:
      return "stopped";
  }
  UNREACHABLE();
}

Primary::Primary(ReplicaKey key, Epoch joined, uint64_t instance)
    : key_(key), joined_(joined), instance_(instance) {}

store::Store* Primary::StoreOf(Context& ctx) const {
  Device* device = ctx.node.devices.FindUp(key_.device);
  return device == nullptr ? nullptr : device->store.get();
}

bool Primary::IsFollowerOf(SdsId sds, DeviceId device) const {
  for (const Follower* follower : {&secondary_, &joining_}) {
    if (follower->member.device == device && follower->member.sds == sds) return true;
  }
  return false;
}

void Primary::End(Context& ctx, wire::Status status) {
  examinations_.Release(ctx, *this);
  repairs_.Release(ctx, *this);
  std::vector<SlotTag> mine;
  ctx.node.requests.ForEach([&](SlotTag tag, Request& request) {
    if (request.replica == key_) mine.push_back(tag);
  });
  for (const SlotTag tag : mine) {
    Request& request = *ctx.node.requests.Find(tag);
    if (request.phase == RequestPhase::kInFlight) continue;  // with its entry, below
    if (request.phase == RequestPhase::kReading) {
      ctx.node.outstanding.Remove(request.admitted_at);
      request.phase = RequestPhase::kReady;  // not admitted any more
      --reads_active_;
    }
    Refuse(ctx, tag, status);
  }
  join_.Release(ctx, *this);
  for (size_t i = committed_count_; i < log_.size(); ++i) DropEntry(ctx, log_[i]);
  log_.clear();
  if (counted_undrained_) ctx.node.outstanding.Remove(ConfigVersion());
  counted_undrained_ = false;
}

void Primary::OnJoinAck(Context& ctx, const wire::JoinAck& ack) {
  if (FindFollower(ack.pair) == &joining_) join_.OnJoinAck(ctx, *this, ack);
}

void Primary::OnChangedReply(Context& ctx, const wire::ChangedReply& reply, const Slice& payload) {
  if (FindFollower(reply.pair) == &joining_) join_.OnChangedReply(ctx, *this, reply, payload);
}

void Primary::OnExtentReply(Context& ctx, const wire::ExtentReply& reply, const Slice& payload) {
  if (FindFollower(reply.pair) != &secondary_) return;
  if (reply.with_content != 0) {
    repairs_.OnReply(ctx, *this, reply, payload);
  } else {
    examinations_.OnReply(ctx, *this, reply);
  }
}

void Primary::OnScanFixReply(Context& ctx, const wire::ScanFixReply& reply) {
  if (FindFollower(reply.pair) == &secondary_) examinations_.OnFixed(ctx, *this, reply);
}

void Primary::OnScanHint(Context& ctx, const wire::ScanHint& hint) {
  const store::Store* store = StoreOf(ctx);
  if (store == nullptr || FindFollower(hint.pair) != &secondary_) return;
  const store::ChunkKey key{.vtree = hint.vtree, .version = hint.version, .chunk = hint.chunk};
  const std::optional<store::ChunkSummary> own = FindChunk(*store, key_.slice, key, Epoch());
  // What its own pass does not compare, because it is not here.
  const uint32_t missing = hint.extents & ~uint32_t{own.has_value() ? own->extents : uint16_t{0}};
  for (uint32_t left = missing | hint.damaged; left != 0; left &= left - 1) {
    const auto extent = static_cast<uint16_t>(std::countr_zero(left));
    if (!examinations_.Start(ctx, *this, key, extent, /*for_scan=*/false)) return;
  }
}

bool Primary::MayExamine(Context& ctx) const {
  return serving() && !released_ && !config_.release && !ctx.node.stopping &&
         ctx.node.lease.Valid(ctx.now) && secondary_.active() && !secondary_.needs_resync &&
         secondary_.conn.valid() && ctx.node.peers.Conn(secondary_.member) == secondary_.conn;
}

void Primary::OnDone(Context& ctx, const Op& op, store::DoneStatus status) {
  ctx.node.MarkDirty(key_);
  switch (op.kind) {
    case OpKind::kClientRead:
      return OnClientRead(ctx, op, status);
    case OpKind::kMergeRead:
      return OnMergeRead(ctx, op, status);
    case OpKind::kCopyRead:
      return join_.OnCopyRead(ctx, *this, op, status);
    case OpKind::kRepairRead:
      return repairs_.OnRead(ctx, *this, op, status);
    case OpKind::kExamineRead:
      return examinations_.OnRead(ctx, *this, op, status);
    case OpKind::kLoadEntry:
      return OnEntryLoaded(ctx, op, status);
    default:
      break;
  }
  if (status != store::DoneStatus::kOk) return;  // the device failed, and says so
  switch (op.kind) {
    case OpKind::kAppend:
      durable_ordinal_ = std::max(durable_ordinal_, op.a);
      return;
    case OpKind::kRepairAppend:
      return repairs_.OnAppended(ctx, *this, op);
    case OpKind::kAdopt:
      if (op.epoch == config_.epoch && phase_ == Phase::kAwaitingAdopt) BeginFetch(ctx, plan_);
      return;
    case OpKind::kStart:
      durable_ordinal_ = std::max(durable_ordinal_, op.a);
      if (op.epoch == config_.epoch) start_durable_ = true;
      return;
    default:
      return;
  }
}

void Primary::Advance(Context& ctx) {
  AdvanceOpening(ctx);
  Pump(ctx, secondary_);
  Commit(ctx);
  granting_.swap(granted_);
  for (const RangeLock::Owner& owner : granting_) {
    switch (owner.kind) {
      case RangeLock::Owner::Kind::kRequest:
        OnLockGranted(ctx, SlotTag(owner.number));
        break;
      case RangeLock::Owner::Kind::kCopy:
        join_.OnLockGranted(ctx, *this, owner.number);
        break;
      case RangeLock::Owner::Kind::kRepair:
        repairs_.OnLockGranted(ctx, *this, owner.number);
        break;
      case RangeLock::Owner::Kind::kExamination:
        examinations_.OnLockGranted(ctx, *this, owner.number);
        break;
    }
  }
  granting_.clear();
  repairs_.Advance(ctx, *this);
  examinations_.Advance(ctx, *this);
  AdmitQueued(ctx);
  write_waits_ = false;
  short_of_log_ = false;
  for (size_t left = ready_.size(); left > 0; --left) {
    const SlotTag tag = ready_.pop_front();
    if (!TryAdmit(ctx, tag)) ready_.push_back(tag);
  }
  if (!short_of_log_) secondary_.short_since = kNever;
  Pump(ctx, secondary_);
  Pump(ctx, joining_);
  join_.Advance(ctx, *this);
  Commit(ctx);
  WatchSilence(ctx);
  MaybeRelease(ctx);
}

void Primary::MaybeRelease(Context& ctx) {
  if (!config_.release || released_) return;
  // Writes that wait for a secondary that does not answer are left to the next reign, unanswered:
  // their clients find their fate there.
  const bool settled =
      committed_count_ == log_.size() || Silent(ctx, secondary_, ctx.node.options.unreachable);
  if (serving() && (reads_active_ != 0 || !settled)) return;
  // R12: irrevocable; only a newer epoch makes this side a primary again.
  released_ = true;
  ctx.Log(Severity::kInfo, absl::StrCat("slice ", ToString(key_.slice), " epoch ",
                                        ToString(config_.epoch), ": released"));
  ctx.node.HeartbeatSoon(ctx);
}

void Primary::CheckInvariants(const Node& node) const {
  locks_.CheckInvariants();
  CHECK_LE(committed_count_, log_.size());
  uint64_t bytes = 0;
  for (size_t i = 0; i < log_.size(); ++i) {
    const InFlight& entry = log_[i];
    // The log is the epoch's only between its start record and the next configuration.
    CHECK_EQ(entry.header.id.seq.value(), first_seq() + i);
    CHECK(i == 0 || entry.header.id.epoch == log_[0].header.id.epoch);
    if (i < committed_count_) {
      CHECK_EQ(entry.lock.id, 0u);
      continue;
    }
    bytes += entry.header.kind == wire::EntryKind::kWrite
                 ? uint64_t{entry.header.block_count} * wire::kBlockBytes
                 : 0;
    bytes += kEntryOverheadBytes;
    const Request* request = node.requests.Find(entry.request);
    if (request != nullptr) CHECK(request->phase == RequestPhase::kInFlight);
  }
  CHECK_EQ(bytes, uncommitted_bytes_);
  if (!log_.empty()) CHECK_EQ(next_seq_, first_seq() + log_.size());
  if (serving()) {
    CHECK(start_durable_);
    CHECK(!config_.secondary.has_value() || !config_.secondary->present ||
          secondary_.state == Follower::State::kActive ||
          secondary_.state == Follower::State::kStopped);
    for (const Follower* follower : {&secondary_, &joining_}) {
      CHECK_LE(follower->acked, follower->sent);
      CHECK_LE(follower->sent, last_seq());
    }
  }
}

std::string Primary::Dump() const {
  const auto follower_text = [](const char* name, const Follower& follower) {
    if (follower.state == Follower::State::kNone) return std::string();
    return absl::StrCat(", ", name, " ", ToString(follower.member.device), " ",
                        ToString(follower.state), " sent ", follower.sent, " acked ",
                        follower.acked);
  };
  return absl::StrCat(
      "primary ", ToString(phase_),
      released_         ? " released"
      : config_.release ? " releasing"
                        : "",
      " epoch ", ToString(config_.epoch), " reign ", ToString(config_.reign), " committed ",
      committed_seq(), " last ", last_seq(), " in flight ", log_.size() - committed_count_,
      " queued ", queued_.size(), " ready ", ready_.size(), " reading ", reads_active_, " locks ",
      locks_.held_or_waiting(),
      repairs_.size() == 0 ? "" : absl::StrCat(" repairs ", repairs_.size()),
      examinations_.size() == 0 ? "" : absl::StrCat(" examinations ", examinations_.size()),
      follower_text("secondary", secondary_), secondary_absent() ? ", secondary absent" : "",
      follower_text("joining", joining_),
      join_.phase() == JoinSource::Phase::kIdle ? "" : absl::StrCat(" (", join_.Dump(), ")"));
}

uint64_t Primary::StateHash() const {
  uint64_t hash = mix64(config_.epoch.value() * 31 + static_cast<uint64_t>(phase_));
  hash = mix64(hash + next_seq_ * 3 + committed_count_ * 5 + log_.size() * 7);
  hash = mix64(hash + durable_ordinal_ + reads_active_ * 11 + queued_.size() * 13 + ready_.size());
  for (const Follower* follower : {&secondary_, &joining_}) {
    hash =
        mix64(hash + follower->sent * 3 + follower->acked) + static_cast<uint64_t>(follower->state);
  }
  hash = mix64(hash + repairs_.size() * 19 + examinations_.size() * 23);
  return mix64(hash + static_cast<uint64_t>(join_.phase()) + locks_.held_or_waiting() * 17);
}

}  // namespace gabion::sds
