#include "disk/aio/aio.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string>

#include "core/base/buffer.h"

namespace gabion::disk {
namespace {

// A folder on a real file system: O_DIRECT is part of what is tested.
class AioDisksTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "gabion-aio-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    Result<std::unique_ptr<AioDisks>> disks = AioDisks::Create({.depth = 4});
    ASSERT_TRUE(disks.has_value()) << disks.error().message;
    disks_ = std::move(*disks);
  }
  void TearDown() override {
    disks_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string Path(const std::string& name) { return folder_ + "/" + name; }

  Slice Filled(uint32_t size, int byte) {
    Slice slice = pool_.Allocate(size);
    std::memset(slice.mutable_span().data(), byte, size);
    return slice;
  }

  void Queue(DeviceIndex device, DiskOp op, uint64_t offset, std::vector<Slice> slices,
             DiskTag tag) {
    DiskEffect effect;
    effect.device = device;
    effect.op = op;
    effect.offset_bytes = offset;
    effect.tag = tag;
    disks_->Queue(effect, slices);
  }

  // Submits and collects until `count` completions are there.
  std::vector<DiskDoneEvent> Await(size_t count) {
    std::vector<DiskDoneEvent> done;
    while (done.size() < count) {
      disks_->Submit();
      if (!disks_->has_immediate()) {
        pollfd ready{disks_->event_fd(), POLLIN, 0};
        EXPECT_EQ(::poll(&ready, 1, 30'000), 1) << "no completion came";
      }
      disks_->Collect(done);
    }
    return done;
  }

  BufferPool pool_{{}};
  std::string folder_;
  std::unique_ptr<AioDisks> disks_;
};

constexpr auto kDisk = static_cast<DeviceIndex>(1);

TEST_F(AioDisksTest, WhatWasWrittenIsReadBackFromManySlices) {
  Result<DeviceInfo> info = disks_->Open(kDisk, Path("disk"), 1 << 20);
  ASSERT_TRUE(info.has_value()) << info.error().message;
  EXPECT_EQ(info->size_bytes, 1u << 20);
  Queue(kDisk, DiskOp::kDurableWrite, 8192, {Filled(4096, 1), Filled(8192, 2)}, 7);
  std::vector<DiskDoneEvent> done = Await(1);
  EXPECT_EQ(done[0].tag, 7u);
  EXPECT_EQ(done[0].status, DiskStatus::kOk);
  Slice into = pool_.Allocate(12288);
  Queue(kDisk, DiskOp::kRead, 8192, {into}, 8);
  ASSERT_EQ(Await(1)[0].status, DiskStatus::kOk);
  EXPECT_EQ(into.span()[0], std::byte{1});
  EXPECT_EQ(into.span()[4096], std::byte{2});
  EXPECT_EQ(into.span()[12287], std::byte{2});
}

TEST_F(AioDisksTest, MoreRequestsThanTheKernelTakesAllComplete) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 1 << 20).has_value());
  for (uint64_t i = 0; i < 100; ++i) {
    Queue(kDisk, DiskOp::kWrite, i * 4096, {Filled(4096, static_cast<int>(i))}, i);
  }
  Queue(kDisk, DiskOp::kFlush, 0, {}, 100);
  for (const DiskDoneEvent& done : Await(101)) EXPECT_EQ(done.status, DiskStatus::kOk) << done.tag;
}

TEST_F(AioDisksTest, AReadBeyondTheEndIsAnErrorAndNotShortData) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 8192).has_value());
  Queue(kDisk, DiskOp::kRead, 4096, {pool_.Allocate(8192)}, 1);
  EXPECT_EQ(Await(1)[0].status, DiskStatus::kIoError);
}

TEST_F(AioDisksTest, ARequestThatTheKernelRefusesFailsAloneAndTheNextOnesGoOn) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 1 << 20).has_value());
  Queue(kDisk, DiskOp::kRead, uint64_t{1} << 63, {pool_.Allocate(4096)}, 1);
  Queue(kDisk, DiskOp::kRead, 4096, {pool_.Allocate(4096)}, 2);
  for (const DiskDoneEvent& done : Await(2)) {
    EXPECT_EQ(done.status, done.tag == 1 ? DiskStatus::kIoError : DiskStatus::kOk);
  }
}

TEST_F(AioDisksTest, ADeviceInUseIsRefusedAndFreeAgainAfterClose) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 8192).has_value());
  Result<std::unique_ptr<AioDisks>> other = AioDisks::Create({.depth = 4});
  ASSERT_TRUE(other.has_value());
  Result<DeviceInfo> second = (*other)->Open(kDisk, Path("disk"));
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_NE(second.error().message.find(Path("disk")), std::string::npos);
  EXPECT_NE(second.error().message.find("in use"), std::string::npos);
  disks_->Close(kDisk);
  EXPECT_TRUE((*other)->Open(kDisk, Path("disk")).has_value());
}

TEST_F(AioDisksTest, RequestsOnAClosedDeviceSayThatItIsGone) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 8192).has_value());
  Queue(kDisk, DiskOp::kRead, 0, {pool_.Allocate(4096)}, 1);  // not submitted yet
  disks_->Close(kDisk);
  Queue(kDisk, DiskOp::kRead, 0, {pool_.Allocate(4096)}, 2);
  for (const DiskDoneEvent& done : Await(2)) EXPECT_EQ(done.status, DiskStatus::kDeviceGone);
}

TEST_F(AioDisksTest, ErrorsNameThePathAndTheReason) {
  Result<DeviceInfo> missing = disks_->Open(kDisk, Path("missing"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("missing"), std::string::npos);
  Result<DeviceInfo> folder = disks_->Open(kDisk, folder_);
  ASSERT_FALSE(folder.has_value());
  EXPECT_NE(folder.error().message.find("neither a block device nor a file"), std::string::npos);
}

TEST_F(AioDisksTest, ADiscardedRangeOfAFileReadsAsZeroes) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 1 << 20).has_value());
  Queue(kDisk, DiskOp::kWrite, 0, {Filled(65536, 9)}, 1);
  ASSERT_EQ(Await(1)[0].status, DiskStatus::kOk);
  DiskEffect discard;
  discard.device = kDisk;
  discard.op = DiskOp::kDiscard;
  discard.length_bytes = 65536;
  discard.tag = 2;
  disks_->Queue(discard, {});
  ASSERT_EQ(Await(1)[0].status, DiskStatus::kOk);
  Slice into = pool_.Allocate(4096);
  Queue(kDisk, DiskOp::kRead, 4096, {into}, 3);
  ASSERT_EQ(Await(1)[0].status, DiskStatus::kOk);
  EXPECT_EQ(into.span()[0], std::byte{0});
}

TEST_F(AioDisksTest, AnUnreachableLimitOfRequestsSaysWhatToSet) {
  Result<void> limit = CheckAioLimit(UINT32_MAX);
  ASSERT_FALSE(limit.has_value());
  EXPECT_NE(limit.error().message.find("fs.aio-max-nr="), std::string::npos);
}

// A disk that hangs is closed, and what it was asked for comes back later: not to another device.
TEST_F(AioDisksTest, NumberOfAClosedDeviceIsFreeOnlyWhenItsRequestsAreCollected) {
  ASSERT_TRUE(disks_->Open(kDisk, Path("disk"), 1 << 20).has_value());
  Queue(kDisk, DiskOp::kWrite, 0, {Filled(4096, 1)}, 7);
  disks_->Submit();
  disks_->Close(kDisk);
  EXPECT_NE(disks_->FreeIndex(), kDisk);
  Queue(kDisk, DiskOp::kRead, 0, {Filled(4096, 1)}, 8);  // to nobody
  EXPECT_NE(disks_->FreeIndex(), kDisk);
  EXPECT_EQ(Await(2).size(), 2u);
  EXPECT_EQ(disks_->FreeIndex(), kDisk);
}

}  // namespace
}  // namespace gabion::disk
