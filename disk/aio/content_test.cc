#include "disk/aio/content.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace gabion::disk {
namespace {

namespace fs = std::filesystem;

class Content : public ::testing::Test {
 protected:
  Content() {
    std::string name = fs::temp_directory_path() / "gabion-content-XXXXXX";
    const int fd = ::mkstemp(name.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::ftruncate(fd, 16 << 20), 0);
    ::close(fd);
    path_ = name;
  }
  ~Content() override { fs::remove(path_); }

  void Run(const std::string& command) const {
    ASSERT_EQ(std::system((command + " " + path_ + " >/dev/null 2>&1").c_str()), 0) << command;
  }

  void Write(off_t offset, const std::vector<unsigned char>& bytes) const {
    const int fd = ::open(path_.c_str(), O_WRONLY);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::pwrite(fd, bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }

  std::string path_;
};

TEST_F(Content, NothingIsNothing) {
  EXPECT_EQ(DescribeContent(path_), "");
  EXPECT_EQ(DescribeContent(path_ + ".missing"), "");
}

TEST_F(Content, AFileSystemIsNamedWithItsLabel) {
  Run("mke2fs -t ext4 -L 'pay\"roll'");
  EXPECT_EQ(DescribeContent(path_), "ext4 file system \"pay?roll\"");
}

TEST_F(Content, SwapIsNamed) {
  Run("mkswap");
  EXPECT_EQ(DescribeContent(path_), "swap data");
}

TEST_F(Content, PartitionsAreNamed) {
  // One partition of type Linux, from sector 2048 on.
  Write(446, {0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0});
  Write(510, {0x55, 0xaa});
  EXPECT_EQ(DescribeContent(path_), "a partition table (dos)");
}

// An array's superblock may be at the end of its members, where a look at the first bytes sees
// nothing.
TEST_F(Content, WhatIsAtTheEndIsSeen) {
  // Linux md, version 0.90: 64 KiB before the end, on a multiple of 64 KiB.
  Write((16 << 20) - (64 << 10), {0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90, 0, 0, 0});
  EXPECT_EQ(DescribeContent(path_), "a member of an array or volume group (linux_raid_member)");
}

}  // namespace
}  // namespace gabion::disk
