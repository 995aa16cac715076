#include "disk/harness/bench_load.h"

#include <sys/resource.h>

#include <algorithm>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::disk {

namespace {

constexpr uint32_t kBlock = wire::kBlockBytes;

double CpuSeconds() {
  rusage usage{};
  CHECK_EQ(::getrusage(RUSAGE_SELF, &usage), 0);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Time, CPU and the operations of each second of a load.
class Meter {
 public:
  Meter() : begin_(MachineClock().boot), now_(begin_), cpu_begin_(CpuSeconds()) {}

  void Count() { ++result_.operations; }
  double elapsed() const { return Seconds(now_ - begin_); }
  // Once a turn.
  void Tick(Instant now) {
    now_ = now;
    const auto second = static_cast<size_t>(Seconds(now - begin_));
    while (at_second_.size() <= second) at_second_.push_back(result_.operations);
  }
  LoadResult Finish() {
    now_ = MachineClock().boot;
    result_.seconds = elapsed();
    result_.cpu_seconds = CpuSeconds() - cpu_begin_;
    for (size_t i = 2; i < at_second_.size(); ++i) {
      const auto operations = static_cast<double>(at_second_[i] - at_second_[i - 1]);
      if (result_.worst_second_operations < 0 || operations < result_.worst_second_operations) {
        result_.worst_second_operations = operations;
      }
    }
    return result_;
  }

 private:
  Instant begin_;
  Instant now_;  // of the last Tick
  double cpu_begin_;
  LoadResult result_;
  std::vector<uint64_t> at_second_;  // operations done before each
};

}  // namespace

Payloads::Payloads(BufferPool* pool) {
  RandomStream random(99, 0, 0);
  for (uint32_t i = 0; i < kVariants; ++i) {
    Slice slice = pool->Allocate(kBlocksMax * kBlock);
    CHECK(!slice.empty());
    for (uint32_t at = 0; at < slice.size(); at += 8) {
      StoreLe(slice.mutable_span().data() + at, random.Next());
    }
    std::vector<uint32_t> crcs;
    for (uint32_t at = 0; at < slice.size(); at += kBlock) {
      crcs.push_back(Crc32c(slice.span().subspan(at, kBlock)));
    }
    slices_.push_back(std::move(slice));
    crcs_.push_back(std::move(crcs));
  }
}

Slice Payloads::Take(uint32_t blocks) {
  CHECK_LE(blocks, kBlocksMax);
  ++next_;
  const uint32_t variant = next_ % kVariants;
  const uint32_t first = next_ / kVariants % (kBlocksMax - blocks + 1);
  crcs_of_last_ = std::span(crcs_[variant]).subspan(first, blocks);
  return slices_[variant].Sub(first * kBlock, blocks * kBlock);
}

LoadResult RunWrites(StoreRunner& runner, SliceWriter& writer, Payloads& payloads,
                     RandomStream& random, const WriteLoad& load) {
  const uint64_t places = load.volume_bytes / kBlock / load.blocks;
  const uint64_t places_per_chunk = wire::kBlocksPerChunk / load.blocks;
  uint64_t issued = 0;
  std::optional<uint64_t> place;
  Meter meter;
  bool more = true;
  while (more || writer.in_flight() > 0) {
    while (more && writer.in_flight() < load.depth) {
      if (!place) place = load.random ? random.Below(places) : issued % places;
      const auto chunk = static_cast<uint32_t>(*place / places_per_chunk);
      const auto first = static_cast<uint32_t>(*place % places_per_chunk) * load.blocks;
      if (!writer.Fits(chunk, first, load.blocks)) break;
      Slice payload = payloads.Take(load.blocks);
      writer.Write(chunk, first, load.blocks, std::move(payload), payloads.crcs(), issued);
      place.reset();
      if (++issued == load.operations) more = false;
    }
    runner.Turn();
    for (const store::Done& done : runner.done()) {
      if (done.status != store::DoneStatus::kOk) {
        LoadResult failed = meter.Finish();
        failed.failed = true;
        return failed;
      }
      writer.OnDone(done.tag);
      meter.Count();
    }
    runner.done().clear();
    meter.Tick(runner.now().boot);
    if (more && (meter.elapsed() > load.seconds_max || (load.until && load.until()))) more = false;
  }
  return meter.Finish();
}

LoadResult RunReads(StoreRunner& runner, const SliceWriter& writer, RandomStream& random,
                    const ReadLoad& load) {
  const uint64_t blocks = load.volume_bytes / kBlock;
  std::vector<Slice> targets;
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < load.depth; ++i) {
    targets.push_back(runner.pool().Allocate(kBlock));
    free.push_back(i);
  }
  uint64_t issued = 0;
  Meter meter;
  bool more = true;
  while (more || free.size() < targets.size()) {
    while (more && !free.empty()) {
      const uint64_t block = random.Below(blocks);
      const auto chunk = static_cast<uint32_t>(block / wire::kBlocksPerChunk);
      const auto first = static_cast<uint32_t>(block % wire::kBlocksPerChunk);
      const uint32_t slot = free.back();
      free.pop_back();
      runner.store().Read(runner.now(), writer.SliceOf(chunk), SliceWriter::KeyOf(chunk), first, 1,
                          targets[slot], slot, runner.out());
      if (++issued == load.operations) more = false;
    }
    runner.Turn();
    for (const store::Done& done : runner.done()) {
      if (done.status != store::DoneStatus::kOk) {
        LoadResult failed = meter.Finish();
        failed.failed = true;
        return failed;
      }
      free.push_back(static_cast<uint32_t>(done.tag));
      meter.Count();
    }
    runner.done().clear();
    meter.Tick(runner.now().boot);
    if (meter.elapsed() > load.seconds_max) more = false;
  }
  return meter.Finish();
}

LoadResult RunRaw(BlockLayer& device, const RawLoad& load) {
  constexpr uint32_t kBytesMax = 2 << 20;
  BufferPool pool({.bytes_max = size_t{512} << 20});
  std::vector<Slice> buffers;
  std::vector<uint32_t> free;
  RandomStream random(98, 0, 0);
  for (uint32_t i = 0; i < load.depth; ++i) {
    buffers.push_back(pool.Allocate(kBytesMax));
    CHECK(!buffers.back().empty());
    for (uint32_t at = 0; at < kBytesMax; at += 8) {
      StoreLe(buffers.back().mutable_span().data() + at, random.Next());
    }
    free.push_back(i);
  }
  std::vector<DiskDoneEvent> done;
  uint64_t issued = 0;
  Meter meter;
  bool more = load.operations > 0;
  while (more || free.size() < buffers.size()) {
    while (more && !free.empty()) {
      const RawLoad::Request request = load.next();
      const uint32_t slot = free.back();
      free.pop_back();
      DiskEffect effect;
      effect.op = load.op;
      effect.offset_bytes = request.offset_bytes;
      effect.length_bytes = request.bytes;
      effect.tag = slot;
      const Slice part = buffers[slot].Sub(0, request.bytes);
      device.Queue(effect, std::span(&part, 1));
      if (++issued == load.operations) more = false;
    }
    device.Submit();
    device.Wait(std::chrono::seconds(1));
    done.clear();
    device.Collect(done);
    for (const DiskDoneEvent& event : done) {
      if (event.status != DiskStatus::kOk) {
        LoadResult failed = meter.Finish();
        failed.failed = true;
        return failed;
      }
      free.push_back(static_cast<uint32_t>(event.tag));
      meter.Count();
    }
    meter.Tick(MachineClock().boot);
    if (meter.elapsed() > load.seconds_max) more = false;
  }
  return meter.Finish();
}

}  // namespace gabion::disk
