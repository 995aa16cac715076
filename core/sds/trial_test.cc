// Trials of devices that are honest, that pretend to be larger than they are, that lose writes and
// that fail.
#include "core/sds/trial.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>

#include "core/store/test_disk.h"

namespace gabion::sds {
namespace {

using store::TestDisk;

constexpr uint64_t kMebi = 1 << 20;
constexpr DiskTag kTags = 0x7000;
constexpr DeviceTrial::Range kRange{.offset_bytes = 2 * kMebi, .length_bytes = 10 * kMebi};

class Trial {
 public:
  Trial() : trial_(DeviceIndex{1}, kRange, 0xabcdef, kTags, &pool_) {}

  // `when` sees the disk before each completion, and may say how it ends.
  void Run(const std::function<DiskStatus(TestDisk&)>& when) {
    trial_.Start(now_, effects_);
    while (!trial_.over()) {
      disk_.Submit(effects_);
      effects_.Clear();
      ASSERT_GT(disk_.pending(), 0u);
      ASSERT_LE(disk_.pending(), size_t{DeviceTrial::kRandomDepth});
      const DiskStatus status = when(disk_);
      now_.boot += std::chrono::microseconds(100);
      trial_.OnDiskDone(now_, disk_.Complete(0, status), effects_);
    }
  }
  const DeviceTrial& trial() const { return trial_; }
  const TestDisk& disk() const { return disk_; }

 private:
  BufferPool pool_{{}};
  TestDisk disk_{{.device = DeviceIndex{1}, .size_bytes = 16 * kMebi}};
  Effects effects_;
  Now now_;
  DeviceTrial trial_;
};

TEST(DeviceTrial, MeasuresADeviceAndStaysInItsRange) {
  Trial test;
  ASSERT_NO_FATAL_FAILURE(test.Run([](TestDisk& disk) {
    EXPECT_TRUE(disk.pending_op(0) == DiskOp::kFlush ||
                disk.pending_offset(0) >= kRange.offset_bytes);
    return DiskStatus::kOk;
  }));
  ASSERT_EQ(test.trial().stage(), DeviceTrial::Stage::kDone) << test.trial().error();
  // 10 pieces and a flush of 100 us each; and one 4 KiB operation every 100 us.
  EXPECT_EQ(test.trial().figures().write_bytes_per_second, 10 * kMebi * 10'000 / 11);
  EXPECT_EQ(test.trial().figures().read_bytes_per_second, 10 * kMebi * 1'000);
  EXPECT_NEAR(static_cast<double>(test.trial().figures().writes_per_second), 10'000, 10);
  EXPECT_NEAR(static_cast<double>(test.trial().figures().reads_per_second), 10'000, 10);
  const std::vector<std::byte> before = test.disk().Content(0, 2 * kMebi);
  const std::vector<std::byte> behind = test.disk().Content(12 * kMebi, 4 * kMebi);
  EXPECT_EQ(before, std::vector<std::byte>(before.size()));
  EXPECT_EQ(behind, std::vector<std::byte>(behind.size()));
}

TEST(DeviceTrial, ADeviceThatLosesWritesIsFound) {
  Trial test;
  uint64_t reads = 0;
  ASSERT_NO_FATAL_FAILURE(test.Run([&](TestDisk& disk) {
    if (disk.pending_op(0) == DiskOp::kRead && ++reads == 3) {
      disk.Overwrite(disk.pending_offset(0), std::vector<std::byte>(wire::kBlockBytes));
    }
    return DiskStatus::kOk;
  }));
  ASSERT_EQ(test.trial().stage(), DeviceTrial::Stage::kFailed);
  EXPECT_EQ(test.trial().error(),
            "in its test it gave back other bytes than were written at byte " +
                std::to_string(4 * kMebi) + ": its size may be false, or it is broken");
}

// Its second half is its first one again.
TEST(DeviceTrial, ADeviceThatPretendsToBeLargerIsFound) {
  Trial test;
  ASSERT_NO_FATAL_FAILURE(test.Run([&](TestDisk& disk) {
    const uint64_t at = disk.pending_offset(0);
    if (disk.pending_op(0) == DiskOp::kRead && at < 8 * kMebi) {
      disk.Overwrite(at, disk.Content(std::min(at + 4 * kMebi, 12 * kMebi), wire::kBlockBytes));
    }
    return DiskStatus::kOk;
  }));
  EXPECT_EQ(test.trial().stage(), DeviceTrial::Stage::kFailed);
}

TEST(DeviceTrial, WhateverFailsIsNamed) {
  const std::pair<DiskOp, const char*> kCases[] = {
      {DiskOp::kWrite, "in its test a write failed at byte 2097152"},
      {DiskOp::kFlush, "in its test a flush failed"},
      {DiskOp::kRead, "in its test a read failed at byte 2097152"},
  };
  for (const auto& [op, error] : kCases) {
    Trial test;
    ASSERT_NO_FATAL_FAILURE(test.Run([op = op](TestDisk& disk) {
      return disk.pending_op(0) == op ? DiskStatus::kIoError : DiskStatus::kOk;
    }));
    EXPECT_EQ(test.trial().stage(), DeviceTrial::Stage::kFailed);
    EXPECT_EQ(test.trial().error(), error);
  }
}

TEST(DeviceTrial, WithoutMemoryThereIsNone) {
  BufferPool pool({.bytes_max = kMebi});
  DeviceTrial trial(DeviceIndex{1}, kRange, 1, kTags, &pool);
  Effects effects;
  trial.Start({}, effects);
  EXPECT_EQ(trial.stage(), DeviceTrial::Stage::kFailed);
  EXPECT_EQ(trial.error(), "there is no memory for its test");
}

}  // namespace
}  // namespace gabion::sds
