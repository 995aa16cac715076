// gabion-store-bench: one store alone, beside libaio on the same disk with the same durability, in
// one run; and its bytes and CPU on a device in memory. `ci/bench store` runs it.

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/check.h"
#include "core/store/home_table.h"
#include "disk/harness/bench_load.h"
#include "disk/harness/store_runner.h"
#include "disk/layer/aio_layer.h"
#include "disk/layer/counting_layer.h"
#include "disk/layer/memory_device.h"

namespace gabion::disk {
namespace {

constexpr uint32_t kBlock = wire::kBlockBytes;
constexpr uint64_t kMebi = 1 << 20;

constexpr const char* kHelp =
    R"(gabion-store-bench --device=PATH --raw=PATH [OPTIONS]

Both are overwritten: files, which are made when they do not exist, or block devices of one kind.

  --device=PATH       for the store
  --raw=PATH          for libaio, which it is compared with
  --log=MIB           log of the store, 128
  --seconds=N         longest time of one measurement, but for sustained writes; 9
  --memory-log=MIB    log in memory, where bytes and CPU are counted; 32
  --json=PATH         figures for programs
)";

struct Flags {
  std::string device;
  std::string raw;
  std::string json;
  uint64_t log_bytes = 0;
  uint64_t memory_log_bytes = 0;
  double seconds = 9;
};

// One line of the table. A goal of 0: none.
struct Figure {
  std::string name;
  double value = 0;
  const char* unit = "";
  double goal = 0;
  bool at_most = false;  // the goal; else at least

  bool met() const { return at_most ? value <= goal : value >= goal; }
};

class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {}

  bool Run();
  void Print() const;
  bool WriteJson() const;

 private:
  void Add(std::string name, double value, const char* unit) {
    figures_.push_back({.name = std::move(name), .value = value, .unit = unit});
  }
  void AtLeast(std::string name, double value, const char* unit, double goal) {
    figures_.push_back({.name = std::move(name), .value = value, .unit = unit, .goal = goal});
  }
  void AtMost(std::string name, double value, const char* unit, double goal) {
    figures_.push_back(
        {.name = std::move(name), .value = value, .unit = unit, .goal = goal, .at_most = true});
  }
  bool Failed(const std::string& what) {
    std::fprintf(stderr, "gabion-store-bench: %s\n", what.c_str());
    return false;
  }
  static void Say(const std::string& what) {
    std::printf("Measuring %s\n", what.c_str());
    std::fflush(stdout);
  }

  bool OnDisk();
  bool Burst(StoreRunner& runner, SliceWriter& writer, CountingLayer& counting, BlockLayer& raw,
             uint32_t depth);
  bool Sustained(StoreRunner& runner, SliceWriter& writer, uint32_t depth);
  bool Reads(StoreRunner& runner, SliceWriter& writer, BlockLayer& raw, const std::string& name,
             double goal);
  bool ReadsOfLargeTable(BlockLayer& device, BlockLayer& raw);
  bool Recovery(std::unique_ptr<StoreRunner> runner, SliceWriter& writer, BlockLayer& device,
                BlockLayer& raw);
  bool Amplification();
  bool Steady(uint32_t depth, double goal);
  bool Cpu();

  // Ten times the log, and room for its homes.
  static uint64_t VolumeBytes(uint64_t log_bytes) { return 10 * log_bytes; }
  static uint64_t DeviceBytes(uint64_t log_bytes) { return 13 * log_bytes + 64 * kMebi; }

  Flags flags_;
  RandomStream random_{20'261'122, 0, 0};
  std::vector<Figure> figures_;
  double sequential_iops_[65] = {};  // libaio, by depth of the burst
  std::unique_ptr<Payloads> payloads_;
  BufferPool payload_pool_{{}};
};

// Store and libaio take turns, so that what else the machine does meets both. Odd: the median is
// one.
constexpr int kRounds = 5;
using Rounds = std::vector<double>;

double Median(Rounds rounds) {
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

bool Overwrite(BlockLayer& device) {
  uint64_t at = 0;
  const uint64_t pieces = device.info().size_bytes / kMebi;
  return !RunRaw(device, {.op = DiskOp::kWrite,
                          .depth = 8,
                          .operations = pieces,
                          .next =
                              [&at] {
                                const RawLoad::Request request{at, kMebi};
                                at += kMebi;
                                return request;
                              }})
              .failed;
}

bool Bench::Run() {
  payloads_ = std::make_unique<Payloads>(&payload_pool_);
  return OnDisk() && Amplification() && Cpu();
}

bool Bench::OnDisk() {
  const uint64_t device_bytes = DeviceBytes(flags_.log_bytes);
  Result<std::unique_ptr<AioLayer>> device = AioLayer::Open(flags_.device, device_bytes);
  if (!device) return Failed(device.error().message);
  Result<std::unique_ptr<AioLayer>> raw = AioLayer::Open(flags_.raw, device_bytes);
  if (!raw) return Failed(raw.error().message);
  if ((*device)->info().size_bytes < device_bytes || (*raw)->info().size_bytes < device_bytes) {
    return Failed("each device must have at least 13 times the log and 64 MiB");
  }
  // Blocks of a file that were never written would cost its file system more.
  Say("nothing yet: overwriting both devices");
  if (!Overwrite(**device) || !Overwrite(**raw)) return Failed("a device cannot be written");

  CountingLayer counting(device->get());
  auto runner =
      std::make_unique<StoreRunner>(&counting, StoreRunner::Options{.log_bytes = flags_.log_bytes});
  if (Result<void> formatted = runner->Format(/*force=*/true); !formatted) {
    return Failed(formatted.error().message);
  }
  SliceWriter writer(runner.get(), {});
  if (!writer.StartEpochs()) return Failed(runner->store().error());

  Say("sequential writes that fill the volume");
  const uint64_t volume_bytes = VolumeBytes(flags_.log_bytes);
  const LoadResult fill = RunWrites(*runner, writer, *payloads_, random_,
                                    {.volume_bytes = volume_bytes,
                                     .blocks = 64,
                                     .random = false,
                                     .depth = 16,
                                     .operations = volume_bytes / (64 * kBlock)});
  if (fill.failed) return Failed(runner->store().error());
  Add("256 KiB sequential writes, depth 16", fill.iops() / 4, "MiB/s");
  runner->Settle();

  for (const uint32_t depth : {1u, 16u, 64u}) {
    if (!Burst(*runner, writer, counting, **raw, depth)) return false;
  }
  if (!Reads(*runner, writer, **raw, "checksums in memory", 0.95)) return false;
  for (const uint32_t depth : {16u, 64u}) {
    if (!Sustained(*runner, writer, depth)) return false;
  }
  return Recovery(std::move(runner), writer, counting, **raw) && ReadsOfLargeTable(counting, **raw);
}

bool Bench::Burst(StoreRunner& runner, SliceWriter& writer, CountingLayer& counting,
                  BlockLayer& raw, uint32_t depth) {
  const std::string name = "burst of 4 KiB random writes, depth " + std::to_string(depth);
  Say(name);
  // With its headers it fills less than half of the log.
  const uint64_t bytes_each = depth == 1 ? 2 * kBlock : kBlock * 5 / 4;
  const uint64_t places = VolumeBytes(flags_.log_bytes) / kBlock;
  Rounds store_iops;
  Rounds sequential_iops;
  Rounds in_place_iops;
  Rounds of_sequential;
  Rounds of_in_place;
  for (int round = 0; round < kRounds; ++round) {
    runner.Settle();
    counting.RecordDurableSizes();
    const LoadResult store = RunWrites(runner, writer, *payloads_, random_,
                                       {.volume_bytes = VolumeBytes(flags_.log_bytes),
                                        .depth = depth,
                                        .operations = flags_.log_bytes * 3 / 8 / bytes_each,
                                        .seconds_max = flags_.seconds / kRounds});
    if (store.failed) return Failed(runner.store().error());
    const std::vector<uint32_t> sizes = counting.TakeDurableSizes();

    // The same batches, one after the other as the log has them.
    size_t next = 0;
    uint64_t at = 0;
    const LoadResult sequential =
        RunRaw(raw, {.op = DiskOp::kDurableWrite, .operations = sizes.size(), .next = [&] {
                       const uint32_t bytes = sizes[next++];
                       if (at + bytes > raw.info().size_bytes) at = 0;
                       const RawLoad::Request request{at, bytes};
                       at += bytes;
                       return request;
                     }});
    const LoadResult in_place =
        RunRaw(raw, {.op = DiskOp::kDurableWrite,
                     .depth = depth,
                     .operations = UINT64_MAX,
                     .seconds_max = flags_.seconds / kRounds,
                     .next = [&] {
                       return RawLoad::Request{random_.Below(places) * kBlock, kBlock};
                     }});
    if (sequential.failed || in_place.failed) return Failed("libaio: a write failed");
    store_iops.push_back(store.iops());
    sequential_iops.push_back(static_cast<double>(store.operations) / sequential.seconds);
    in_place_iops.push_back(in_place.iops());
    of_sequential.push_back(store_iops.back() / sequential_iops.back());
    of_in_place.push_back(store_iops.back() / in_place_iops.back());
  }
  sequential_iops_[depth] = Median(sequential_iops);
  Add(name, Median(store_iops), "IOPS");
  Add("  libaio, the same batches in a row", sequential_iops_[depth], "IOPS");
  Add("  libaio, in place", Median(in_place_iops), "IOPS");
  AtLeast("  of libaio with the same batches in a row", Median(of_sequential), "x", 0.85);
  if (depth >= 16) {
    AtLeast("  of libaio in place", Median(of_in_place), "x", 1);
  } else {
    Add("  of libaio in place", Median(of_in_place), "x");
  }
  return true;
}

bool Bench::Sustained(StoreRunner& runner, SliceWriter& writer, uint32_t depth) {
  const std::string name =
      "sustained 4 KiB random writes, 10 x log, depth " + std::to_string(depth);
  Say(name);
  runner.Settle();
  const store::Counters before = runner.store().counters();
  const LoadResult store = RunWrites(runner, writer, *payloads_, random_,
                                     {.volume_bytes = VolumeBytes(flags_.log_bytes),
                                      .depth = depth,
                                      .operations = 10 * flags_.log_bytes / kBlock});
  if (store.failed) return Failed(runner.store().error());
  const store::Counters after = runner.store().counters();
  Add(name, store.iops(), "IOPS");
  AtLeast("  of libaio with the batches of the burst", store.iops() / sequential_iops_[depth], "x",
          0.4);
  AtLeast("  worst second, of the mean",
          store.worst_second_operations < 0 ? 1 : store.worst_second_operations / store.iops(), "x",
          0.5);
  Add("  checkpoints", static_cast<double>(after.checkpoints - before.checkpoints), "");
  return true;
}

bool Bench::Reads(StoreRunner& runner, SliceWriter& writer, BlockLayer& raw,
                  const std::string& name, double goal) {
  Say("4 KiB random reads, depth 32, " + name);
  runner.Settle();
  const uint64_t volume_bytes = VolumeBytes(flags_.log_bytes);
  const uint64_t places = volume_bytes / kBlock;
  Rounds store_iops;
  Rounds libaio_iops;
  Rounds of_libaio;
  for (int round = 0; round < kRounds; ++round) {
    const LoadResult store =
        RunReads(runner, writer, random_,
                 {.volume_bytes = volume_bytes, .seconds_max = flags_.seconds / kRounds});
    if (store.failed) return Failed("a read failed: " + runner.store().error());
    const LoadResult libaio =
        RunRaw(raw, {.op = DiskOp::kRead,
                     .depth = 32,
                     .operations = UINT64_MAX,
                     .seconds_max = flags_.seconds / kRounds,
                     .next = [&] {
                       return RawLoad::Request{random_.Below(places) * kBlock, kBlock};
                     }});
    if (libaio.failed) return Failed("libaio: a read failed");
    store_iops.push_back(store.iops());
    libaio_iops.push_back(libaio.iops());
    of_libaio.push_back(store.iops() / libaio.iops());
  }
  Add("4 KiB random reads, verified, depth 32, " + name, Median(store_iops), "IOPS");
  Add("  libaio", Median(libaio_iops), "IOPS");
  AtLeast("  of libaio", Median(of_libaio), "x", goal);
  return true;
}

// Memory with room for a fifth of the pages of checksums that are in use.
uint64_t SmallMemory(const store::Store& store) {
  const store::Memory memory = store.memory();
  const store::Capacity capacity = store.capacity();
  const uint64_t extents = capacity.extents_total - capacity.extents_free;
  const uint64_t pages_bytes = extents / store::kHomesPerPage * store::HomeTable::kFrameBytes;
  return memory.directory_bytes + memory.fixed_bytes + kMebi + pages_bytes / 5 * 8 / 7;
}

bool Bench::ReadsOfLargeTable(BlockLayer& device, BlockLayer& raw) {
  uint64_t memory_bytes = 0;
  {
    StoreRunner runner(&device, {.log_bytes = flags_.log_bytes});
    if (Result<void> open = runner.Open(); !open) return Failed(open.error().message);
    runner.Settle();
    memory_bytes = SmallMemory(runner.store());
    if (Result<void> closed = runner.Close(); !closed) return Failed(closed.error().message);
  }
  StoreRunner runner(&device, {.log_bytes = flags_.log_bytes, .memory_bytes = memory_bytes});
  const Instant begin = MachineClock().boot;
  if (Result<void> open = runner.Open(); !open) return Failed(open.error().message);
  const double open_seconds = std::chrono::duration<double>(MachineClock().boot - begin).count();
  SliceWriter writer(&runner, {});
  if (!Reads(runner, writer, raw, "checksums 5 x memory", 0.45)) return false;
  const store::Counters counters = runner.store().counters();
  const auto hits = static_cast<double>(counters.page_hits);
  Add("  checksums found in memory", hits / (hits + static_cast<double>(counters.page_misses)),
      "x");
  Add("  time to open, the log being empty", open_seconds, "s");
  return true;
}

bool Bench::Recovery(std::unique_ptr<StoreRunner> runner, SliceWriter& writer, BlockLayer& device,
                     BlockLayer& raw) {
  Say("recovery of a full log");
  runner->Settle();
  const auto used = [&] { return runner->store().capacity().log_used_bytes; };
  uint64_t most = 0;
  const LoadResult filling = RunWrites(*runner, writer, *payloads_, random_,
                                       {.volume_bytes = VolumeBytes(flags_.log_bytes),
                                        .depth = 256,
                                        .operations = 4 * flags_.log_bytes / kBlock,
                                        .until = [&] {
                                          most = std::max(most, used());
                                          return used() > flags_.log_bytes / 8 * 7;
                                        }});
  if (filling.failed) return Failed(runner->store().error());
  const uint64_t log_used_bytes = used();
  // As after a kill: what is still on its way is let go.
  Instant last_heard = MachineClock().boot;
  runner.reset();
  std::vector<DiskDoneEvent> ignored;
  while (MachineClock().boot < last_heard + std::chrono::seconds(2)) {
    const size_t before = ignored.size();
    device.Wait(std::chrono::milliseconds(100));
    device.Collect(ignored);
    if (ignored.size() > before) last_heard = MachineClock().boot;
  }

  StoreRunner again(&device, {.log_bytes = flags_.log_bytes});
  const Instant begin = MachineClock().boot;
  if (Result<void> open = again.Open(); !open) return Failed(open.error().message);
  const double open_seconds = std::chrono::duration<double>(MachineClock().boot - begin).count();
  uint64_t at = 0;
  const LoadResult reading = RunRaw(
      raw, {.op = DiskOp::kRead, .depth = 1, .operations = log_used_bytes / kMebi, .next = [&at] {
              const RawLoad::Request request{at, kMebi};
              at += kMebi;
              return request;
            }});
  if (reading.failed) return Failed("libaio: a read failed");
  Add("recovery: log in use, of the ring",
      static_cast<double>(log_used_bytes) / static_cast<double>(flags_.log_bytes), "x");
  Add("  most in use while it was filled",
      static_cast<double>(most) / static_cast<double>(flags_.log_bytes), "x");
  Add("  time to open", open_seconds, "s");
  AtMost("  of reading as much with libaio", open_seconds / reading.seconds, "x", 1.5);
  if (Result<void> closed = again.Close(); !closed) return Failed(closed.error().message);
  return true;
}

// ---- In memory: bytes and CPU do not depend on the disk.

struct MemoryStore {
  explicit MemoryStore(uint64_t device_bytes, uint64_t log_bytes, bool count)
      : device(device_bytes),
        counting(&device),
        runner(count ? static_cast<BlockLayer*>(&counting) : &device, {.log_bytes = log_bytes}),
        writer(&runner, {}) {
    const Result<void> formatted = runner.Format(/*force=*/true);
    CHECK(formatted.has_value()) << formatted.error().message;
    CHECK(writer.StartEpochs());
  }

  MemoryDevice device;
  CountingLayer counting;
  StoreRunner runner;
  SliceWriter writer;
};

bool Bench::Amplification() {
  const uint64_t log_bytes = flags_.memory_log_bytes;
  const uint64_t volume_bytes = VolumeBytes(log_bytes);
  Say("bytes to the device, in memory");
  {
    MemoryStore memory(DeviceBytes(log_bytes), log_bytes, /*count=*/true);
    const uint64_t before = memory.counting.bytes_written();
    const LoadResult load = RunWrites(memory.runner, memory.writer, *payloads_, random_,
                                      {.volume_bytes = volume_bytes,
                                       .blocks = 64,
                                       .random = false,
                                       .depth = 4,  // 1 MiB
                                       .operations = 4 * log_bytes / (64 * kBlock)});
    if (load.failed) return Failed(memory.runner.store().error());
    memory.runner.Settle();
    const auto bytes = static_cast<double>(memory.counting.bytes_written() - before);
    AtMost("bytes to the device, 1 MiB sequential writes",
           bytes / static_cast<double>(4 * log_bytes), "x", 1.05);
  }
  {
    MemoryStore memory(DeviceBytes(log_bytes), log_bytes, /*count=*/true);
    const uint64_t before = memory.counting.bytes_written();
    const LoadResult load = RunWrites(
        memory.runner, memory.writer, *payloads_, random_,
        {.volume_bytes = volume_bytes, .depth = 16, .operations = 2 * log_bytes / kBlock});
    if (load.failed) return Failed(memory.runner.store().error());
    memory.runner.Settle();
    const auto bytes = static_cast<double>(memory.counting.bytes_written() - before);
    AtMost("bytes to the device, 4 KiB random, first fill, depth 16",
           bytes / static_cast<double>(2 * log_bytes), "x", 3.2);
  }
  return Steady(1, 3.2) && Steady(16, 2.4) && Steady(64, 2.4);
}

bool Bench::Steady(uint32_t depth, double goal) {
  const uint64_t log_bytes = flags_.memory_log_bytes;
  const uint64_t volume_bytes = VolumeBytes(log_bytes);
  MemoryStore memory(DeviceBytes(log_bytes), log_bytes, /*count=*/true);
  LoadResult load = RunWrites(memory.runner, memory.writer, *payloads_, random_,
                              {.volume_bytes = volume_bytes,
                               .blocks = 64,
                               .random = false,
                               .depth = 16,
                               .operations = volume_bytes / (64 * kBlock)});
  if (load.failed) return Failed(memory.runner.store().error());
  const WriteLoad random_writes{
      .volume_bytes = volume_bytes, .depth = depth, .operations = 3 * log_bytes / kBlock};
  // Until the log is as full as it stays.
  load = RunWrites(memory.runner, memory.writer, *payloads_, random_, random_writes);
  if (load.failed) return Failed(memory.runner.store().error());
  const uint64_t before = memory.counting.bytes_written();
  load = RunWrites(memory.runner, memory.writer, *payloads_, random_, random_writes);
  if (load.failed) return Failed(memory.runner.store().error());
  const auto bytes = static_cast<double>(memory.counting.bytes_written() - before);
  AtMost("bytes to the device, 4 KiB random, steady, depth " + std::to_string(depth),
         bytes / static_cast<double>(load.operations * kBlock), "x", goal);
  return true;
}

bool Bench::Cpu() {
  const uint64_t log_bytes = flags_.memory_log_bytes;
  const uint64_t volume_bytes = VolumeBytes(log_bytes);
  Say("CPU, in memory");
  MemoryStore memory(DeviceBytes(log_bytes), log_bytes, /*count=*/false);
  memory.device.Touch();
  LoadResult load = RunWrites(memory.runner, memory.writer, *payloads_, random_,
                              {.volume_bytes = volume_bytes,
                               .blocks = 64,
                               .random = false,
                               .depth = 16,
                               .operations = volume_bytes / (64 * kBlock)});
  if (load.failed) return Failed(memory.runner.store().error());
  memory.runner.Settle();
  const LoadResult writes =
      RunWrites(memory.runner, memory.writer, *payloads_, random_,
                {.volume_bytes = volume_bytes, .depth = 32, .operations = 10 * log_bytes / kBlock});
  if (writes.failed) return Failed(memory.runner.store().error());
  AtMost("CPU of a 4 KiB random write, destaging and the device's copies included", writes.cpu_us(),
         "us", 3);
  memory.runner.Settle();
  const LoadResult reads =
      RunReads(memory.runner, memory.writer, random_,
               {.volume_bytes = volume_bytes, .depth = 32, .operations = 10 * log_bytes / kBlock});
  if (reads.failed) return Failed("a read failed");
  AtMost("CPU of a 4 KiB random read, the device's copy included", reads.cpu_us(), "us", 2);
  {
    const uint64_t memory_bytes = SmallMemory(memory.runner.store());
    if (Result<void> closed = memory.runner.Close(); !closed) {
      return Failed(closed.error().message);
    }
    StoreRunner small(&memory.device, {.log_bytes = log_bytes, .memory_bytes = memory_bytes});
    if (Result<void> open = small.Open(); !open) return Failed(open.error().message);
    const LoadResult with_pages = RunReads(
        small, memory.writer, random_,
        {.volume_bytes = volume_bytes, .depth = 32, .operations = 10 * log_bytes / kBlock});
    if (with_pages.failed) return Failed("a read failed");
    Add("  where checksums are 5 x memory", with_pages.cpu_us(), "us");
  }

  MemoryDevice device(DeviceBytes(log_bytes));
  device.Touch();
  const uint64_t places = volume_bytes / kBlock;
  const auto anywhere = [&] { return RawLoad::Request{random_.Below(places) * kBlock, kBlock}; };
  RawLoad raw{.op = DiskOp::kDurableWrite, .depth = 32, .operations = places, .next = anywhere};
  RunRaw(device, raw);  // its pages
  Add("  the device alone, a write", RunRaw(device, raw).cpu_us(), "us");
  raw.op = DiskOp::kRead;
  Add("  the device alone, a read", RunRaw(device, raw).cpu_us(), "us");
  return true;
}

// ---- Results

void Bench::Print() const {
  size_t width = 0;
  for (const Figure& figure : figures_) width = std::max(width, figure.name.size());
  std::printf("\n%-*s  %12s %-5s  %-10s\n", static_cast<int>(width), "STORE", "FIGURE", "", "GOAL");
  for (const Figure& figure : figures_) {
    const int digits = figure.value >= 1000 ? 0 : 2;
    std::printf("%-*s  %12.*f %-5s", static_cast<int>(width), figure.name.c_str(), digits,
                figure.value, figure.unit);
    if (figure.goal > 0) {
      std::printf("  %s %-6.4g %s", figure.at_most ? "<=" : ">=", figure.goal,
                  figure.met() ? "met" : "NOT MET");
    }
    std::printf("\n");
  }
}

bool Bench::WriteJson() const {
  if (flags_.json.empty()) return true;
  FILE* file = std::fopen(flags_.json.c_str(), "we");
  if (file == nullptr) return false;
  std::fprintf(file,
               "{\n \"log_bytes\": %" PRIu64 ",\n \"memory_log_bytes\": %" PRIu64
               ",\n \"figures\": [\n",
               flags_.log_bytes, flags_.memory_log_bytes);
  std::string under;
  for (size_t i = 0; i < figures_.size(); ++i) {
    const Figure& figure = figures_[i];
    // A line that is set in belongs to the last one that is not.
    const bool inner = figure.name.starts_with("  ");
    if (!inner) under = figure.name;
    const std::string name = inner ? under + ": " + figure.name.substr(2) : figure.name;
    std::fprintf(file, "  {\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"", name.c_str(),
                 figure.value, figure.unit);
    if (figure.goal > 0) {
      std::fprintf(file, ", \"goal\": \"%s %.4g\", \"met\": %s",
                   figure.at_most ? "<=" : ">=", figure.goal, figure.met() ? "true" : "false");
    }
    std::fprintf(file, "}%s\n", i + 1 < figures_.size() ? "," : "");
  }
  std::fprintf(file, " ]\n}\n");
  return std::fclose(file) == 0;
}

// False: it is no number, or a small one.
bool ParseNumber(const char* text, double least, double* number) {
  char* end = nullptr;
  *number = std::strtod(text, &end);
  return end != text && *end == 0 && *number >= least && *number < 1e9;
}

bool ParseFlags(int argc, char** argv, Flags* flags) {
  double log_mebi = 128;
  double memory_log_mebi = 32;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto value = [&](std::string_view name) {
      return argument.starts_with(name) ? argv[i] + name.size() : nullptr;
    };
    bool good = true;
    if (const char* device = value("--device="); device != nullptr) {
      flags->device = device;
    } else if (const char* raw = value("--raw="); raw != nullptr) {
      flags->raw = raw;
    } else if (const char* json = value("--json="); json != nullptr) {
      flags->json = json;
    } else if (const char* log = value("--log="); log != nullptr) {
      good = ParseNumber(log, 8, &log_mebi);
    } else if (const char* log = value("--memory-log="); log != nullptr) {
      good = ParseNumber(log, 8, &memory_log_mebi);
    } else if (const char* seconds = value("--seconds="); seconds != nullptr) {
      good = ParseNumber(seconds, 1, &flags->seconds);
    } else {
      good = false;
    }
    if (!good) {
      std::fprintf(stderr, "gabion-store-bench: %s: not understood, or too small\n\n", argv[i]);
      return false;
    }
  }
  flags->log_bytes = static_cast<uint64_t>(log_mebi) * kMebi;
  flags->memory_log_bytes = static_cast<uint64_t>(memory_log_mebi) * kMebi;
  return !flags->device.empty() && !flags->raw.empty();
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) {
    std::fputs(kHelp, stderr);
    return 2;
  }
  Bench bench(flags);
  if (!bench.Run()) return 1;
  bench.Print();
  if (!bench.WriteJson()) {
    std::fprintf(stderr, "gabion-store-bench: cannot write %s\n", flags.json.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace gabion::disk

int main(int argc, char** argv) { return gabion::disk::Main(argc, argv); }
