#include "disk/harness/store_runner.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace gabion::disk {

namespace {

constexpr auto kDevice = static_cast<DeviceIndex>(1);
constexpr TimerTag kTimer = 1;

Duration Read(clockid_t clock) {
  timespec now{};
  CHECK_EQ(::clock_gettime(clock, &now), 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

store::Identity TheIdentity() {
  return {.cluster = ClusterId(1), .sds = SdsId(1), .device = DeviceId(1)};
}

}  // namespace

Now MachineClock() { return {Instant(Read(CLOCK_BOOTTIME)), WallTime(Read(CLOCK_REALTIME))}; }

StoreRunner::StoreRunner(BlockLayer* device, const Options& options)
    : device_(*device),
      clock_(options.clock),
      pool_(BufferPool::Options{.bytes_max = options.pool_bytes}),
      store_(std::make_unique<store::Store>(store::Options{.device = kDevice,
                                                           .timer = kTimer,
                                                           .pool = &pool_,
                                                           .log_bytes = options.log_bytes,
                                                           .memory_bytes = options.memory_bytes})),
      now_(clock_()) {}

Result<void> StoreRunner::Format(bool force) {
  const store::Tag tag = NewTag();
  store_->Format(now_, device_.info(), TheIdentity(), force, tag, out());
  return Finish(tag);
}

Result<void> StoreRunner::Open() {
  const store::Tag tag = NewTag();
  store_->Open(now_, device_.info(), TheIdentity(), tag, out());
  return Finish(tag);
}

Result<void> StoreRunner::Close() {
  const store::Tag tag = NewTag();
  store_->Close(now_, tag, out());
  return Finish(tag);
}

Result<void> StoreRunner::Finish(store::Tag tag) {
  if (Await(tag) == store::DoneStatus::kOk) return {};
  return Err(ErrorCode::kIoError, "%s", store_->error().c_str());
}

void StoreRunner::Submit() {
  for (const DiskEffect& effect : effects_.disk) {
    device_.Queue(effect,
                  std::span(effects_.slices).subspan(effect.slice_begin, effect.slice_count));
    ++in_flight_;
  }
  for (const TimerEffect& timer : effects_.timers) timer_ = timer.when;
  effects_.Clear();
  device_.Submit();
}

void StoreRunner::Turn(Duration limit) {
  Submit();
  if (!done_.empty()) limit = Duration();  // the store answered at once
  if (timer_ != kNever) limit = std::min(limit, std::max(timer_ - now_.boot, Duration()));
  device_.Wait(limit);
  events_.clear();
  device_.Collect(events_);
  now_ = clock_();
  in_flight_ -= events_.size();
  for (const DiskDoneEvent& event : events_) store_->OnDiskDone(now_, event, out());
  if (timer_ <= now_.boot) {
    timer_ = kNever;
    store_->OnTimer(now_, out());
  }
  Submit();
}

store::DoneStatus StoreRunner::Await(store::Tag tag) {
  while (true) {
    for (const store::Done& done : done_) {
      if (done.tag != tag) continue;
      const store::DoneStatus status = done.status;
      done_.clear();
      return status;
    }
    done_.clear();
    Turn();
  }
}

void StoreRunner::Settle() {
  Submit();
  while (in_flight_ > 0 || timer_ != kNever) {
    Turn();
    done_.clear();
  }
}

SliceWriter::SliceWriter(StoreRunner* runner, const Options& options)
    : runner_(*runner), options_(options), slices_(options.slices) {}

bool SliceWriter::StartEpochs() {
  for (uint32_t i = 0; i < options_.slices; ++i) {
    const SliceId slice(1 + i);
    store::EpochStartRecord record{.epoch = Epoch(1), .issuer = 1};
    if (const store::SliceFacts* facts = runner_.store().Find(slice); facts != nullptr) {
      record.epoch = Epoch(facts->started_epoch.value() + 1);
      record.end = facts->last;
    }
    const store::Tag tag = runner_.NewTag();
    runner_.store().StartEpoch(runner_.now(), slice, record, tag, runner_.out());
    if (runner_.Await(tag) != store::DoneStatus::kOk) return false;
    slices_[i] = {.last = {record.epoch, Seq(0)}};
  }
  return true;
}

wire::EntryHeader SliceWriter::Entry(uint32_t chunk, uint32_t first_block, uint32_t block_count,
                                     bool zero) const {
  const EntryId last = slices_[chunk % options_.slices].last;
  wire::EntryHeader entry;
  entry.id = {last.epoch, Seq(last.seq.value() + 1)};
  entry.vtree = KeyOf(chunk).vtree;
  entry.chunk = chunk;
  entry.first_block = static_cast<uint16_t>(first_block);
  entry.block_count = static_cast<uint16_t>(block_count);
  entry.kind = zero ? wire::EntryKind::kZero : wire::EntryKind::kWrite;
  return entry;
}

bool SliceWriter::Fits(uint32_t chunk, uint32_t first_block, uint32_t block_count) const {
  store::Store& store = runner_.store();
  const uint64_t bytes = uint64_t{block_count} * wire::kBlockBytes + store::kAppendOverheadBytes;
  if (store.append_room() < bytes) return false;
  const SliceState& slice = slices_[chunk % options_.slices];
  if (slice.uncommitted_bytes + bytes > store.slice_window_bytes()) return false;
  const wire::EntryHeader entry = Entry(chunk, first_block, block_count, /*zero=*/false);
  return store.ExtentsNeeded(SliceOf(chunk), entry) <= store.capacity().extents_free;
}

void SliceWriter::Write(uint32_t chunk, uint32_t first_block, uint32_t block_count, Slice payload,
                        std::span<const uint32_t> block_crc, store::Tag tag) {
  SliceState& slice = slices_[chunk % options_.slices];
  const wire::EntryHeader entry = Entry(chunk, first_block, block_count, payload.empty());
  const uint64_t bytes = payload.size() + store::kAppendOverheadBytes;
  slice.last = entry.id;
  slice.uncommitted_bytes += bytes;
  pending_.push_back(
      {.tag = tag, .slice = chunk % options_.slices, .id = entry.id, .bytes = bytes});
  runner_.store().Append(runner_.now(), SliceOf(chunk), entry, std::move(payload), block_crc, tag,
                         runner_.out());
}

void SliceWriter::OnDone(store::Tag tag) {
  const Pending done = pending_.pop_front();
  CHECK_EQ(done.tag, tag);  // in the order of the calls
  SliceState& slice = slices_[done.slice];
  slice.durable_bytes += done.bytes;
  const bool window_half_full = slice.durable_bytes * 2 > runner_.store().slice_window_bytes();
  if (++slice.durable_entries < options_.commit_every && !window_half_full) return;
  slice.uncommitted_bytes -= slice.durable_bytes;
  slice.durable_bytes = 0;
  slice.durable_entries = 0;
  runner_.store().SetCommitPoint(runner_.now(), SliceId(1 + done.slice), done.id, runner_.out());
}

}  // namespace gabion::disk
