// Writes at the primary (replication.md, section 3): checked, locked, merged, checked again,
// admitted, replicated, committed, answered.
#include <algorithm>
#include <utility>

#include "core/base/bug.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/sds/entry_check.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

using wire::Status;

namespace {

constexpr Duration kRoomPause = std::chrono::milliseconds(10);

}  // namespace

bool Primary::MayAdmit(Context& ctx) const {
  return serving() && !config_.release && !released_ && !ctx.node.stopping;
}

Status Primary::CheckRequest(Context& ctx, const Request& request, bool* hold) const {
  *hold = false;
  const wire::IoTarget& target = request.target;
  if (target.reign != config_.reign && !PLANTED_BUG("reign-not-checked")) {
    return Status::kWrongReign;
  }
  const bool may_skip_lease = !request.is_write && PLANTED_BUG("R5-read-without-lease");
  if (!may_skip_lease && !ctx.node.lease.Valid(ctx.now)) return Status::kNoLease;
  return ctx.node.CheckTarget(request, hold);
}

void Primary::OnRequest(Context&, SlotTag request) { queued_.push_back(request); }

void Primary::AdmitQueued(Context& ctx) {
  for (size_t left = queued_.size(); left > 0 && MayAdmit(ctx); --left) {
    const SlotTag tag = queued_.pop_front();
    Request* request = ctx.node.requests.Find(tag);
    if (request == nullptr) continue;
    bool hold = false;
    const Status status = CheckRequest(ctx, *request, &hold);
    if (status != Status::kOk) {
      Refuse(ctx, tag, status);
      continue;
    }
    if (hold) {
      queued_.push_back(tag);
      continue;
    }
    if (!request->is_write && PLANTED_BUG("R8-read-uncommitted")) {
      OnLockGranted(ctx, tag);
      continue;
    }
    const RangeLock::Range range{.vtree = request->target.vtree,
                                 .chunk = request->target.chunk,
                                 .first_block = request->first_block,
                                 .block_count = request->block_count};
    request->phase = RequestPhase::kAwaitingLock;
    const RangeLock::Mode mode =
        request->is_write ? RangeLock::Mode::kExclusive : RangeLock::Mode::kShared;
    if (locks_.Acquire(range, mode, tag.value(), &request->lock)) OnLockGranted(ctx, tag);
  }
}

void Primary::OnLockGranted(Context& ctx, SlotTag tag) {
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr) return;
  request->phase = RequestPhase::kReady;
  ready_.push_back(tag);
}

bool Primary::TryAdmit(Context& ctx, SlotTag tag) {
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr) return true;
  if (!MayAdmit(ctx)) return false;
  bool hold = false;
  const Status status = CheckRequest(ctx, *request, &hold);
  if (status != Status::kOk) {
    Refuse(ctx, tag, status);
    return true;
  }
  if (hold) return false;
  if (!request->is_write) {
    BeginRead(ctx, tag, *request);
    return true;
  }
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) return false;
  if (!PLANTED_BUG("R10-no-dedupe")) {
    const store::Store::RequestLookup known = store->FindRequest(
        key_.slice, request->client, request->client_incarnation, request->request);
    switch (known.state) {
      case store::Store::RequestState::kUnknown:
        break;
      case store::Store::RequestState::kKnown:
        // The attempt that was admitted holds the same lock until it is committed, so it is. A
        // known id with another range is a client that reuses ids.
        Refuse(ctx, tag,
               known.entry <= store->Find(key_.slice)->commit_point ? Status::kOk
                                                                    : Status::kMalformed);
        return true;
      case store::Store::RequestState::kBelowLowWater:
      case store::Store::RequestState::kStaleIncarnation:
        Refuse(ctx, tag, Status::kStaleRequest);
        return true;
    }
  }
  if (request->partial() && !request->merged) {
    BeginMerge(ctx, tag, *request);
    return true;
  }
  if (secondary_absent()) {
    write_waits_ = true;
    return false;
  }
  const wire::EntryHeader header = HeaderOf(ctx, *request);
  Status refusal = Status::kOk;
  uint64_t extents = 0;
  if (!HasRoom(ctx, *store, header, request->data.size(), &extents, &refusal)) {
    if (refusal == Status::kOk) return false;
    Refuse(ctx, tag, refusal);
    return true;
  }
  Append(ctx, tag, *request, header, extents);
  return true;
}

void Primary::BeginMerge(Context& ctx, SlotTag tag, Request& request) {
  store::Store* store = StoreOf(ctx);
  CHECK(store != nullptr);
  if (PLANTED_BUG("partial-write-merge-unlocked")) Unlock(ctx, &request.lock);
  request.phase = RequestPhase::kMerging;
  const store::ChunkKey chunk{.vtree = request.target.vtree,
                              .version = ctx.node.VersionOf(request.target.volume),
                              .chunk = request.target.chunk};
  const uint32_t last_block = request.first_block + request.block_count - 1u;
  const bool first = request.target.offset_bytes % wire::kBlockBytes != 0;
  const bool last =
      request.end_bytes() % wire::kBlockBytes != 0 && !(first && request.block_count == 1);
  if (first) {
    request.merge_first = ctx.node.resources.pool->Allocate(wire::kBlockBytes, BufferUse::kPeer);
  }
  if (last) {
    request.merge_last = ctx.node.resources.pool->Allocate(wire::kBlockBytes, BufferUse::kPeer);
  }
  if ((first && request.merge_first.empty()) || (last && request.merge_last.empty())) {
    Refuse(ctx, tag, Status::kBusy);
    return;
  }
  request.reads_pending = (first ? 1u : 0u) + (last ? 1u : 0u);
  const auto read = [&](uint32_t block, Slice* target) {
    const store::Tag op = ctx.node.ops.Add({.kind = OpKind::kMergeRead,
                                            .replica = key_,
                                            .instance = instance_,
                                            .epoch = config_.epoch,
                                            .a = tag.value(),
                                            .target = std::move(*target)});
    // The entry tells on completion which of the two it was.
    ctx.node.ops.At(op).entry.first_block = static_cast<uint16_t>(block);
    store->Read(ctx.now, key_.slice, chunk, block, 1, ctx.node.ops.At(op).target, op,
                ctx.node.Out(ctx));
  };
  // The targets move into the operations and come back with them.
  if (first) read(request.first_block, &request.merge_first);
  if (last) read(last_block, &request.merge_last);
}

void Primary::OnMergeRead(Context& ctx, const Op& op, store::DoneStatus status) {
  const SlotTag tag(op.a);
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr || request->phase != RequestPhase::kMerging) return;
  --request->reads_pending;
  if (status == store::DoneStatus::kCorrupt) request->read_damaged = true;
  if (status == store::DoneStatus::kFailed) request->read_failed = true;
  const bool is_first = op.entry.first_block == request->first_block &&
                        request->target.offset_bytes % wire::kBlockBytes != 0;
  (is_first ? request->merge_first : request->merge_last) = op.target;
  if (request->reads_pending > 0) return;
  if (request->read_failed) {  // the other copy takes over, or this one comes back
    Refuse(ctx, tag, Status::kUnavailable);
    return;
  }
  if (request->read_damaged) {
    Repair(ctx, tag, *request);
    return;
  }
  if (!FinishMerge(ctx, *request)) {
    Refuse(ctx, tag, Status::kBusy);
    return;
  }
  request->phase = RequestPhase::kReady;
  ready_.push_back(tag);
}

bool Primary::FinishMerge(Context& ctx, Request& request) {
  const uint32_t bytes = uint32_t{request.block_count} * wire::kBlockBytes;
  Slice whole = ctx.node.resources.pool->Allocate(bytes, BufferUse::kPeer);
  if (whole.empty()) return false;
  const std::span<std::byte> to = whole.mutable_span();
  const uint32_t head = request.target.offset_bytes % wire::kBlockBytes;
  const uint32_t last_at = bytes - wire::kBlockBytes;
  if (!request.merge_first.empty()) {
    std::memcpy(to.data(), request.merge_first.data(), wire::kBlockBytes);
  }
  if (!request.merge_last.empty()) {
    std::memcpy(to.data() + last_at, request.merge_last.data(), wire::kBlockBytes);
  }
  if (request.kind == wire::EntryKind::kWrite) {
    whole.CopyFrom(head, request.data.span());
  } else {
    std::memset(to.data() + head, 0, request.target.length_bytes);
  }
  // Zeroes in a block of zeroes leave a hole a hole: tools zero in units of 512 bytes.
  const bool has_data =
      request.kind == wire::EntryKind::kWrite ||
      std::any_of(to.begin(), to.end(), [](std::byte b) { return b != std::byte{0}; });
  if (has_data) {
    for (uint32_t block = 0; block < request.block_count; ++block) {
      request.crc[block] = Crc32c(to.subspan(size_t{block} * wire::kBlockBytes, wire::kBlockBytes));
    }
    request.kind = wire::EntryKind::kWrite;
    request.data = std::move(whole);
  }
  request.merge_first = Slice();
  request.merge_last = Slice();
  request.merged = true;
  return true;
}

wire::EntryHeader Primary::HeaderOf(Context& ctx, const Request& request) const {
  return {.id = {config_.epoch, Seq(next_seq_)},
          .vtree = request.target.vtree,
          .version = ctx.node.VersionOf(request.target.volume),
          .client = request.client,
          .client_incarnation = request.client_incarnation,
          .request = request.request,
          .low_water = request.low_water,
          .chunk = request.target.chunk,
          .first_block = request.first_block,
          .block_count = request.block_count,
          .kind = request.kind};
}

bool Primary::HasCredits(const Follower& follower, uint64_t extents, bool* full) const {
  *full = false;
  if (PLANTED_BUG("R24-no-extent-credits")) return true;
  if (extents == 0 || follower.extents_used + extents <= follower.credits.extents_limit) {
    return true;
  }
  // An answer brings what it can promise then. Without one on its way that is all there is.
  *full = follower.acked >= last_seq();
  return false;
}

bool Primary::JoiningHasCredits(Context& ctx, uint64_t bytes, uint64_t extents, Status* refusal) {
  if (!joining_.active() || join_.phase() == JoinSource::Phase::kFailed) return true;
  bool full = false;
  const bool fits_log = joining_.log_used + bytes <= joining_.credits.log_limit;
  if (fits_log && HasCredits(joining_, extents, &full)) {
    joining_.short_since = kNever;
    return true;
  }
  short_of_log_ = short_of_log_ || !fits_log;
  AskCredits(ctx, joining_, fits_log ? 0 : bytes);
  if (join_.binding()) {  // R19: only an epoch ends it now
    if (full) *refusal = Status::kNoSpace;
    return false;
  }
  if (joining_.short_since == kNever) joining_.short_since = ctx.now.boot;
  const Instant end = SaturatingAdd(joining_.short_since, kJoiningPatience);
  if (ctx.now.boot < end) {
    ctx.node.WakeAt(key_, end);
    return false;
  }
  join_.Fail(ctx, *this, "it has no room");
  joining_.state = Follower::State::kStopped;
  Trim(ctx);
  return true;
}

bool Primary::HasRoom(Context& ctx, const store::Store& store, const wire::EntryHeader& header,
                      uint64_t bytes, uint64_t* extents, Status* refusal) {
  Device* device = ctx.node.devices.FindUp(key_.device);
  CHECK(device != nullptr);
  uint64_t window = WindowBytes(*device);
  for (const Follower* follower : {&secondary_, &joining_}) {
    if (!follower->active() || follower->credits.window_bytes == 0) continue;
    window = std::min(window, follower->credits.window_bytes);
  }
  const uint64_t wanted = bytes + kEntryOverheadBytes;
  if (uncommitted_bytes_ > 0 && uncommitted_bytes_ + wanted > window) return false;
  if (retained_bytes_ > 0 && retained_bytes_ + wanted > 2 * window) return false;
  const uint64_t log_bytes = bytes + store::kAppendOverheadBytes;
  if (short_of_log_) return false;  // small ones do not overtake
  if (LogRoomForClients(*device) < log_bytes) {
    short_of_log_ = true;
    secondary_.short_since = kNever;
    if (room_at_ == kNever || ctx.now.boot >= room_at_) {
      room_at_ = SaturatingAdd(ctx.now.boot, kRoomPause);
      ctx.node.WakeAt(key_, room_at_);
    }
    return false;
  }
  if (secondary_.active() && secondary_.log_used + log_bytes > secondary_.credits.log_limit) {
    short_of_log_ = true;
    if (secondary_.short_since == kNever) secondary_.short_since = ctx.now.boot;
    AskCredits(ctx, secondary_, log_bytes);
    return false;
  }
  // Only data takes extents; the rest gives them back.
  if (header.kind == wire::EntryKind::kWrite) {
    *extents = store.ExtentsNeeded(key_.slice, header);
    if (*extents > 0 && UnpromisedExtents(*device) < *extents) {
      *refusal = Status::kNoSpace;
      return false;
    }
    bool full = false;
    if (secondary_.active() && !HasCredits(secondary_, *extents, &full)) {
      AskCredits(ctx, secondary_, 0);
      if (full) *refusal = Status::kNoSpace;
      return false;
    }
  }
  return JoiningHasCredits(ctx, log_bytes, ExtentsTouched(header), refusal);
}

namespace {

InFlight::Used TakeFrom(Follower& follower, uint64_t extents, uint64_t log_bytes) {
  if (follower.active()) {  // else it has promised nothing yet
    follower.extents_used += extents;
    follower.log_used += log_bytes;
  }
  return {follower.extents_used, follower.log_used};
}

}  // namespace

void Primary::Append(Context& ctx, SlotTag tag, Request& request, const wire::EntryHeader& header,
                     uint64_t extents) {
  store::Store* store = StoreOf(ctx);
  CHECK(store != nullptr && serving());
  CHECK(!request.partial() || request.merged);
  secondary_.short_since = kNever;
  request.phase = RequestPhase::kInFlight;
  request.admitted_at = ctx.node.config.version();
  ctx.node.outstanding.Add(request.admitted_at);
  InFlight entry{.header = header,
                 .payload = header.kind == wire::EntryKind::kWrite ? request.data : Slice(),
                 .request = tag,
                 .ordinal = ++append_count_,
                 .admitted_at = request.admitted_at};
  const uint64_t log_bytes = entry.payload.size() + store::kAppendOverheadBytes;
  entry.secondary_used = TakeFrom(secondary_, extents, log_bytes);
  entry.joining_used = TakeFrom(joining_, ExtentsTouched(header), log_bytes);
  std::copy_n(request.crc.begin(), entry.crc.size(), entry.crc.begin());
  entry.lock = std::exchange(request.lock, RangeLock::Handle());
  request.data = Slice();
  ++next_seq_;
  uncommitted_bytes_ += entry.payload.size() + kEntryOverheadBytes;
  retained_bytes_ += entry.payload.size() + kEntryOverheadBytes;
  log_.push_back(std::move(entry));
  ctx.node.MarkDirty(key_);
  const InFlight& stored = log_.back();
  const store::Tag op = ctx.node.ops.Add({.kind = OpKind::kAppend,
                                          .replica = key_,
                                          .instance = instance_,
                                          .epoch = config_.epoch,
                                          .a = append_count_});
  store->Append(ctx.now, key_.slice, stored.header, stored.payload,
                std::span(stored.crc).first(stored.payload.size() / wire::kBlockBytes), op,
                ctx.node.Out(ctx));
  ++ctx.node.counters.writes;
}

bool Primary::DurableEverywhere(const InFlight& entry) const {
  const uint64_t seq = entry.header.id.seq.value();
  if (entry.ordinal > durable_ordinal_) return false;
  if (needs_secondary() && (!secondary_.active() || secondary_.acked < seq) &&
      !PLANTED_BUG("R7-ack-before-secondary")) {
    return false;
  }
  if (join_.binding() && joining_.acked < seq && !PLANTED_BUG("R19-ack-without-joiner")) {
    return false;
  }
  return true;
}

void Primary::Commit(Context& ctx) {
  if (!serving()) return;
  const uint64_t before = committed_seq();
  while (committed_count_ < log_.size() && DurableEverywhere(log_[committed_count_])) {
    InFlight& entry = log_[committed_count_];
    ++committed_count_;
    CommitEntry(ctx, entry);
  }
  const uint64_t committed = committed_seq();
  if (committed == before) return;
  if (store::Store* store = StoreOf(ctx)) {
    store->SetCommitPoint(ctx.now, key_.slice, {config_.epoch, Seq(committed)}, ctx.node.Out(ctx));
  }
  Trim(ctx);
  if (secondary_.active() || joining_.active()) ctx.node.ArmCommitTimer(ctx);
}

// Answers, and lets the next one go.
void Primary::CommitEntry(Context& ctx, InFlight& entry) {
  const uint64_t bytes = (entry.header.kind == wire::EntryKind::kWrite
                              ? uint64_t{entry.header.block_count} * wire::kBlockBytes
                              : 0) +
                         kEntryOverheadBytes;
  uncommitted_bytes_ -= std::min(uncommitted_bytes_, bytes);
  if (ctx.node.requests.Find(entry.request) != nullptr) {
    ctx.node.AnswerWrite(ctx, entry.request, Status::kOk, config_.reign);
    ctx.node.requests.Erase(entry.request);
  }
  entry.request = SlotTag();
  ctx.node.outstanding.Remove(entry.admitted_at);
  Unlock(ctx, &entry.lock);
}

// It is not this object's any more; its client finds its fate in the next reign.
void Primary::DropEntry(Context& ctx, InFlight& entry) {
  ctx.node.requests.Erase(entry.request);
  ctx.node.outstanding.Remove(entry.admitted_at);
  Unlock(ctx, &entry.lock);
}

// Forgets what is committed and needed by nobody.
void Primary::Trim(Context& ctx) {
  const bool keeps = joining_.start.has_value() && joining_.state != Follower::State::kStopped;
  while (committed_count_ > 0) {
    const InFlight& entry = log_.front();
    if (keeps && entry.header.id.seq.value() > joining_.acked) break;
    const uint64_t bytes = (entry.header.kind == wire::EntryKind::kWrite
                                ? uint64_t{entry.header.block_count} * wire::kBlockBytes
                                : 0) +
                           kEntryOverheadBytes;
    retained_bytes_ -= std::min(retained_bytes_, bytes);
    log_.pop_front();
    --committed_count_;
  }
  ctx.node.MarkDirty(key_);
}

void Primary::Unlock(Context& ctx, RangeLock::Handle* lock) {
  if (lock->id == 0) return;
  locks_.Release(lock, &granted_);
  ctx.node.MarkDirty(key_);
}

void Primary::Refuse(Context& ctx, SlotTag tag, Status status) {
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr) return;
  if (request->is_write) {
    ctx.node.AnswerWrite(ctx, tag, status, config_.reign);
  } else {
    ctx.node.AnswerRead(ctx, tag, status, config_.reign, Slice(), {});
  }
  ForgetRequest(ctx, tag, *request);
  ctx.node.requests.Erase(tag);
}

void Primary::ForgetRequest(Context& ctx, SlotTag, Request& request) {
  CHECK(!request.admitted());
  Unlock(ctx, &request.lock);
}

}  // namespace gabion::sds
