#include "core/store/store_impl.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/store/read_cache.h"

namespace gabion::store {

namespace {

// What the directory takes for an extent of a chunk that has no other, at most as a rule.
constexpr uint64_t kDirectoryBytesPerExtent = 13;
// Less would stop writes before they are a log's worth.
constexpr uint64_t kIndexBytesMin = 1 << 20;
// An entry's bytes in the log, its overhead included, for each byte of the index: a block takes
// 12 KiB and about 350 bytes.
constexpr uint64_t kLogBytesPerIndexByte = 32;

}  // namespace

StoreImpl::StoreImpl(const Options& options)
    : options_(options),
      log_(options, &state_, &counters_),
      reads_(options, &state_, &counters_),
      destager_(options, &state_, &log_, &counters_),
      checkpointer_(options, &state_, &log_, &counters_),
      redirects_(options, &counters_) {
  CHECK(options.pool != nullptr);
  // Another device had this number, or somebody else has written to this one.
  if (options.read_cache != nullptr) options.read_cache->Forget(options.device);
}

// ---- Life
// ------------------------------------------------------------------------------------------

void StoreImpl::Format(const Now& now, const DeviceInfo& info, const Identity& identity, bool force,
                       Tag tag, Output out) {
  CHECK(phase_ == State::kClosed && recovery_ == nullptr);
  phase_ = State::kFormatting;
  identity_ = identity;
  open_tag_ = tag;
  opened_at_ = now.boot;
  recovery_ = std::make_unique<Recovery>(options_, &state_);
  recovery_->StartFormat(now, info, identity, force);
  Pump(now, out);
}

void StoreImpl::Open(const Now& now, const DeviceInfo& info, const Identity& identity, Tag tag,
                     Output out) {
  CHECK(phase_ == State::kClosed && recovery_ == nullptr);
  phase_ = State::kRecovering;
  identity_ = identity;
  open_tag_ = tag;
  opened_at_ = now.boot;
  recovery_ = std::make_unique<Recovery>(options_, &state_);
  recovery_->StartOpen(info, identity);
  Pump(now, out);
}

void StoreImpl::Close(const Now& now, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  close_tag_ = tag;
  log_.FlushCommitPoints();
  checkpoint_wanted_ = true;
  Pump(now, out);
}

void StoreImpl::BecomeOpen(const Now& now, Output out) {
  const Superblock& superblock = recovery_->superblock();
  geometry_ = superblock.geometry();
  log_.Open({.superblock = superblock,
             .head = recovery_->head(),
             .tail = superblock.tail_position,
             .last_crc = recovery_->last_crc()});
  SharePages();
  reads_.Open(geometry_);
  destager_.Open(geometry_);
  redirects_.Open(geometry_);
  checkpointer_.Open(superblock);
  if (recovery_->damaged()) {
    // The verdict stays in the superblocks until a checkpoint holds it, replica by replica.
    checkpoint_wanted_ = true;
    out.effects.Log(
        Severity::kError,
        absl::StrFormat("device %s: the log is damaged at %d; every replica on it needs "
                        "resync",
                        ToString(identity_.device), recovery_->head()));
  }
  counters_.device_bytes += 2 * kBlockBytes;
  counters_.recovery_time = now.boot - opened_at_;
  counters_.recovery_batches = recovery_->batches();
  counters_.recovery_log_bytes = recovery_->head() - superblock.checkpoint_position;
  recovery_.reset();
  phase_ = State::kOpen;
  round_ended_ = now.boot;
  out.done.push_back({.tag = open_tag_, .status = DoneStatus::kOk});
}

void StoreImpl::Fail(std::string reason, Output out) {
  if (phase_ == State::kFailed) return;
  const bool was_open = phase_ == State::kOpen;
  phase_ = State::kFailed;
  error_ = absl::StrFormat("device %s: %s", ToString(identity_.device), reason);
  log_.Fail(out.done);
  reads_.Fail(out.done);
  if (!was_open) out.done.push_back({.tag = open_tag_, .status = DoneStatus::kFailed});
  if (close_tag_) out.done.push_back({.tag = *close_tag_, .status = DoneStatus::kFailed});
  close_tag_.reset();
  recovery_.reset();
  if (timer_ != kNever) out.effects.CancelTimer(options_.timer);
  timer_ = kNever;
}

bool StoreImpl::Accept(Tag tag, Output out) {
  if (phase_ == State::kOpen && !close_tag_) return true;
  out.done.push_back({.tag = tag, .status = DoneStatus::kFailed});
  return false;
}

// ---- Events
// ----------------------------------------------------------------------------------------

void StoreImpl::OnDiskDone(const Now& now, const DiskDoneEvent& event, Output out) {
  if (phase_ == State::kFailed || phase_ == State::kClosed) return;
  const auto kind = static_cast<TagKind>(event.tag >> kTagShift);
  const uint64_t slot = event.tag & ((uint64_t{1} << kTagShift) - 1);
  const bool ok = event.status == DiskStatus::kOk;
  if (event.status == DiskStatus::kDeviceGone && recovery_ == nullptr) {
    Fail("it is gone", out);
    return;
  }
  switch (kind) {
    case TagKind::kRecovery:
      CHECK(recovery_ != nullptr);
      recovery_->OnDiskDone(event.status);
      break;
    case TagKind::kLog:
      if (!ok) {
        Fail("a write to its log failed", out);
        return;
      }
      log_.OnWritten(now, slot, out.done);
      break;
    case TagKind::kCheckpoint:
      if (!ok && !PLANTED_BUG("S3-failed-flush-believed")) {
        Fail("a write or flush of its metadata failed", out);
        return;
      }
      checkpointer_.OnDiskDone();
      if (checkpointer_.idle()) reads_.PlacesMoved();
      break;
    case TagKind::kDestage:
      if (!destager_.OnDiskDone(slot, event.status)) {
        Fail("a write of data failed", out);
        return;
      }
      break;
    case TagKind::kRedirect:
      if (!ok) {
        Fail("a write of data failed", out);
        return;
      }
      redirects_.OnDiskDone(slot);
      break;
    case TagKind::kRead:
      reads_.OnDiskDone(slot, event.status, TagBase(TagKind::kRead), out);
      break;
  }
  Pump(now, out);
}

void StoreImpl::OnTimer(const Now& now, Output out) {
  timer_ = kNever;
  if (retry_at_ <= now.boot) retry_at_ = kNever;
  Pump(now, out);
}

void StoreImpl::Pump(const Now& now, Output out) {
  memory_short_ = false;
  if (recovery_ != nullptr) PumpRecovery(now, out);
  if (phase_ == State::kOpen) PumpOpen(now, out);
  if (memory_short_) retry_at_ = SaturatingAdd(now.boot, kMemoryRetryDelay);
  if (phase_ != State::kFailed) UpdateTimer(now, out);
}

void StoreImpl::PumpRecovery(const Now& now, Output out) {
  if (!recovery_->Advance(TagBase(TagKind::kRecovery), out.effects)) memory_short_ = true;
  if (recovery_->phase() == Recovery::Phase::kFailed) {
    const std::string reason = recovery_->error();
    newer_incarnation_ = recovery_->newer_incarnation();
    Fail(reason, out);
    return;
  }
  if (!recovery_->formatting()) phase_ = State::kRecovering;
  if (recovery_->phase() == Recovery::Phase::kDone) BecomeOpen(now, out);
}

void StoreImpl::PumpOpen(const Now& now, Output out) {
  while (true) {
    const auto progress = [this] {
      return std::tuple(destager_.phase(), checkpointer_.phase(), log_.head(),
                        log_.control_durable(), in_round_);
    };
    const auto before = progress();
    bool memory = log_.Advance(now, TagBase(TagKind::kLog), out.effects);
    std::string error;
    memory &= checkpointer_.Advance(TagBase(TagKind::kCheckpoint), out.effects, &error);
    if (!error.empty()) {
      Fail(error, out);
      return;
    }
    memory &= destager_.Advance(TagBase(TagKind::kDestage), out.effects);
    memory &= reads_.Advance(TagBase(TagKind::kRead), out);
    if (!memory) memory_short_ = true;
    Maintain(now, out);
    if (before == progress()) break;
  }
  if (!close_tag_ || checkpoint_wanted_ || in_round_ || !checkpointer_.idle()) return;
  if (!log_.idle() || reads_.in_flight() > 0) return;
  out.done.push_back({.tag = *close_tag_, .status = DoneStatus::kOk});
  close_tag_.reset();
  phase_ = State::kClosed;
}

// ---- Rounds of destaging and checkpoint
// --------------------------------------------------------------

uint64_t StoreImpl::RoundSignature() const {
  // Not what rounds write themselves: a round must not be the reason for the next one.
  return mix64(log_.queued_count() + 1) ^ mix64(changes_ + 2) ^ mix64(log_.renumbered_count() + 3);
}

bool StoreImpl::RoundMadeProgress() {
  if (destager_.destaged()) return true;
  if (RoundSignature() != round_signature_) relocated_bytes_ = 0;
  relocated_bytes_ += destager_.relocated_bytes();
  // What holds up the tail may take several rounds to move out of the way, but once around is all.
  return log_.blocked() && destager_.relocated_bytes() > 0 &&
         relocated_bytes_ < geometry_.log_bytes;
}

uint64_t StoreImpl::budget_bytes() const {
  return options_.memory_bytes != 0 ? options_.memory_bytes
                                    : DefaultMemoryBytes(geometry_.device_bytes);
}

uint64_t StoreImpl::index_bytes_max() const {
  const uint64_t budget = budget_bytes();
  const uint64_t others = kDirectoryBytesPerExtent * geometry_.extents_total;
  const uint64_t spare = budget > others ? budget - others : 0;
  return std::max({spare / 3 * 2, budget / 16, kIndexBytesMin});
}

// The index may grow to its share, and the directory a little, while pages cannot go.
void StoreImpl::SharePages() {
  const Memory now = memory();
  const uint64_t log_bytes = std::max(now.log_bytes, now.log_bytes_max);
  const uint64_t others = now.directory_bytes + now.fixed_bytes + log_bytes;
  const uint64_t rest = now.budget_bytes > others ? now.budget_bytes - others : 0;
  state_.homes().SetBudget(rest / 8 * 7);
}

uint64_t StoreImpl::append_room() const {
  // Before it is open nobody knows how large the log is.
  if (phase_ != State::kOpen) return 0;
  // What the index holds then is not the log's.
  if (state_.by_position().empty()) return log_.append_room();
  const uint64_t max = index_bytes_max();
  const uint64_t used = state_.index_bytes();
  const uint64_t room = used < max ? (max - used) * kLogBytesPerIndexByte : 0;
  return std::min(log_.append_room(), room);
}

bool StoreImpl::LogPressure() const {
  if (state_.index_bytes() > index_bytes_max() / 2 && !state_.by_position().empty()) return true;
  const uint64_t area = geometry_.area_bytes;
  const uint64_t estimate = checkpointer_.bytes_estimate();
  return log_.used() > geometry_.log_bytes / 4 || log_.blocked() ||
         (estimate > area / 4 * 3 &&
          estimate - checkpointer_.superblock().checkpoint_bytes > area / 8);
}

uint64_t StoreImpl::extents_kept() const {
  constexpr uint64_t kMarginMax = 4096;
  return extents_promised_ + std::min<uint64_t>(geometry_.extents_total / 8, kMarginMax);
}

bool StoreImpl::ExtentPressure() const {
  const uint64_t low = geometry_.extents_total / 16;
  // Where large writes have begun to take the way through the log, they may be why there are few.
  const uint64_t kept = state_.redirected() > 0 ? extents_kept() + kExtentsPerChunk : 0;
  if (extents_free() >= std::max(low, kept)) return false;
  return state_.extents().pending() > 0 || !state_.by_position().empty();
}

void StoreImpl::Maintain(const Now& now, Output out) {
  if (!destager_.idle() || !checkpointer_.idle()) return;
  SharePages();
  if (in_round_) {
    // Destaging is over, or the checkpoint after it.
    if (checkpoint_wanted_) {
      checkpoint_wanted_ = false;
      checkpointer_.Start();
      return;
    }
    in_round_ = false;
    round_again_ = RoundMadeProgress();
    round_ended_ = now.boot;
    if (destager_.out_of_extents()) {
      out.effects.Log(Severity::kCritical,
                      absl::StrFormat("device %s: no free extents for what is in its log",
                                      ToString(identity_.device)));
    }
  }
  if (checkpoint_wanted_) {  // closing, or a verdict to keep
    in_round_ = true;
    return;
  }
  if (close_tag_) return;
  if (!RoundMakesSense()) return;
  const bool log_pressure = LogPressure();
  const bool redirect_pressure = RedirectPressure();
  const bool extent_pressure = now.boot >= round_ended_ + kSealDelay && ExtentPressure();
  const bool idle = now.boot >= log_.last_activity() + kIdleDelay;
  if (!log_pressure && !redirect_pressure && !extent_pressure && !idle) return;
  if (idle && !log_pressure && !destager_.HasWork() && state_.extents().pending() == 0) {
    round_signature_ = RoundSignature();  // nothing to do until something happens
    round_again_ = false;
    return;
  }
  const uint64_t ring = geometry_.log_bytes;
  const uint64_t tail = log_.head() - log_.used();
  destager_.Start(log_pressure || redirect_pressure ? ring / 8 : UINT64_MAX,
                  log_pressure ? tail + ring / 8 : 0);
  // What a read is looking at may be overwritten in place, when something newer goes home.
  reads_.PlacesMoved();
  round_signature_ = RoundSignature();
  in_round_ = true;
  checkpoint_wanted_ = true;
}

void StoreImpl::UpdateTimer(const Now& now, Output out) {
  Instant when = std::min(log_.deadline(), retry_at_);
  if (phase_ == State::kOpen && !in_round_ && RoundMakesSense()) {
    if (!state_.by_position().empty() || state_.extents().pending() > 0) {
      when = std::min(when, log_.last_activity() + kIdleDelay);
      if (ExtentPressure()) when = std::min(when, round_ended_ + kSealDelay);
    }
  }
  if (phase_ != State::kOpen) when = retry_at_;
  when = when == kNever ? kNever : std::max(when, now.boot);
  if (when == timer_) return;
  timer_ = when;
  if (when == kNever) {
    out.effects.CancelTimer(options_.timer);
  } else {
    out.effects.SetTimer(options_.timer, when);
  }
}

// ---- Slices
// ----------------------------------------------------------------------------------------

void StoreImpl::Queue(Replica* replica, SliceId slice, Item* item, Slice payload, bool renumbers,
                      Tag tag) {
  QueuedRecord record;
  record.item = item;
  record.tag = tag;
  record.slice = slice;
  record.renumbers = renumbers;
  if (replica != nullptr) {
    if (renumbers) ++replica->renumber_pending;
    record.uid = replica->uid;
    record.renumbered = replica->renumbered;
    record.last = replica->facts.last;
  }
  if (item != nullptr) {
    item->payload = payload;
    record.payload = std::move(payload);
  }
  log_.Queued(std::move(record));
}

void StoreImpl::StartEpoch(const Now& now, SliceId slice, const EpochStartRecord& record, Tag tag,
                           Output out) {
  if (!Accept(tag, out)) return;
  EntryId keep = record.end;
  if (const Replica* before = state_.Find(slice); before != nullptr) {
    keep = std::max(keep, before->floor);
    const EntryId committed = before->facts.commit_point;
    if (record.renames.empty() || record.renames.front().from > committed) {
      keep = std::max(keep, committed);
    }
  }
  log_.Queue().EpochStart(slice, record, keep);
  CHECK(state_.StartEpoch(slice, record, keep)) << "epoch start that does not fit the replica";
  Queue(state_.Find(slice), slice, nullptr, {}, true, tag);
  ++changes_;
  Pump(now, out);
}

void StoreImpl::VoidAbove(const Now& now, SliceId slice, EntryId end, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  Replica* replica = state_.Find(slice);
  if (replica == nullptr) {
    out.done.push_back({.tag = tag, .status = DoneStatus::kNotFound});
    return;
  }
  const VoidRecord record{.end = end, .keep = replica->floor};
  log_.Queue().Void(slice, record);
  CHECK(state_.VoidAbove(slice, record));
  Queue(replica, slice, nullptr, {}, true, tag);
  ++changes_;
  Pump(now, out);
}

void StoreImpl::SetNeedsResync(const Now& now, SliceId slice, bool value, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  if (!state_.SetNeedsResync(slice, value)) {
    out.done.push_back({.tag = tag, .status = DoneStatus::kNotFound});
    return;
  }
  log_.Queue().NeedsResync(slice, value);
  Queue(nullptr, slice, nullptr, {}, false, tag);
  Pump(now, out);
}

void StoreImpl::SetInSync(const Now& now, SliceId slice, Epoch epoch, uint64_t issuer, Tag tag,
                          Output out) {
  if (!Accept(tag, out)) return;
  if (!state_.SetInSync(slice, epoch, issuer)) {
    out.done.push_back({.tag = tag, .status = DoneStatus::kNotFound});
    return;
  }
  log_.Queue().InSync(slice, epoch, issuer);
  Queue(nullptr, slice, nullptr, {}, false, tag);
  Pump(now, out);
}

void StoreImpl::SetCursor(const Now& now, SliceId slice, const wire::JoinCursor& cursor, Tag tag,
                          Output out) {
  if (!Accept(tag, out)) return;
  if (!state_.SetCursor(slice, cursor)) {
    out.done.push_back({.tag = tag, .status = DoneStatus::kNotFound});
    return;
  }
  log_.Queue().Cursor(slice, cursor);
  Queue(nullptr, slice, nullptr, {}, false, tag);
  Pump(now, out);
}

void StoreImpl::DropSlice(const Now& now, SliceId slice, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  // Logged even when it is gone: the drop before may not be durable yet.
  state_.DropSlice(slice);
  log_.Queue().DropSlice(slice);
  Queue(nullptr, slice, nullptr, {}, false, tag);
  ++changes_;
  Pump(now, out);
}

// ---- Entries
// ---------------------------------------------------------------------------------------

StoreImpl::Split StoreImpl::SplitContent(uint32_t first_block, uint32_t end_block, Slice payload,
                                         std::span<const uint32_t> block_crc) {
  counters_.user_bytes += payload.size();
  Split split{.places = {}, .crc = {}, .content = {}, .in_log = {}};
  const ExtentRange whole = WholeExtents(first_block, end_block);
  // Never the reason for what is full: then the way through the log is as good.
  const bool fits = whole.count() > 0 &&
                    state_.redirected() + whole.count() <= geometry_.redirected_max() &&
                    checkpointer_.bytes_estimate() <= geometry_.area_bytes / 2 &&
                    extents_free() >= whole.count() + extents_kept();
  if (!fits) {
    split.in_log = std::move(payload);
    return split;
  }
  const uint32_t before = (whole.first * kBlocksPerExtent - first_block) * kBlockBytes;
  const uint32_t bytes = whole.count() * kExtentBytes;
  const uint32_t after = payload.size() - before - bytes;
  if (before > 0 && after > 0) {
    Slice ends = options_.pool->Allocate(before + after);
    if (ends.empty()) {
      split.in_log = std::move(payload);
      return split;
    }
    ends.CopyFrom(0, payload.span().first(before));
    ends.CopyFrom(before, payload.span().last(after));
    split.in_log = std::move(ends);
  } else if (before + after > 0) {
    split.in_log = before > 0 ? payload.Sub(0, before) : payload.Sub(bytes, after);
  }
  split.content = payload.Sub(before, bytes);
  split.crc = block_crc.subspan(before / kBlockBytes, bytes / kBlockBytes);
  places_.clear();
  for (uint32_t i = 0; i < whole.count(); ++i) {
    const std::optional<uint32_t> place = state_.extents().Allocate();
    CHECK(place.has_value());  // there were more than enough
    places_.push_back(*place);
  }
  split.places = places_;
  return split;
}

void StoreImpl::Append(const Now& now, SliceId slice, const wire::EntryHeader& entry, Slice payload,
                       std::span<const uint32_t> block_crc, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  const uint32_t blocks = entry.kind == wire::EntryKind::kWrite ? entry.block_count : 0;
  CHECK_EQ(payload.size(), uint64_t{blocks} * kBlockBytes);
  const uint32_t first_block = entry.first_block;
  Split split = SplitContent(first_block, first_block + blocks, std::move(payload), block_crc);
  Item* item = state_.AddEntry(slice, entry, {.crc = block_crc, .places = split.places});
  CHECK(item != nullptr) << "entry out of order: " << ToString(entry.id);
  log_.Queue().Entry(slice, entry, item->log_blocks(), split.record());
  Queue(state_.Find(slice), slice, item, std::move(split.in_log), false, tag);
  if (!split.content.empty()) {
    redirects_.Start(item, std::move(split.content), TagBase(TagKind::kRedirect), out.effects);
  }
  ++counters_.entries;
  Pump(now, out);
}

void StoreImpl::SetCommitPoint(const Now& now, SliceId slice, EntryId commit_point, Output out) {
  if (phase_ != State::kOpen) return;
  if (!state_.SetCommitPoint(slice, commit_point)) return;
  log_.CommitPointMoved(now, slice);
  ++changes_;
  Pump(now, out);
}

void StoreImpl::AppendCopy(const Now& now, SliceId slice, const ChunkKey& key, uint16_t extent,
                           uint16_t present, Epoch modified_epoch, EntryId after, Slice payload,
                           std::span<const uint32_t> block_crc, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  CHECK_EQ(payload.size(), block_crc.size() * kBlockBytes);
  const uint32_t first_block = extent * kBlocksPerExtent;
  const uint32_t end_block = first_block + (present == UINT16_MAX ? kBlocksPerExtent : 0);
  Split split = SplitContent(first_block, end_block, std::move(payload), block_crc);
  Item* item = state_.AddCopy(slice, key, extent, present, modified_epoch, after,
                              {.crc = block_crc, .places = split.places});
  CHECK(item != nullptr) << "copy that does not fit the replica";
  log_.Queue().Copy(slice, key, extent, present, modified_epoch, after, split.record());
  Queue(nullptr, slice, item, std::move(split.in_log), false, tag);
  if (!split.content.empty()) {
    redirects_.Start(item, std::move(split.content), TagBase(TagKind::kRedirect), out.effects);
  }
  Pump(now, out);
}

void StoreImpl::AppendDrop(const Now& now, SliceId slice, const ChunkKey& key, EntryId after,
                           Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  Item* item = state_.AddDrop(slice, key, after);
  CHECK(item != nullptr) << "drop in a slice that is not here";
  log_.Queue().Drop(slice, key, after);
  Queue(nullptr, slice, item, {}, false, tag);
  Pump(now, out);
}

void StoreImpl::AppendRequests(const Now& now, SliceId slice,
                               std::span<const wire::RequestRecord> records, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  CHECK(state_.AddRequests(slice, records)) << "request ids for a slice that is not here";
  while (records.size() > kRequestsPerRecord) {
    log_.Queue().Requests(slice, records.first(kRequestsPerRecord));
    log_.Queued({});
    records = records.subspan(kRequestsPerRecord);
  }
  log_.Queue().Requests(slice, records);
  Queue(nullptr, slice, nullptr, {}, false, tag);
  Pump(now, out);
}

void StoreImpl::DropClient(const Now& now, SdcId client, Incarnation below, Output out) {
  if (phase_ != State::kOpen || close_tag_) return;
  state_.DropClient(client, below);
  log_.Queue().DropClient(client, below);
  log_.Queued({});
  Pump(now, out);
}

void StoreImpl::Read(const Now& now, const Reads::Range& range, Slice target, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  reads_.Start(range, std::move(target), tag, TagBase(TagKind::kRead), out);
  if (reads_.waits_for_memory()) retry_at_ = SaturatingAdd(now.boot, kMemoryRetryDelay);
  UpdateTimer(now, out);
}

void StoreImpl::ReadEntry(const Now& now, SliceId slice, EntryId id, Slice target,
                          std::span<uint32_t> block_crc, Tag tag, Output out) {
  if (!Accept(tag, out)) return;
  const Replica* replica = state_.Find(slice);
  const Item* item = nullptr;
  if (replica != nullptr && id > replica->floor) {
    const auto found = replica->items.find(ItemKey{id, 0});
    if (found != replica->items.end()) item = found->second.get();
  }
  if (item == nullptr) {
    out.done.push_back({.tag = tag, .status = DoneStatus::kNotFound});
    return;
  }
  CHECK_GE(block_crc.size(), item->crc.size());
  for (uint32_t i = 0; i < item->payload_blocks(); ++i) block_crc[i] = item->PlainCrc(i);
  reads_.StartItem(*item, std::move(target), tag, TagBase(TagKind::kRead), out);
  UpdateTimer(now, out);
}

}  // namespace gabion::store
