#include "core/sds/scan.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mix.h"
#include "core/sds/node.h"
#include "core/sds/replica.h"

namespace gabion::sds {

namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// A process that has just started has other things to do.
constexpr Duration kFirstPassDelay = minutes(10);
// A pass that is to take a week over little data is quicker than that.
constexpr uint64_t kRateMin = uint64_t{256} << 10;
constexpr Duration kPauseWhileJoining = seconds(1);
// Requests of clients go first, but not for ever.
constexpr Duration kYield = milliseconds(5);
constexpr uint32_t kYieldsMax = 10;
constexpr Duration kNoMemoryPause = milliseconds(10);
// The primary repairs what this side has told it is damaged.
constexpr Duration kLookAgain = milliseconds(250);
constexpr Duration kRepairPatience = seconds(5);
constexpr size_t kPageChunks = 16;
constexpr int kSlicesPerStep = 32;

uint64_t UnixMs(const Now& now) {
  return static_cast<uint64_t>(std::max<int64_t>(0, ToMillis(now.wall.time_since_epoch())));
}

uint64_t UsedBytes(const store::Store& store) {
  const store::Capacity capacity = store.capacity();
  return (capacity.extents_total - capacity.extents_free) * wire::kExtentBytes;
}

uint64_t RateFor(const Options& options, uint64_t used_bytes) {
  if (options.scan_bytes_per_second != 0) return options.scan_bytes_per_second;
  const auto interval = static_cast<uint64_t>(
      std::max<int64_t>(1, std::chrono::duration_cast<seconds>(options.scan_interval).count()));
  return std::max(kRateMin, used_bytes / interval);
}

}  // namespace

std::string DescribeFinding(const Node& node, SliceId slice, const store::ChunkKey& key,
                            uint16_t extent, std::string_view what) {
  const uint64_t offset =
      uint64_t{key.chunk} * wire::kChunkBytes + uint64_t{extent} * wire::kExtentBytes;
  const VolumeId volume = node.config.FindVolumeOf(key.vtree, key.version);
  return absl::StrCat(volume.valid() ? "volume " : "V-tree ",
                      volume.valid() ? volume.value() : key.vtree.value(), ", 64 KiB at byte ",
                      offset, " (slice ", slice.value(), "): ", std::string(what));
}

void Scanner::SetTimer(Context& ctx, const Device& device, Instant when) {
  ctx.effects.SetTimer(TimerOf(TimerKind::kScan, device.slot), when);
}

void Scanner::OnUp(Context& ctx, Device& device) {
  const Duration interval = ctx.node.options.scan_interval;
  const ScanMemory& memory = ctx.node.self.scans[device.config.id];
  phase_ = Phase::kWaiting;
  enabled_ = interval > Duration();
  last_ = memory.last;
  const Instant first =
      SaturatingAdd(ctx.now.boot, enabled_ ? std::min(kFirstPassDelay, interval) : kFirstPassDelay);
  begin_at_ = enabled_ || memory.running ? first : kNever;
  if (!memory.running && last_.started_unix_ms() != 0) {
    begin_at_ = std::max(begin_at_, NextPassAt(ctx, last_));
  }
  if (begin_at_ != kNever) SetTimer(ctx, device, begin_at_);
}

// An interval after the one before began, by the wall clock; whatever that says, within an interval
// from now.
Instant Scanner::NextPassAt(Context& ctx, const proto::ScanPass& before) const {
  if (!enabled_) return kNever;
  const Duration interval = ctx.node.options.scan_interval;
  const auto interval_ms = static_cast<uint64_t>(ToMillis(interval));
  const uint64_t now_ms = UnixMs(ctx.now);
  uint64_t passed_ms = 0;
  if (now_ms > before.started_unix_ms()) passed_ms = now_ms - before.started_unix_ms();
  const auto passed = milliseconds(static_cast<int64_t>(std::min(passed_ms, interval_ms)));
  return SaturatingAdd(ctx.now.boot, std::max<Duration>(Duration(), interval - passed));
}

// Up to the chunk that was visited last.
void Scanner::Remember(Context& ctx, const Device& device) {
  ScanMemory& memory = ctx.node.self.scans[device.config.id];
  memory.pass = pass_;
  memory.slice = slice_;
  memory.chunk = key_;
  ctx.node.registration.OnScanMoved();
}

void Scanner::OnDown(Context& ctx, Device& device) {
  ctx.effects.CancelTimer(TimerOf(TimerKind::kScan, device.slot));
  phase_ = Phase::kWaiting;
  paused_ = false;
  begin_at_ = kNever;
  pass_.Clear();
  read_ = ExtentRead();
  page_.clear();
}

void Scanner::OnOrder(Context& ctx, Device& device, const proto::ScanOrder& order) {
  if (order.order() <= order_) return;
  order_ = order.order();
  ScanMemory& memory = ctx.node.self.scans[device.config.id];
  if (order.cancel()) {
    if (!memory.running) return;
    ctx.Log(Severity::kInfo, absl::StrCat("scan of device ", ToString(device.config.id),
                                          " ended by an administrator"));
    phase_ = Phase::kWaiting;
    paused_ = false;
    pass_.Clear();
    memory = ScanMemory{.last = memory.last};
    ctx.node.registration.OnScanMoved();
    begin_at_ = enabled_ ? SaturatingAdd(ctx.now.boot, ctx.node.options.scan_interval) : kNever;
    SetTimer(ctx, device, begin_at_);
    return;
  }
  if (running()) {  // goes on, at the rate that is wanted now
    if (order.bytes_per_second() == 0) return;
    rate_ = memory.ordered_rate = order.bytes_per_second();
    ctx.node.registration.OnScanMoved();
    return;
  }
  Begin(ctx, device, order.bytes_per_second());
}

void Scanner::OnTimer(Context& ctx, Device& device) {
  switch (phase_) {
    case Phase::kWaiting:
      if (begin_at_ != kNever && ctx.now.boot >= begin_at_) Begin(ctx, device, 0);
      return;
    case Phase::kPacing:
      return Step(ctx, device);
    case Phase::kAwaitingRepair:
      return Read(ctx, device);
    case Phase::kReading:
    case Phase::kExamining:
      return;
  }
  UNREACHABLE();
}

void Scanner::Begin(Context& ctx, Device& device, uint64_t ordered_rate) {
  ScanMemory& memory = ctx.node.self.scans[device.config.id];
  const bool goes_on = memory.running;
  if (!goes_on) {
    memory = ScanMemory{.running = true, .last = memory.last};
    memory.pass.set_started_unix_ms(UnixMs(ctx.now));
  }
  if (ordered_rate != 0) memory.ordered_rate = ordered_rate;
  ctx.node.registration.OnScanMoved();
  pass_ = memory.pass;
  slice_ = memory.slice;
  listed_ = memory.chunk;
  slice_begun_ = listed_.has_value();
  expected_bytes_ = UsedBytes(*device.store);
  rate_ =
      memory.ordered_rate != 0 ? memory.ordered_rate : RateFor(ctx.node.options, expected_bytes_);
  begin_at_ = NextPassAt(ctx, pass_);
  page_.clear();
  page_at_ = 0;
  extents_left_ = 0;
  yields_ = 0;
  phase_ = Phase::kPacing;
  next_at_ = ctx.now.boot;
  ctx.Log(Severity::kInfo, absl::StrCat("scan of device ", ToString(device.config.id),
                                        goes_on ? " goes on: " : " begins: ", expected_bytes_ >> 20,
                                        " MiB at ", rate_ >> 10, " KiB/s"));
  SetTimer(ctx, device, next_at_);
}

// Copies for a joining, to or from this device, go first.
bool Scanner::MustPause(Context& ctx, const Device& device) {
  for (const auto& [key, replica] : ctx.node.replicas) {
    if (key.device != device.config.id) continue;
    if (replica->primary != nullptr && replica->primary->feeds_joining()) return true;
    if (replica->secondary != nullptr && replica->secondary->joining()) return true;
  }
  return false;
}

void Scanner::Step(Context& ctx, Device& device) {
  if (device.store->state() != store::State::kOpen) return;
  paused_ = MustPause(ctx, device);
  if (paused_) return SetTimer(ctx, device, SaturatingAdd(ctx.now.boot, kPauseWhileJoining));
  if (!ctx.node.requests.empty() && yields_ < kYieldsMax) {
    ++yields_;
    return SetTimer(ctx, device, SaturatingAdd(ctx.now.boot, kYield));
  }
  yields_ = 0;
  bool found = false;
  if (!FindNext(*device.store, &found)) return End(ctx, device);
  if (!found) return SetTimer(ctx, device, ctx.now.boot);
  Visit(ctx, device);
}

bool Scanner::FindNext(const store::Store& store, bool* found) {
  for (int slices = 0; slices < kSlicesPerStep;) {
    while (extents_left_ == 0 && page_at_ + 1 < page_.size()) {
      extents_left_ = page_[++page_at_].extents;
    }
    if (extents_left_ != 0) {
      key_ = page_[page_at_].key;
      extent_ = static_cast<uint16_t>(std::countr_zero(extents_left_));
      extents_left_ = static_cast<uint16_t>(extents_left_ & (extents_left_ - 1));
      *found = true;
      return true;
    }
    if (slice_begun_) {
      page_ = store.List(slice_, listed_, Epoch(), kPageChunks);
      page_at_ = 0;
      if (!page_.empty()) {
        listed_ = page_.back().key;
        extents_left_ = page_.front().extents;
        continue;
      }
    }
    const std::vector<SliceId> all = store.slices();
    const auto next = slice_begun_ ? std::upper_bound(all.begin(), all.end(), slice_) : all.begin();
    if (next == all.end()) return false;
    slice_ = *next;
    slice_begun_ = true;
    listed_.reset();
    ++slices;
  }
  return true;
}

void Scanner::Visit(Context& ctx, Device& device) {
  damaged_blocks_ = 0;
  Replica* replica = ctx.node.FindReplica({slice_, device.config.id});
  if (replica != nullptr && replica->primary != nullptr &&
      replica->primary->Examine(ctx, key_, extent_)) {
    phase_ = Phase::kExamining;
    return;
  }
  if (replica != nullptr && replica->secondary != nullptr &&
      extent_ == std::countr_zero(page_[page_at_].extents)) {
    // Once for each chunk: what only this side has is not in the primary's own walk.
    replica->secondary->SendScanHint(ctx, key_, page_[page_at_].extents, 0);
  }
  Read(ctx, device);
}

void Scanner::Read(Context& ctx, Device& device) {
  phase_ = Phase::kReading;
  switch (read_.Begin(
      ctx, *device.store,
      {.kind = OpKind::kScanRead, .replica = {slice_, device.config.id}, .number = next_read_++},
      key_, extent_)) {
    case ExtentRead::Step::kRunning:
      return;
    case ExtentRead::Step::kDone:
      return Next(ctx, device, 0);  // gone meanwhile
    case ExtentRead::Step::kNoMemory:
      phase_ = Phase::kAwaitingRepair;  // reads again
      return SetTimer(ctx, device, SaturatingAdd(ctx.now.boot, kNoMemoryPause));
    case ExtentRead::Step::kFailed:
      return;
  }
  UNREACHABLE();
}

void Scanner::OnRead(Context& ctx, Device& device, const Op& op, store::DoneStatus status) {
  if (op.a != read_.number() || !read_.running()) return;
  const ExtentRead::Step step = read_.OnDone(ctx, *device.store, status);
  if (step != ExtentRead::Step::kDone || phase_ != Phase::kReading) return;
  const auto damaged = static_cast<uint32_t>(std::popcount(read_.damaged()));
  const auto blocks = static_cast<uint32_t>(std::popcount(read_.present()));
  if (damaged != 0) return OnDamage(ctx, device);
  if (damaged_blocks_ != 0) {
    Examined result;
    result.repaired = damaged_blocks_;
    Add(result);
  }
  Next(ctx, device, blocks);
}

void Scanner::OnDamage(Context& ctx, Device& device) {
  const auto damaged = static_cast<uint32_t>(std::popcount(read_.damaged()));
  if (damaged_blocks_ == 0) {
    damaged_blocks_ = damaged;
    repair_until_ = SaturatingAdd(ctx.now.boot, kRepairPatience);
    Examined result;
    result.damaged = damaged;
    result.finding = DescribeFinding(
        ctx.node, slice_, key_, extent_,
        absl::StrCat(damaged, " damaged blocks on device ", device.config.id.value()));
    ctx.Log(Severity::kWarning, absl::StrCat("scan: ", result.finding));
    Add(result);
  }
  Replica* replica = ctx.node.FindReplica({slice_, device.config.id});
  const auto bit = static_cast<uint16_t>(1u << extent_);
  if (ctx.now.boot < repair_until_ && replica != nullptr && replica->secondary != nullptr &&
      replica->secondary->SendScanHint(ctx, key_, bit, bit)) {
    phase_ = Phase::kAwaitingRepair;
    return SetTimer(ctx, device, SaturatingAdd(ctx.now.boot, kLookAgain));
  }
  Examined result;
  result.unresolved = true;
  result.repaired = damaged_blocks_ > damaged ? damaged_blocks_ - damaged : 0;
  result.finding = absl::StrCat(last_finding_, "; not made good: no good copy was found");
  ctx.Log(Severity::kError, absl::StrCat("scan: ", result.finding));
  Add(result);
  Next(ctx, device, static_cast<uint32_t>(std::popcount(read_.present())));
}

void Scanner::OnExamined(Context& ctx, Device& device, const Examined& result) {
  if (phase_ != Phase::kExamining) return;  // the pass was ended
  Add(result);
  Next(ctx, device, result.blocks_read);
}

void Scanner::OnHintExamined(const Examined& result) {
  // What is damaged, and its repair, the other side's pass counts.
  Examined own;
  own.differing = result.differing;
  own.repaired = result.damaged == 0 ? result.repaired : 0;
  own.unresolved = result.unresolved && result.damaged == 0;
  own.finding = result.finding;
  Add(own);
}

void Scanner::Add(const Examined& result) {
  if (result.compared) ++totals_.extents_compared;
  totals_.blocks_damaged += result.damaged;
  totals_.blocks_differing += result.differing;
  totals_.blocks_repaired += result.repaired;
  if (result.unresolved) ++totals_.extents_unresolved;
  if (!result.finding.empty()) last_finding_ = result.finding;
  if (!running()) return;
  pass_.set_extents_compared(pass_.extents_compared() + (result.compared ? 1 : 0));
  pass_.set_blocks_damaged(pass_.blocks_damaged() + result.damaged);
  pass_.set_blocks_differing(pass_.blocks_differing() + result.differing);
  pass_.set_blocks_repaired(pass_.blocks_repaired() + result.repaired);
  pass_.set_extents_unresolved(pass_.extents_unresolved() + (result.unresolved ? 1 : 0));
}

void Scanner::Next(Context& ctx, Device& device, uint32_t blocks_read) {
  const uint64_t bytes = uint64_t{blocks_read} * wire::kBlockBytes;
  totals_.bytes_read += bytes;
  pass_.set_bytes_read(pass_.bytes_read() + bytes);
  if (extents_left_ == 0) Remember(ctx, device);
  phase_ = Phase::kPacing;
  const auto pause = static_cast<int64_t>(static_cast<double>(bytes) * 1e9 /
                                          static_cast<double>(std::max<uint64_t>(1, rate_)));
  // What was late is not caught up with.
  next_at_ = std::max(SaturatingAdd(next_at_, Duration(pause)), ctx.now.boot);
  SetTimer(ctx, device, next_at_);
}

void Scanner::End(Context& ctx, Device& device) {
  phase_ = Phase::kWaiting;
  ++totals_.passes;
  pass_.set_finished_unix_ms(UnixMs(ctx.now));
  const bool found = pass_.blocks_damaged() + pass_.blocks_differing() != 0;
  ctx.Log(found ? Severity::kWarning : Severity::kInfo,
          absl::StrCat("scan of device ", ToString(device.config.id), " finished: ",
                       pass_.bytes_read() >> 20, " MiB read, ", pass_.extents_compared(),
                       " extents compared, ", pass_.blocks_damaged(), " blocks damaged, ",
                       pass_.blocks_differing(), " different, ", pass_.blocks_repaired(),
                       " made good, ", pass_.extents_unresolved(), " extents not"));
  last_ = std::exchange(pass_, proto::ScanPass());
  ctx.node.self.scans[device.config.id] = ScanMemory{.last = last_};
  ctx.node.registration.OnScanMoved();
  page_.clear();
  if (begin_at_ == kNever) return;
  begin_at_ = std::max(begin_at_, SaturatingAdd(ctx.now.boot, seconds(1)));
  SetTimer(ctx, device, begin_at_);
}

uint32_t Scanner::progress_permille() const {
  if (!running()) return 0;
  if (expected_bytes_ == 0) return 999;
  return static_cast<uint32_t>(
      std::min<uint64_t>(999, pass_.bytes_read() * 1000 / expected_bytes_));
}

void Scanner::Report(proto::ScanStatus* status) const {
  status->set_state(running()  ? (paused_ ? proto::ScanStatus::PAUSED : proto::ScanStatus::RUNNING)
                    : enabled_ ? proto::ScanStatus::WAITING
                               : proto::ScanStatus::OFF);
  if (running()) {
    *status->mutable_pass() = pass_;
    status->set_progress_permille(progress_permille());
    status->set_bytes_per_second(rate_);
  }
  if (last_.started_unix_ms() != 0 || last_.finished_unix_ms() != 0) {
    *status->mutable_last() = last_;
  }
  status->set_last_finding(last_finding_);
  status->set_order(order_);
}

uint64_t Scanner::StateHash() const {
  uint64_t hash = mix64(static_cast<uint64_t>(phase_) + totals_.bytes_read * 3);
  hash = mix64(hash + totals_.blocks_damaged * 5 + totals_.blocks_repaired * 7);
  return mix64(hash + slice_.value() * 11 + extent_);
}

}  // namespace gabion::sds
