// The store over layers that are hard to have as real devices.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/base/random.h"
#include "disk/harness/store_runner.h"
#include "disk/layer/counting_layer.h"
#include "disk/layer/memory_device.h"
#include "disk/layer/seeking_layer.h"
#include "disk/layer/volatile_cache_layer.h"

namespace gabion::disk {
namespace {

constexpr uint64_t kDeviceBytes = 64 << 20;
constexpr uint64_t kLogBytes = 8 << 20;
constexpr uint32_t kBlock = wire::kBlockBytes;
constexpr uint32_t kChunks = 16;

class StoreOnLayersTest : public testing::Test {
 protected:
  // Over `device`, with a clock that only this test and a SeekingLayer move.
  std::unique_ptr<StoreRunner> Runner(BlockLayer* device) {
    return std::make_unique<StoreRunner>(
        device, StoreRunner::Options{.log_bytes = kLogBytes, .clock = [this] {
                                       if (ticking_) clock_ += std::chrono::microseconds(10);
                                       return Now{clock_, WallTime(clock_.time_since_epoch())};
                                     }});
  }

  // `count` blocks of one chunk, each with its own stamp.
  void Write(StoreRunner& runner, SliceWriter& writer, uint32_t chunk, uint32_t first,
             uint32_t count, uint64_t stamp) {
    Slice data = runner.pool().Allocate(count * kBlock);
    ASSERT_FALSE(data.empty());
    std::memset(data.mutable_span().data(), 7, data.size());
    std::vector<uint32_t> crcs;
    for (uint32_t i = 0; i < count; ++i) {
      StoreLe(data.mutable_span().data() + size_t{i} * kBlock, stamp + i);
      crcs.push_back(Crc32c(data.span().subspan(size_t{i} * kBlock, kBlock)));
    }
    while (!writer.Fits(chunk, first, count)) TakeDone(runner, writer);
    writer.Write(chunk, first, count, std::move(data), crcs, next_tag_++);
  }

  void TakeDone(StoreRunner& runner, SliceWriter& writer) {
    runner.Turn();
    for (const store::Done& done : runner.done()) {
      ASSERT_EQ(done.status, store::DoneStatus::kOk) << runner.store().error();
      writer.OnDone(done.tag);
    }
    runner.done().clear();
  }
  void Drain(StoreRunner& runner, SliceWriter& writer) {
    while (writer.in_flight() > 0) TakeDone(runner, writer);
  }

  uint64_t Read(StoreRunner& runner, SliceWriter& writer, uint32_t chunk, uint32_t block) {
    const Slice into = runner.pool().Allocate(kBlock);
    const store::Tag tag = runner.NewTag();
    runner.store().Read(runner.now(), writer.SliceOf(chunk), SliceWriter::KeyOf(chunk), block, 1,
                        into, tag, runner.out());
    EXPECT_EQ(runner.Await(tag), store::DoneStatus::kOk);
    return LoadLe<uint64_t>(into.data());
  }

  Instant clock_{std::chrono::seconds(10)};
  bool ticking_ = true;
  store::Tag next_tag_ = 1;
};

TEST_F(StoreOnLayersTest, WhatTheStoreSaysItWroteIsWhatReachesTheDevice) {
  MemoryDevice device(kDeviceBytes);
  CountingLayer counting(&device);
  std::unique_ptr<StoreRunner> runner = Runner(&counting);
  ASSERT_TRUE(runner->Format(/*force=*/false).has_value());
  SliceWriter writer(runner.get(), {.slices = 4});
  ASSERT_TRUE(writer.StartEpochs());
  RandomStream random(1, 0, 0);
  const uint64_t before = counting.bytes_written();
  const uint64_t said_before = runner->store().counters().device_bytes;
  for (uint64_t i = 0; i < 4000; ++i) {
    const auto block = static_cast<uint32_t>(random.Below(kChunks * wire::kBlocksPerChunk));
    Write(*runner, writer, block / wire::kBlocksPerChunk, block % wire::kBlocksPerChunk, 1, i);
  }
  Drain(*runner, writer);
  runner->Settle();
  const uint64_t written = counting.bytes_written() - before;
  const uint64_t said = runner->store().counters().device_bytes - said_before;
  EXPECT_GE(written, uint64_t{2} * 4000 * kBlock);  // to the log and home
  EXPECT_GE(written, said);
  EXPECT_LE(written, said + said / 50);  // superblocks
}

TEST_F(StoreOnLayersTest, WhatWasAcknowledgedSurvivesACacheThatForgets) {
  MemoryDevice device(kDeviceBytes);
  std::vector<uint64_t> acknowledged(kChunks * wire::kBlocksPerChunk);
  uint64_t lost = 0;
  uint64_t checkpoints = 0;
  for (uint64_t life = 0; life < 20; ++life) {
    std::vector<DiskDoneEvent> of_the_last_life;
    device.Collect(of_the_last_life);
    VolatileCacheLayer cache(&device, {.seed = life, .write_back_percent = 30});
    std::unique_ptr<StoreRunner> runner = Runner(&cache);
    const Result<void> open = life == 0 ? runner->Format(/*force=*/false) : runner->Open();
    ASSERT_TRUE(open.has_value()) << open.error().message;
    SliceWriter writer(runner.get(), {.slices = 4, .commit_every = 3});
    for (uint32_t block = 0; block < acknowledged.size(); ++block) {
      if (acknowledged[block] == 0) continue;
      ASSERT_EQ(Read(*runner, writer, block / wire::kBlocksPerChunk, block % wire::kBlocksPerChunk),
                acknowledged[block])
          << "block " << block << " in life " << life;
    }
    ASSERT_TRUE(writer.StartEpochs());
    RandomStream random(2, life, 0);
    const uint64_t writes = random.Range(100, 1500);
    for (uint64_t i = 0; i < writes; ++i) {
      const auto block = static_cast<uint32_t>(random.Below(acknowledged.size()));
      acknowledged[block] = 1 + life * 10'000 + i;
      Write(*runner, writer, block / wire::kBlocksPerChunk, block % wire::kBlocksPerChunk, 1,
            acknowledged[block]);
    }
    Drain(*runner, writer);
    checkpoints += runner->store().counters().checkpoints;
    // Neither closed nor flushed: what only the cache has goes with it.
    lost += cache.held_blocks();
  }
  EXPECT_GT(lost, 100u);
  EXPECT_GT(checkpoints, 5u);
}

// Homes are written in order; what is read from the log in between costs seeks of its own.
TEST_F(StoreOnLayersTest, ASeekingDiskSeeksLessThanForWritesInPlace) {
  MemoryDevice device(kDeviceBytes);
  ticking_ = false;
  SeekingLayer disk(&device, &clock_, {});
  std::unique_ptr<StoreRunner> runner = Runner(&disk);
  ASSERT_TRUE(runner->Format(/*force=*/false).has_value());
  SliceWriter writer(runner.get(), {.slices = 4});
  ASSERT_TRUE(writer.StartEpochs());
  RandomStream random(3, 0, 0);
  constexpr uint64_t kWrites = 300;  // less than begins a destage
  const Instant begin = clock_;
  for (uint64_t i = 0; i < kWrites; ++i) {
    const auto block = static_cast<uint32_t>(random.Below(kChunks * wire::kBlocksPerChunk));
    Write(*runner, writer, block / wire::kBlocksPerChunk, block % wire::kBlocksPerChunk, 1, i + 1);
  }
  Drain(*runner, writer);
  EXPECT_EQ(runner->store().counters().destaged_blocks, 0u);
  const Duration acknowledged = clock_ - begin;
  const uint64_t seeks_before = disk.seeks();
  runner->Settle();
  EXPECT_GT(runner->store().counters().destaged_blocks, kWrites * 9 / 10);
  EXPECT_LT(disk.seeks() - seeks_before, kWrites * 3 / 4);
  EXPECT_LT(acknowledged, kWrites * std::chrono::milliseconds(5) / 10);
}

}  // namespace
}  // namespace gabion::disk
