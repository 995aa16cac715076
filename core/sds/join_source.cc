#include "core/sds/join_source.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/sds/entry_check.h"
#include "core/sds/extent_data.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

namespace {

constexpr Duration kPoolPause = std::chrono::milliseconds(10);
constexpr size_t kRecordsPerMessage = 1024;

store::ChunkKey KeyOf(const wire::ChangedChunk& chunk) {
  return {.vtree = chunk.vtree, .version = chunk.version, .chunk = chunk.chunk};
}

// The walk stops now and then so that T can note how far it got.
constexpr uint32_t kCursorEvery = 64;  // extents and drops

}  // namespace

const char* ToString(JoinSource::Phase phase) {
  switch (phase) {
    case JoinSource::Phase::kIdle:
      return "idle";
    case JoinSource::Phase::kIds:
      return "ids";
    case JoinSource::Phase::kWalking:
      return "walking";
    case JoinSource::Phase::kDraining:
      return "draining";
    case JoinSource::Phase::kComplete:
      return "complete";
    case JoinSource::Phase::kFailed:
      return "failed";
  }
  UNREACHABLE();
}

void JoinSource::Begin(Context& ctx, Primary& primary) {
  CHECK(phase_ == Phase::kIdle);
  phase_ = Phase::kIds;
  ctx.Log(
      Severity::kInfo,
      absl::StrCat(
          "slice ", ToString(primary.key_.slice), " epoch ", ToString(primary.config_.epoch),
          ": copying to device ", ToString(primary.joining_.member.device),
          base_.epoch.valid() ? absl::StrCat(", what changed after epoch ", ToString(base_.epoch))
                              : std::string(", everything"),
          resumed_to_.has_value() ? absl::StrCat(", and up to chunk ", resumed_to_->chunk,
                                                 " of V-tree ", ToString(resumed_to_->vtree),
                                                 " since epoch ", ToString(resumed_epoch_))
                                  : std::string()));
}

void JoinSource::set_base(const JoinBase& base, const wire::JoinCursor& cursor) {
  base_ = base;
  if (!cursor.epoch.valid()) return;
  resumed_epoch_ = cursor.epoch;
  resumed_to_ = {.vtree = cursor.vtree, .version = cursor.version, .chunk = cursor.chunk};
}

void JoinSource::Release(Context& ctx, Primary& primary) {
  for (Copy& copy : copies_) primary.Unlock(ctx, &copy.lock);
  copies_.clear();
  unacked_.clear();
}

void JoinSource::Fail(Context& ctx, Primary& primary, std::string why) {
  if (binding() || phase_ == Phase::kFailed) return;  // R19: only an epoch ends a complete joining
  Release(ctx, primary);
  phase_ = Phase::kFailed;
  ctx.Log(Severity::kWarning,
          absl::StrCat("slice ", ToString(primary.key_.slice), " epoch ",
                       ToString(primary.config_.epoch), ": joining given up: ", why));
  error_ = std::move(why);
}

void JoinSource::OnReconnect() {
  for (Unacked& unacked : unacked_) unacked.sent = false;
  query_sent_ = false;
}

void JoinSource::Advance(Context& ctx, Primary& primary) {
  if (phase_ == Phase::kIdle || phase_ == Phase::kFailed) return;
  Follower& target = primary.joining_;
  const ConnId conn = ctx.node.peers.Conn(target.member);
  if (!target.active() || !conn.valid() || conn != target.conn) return;
  if (target.retry_at != kNever && ctx.now.boot < target.retry_at) return;
  if (phase_ == Phase::kIds) SendIds(ctx, primary);
  for (Copy& copy : copies_) {
    if (copy.phase == Copy::Phase::kAwaitingBuffer && !copy.drop) ReadExtent(ctx, primary, copy);
  }
  if (phase_ == Phase::kWalking) Walk(ctx, primary);
  if (phase_ == Phase::kFailed) return;
  SendStream(ctx, primary);
  if (phase_ != Phase::kDraining || !unacked_.empty() || !copies_.empty()) return;
  if (target.acked < primary.committed_seq()) return;
  // R19: from here on T's durability counts, and the report cannot be withdrawn.
  phase_ = Phase::kComplete;
  progress_ = 1000;
  ctx.Log(Severity::kInfo, absl::StrCat("slice ", ToString(primary.key_.slice), " epoch ",
                                        ToString(primary.config_.epoch), ": device ",
                                        ToString(target.member.device), " has everything"));
  ctx.node.HeartbeatSoon(ctx);
}

void JoinSource::SendIds(Context& ctx, Primary& primary) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  const EntryId commit_point = store->Find(primary.key_.slice)->commit_point;
  std::vector<wire::RequestRecord> records = store->Requests(primary.key_.slice);
  // Ids of entries in flight travel with the entries.
  std::erase_if(records, [&](const wire::RequestRecord& r) { return r.entry > commit_point; });
  for (size_t at = 0; at < records.size(); at += kRecordsPerMessage) {
    const size_t count = std::min(kRecordsPerMessage, records.size() - at);
    Slice payload = MakeList(*ctx.node.resources.pool,
                             std::span<const wire::RequestRecord>(records).subspan(at, count));
    if (payload.empty()) {
      // Sent again from the start: a record that comes twice changes nothing.
      ctx.node.WakeAt(primary.key_, SaturatingAdd(ctx.now.boot, kPoolPause));
      return;
    }
    Push({.body = wire::CopyRequests{.pair = primary.PairOf(primary.joining_),
                                     .count = static_cast<uint32_t>(count)},
          .payload = std::move(payload)});
  }
  phase_ = Phase::kWalking;
}

void JoinSource::Walk(Context& ctx, Primary& primary) {
  Device* device = ctx.node.devices.FindUp(primary.key_.device);
  if (device == nullptr) return;
  while (copies_.size() < kCopiesMax) {
    if (!work_.has_value() && since_cursor_ >= kCursorEvery && !PushCursor(primary)) return;
    if (!work_.has_value() && !RefillWork(ctx, primary)) return;
    if (ctx.now.boot < device->join_next) {
      ctx.node.WakeAt(primary.key_, device->join_next);
      return;
    }
    walked_to_ = work_->key;
    if (work_->drop) {
      StartCopy(ctx, primary, work_->key, 0, /*drop=*/true);
      work_.reset();
      continue;
    }
    const auto extent = static_cast<uint16_t>(std::countr_zero(work_->extents));
    const uint64_t rate = std::max<uint64_t>(1, ctx.node.options.join_bytes_per_second);
    device->join_next = SaturatingAdd(std::max(device->join_next, ctx.now.boot),
                                      Duration(int64_t{1'000'000'000} * wire::kExtentBytes / rate));
    const store::ChunkKey key = work_->key;
    work_->extents = static_cast<uint16_t>(work_->extents & (work_->extents - 1));
    if (work_->extents == 0) work_.reset();
    StartCopy(ctx, primary, key, extent, /*drop=*/false);
    if (phase_ != Phase::kWalking) return;
  }
}

// False: something up to there is not in the stream yet.
bool JoinSource::PushCursor(Primary& primary) {
  for (const Copy& copy : copies_) {
    if (copy.phase != Copy::Phase::kSent) return false;
  }
  since_cursor_ = 0;
  Push({.body = wire::CopyCursor{.pair = primary.PairOf(primary.joining_),
                                 .vtree = walked_to_->vtree,
                                 .version = walked_to_->version,
                                 .chunk = walked_to_->chunk}});
  return true;
}

// Up to the key at which an earlier joining stopped, only what changed since it began counts.
bool JoinSource::InResumedPart(const std::optional<store::ChunkKey>& after) const {
  return resumed_to_.has_value() && (!after.has_value() || *after < *resumed_to_);
}

Epoch JoinSource::BaseOf(bool resumed) const {
  return resumed ? std::max(base_.epoch, Epoch(resumed_epoch_.value() - 1)) : base_.epoch;
}

void JoinSource::LoadOwnPage(const store::Store& store, SliceId slice) {
  const bool resumed = InResumedPart(own_cursor_);
  const std::vector<store::ChunkSummary> page =
      store.List(slice, own_cursor_, BaseOf(resumed), kPageChunks);
  own_done_ = page.size() < kPageChunks;
  for (const store::ChunkSummary& chunk : page) {
    if (resumed && chunk.key > *resumed_to_) {
      own_done_ = true;
      break;
    }
    own_.push_back(chunk);
  }
  if (!own_.empty()) own_cursor_ = own_.back().key;
  if (resumed && own_done_) {  // of this part; the other one follows
    own_cursor_ = resumed_to_;
    own_done_ = false;
  }
}

// The next chunk of the ordered merge of both sides' keys. False: nothing now, or nothing left.
bool JoinSource::RefillWork(Context& ctx, Primary& primary) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return false;
  while (!work_.has_value()) {
    while (own_.empty() && !own_done_) LoadOwnPage(*store, primary.key_.slice);
    if (target_.empty() && !target_done_) {
      if (query_sent_) return false;
      wire::ChangedQuery query{.pair = primary.PairOf(primary.joining_),
                               .after_epoch = BaseOf(InResumedPart(target_cursor_)),
                               .from_start = target_cursor_.has_value() ? 0u : 1u};
      if (target_cursor_.has_value()) {
        query.after_vtree = target_cursor_->vtree;
        query.after_version = target_cursor_->version;
        query.after_chunk = target_cursor_->chunk;
      }
      ctx.effects.Send(primary.joining_.conn, query);
      query_sent_ = true;
      return false;
    }
    if (own_.empty() && target_.empty()) {
      phase_ = Phase::kDraining;
      return false;
    }
    const bool has_own =
        !own_.empty() && (target_.empty() || own_.front().key <= KeyOf(target_.front()));
    const bool has_target =
        !target_.empty() && (own_.empty() || KeyOf(target_.front()) <= own_.front().key);
    Work work;
    uint16_t extents = 0;
    if (has_own) {
      const store::ChunkSummary& own = own_.front();
      work.key = own.key;
      // A chunk that T does not have at all is copied whole. So is everything without common
      // history.
      const bool whole = !has_target || !BaseOf(IsResumed(own.key)).valid();
      extents = whole ? own.extents : own.changed;
      if (PLANTED_BUG("join-skips-log-entries") && !whole) extents = 0;
    }
    if (has_target) {
      const wire::ChangedChunk& theirs = target_.front();
      work.key = KeyOf(theirs);
      extents = static_cast<uint16_t>(
          extents | (BaseOf(IsResumed(work.key)).valid() ? theirs.changed : theirs.extents));
    }
    work.extents = extents;
    work.drop = !has_own;
    if (has_own) own_.pop_front();
    if (has_target) target_.pop_front();
    ++walked_;
    if (work.drop || work.extents != 0) work_ = work;
  }
  return true;
}

void JoinSource::StartCopy(Context& ctx, Primary& primary, const store::ChunkKey& key,
                           uint16_t extent, bool drop) {
  copies_.push_back({.number = next_copy_++, .drop = drop, .key = key, .extent = extent});
  ++since_cursor_;
  Lock(ctx, primary, copies_.back());
}

void JoinSource::Lock(Context& ctx, Primary& primary, Copy& copy) {
  RangeLock::Range range{.vtree = copy.key.vtree, .chunk = copy.key.chunk};
  range.first_block = copy.drop ? 0 : static_cast<uint16_t>(copy.extent * wire::kBlocksPerExtent);
  range.block_count = copy.drop ? wire::kBlocksPerChunk : wire::kBlocksPerExtent;
  if (primary.locks_.Acquire(range, RangeLock::Mode::kExclusive,
                             {copy.number, RangeLock::Owner::Kind::kCopy}, &copy.lock)) {
    OnLocked(ctx, primary, copy);
  }
}

void JoinSource::OnLockGranted(Context& ctx, Primary& primary, uint64_t number) {
  if (Copy* copy = FindCopy(number)) OnLocked(ctx, primary, *copy);
}

// Nothing in the range is in flight, and nothing enters until T has the copy.
void JoinSource::OnLocked(Context& ctx, Primary& primary, Copy& copy) {
  if (PLANTED_BUG("joining-copy-without-lock")) primary.Unlock(ctx, &copy.lock);
  copy.phase = Copy::Phase::kAwaitingBuffer;
  if (copy.drop) {
    SendDrop(ctx, primary, copy);
  } else {
    ReadExtent(ctx, primary, copy);
  }
}

void JoinSource::ReadExtent(Context& ctx, Primary& primary, Copy& copy) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  const uint32_t first = uint32_t{copy.extent} * wire::kBlocksPerExtent;
  copy.present = static_cast<uint16_t>(
      store->Present(primary.key_.slice, copy.key, first, wire::kBlocksPerExtent));
  if (copy.present == 0) {
    SendExtent(ctx, primary, copy, Slice());
    return;
  }
  Slice target = ctx.node.resources.pool->Allocate(wire::kExtentBytes, BufferUse::kPeer);
  if (target.empty()) {
    ctx.node.WakeAt(primary.key_, SaturatingAdd(ctx.now.boot, kPoolPause));
    return;
  }
  copy.phase = Copy::Phase::kReading;
  const store::Tag op = ctx.node.ops.Add({.kind = OpKind::kCopyRead,
                                          .replica = primary.key_,
                                          .instance = primary.instance_,
                                          .epoch = primary.config_.epoch,
                                          .a = copy.number,
                                          .target = std::move(target)});
  store->ReadFromDevice(ctx.now, primary.key_.slice, copy.key, first, wire::kBlocksPerExtent,
                        ctx.node.ops.At(op).target, op, ctx.node.Out(ctx));
}

void JoinSource::OnCopyRead(Context& ctx, Primary& primary, const Op& op,
                            store::DoneStatus status) {
  Copy* copy = FindCopy(op.a);
  if (op.epoch != primary.config_.epoch || copy == nullptr ||
      copy->phase != Copy::Phase::kReading) {
    return;
  }
  if (status == store::DoneStatus::kFailed) return;  // the device failed, and says so
  if (status == store::DoneStatus::kCorrupt) {
    const Repairs::Range range{.key = copy->key,
                               .first_block = uint32_t{copy->extent} * wire::kBlocksPerExtent,
                               .block_count = wire::kBlocksPerExtent};
    copy->phase = Copy::Phase::kAwaitingRepair;
    primary.Unlock(ctx, &copy->lock);
    const bool again = std::exchange(copy->repaired, true);
    if (!again &&
        primary.repairs_.Start(ctx, primary, range, {Repairs::Waiter::Kind::kCopy, copy->number})) {
      return;
    }
    FailForDamage(ctx, primary);
    return;
  }
  SendExtent(ctx, primary, *copy, op.target);
}

void JoinSource::FailForDamage(Context& ctx, Primary& primary) {
  Fail(ctx, primary, "a block of the source is damaged, and there is no other copy to read");
  primary.joining_.state = Follower::State::kStopped;
}

void JoinSource::OnRepaired(Context& ctx, Primary& primary, uint64_t number, bool good) {
  Copy* copy = FindCopy(number);
  if (copy == nullptr || copy->phase != Copy::Phase::kAwaitingRepair) return;
  if (!good) return FailForDamage(ctx, primary);
  copy->phase = Copy::Phase::kAwaitingLock;
  Lock(ctx, primary, *copy);
}

void JoinSource::SendExtent(Context& ctx, Primary& primary, Copy& copy, const Slice& data) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  wire::CopyExtent message{.pair = primary.PairOf(primary.joining_),
                           .vtree = copy.key.vtree,
                           .version = copy.key.version,
                           .chunk = copy.key.chunk,
                           .extent = copy.extent,
                           .present = copy.present};
  // Now, not at the time of the walk: a write between the two is in the data.
  const std::optional<store::ChunkSummary> own =
      FindChunk(*store, primary.key_.slice, copy.key, Epoch());
  message.modified_epoch = own.has_value() ? own->modified_epoch : primary.config_.epoch;
  std::optional<Slice> payload =
      PackExtent(*ctx.node.resources.pool, data, copy.present, &message.block_crc);
  if (!payload.has_value()) {
    copy.phase = Copy::Phase::kAwaitingBuffer;
    ctx.node.WakeAt(primary.key_, SaturatingAdd(ctx.now.boot, kPoolPause));
    return;
  }
  copy.phase = Copy::Phase::kSent;
  copy.stream = next_stream_;
  Push({.body = message, .payload = std::move(*payload)});
  ++ctx.node.counters.extents_copied;
  ctx.node.MarkDirty(primary.key_);
}

void JoinSource::SendDrop(Context& ctx, Primary& primary, Copy& copy) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  if (FindChunk(*store, primary.key_.slice, copy.key, Epoch()).has_value()) {
    // Written since the walk found that this side lacks it. T has those writes, on top of extents
    // of its own that this side never had: zeroes under the writes, one extent after the other.
    const store::ChunkKey key = copy.key;
    const uint64_t number = copy.number;
    primary.Unlock(ctx, &copy.lock);
    std::erase_if(copies_, [&](const Copy& other) { return other.number == number; });
    for (uint16_t extent = 0; extent < wire::kExtentsPerChunk; ++extent) {
      StartCopy(ctx, primary, key, extent, /*drop=*/false);
    }
    return;
  }
  copy.phase = Copy::Phase::kSent;
  copy.stream = next_stream_;
  Push({.body = wire::DropChunk{.pair = primary.PairOf(primary.joining_),
                                .vtree = copy.key.vtree,
                                .version = copy.key.version,
                                .chunk = copy.key.chunk}});
  ctx.node.MarkDirty(primary.key_);
}

void JoinSource::Push(wire::Message message) {
  const uint64_t stream = next_stream_++;
  if (auto* extent = std::get_if<wire::CopyExtent>(&message.body)) extent->stream = stream;
  if (auto* drop = std::get_if<wire::DropChunk>(&message.body)) drop->stream = stream;
  if (auto* ids = std::get_if<wire::CopyRequests>(&message.body)) ids->stream = stream;
  if (auto* cursor = std::get_if<wire::CopyCursor>(&message.body)) cursor->stream = stream;
  unacked_.push_back({.stream = stream, .message = std::move(message)});
}

void JoinSource::SendStream(Context& ctx, Primary& primary) {
  // A copy contains every entry of its range that was sent before it, at whatever time it is sent:
  // its range is locked until it is acknowledged.
  const EntryId after{primary.config_.epoch, Seq(primary.joining_.sent)};
  for (Unacked& unacked : unacked_) {
    if (unacked.sent) continue;
    if (auto* extent = std::get_if<wire::CopyExtent>(&unacked.message.body)) extent->after = after;
    if (auto* drop = std::get_if<wire::DropChunk>(&unacked.message.body)) drop->after = after;
    if (auto* cursor = std::get_if<wire::CopyCursor>(&unacked.message.body)) cursor->after = after;
    ctx.effects.Send(primary.joining_.conn, unacked.message.body, unacked.message.payload);
    unacked.sent = true;
  }
}

void JoinSource::OnJoinAck(Context& ctx, Primary& primary, const wire::JoinAck& ack) {
  Follower& target = primary.joining_;
  if (!target.active() || !forwards()) return;
  if (ack.status != wire::Status::kWrongEpoch && ack.stream < next_stream_) {
    while (!unacked_.empty() && unacked_.front().stream <= ack.stream) unacked_.pop_front();
    for (Copy& copy : copies_) {
      if (copy.phase == Copy::Phase::kSent && copy.stream <= ack.stream) {
        primary.Unlock(ctx, &copy.lock);
        copy.number = 0;
      }
    }
    std::erase_if(copies_, [](const Copy& copy) { return copy.number == 0; });
    primary.Progress(ctx, target);
  }
  if (GivesUp(ctx, ack.status)) {
    Fail(ctx, primary, "it has no room");
    target.state = Follower::State::kStopped;
    primary.Trim(ctx);
    return;
  }
  primary.Refused(ctx, target, ack.status);
}

// R24: before it is complete. Copies hold their ranges while they wait.
bool JoinSource::GivesUp(Context& ctx, wire::Status status) {
  if (status != wire::Status::kBusy || binding()) {
    busy_since_ = kNever;
    return false;
  }
  if (busy_since_ == kNever) busy_since_ = ctx.now.boot;
  return ctx.now.boot - busy_since_ > kJoiningPatience;
}

void JoinSource::OnChangedReply(Context& ctx, Primary& primary, const wire::ChangedReply& reply,
                                const Slice& payload) {
  if (phase_ != Phase::kWalking || !query_sent_ || !target_.empty() || target_done_) return;
  std::vector<wire::ChangedChunk> chunks;
  bool sane = ParseList(payload, reply.count, &chunks);
  std::optional<store::ChunkKey> before = target_cursor_;
  for (const wire::ChangedChunk& chunk : chunks) {
    sane = sane && (!before.has_value() || KeyOf(chunk) > *before);
    before = KeyOf(chunk);
  }
  sane = sane && (reply.more == 0 || !chunks.empty());
  if (!sane) {
    Fail(ctx, primary, "it lists its chunks out of order");
    primary.joining_.state = Follower::State::kStopped;
    return;
  }
  query_sent_ = false;
  const bool resumed = InResumedPart(target_cursor_);
  target_done_ = reply.more == 0;
  for (const wire::ChangedChunk& chunk : chunks) {
    if (resumed && KeyOf(chunk) > *resumed_to_) {
      target_done_ = true;
      break;
    }
    target_.push_back(chunk);
  }
  if (!target_.empty()) target_cursor_ = KeyOf(target_.back());
  if (resumed && target_done_) {  // of this part; the other one follows
    target_cursor_ = resumed_to_;
    target_done_ = false;
  }
  primary.Progress(ctx, primary.joining_);
}

JoinSource::Copy* JoinSource::FindCopy(uint64_t number) {
  for (Copy& copy : copies_) {
    if (copy.number == number) return &copy;
  }
  return nullptr;
}

std::string JoinSource::Dump() const {
  return absl::StrCat(ToString(phase_), " base ", ToString(base_.epoch), " walked ", walked_,
                      " copies ", copies_.size(), " unacked ", unacked_.size(),
                      query_sent_ ? " asking" : "", error_.empty() ? "" : " error: ", error_);
}

}  // namespace gabion::sds
