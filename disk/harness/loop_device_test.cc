// The store on block devices of the kernel: loop devices with sectors of 512 and 4096 bytes. Needs
// root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "disk/harness/store_runner.h"
#include "disk/layer/aio_layer.h"

namespace gabion::disk {
namespace {

constexpr uint64_t kDeviceBytes = 64 << 20;
constexpr uint64_t kLogBytes = 8 << 20;
constexpr uint32_t kBlock = wire::kBlockBytes;

// Goes with the last descriptor, so also when the test is killed.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, uint32_t sector_bytes) {
    const int backing = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (backing < 0 || ::ftruncate(backing, kDeviceBytes) != 0) return;
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    // Somebody else may take the free one first.
    for (int attempts = 0; control >= 0 && attempts < 100 && fd_ < 0; ++attempts) {
      const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
      if (number < 0) break;
      path_ = "/dev/loop" + std::to_string(number);
      const int fd = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
      if (fd < 0) break;
      loop_config config{};
      config.fd = static_cast<uint32_t>(backing);
      config.block_size = sector_bytes;
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (::ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
        fd_ = fd;
      } else {
        error_ = errno;
        ::close(fd);
      }
    }
    if (fd_ < 0 && error_ == 0) error_ = errno;
    if (control >= 0) ::close(control);
    ::close(backing);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool ok() const { return fd_ >= 0; }
  int error() const { return error_; }
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  int error_ = 0;
  std::string path_;
};

class LoopDeviceTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "gabion-loop-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    loop_ = std::make_unique<LoopDevice>(folder_ + "/backing", GetParam());
    ASSERT_TRUE(loop_->ok()) << "no loop device: " << std::strerror(loop_->error())
                             << "; this test needs root and /dev/loop-control";
  }
  void TearDown() override {
    loop_.reset();
    std::filesystem::remove_all(folder_);
  }

  Result<std::unique_ptr<AioLayer>> Open() { return AioLayer::Open(loop_->path(), 0); }

  static Slice Block(StoreRunner& runner, uint64_t stamp) {
    Slice data = runner.pool().Allocate(kBlock);
    for (uint32_t at = 0; at < kBlock; at += 8) {
      StoreLe(data.mutable_span().data() + at, stamp + at);
    }
    return data;
  }

  std::string folder_;
  std::unique_ptr<LoopDevice> loop_;
};

TEST_P(LoopDeviceTest, SizeSectorAndCacheAreWhatTheKernelSays) {
  Result<std::unique_ptr<AioLayer>> device = Open();
  ASSERT_TRUE(device.has_value()) << device.error().message;
  const DeviceInfo info = (*device)->info();
  EXPECT_EQ(info.size_bytes, kDeviceBytes);
  EXPECT_EQ(info.block_bytes, GetParam());
  EXPECT_TRUE(info.volatile_cache);
  EXPECT_TRUE(info.discard);
  Result<std::unique_ptr<AioLayer>> second = Open();
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
}

TEST_P(LoopDeviceTest, TheStoreKeepsWhatWasWrittenThroughDestagingAndRestarts) {
  constexpr uint32_t kWrites = 3000;
  constexpr uint32_t kStep = 7;  // blocks from one write to the next, over eight chunks
  constexpr uint32_t kBlocks = 8 * wire::kBlocksPerChunk;
  for (int life = 0; life < 2; ++life) {
    Result<std::unique_ptr<AioLayer>> device = Open();
    ASSERT_TRUE(device.has_value()) << device.error().message;
    StoreRunner runner(device->get(), {.log_bytes = kLogBytes});
    const Result<void> up = life == 0 ? runner.Format(/*force=*/false) : runner.Open();
    ASSERT_TRUE(up.has_value()) << up.error().message;
    SliceWriter writer(&runner, {.slices = 2});
    const auto take_done = [&] {
      runner.Turn();
      for (const store::Done& done : runner.done()) {
        ASSERT_EQ(done.status, store::DoneStatus::kOk) << runner.store().error();
        writer.OnDone(done.tag);
      }
      runner.done().clear();
    };
    if (life == 0) {
      ASSERT_TRUE(writer.StartEpochs());
      for (uint32_t i = 0; i < kWrites; ++i) {
        const uint32_t block = i * kStep % kBlocks;
        const uint32_t chunk = block / wire::kBlocksPerChunk;
        const uint32_t first = block % wire::kBlocksPerChunk;
        while (writer.in_flight() >= 64 || !writer.Fits(chunk, first, 1)) take_done();
        Slice data = Block(runner, uint64_t{i} << 32);
        const uint32_t crc = Crc32c(data.span());
        writer.Write(chunk, first, 1, std::move(data), std::span(&crc, 1), i);
      }
      while (writer.in_flight() > 0) take_done();
      EXPECT_GT(runner.store().counters().checkpoints, 0u);
    }
    for (uint32_t i = kWrites - kBlocks; i < kWrites; ++i) {
      const uint32_t block = i * kStep % kBlocks;
      const uint32_t chunk = block / wire::kBlocksPerChunk;
      const Slice into = runner.pool().Allocate(kBlock);
      const store::Tag tag = runner.NewTag();
      runner.store().Read(runner.now(), writer.SliceOf(chunk), SliceWriter::KeyOf(chunk),
                          block % wire::kBlocksPerChunk, 1, into, tag, runner.out());
      ASSERT_EQ(runner.Await(tag), store::DoneStatus::kOk);
      const Slice want = Block(runner, uint64_t{i} << 32);
      ASSERT_EQ(std::memcmp(into.data(), want.data(), kBlock), 0) << "block " << block;
    }
    if (life == 0) {
      ASSERT_TRUE(runner.Close().has_value());
    }
  }
}

TEST_P(LoopDeviceTest, AFileSystemIsRefusedUnlessForcedAndNotTouched) {
  const std::string command = "mkfs.ext4 -q -F " + loop_->path();
  ASSERT_EQ(::system(command.c_str()), 0) << command;
  Result<std::unique_ptr<AioLayer>> device = Open();
  ASSERT_TRUE(device.has_value()) << device.error().message;
  {
    StoreRunner runner(device->get(), {.log_bytes = kLogBytes});
    EXPECT_FALSE(runner.Format(/*force=*/false).has_value());
  }
  device->reset();
  const std::string check = "e2fsck -f -n " + loop_->path() + " > /dev/null 2>&1";
  EXPECT_EQ(::system(check.c_str()), 0) << "the file system was damaged";
  device = Open();
  ASSERT_TRUE(device.has_value()) << device.error().message;
  StoreRunner runner(device->get(), {.log_bytes = kLogBytes});
  const Result<void> forced = runner.Format(/*force=*/true);
  EXPECT_TRUE(forced.has_value()) << forced.error().message;
}

INSTANTIATE_TEST_SUITE_P(, LoopDeviceTest, testing::Values(512, 4096),
                         [](const testing::TestParamInfo<uint32_t>& sector) {
                           return "SectorsOf" + std::to_string(sector.param);
                         });

}  // namespace
}  // namespace gabion::disk
