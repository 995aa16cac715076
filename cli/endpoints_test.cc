#include "cli/endpoints.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "cli/files.h"

namespace gabion::cli {
namespace {

class EndpointsTest : public testing::Test {
 protected:
  EndpointsTest() {
    char path[] = "/tmp/gabion-endpoints-test-XXXXXX";
    if (::mkdtemp(path) != nullptr) dir_ = path;
    ::setenv("XDG_CONFIG_HOME", dir_.c_str(), 1);
    ::unsetenv("GABION_MDM");
  }
  ~EndpointsTest() override {
    std::filesystem::remove_all(dir_);
    ::unsetenv("GABION_MDM");
  }

  std::string dir_;
};

TEST_F(EndpointsTest, FlagWinsThenFolderThenEnvironmentThenUserFile) {
  std::filesystem::create_directories(dir_ + "/gabion");
  std::filesystem::create_directories(dir_ + "/cluster");
  ASSERT_TRUE(WriteFile(dir_ + "/gabion/gabion.conf", "# mine\nmdm = user:1\nmdm = user:2\n"));
  ASSERT_TRUE(WriteFile(dir_ + "/cluster/gabion.conf", "mdm = folder:1\n"));
  Common common;
  EXPECT_EQ(*FindEndpoints(common), (std::vector<std::string>{"user:1", "user:2"}));
  ::setenv("GABION_MDM", "env:1, env:2", 1);
  EXPECT_EQ(*FindEndpoints(common), (std::vector<std::string>{"env:1", "env:2"}));
  common.dir = dir_ + "/cluster";
  EXPECT_EQ(*FindEndpoints(common), (std::vector<std::string>{"folder:1"}));
  common.mdms = {"flag:1"};
  EXPECT_EQ(*FindEndpoints(common), (std::vector<std::string>{"flag:1"}));
}

TEST_F(EndpointsTest, NothingKnownSaysWhatToSet) {
  const auto found = FindEndpoints({});
  ASSERT_FALSE(found);
  for (const char* part : {"--mdm", "GABION_MDM", "gabion.conf", "--dir"}) {
    EXPECT_NE(found.error().message.find(part), std::string::npos) << part;
  }
}

TEST_F(EndpointsTest, FolderWithoutClusterAndBadFilesAreRefused) {
  Common common;
  common.dir = dir_;
  EXPECT_NE(FindEndpoints(common).error().message.find("dev up --dir=" + dir_), std::string::npos);
  ASSERT_TRUE(WriteFile(dir_ + "/gabion.conf", "mdm = a:1\nmdmm = b:1\n"));
  EXPECT_NE(FindEndpoints(common).error().message.find("gabion.conf:2"), std::string::npos);
  ASSERT_TRUE(WriteFile(dir_ + "/gabion.conf", "\n"));
  EXPECT_NE(FindEndpoints(common).error().message.find("names no MDM"), std::string::npos);
}

}  // namespace
}  // namespace gabion::cli
