#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "disk/layer/counting_layer.h"
#include "disk/layer/memory_device.h"
#include "disk/layer/seeking_layer.h"
#include "disk/layer/volatile_cache_layer.h"

namespace gabion::disk {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 1 << 20;

class LayerTest : public testing::Test {
 protected:
  Slice Blocks(std::string_view content) {
    Slice slice = pool_.Allocate(static_cast<uint32_t>(content.size()) * kBlock);
    for (size_t i = 0; i < content.size(); ++i) {
      std::memset(slice.mutable_span().data() + i * kBlock, content[i], kBlock);
    }
    return slice;
  }

  void Ask(BlockLayer& layer, DiskOp op, uint64_t block, std::vector<Slice> slices, DiskTag tag) {
    DiskEffect effect;
    effect.op = op;
    effect.offset_bytes = block * kBlock;
    for (const Slice& slice : slices) effect.length_bytes += slice.size();
    if (op == DiskOp::kDiscard) effect.length_bytes = kBlock;
    effect.tag = tag;
    layer.Queue(effect, slices);
    layer.Submit();
  }

  std::vector<DiskTag> Collect(BlockLayer& layer) {
    std::vector<DiskDoneEvent> done;
    layer.Collect(done);
    std::vector<DiskTag> tags;
    for (const DiskDoneEvent& event : done) {
      EXPECT_EQ(event.status, DiskStatus::kOk);
      tags.push_back(event.tag);
    }
    return tags;
  }
  void Finish(BlockLayer& layer, DiskTag tag) {
    for (int turns = 0; turns < 100; ++turns) {
      for (const DiskTag done : Collect(layer)) {
        if (done == tag) return;
      }
    }
    FAIL() << "request " << tag << " never gets done";
  }

  std::string Read(BlockLayer& layer, uint64_t block, uint32_t count) {
    const Slice into = pool_.Allocate(count * kBlock);
    Ask(layer, DiskOp::kRead, block, {into}, 999);
    Finish(layer, 999);
    std::string content;
    for (uint32_t i = 0; i < count; ++i) {
      const auto first = static_cast<char>(into.data()[i * kBlock]);
      const auto last = static_cast<char>(into.data()[(i + 1) * kBlock - 1]);
      content += first == last ? (first == 0 ? '.' : first) : '?';
    }
    return content;
  }

  BufferPool pool_{{}};
  MemoryDevice device_{kDeviceBytes};
};

TEST_F(LayerTest, CountingCountsEachKindOfRequestWithItsBytes) {
  CountingLayer counting(&device_);
  Ask(counting, DiskOp::kWrite, 0, {Blocks("ab"), Blocks("c")}, 1);
  counting.RecordDurableSizes();
  Ask(counting, DiskOp::kDurableWrite, 8, {Blocks("d")}, 2);
  Ask(counting, DiskOp::kFlush, 0, {}, 3);
  Ask(counting, DiskOp::kDiscard, 20, {}, 4);
  EXPECT_EQ(Collect(counting), (std::vector<DiskTag>{1, 2, 3, 4}));
  EXPECT_EQ(Read(counting, 0, 3), "abc");
  EXPECT_EQ(counting.bytes_written(), 4u * kBlock);
  EXPECT_EQ(counting.count(DiskOp::kWrite).operations, 1u);
  EXPECT_EQ(counting.count(DiskOp::kWrite).bytes, 3u * kBlock);
  EXPECT_EQ(counting.count(DiskOp::kRead).bytes, 3u * kBlock);
  EXPECT_EQ(counting.count(DiskOp::kFlush).operations, 1u);
  EXPECT_EQ(counting.count(DiskOp::kDiscard).bytes, uint64_t{kBlock});
  EXPECT_EQ(counting.TakeDurableSizes(), (std::vector<uint32_t>{kBlock}));
}

TEST_F(LayerTest, CountingTellsWritesToHomesApart) {
  CountingLayer counting(&device_, /*homes_from_bytes=*/8 * kBlock);
  Ask(counting, DiskOp::kWrite, 7, {Blocks("a")}, 1);
  Ask(counting, DiskOp::kRead, 9, {Blocks("a")}, 2);
  EXPECT_EQ(counting.home_writes(), 0u);
  Ask(counting, DiskOp::kWrite, 8, {Blocks("a")}, 3);
  Ask(counting, DiskOp::kWrite, 20, {Blocks("a")}, 4);
  EXPECT_EQ(counting.home_writes(), 2u);
}

TEST_F(LayerTest, WithoutDiscardTheBytesStay) {
  NoDiscardLayer layer(&device_);
  EXPECT_TRUE(device_.info().discard);
  EXPECT_FALSE(layer.info().discard);
  Ask(layer, DiskOp::kWrite, 3, {Blocks("a")}, 1);
  Ask(layer, DiskOp::kDiscard, 3, {}, 2);
  EXPECT_EQ(Collect(layer), (std::vector<DiskTag>{2, 1}));
  EXPECT_EQ(Read(layer, 3, 1), "a");
  Ask(device_, DiskOp::kDiscard, 3, {}, 3);
  EXPECT_EQ(Collect(device_), (std::vector<DiskTag>{3}));
  EXPECT_EQ(Read(device_, 3, 1), ".");
}

TEST_F(LayerTest, CachedWritesAreReadBackButAreNotOnTheDeviceBelow) {
  VolatileCacheLayer cache(&device_, {.seed = 1, .write_back_percent = 0});
  EXPECT_TRUE(cache.info().volatile_cache);
  Ask(cache, DiskOp::kWrite, 2, {Blocks("ab"), Blocks("c")}, 1);
  EXPECT_EQ(Collect(cache), (std::vector<DiskTag>{1}));
  EXPECT_EQ(Read(cache, 1, 5), ".abc.");
  EXPECT_EQ(Read(device_, 1, 5), ".....");
  Ask(cache, DiskOp::kWrite, 3, {Blocks("B")}, 2);
  EXPECT_EQ(Read(cache, 2, 3), "aBc");
}

TEST_F(LayerTest, AFlushBringsEverythingToTheDeviceBelow) {
  CountingLayer counting(&device_);
  VolatileCacheLayer cache(&counting, {.seed = 1, .write_back_percent = 0});
  Ask(cache, DiskOp::kWrite, 2, {Blocks("abc")}, 1);
  Ask(cache, DiskOp::kWrite, 3, {Blocks("B")}, 2);
  Ask(cache, DiskOp::kFlush, 0, {}, 3);
  Ask(cache, DiskOp::kWrite, 9, {Blocks("later")}, 4);
  Finish(cache, 3);
  EXPECT_EQ(Read(device_, 1, 10), ".aBc......");
  EXPECT_EQ(cache.held_blocks(), 5u);
  EXPECT_EQ(counting.count(DiskOp::kFlush).operations, 1u);
}

TEST_F(LayerTest, ADurableWriteBringsDownItsOwnBlocksOnlyAndOverOlderContent) {
  CountingLayer counting(&device_);
  VolatileCacheLayer cache(&counting, {.seed = 1, .write_back_percent = 0});
  Ask(cache, DiskOp::kWrite, 2, {Blocks("abc")}, 1);
  Ask(cache, DiskOp::kDurableWrite, 3, {Blocks("BC")}, 2);
  EXPECT_EQ(Collect(cache), (std::vector<DiskTag>{1}));  // not before the flush below
  Finish(cache, 2);
  EXPECT_EQ(Read(device_, 2, 3), ".BC");
  EXPECT_EQ(Read(cache, 2, 3), "aBC");
  EXPECT_EQ(counting.count(DiskOp::kFlush).operations, 1u);
}

// The device below is asked while the cache already has newer content for the same block.
TEST_F(LayerTest, WhatIsOverwrittenOnItsWayDownArrivesInOrder) {
  VolatileCacheLayer cache(&device_, {.seed = 1, .write_back_percent = 0});
  Ask(cache, DiskOp::kDurableWrite, 2, {Blocks("a")}, 1);
  Ask(cache, DiskOp::kDurableWrite, 2, {Blocks("b")}, 2);
  Ask(cache, DiskOp::kWrite, 2, {Blocks("c")}, 3);
  Finish(cache, 2);
  EXPECT_NE(Read(device_, 2, 1), "a");
  EXPECT_EQ(Read(cache, 2, 1), "c");
  Ask(cache, DiskOp::kFlush, 0, {}, 4);
  Finish(cache, 4);
  EXPECT_EQ(Read(device_, 2, 1), "c");
  EXPECT_EQ(cache.held_blocks(), 0u);
}

TEST_F(LayerTest, WhatIsLostWithTheCacheIsADrawnSubset) {
  uint32_t lost = 0;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    MemoryDevice device(kDeviceBytes);
    auto cache = std::make_unique<VolatileCacheLayer>(
        &device, VolatileCacheLayer::Options{.seed = seed, .write_back_percent = 50});
    for (uint64_t block = 0; block < 100; ++block) {
      Ask(*cache, DiskOp::kWrite, block, {Blocks("x")}, block);
      Collect(*cache);
    }
    EXPECT_EQ(Read(*cache, 0, 100), std::string(100, 'x'));
    cache.reset();
    lost = 0;
    for (const char content : Read(device, 0, 100)) lost += content == '.' ? 1 : 0;
    EXPECT_GT(lost, 25u);
    EXPECT_LT(lost, 75u);
  }
}

TEST_F(LayerTest, ASeekingDiskTakesLongerForDistantBlocksThanForNeighbours) {
  Instant clock{};
  SeekingLayer disk(&device_, &clock,
                    {.bytes_per_second = kBlock * 1000,
                     .seek_min = std::chrono::milliseconds(4),
                     .seek_max = std::chrono::milliseconds(20)});
  for (uint64_t block = 0; block < 4; ++block)
    Ask(disk, DiskOp::kWrite, block, {Blocks("a")}, block);
  EXPECT_TRUE(Collect(disk).empty());
  while (Collect(disk).size() < 1 || clock < Instant(std::chrono::milliseconds(4))) {
    disk.Wait(std::chrono::seconds(1));
  }
  EXPECT_EQ(clock, Instant(std::chrono::milliseconds(4)));
  EXPECT_EQ(disk.seeks(), 0u);
  // From block 4 to block 132 of 256 and back: half of the disk each.
  Ask(disk, DiskOp::kRead, 132, {Blocks("b")}, 5);
  Ask(disk, DiskOp::kRead, 5, {Blocks("b")}, 6);
  for (size_t got = 0; got < 2;) {
    disk.Wait(std::chrono::seconds(1));
    got += Collect(disk).size();
  }
  EXPECT_EQ(disk.seeks(), 2u);
  const Duration there = std::chrono::milliseconds(1 + 4 + 8);
  const Duration back = there - std::chrono::milliseconds(16) / 128;  // 126 blocks less 1
  EXPECT_EQ(ToMillis(clock - Instant{}), ToMillis(std::chrono::milliseconds(4) + there + back));
  // Two blocks further on is cheaper to wait for.
  const Instant before = clock;
  Ask(disk, DiskOp::kRead, 8, {Blocks("b")}, 7);
  Collect(disk);
  disk.Wait(std::chrono::seconds(1));
  EXPECT_EQ(clock - before, std::chrono::milliseconds(2 + 1));
  EXPECT_EQ(disk.seeks(), 2u);
}

}  // namespace
}  // namespace gabion::disk
