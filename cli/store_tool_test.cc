#include "cli/store_tool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "core/store/superblock.h"
#include "core/store/test_store.h"

namespace gabion::cli {
namespace {

using store::TestStore;

// A device with one entry, as a file.
class StoreToolTest : public ::testing::Test {
 protected:
  StoreToolTest() : path_(testing::TempDir() + "store_tool_" + std::to_string(::getpid())) {
    TestStore test(TestStore::Options{});
    EXPECT_TRUE(test.Format());
    test.Await(test.Start(SliceId(1), {.epoch = Epoch(1), .issuer = 9}));
    test.Await(test.Append(SliceId(1), test.Write(store::Entry(1, 1), 3, 5, 2), 1000));
    EXPECT_TRUE(test.Close());
    content_ = test.disk().Content(0, test.disk().info().size_bytes);
    Save();
  }
  ~StoreToolTest() override { ::unlink(path_.c_str()); }

  void Save() {
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(content_.data()),
               static_cast<std::streamsize>(content_.size()));
  }

  // Exit code; what was printed is in out_ and err_.
  int Run(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), {"gabion", "store"});
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int exit_code = 0;
    const auto invocation =
        ParseCommandLine(static_cast<int>(arguments.size()), arguments.data(), &exit_code);
    if (invocation) {
      exit_code = invocation->verb == Verb::kStoreCheck ? RunStoreCheck(invocation->store)
                                                        : RunStoreDump(invocation->store);
    }
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return exit_code;
  }
  int Check() { return Run({"check", path_.c_str()}); }

  std::string path_;
  std::vector<std::byte> content_;
  std::string out_;
  std::string err_;
};

TEST_F(StoreToolTest, TheExitCodeSaysHowBadItIs) {
  EXPECT_EQ(Check(), kExitOk) << out_ << err_;
  EXPECT_NE(out_.find("blocks checked: 0 in homes, 2 in the log; bad: 0"), std::string::npos)
      << out_;
  content_[40] ^= std::byte{1};
  Save();
  EXPECT_EQ(Check(), kExitStoreWorn) << out_;
  EXPECT_NE(out_.find("superblock 0"), std::string::npos) << out_;
  content_[store::kSuperblockOffset[1] + 40] ^= std::byte{1};
  Save();
  EXPECT_EQ(Check(), kExitStoreUnusable) << out_;
  content_[40] ^= std::byte{1};
  const uint64_t log = store::ComputeGeometry(content_.size(), 4 << 20)->log_offset();
  for (uint64_t at = log; at < log + (1 << 20); at += 4096) content_[at + 4000] ^= std::byte{1};
  Save();
  EXPECT_EQ(Check(), kExitStoreDamaged) << out_;
  EXPECT_NE(out_.find("chunk 3, block 5"), std::string::npos) << out_;
}

TEST_F(StoreToolTest, WhatIsInUseOrNotThereIsLeftAlone) {
  EXPECT_EQ(Run({"check", "/nowhere/at/all"}), kExitRefused);
  EXPECT_NE(err_.find("/nowhere/at/all: No such file"), std::string::npos) << err_;
  const int used = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(used, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(Check(), kExitRefused);
  EXPECT_NE(err_.find("in use"), std::string::npos) << err_;
  ::close(used);
}

TEST_F(StoreToolTest, DumpsWhatIsAskedFor) {
  EXPECT_EQ(Run({"dump", path_.c_str()}), kExitOk) << err_;
  EXPECT_NE(out_.find("superblock 1 at 524288: sequence"), std::string::npos) << out_;
  EXPECT_EQ(Run({"dump", path_.c_str(), "--slices", "--chunk=1:7:3"}), kExitOk) << err_;
  EXPECT_EQ(out_.find("superblock"), std::string::npos) << out_;
  EXPECT_NE(out_.find("block 6: crc"), std::string::npos) << out_;
  EXPECT_EQ(Run({"dump", path_.c_str(), "--chunk=1:7"}), kExitUsage);
  EXPECT_NE(err_.find("SLICE:VTREE:CHUNK"), std::string::npos) << err_;
}

}  // namespace
}  // namespace gabion::cli
