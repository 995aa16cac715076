#include "core/role/effects.h"

#include <gtest/gtest.h>

#include <array>

namespace gabion {
namespace {

TEST(Effects, ADiskEffectPointsAtItsOwnSlices) {
  BufferPool pool({});
  const std::array<Slice, 2> first = {pool.Allocate(4096), pool.Allocate(8192)};
  const std::array<Slice, 1> second = {pool.Allocate(512)};
  Effects effects;
  effects.Write(DeviceIndex{1}, 4096, first, 10);
  effects.Read(DeviceIndex{2}, 0, second, 11);
  ASSERT_EQ(effects.disk.size(), 2u);
  EXPECT_EQ(effects.disk[0].length_bytes, 12288u);
  EXPECT_EQ(effects.disk[0].slice_begin, 0u);
  EXPECT_EQ(effects.disk[0].slice_count, 2u);
  EXPECT_EQ(effects.disk[1].length_bytes, 512u);
  EXPECT_EQ(effects.disk[1].slice_begin, 2u);
  EXPECT_EQ(effects.slices[2].data(), second[0].data());
}

TEST(Effects, KeepsTheFirstReasonToExit) {
  Effects effects;
  effects.Exit("state device failed");
  effects.Exit("cannot go on");
  EXPECT_TRUE(effects.exit);
  EXPECT_EQ(effects.exit_reason, "state device failed");
}

TEST(Effects, IsEmptyAfterClearAndLetsBuffersGo) {
  BufferPool pool({});
  Effects effects;
  EXPECT_TRUE(effects.empty());
  effects.Send(ConnId(1), wire::TailQuery{}, pool.Allocate(4096));
  effects.Connect(1, Address::V4(127, 0, 0, 1, 1));
  effects.Close(ConnId(1));
  effects.DurableWrite(DeviceIndex::kState, 0, std::array{pool.Allocate(512)}, 1);
  effects.Flush(DeviceIndex::kState, 2);
  effects.Discard(DeviceIndex::kState, 0, 4096, 3);
  effects.OpenDevice(4, "/dev/null");
  effects.CloseDevice(DeviceIndex{1});
  effects.SetTimer(1, Instant{});
  effects.CancelTimer(1);
  effects.Reply(UserReplyEffect());
  effects.notices.push_back({VolumeId(1), 0});
  effects.Log(Severity::kInfo, "text");
  effects.Exit("");
  EXPECT_FALSE(effects.empty());
  EXPECT_GT(pool.stats().bytes_in_use, 0u);
  effects.Clear();
  EXPECT_TRUE(effects.empty());
  EXPECT_TRUE(effects.slices.empty());
  EXPECT_EQ(pool.stats().bytes_in_use, 0u);
}

TEST(EffectsDeathTest, RefusesATransferOfNothing) {
  Effects effects;
  EXPECT_DEATH(effects.Write(DeviceIndex{1}, 0, {}, 1), "transfer of nothing");
  EXPECT_DEATH(effects.Connect(0, Address()), "accepted connections");
}

}  // namespace
}  // namespace gabion
