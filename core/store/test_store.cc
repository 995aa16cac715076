#include "core/store/test_store.h"

#include <cstring>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

TestStore::TestStore(const Options& options)
    : TestStore(options, TestDisk({.device = DeviceIndex(1), .size_bytes = options.device_bytes})) {
}

TestStore::TestStore(const Options& options, TestDisk disk)
    : options_(options),
      pool_(BufferPool::Options{.bytes_max = size_t{256} << 20}),
      disk_(std::move(disk)),
      random_(options.seed, 0, 0) {
  now_.boot = Instant(std::chrono::seconds(10));
  now_.wall = WallTime(std::chrono::seconds(1'700'000'000));
  NewProcess();
}

void TestStore::NewProcess() {
  effects_.Clear();
  done_.clear();
  results_.clear();
  timer_ = kNever;
  read_cache_ = ReadCache(options_.read_cache_bytes);
  store_ = std::make_unique<Store>(store::Options{.device = DeviceIndex(1),
                                                  .timer = 5,
                                                  .pool = &pool_,
                                                  .log_bytes = options_.log_bytes,
                                                  .memory_bytes = options_.memory_bytes,
                                                  .read_cache = &read_cache_});
  if (!options_.redirect) store_->SetExtentsPromised(UINT32_MAX);
}

void TestStore::Crash(bool power_cut) {
  store_.reset();
  if (power_cut) {
    disk_.PowerCut(random_);
  } else {
    disk_.Kill(random_);
  }
  NewProcess();
}

bool TestStore::Format(bool force) {
  const Tag tag = NewTag();
  store_->Format(now_, disk_.info(), identity, force, tag, out());
  Take();
  return Await(tag) == DoneStatus::kOk;
}

bool TestStore::Open() {
  const Tag tag = NewTag();
  store_->Open(now_, disk_.info(), identity, tag, out());
  Take();
  return Await(tag) == DoneStatus::kOk;
}

bool TestStore::Close() {
  const Tag tag = NewTag();
  store_->Close(now_, tag, out());
  Take();
  return Await(tag) == DoneStatus::kOk;
}

void TestStore::Take() {
  disk_.Submit(effects_);
  for (const TimerEffect& timer : effects_.timers) {
    CHECK_EQ(timer.tag, 5u);
    timer_ = timer.when;
  }
  effects_.Clear();
  for (const Done& done : done_) {
    CHECK(results_.emplace(done.tag, done.status).second) << "done twice: " << done.tag;
  }
  done_.clear();
}

bool TestStore::StepDisk() {
  if (disk_.pending() == 0) return false;
  CompleteDisk(options_.in_order ? 0 : random_.Below(disk_.pending()));
  return true;
}

void TestStore::CompleteDisk(size_t index) {
  now_.boot += std::chrono::microseconds(50);
  store_->OnDiskDone(now_, disk_.Complete(index), out());
  Take();
}

void TestStore::Settle() {
  while (StepDisk()) {
  }
}

void TestStore::FireTimer() {
  if (timer_ == kNever) return;
  now_.boot = std::max(now_.boot, timer_);
  timer_ = kNever;
  store_->OnTimer(now_, out());
  Take();
}

void TestStore::Quiesce() {
  Settle();
  for (int i = 0; timer_ != kNever; ++i) {
    CHECK(i < 1000) << "timers without end: " << store_->Dump();
    FireTimer();
    Settle();
  }
}

DoneStatus TestStore::Await(Tag tag) {
  for (int i = 0; !IsDone(tag); ++i) {
    CHECK(i < 200'000) << "tag " << tag << " never gets done: " << store_->Dump();
    if (StepDisk()) continue;
    CHECK(timer_ != kNever) << "tag " << tag << " never gets done: " << store_->Dump();
    FireTimer();
  }
  return results_.at(tag);
}

std::optional<DoneStatus> TestStore::Result(Tag tag) const {
  const auto found = results_.find(tag);
  if (found == results_.end()) return std::nullopt;
  return found->second;
}

Slice TestStore::Data(uint64_t stamp, uint32_t count) {
  Slice data = pool_.Allocate(count * wire::kBlockBytes);
  CHECK(!data.empty());
  std::byte* to = data.mutable_span().data();
  std::memset(to, static_cast<int>(stamp & 0xff), data.size());
  for (uint32_t i = 0; i < count; ++i) StoreLe(to + size_t{i} * wire::kBlockBytes, stamp + i);
  return data;
}

std::vector<uint32_t> TestStore::Crcs(const Slice& data) {
  std::vector<uint32_t> crcs;
  for (uint32_t at = 0; at < data.size(); at += wire::kBlockBytes) {
    crcs.push_back(Crc32c(data.span().subspan(at, wire::kBlockBytes)));
  }
  return crcs;
}

wire::EntryHeader TestStore::Write(EntryId id, uint32_t chunk, uint32_t first,
                                   uint32_t count) const {
  wire::EntryHeader entry;
  entry.id = id;
  entry.vtree = TestKey(chunk).vtree;
  entry.chunk = chunk;
  entry.first_block = static_cast<uint16_t>(first);
  entry.block_count = static_cast<uint16_t>(count);
  entry.kind = wire::EntryKind::kWrite;
  return entry;
}

Tag TestStore::Append(SliceId slice, const wire::EntryHeader& entry, uint64_t stamp) {
  Slice data;
  if (entry.kind == wire::EntryKind::kWrite) data = Data(stamp, entry.block_count);
  const Tag tag = NewTag();
  const std::vector<uint32_t> crcs = Crcs(data);
  store_->Append(now_, slice, entry, std::move(data), crcs, tag, out());
  Take();
  return tag;
}

Tag TestStore::Start(SliceId slice, const EpochStartRecord& record) {
  const Tag tag = NewTag();
  store_->StartEpoch(now_, slice, record, tag, out());
  Take();
  return tag;
}

void TestStore::Commit(SliceId slice, EntryId id) {
  store_->SetCommitPoint(now_, slice, id, out());
  Take();
}

std::optional<std::vector<uint64_t>> TestStore::Read(SliceId slice, const ChunkKey& key,
                                                     uint32_t first, uint32_t count) {
  const Slice target = pool_.Allocate(count * wire::kBlockBytes);
  const Tag tag = NewTag();
  store_->Read(now_, slice, key, first, count, target, tag, out());
  Take();
  if (Await(tag) != DoneStatus::kOk) return std::nullopt;
  std::vector<uint64_t> stamps;
  for (uint32_t i = 0; i < count; ++i) {
    const std::byte* block = target.data() + size_t{i} * wire::kBlockBytes;
    stamps.push_back(LoadLe<uint64_t>(block));
    const std::byte last = block[wire::kBlockBytes - 1];
    const auto fill = static_cast<std::byte>((stamps.back() - 0) & 0xff);
    CHECK(stamps.back() != 0 || last == std::byte{0}) << static_cast<int>(fill);
  }
  return stamps;
}

}  // namespace gabion::store
