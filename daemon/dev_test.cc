// `gabion dev`: what somebody may do to a cluster in a folder, in the wrong order and at the wrong
// time.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "daemon/testing/command.h"

namespace gabion::daemon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShape = " --sds=2 --devices=1 --device-size=128M --slices=8";

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class Dev : public testing::Test {
 protected:
  Dev() : parent_(MakeFolder()), dir_(parent_ + "/a cluster") {}
  ~Dev() override {
    if (fs::exists(dir_ + "/gabion.conf")) Gabion("dev down");
    fs::remove_all(parent_);
  }

  CommandResult Gabion(const std::string& arguments) const {
    return RunShell(Program("cli/gabion") + " " + arguments + " --dir=\"" + dir_ + "\"");
  }

  std::string parent_;
  std::string dir_;
};

TEST_F(Dev, AFolderWithSpacesWorksAndUpMayBeRepeated) {
  const CommandResult first = Gabion(std::string("dev up") + kShape);
  ASSERT_EQ(first.exit_code, 0) << first.output;
  EXPECT_TRUE(Contains(first.output, "The cluster runs")) << first.output;
  ASSERT_EQ(Gabion("volume create v1 --size=64M").exit_code, 0);
  const CommandResult again = Gabion("dev up");
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(Contains(Gabion("volume list").output, "v1"));
  const CommandResult status = Gabion("dev status --output=json");
  EXPECT_EQ(status.exit_code, 0) << status.output;
  EXPECT_EQ(RunShell("python3 -m json.tool <<'END'\n" + status.output + "\nEND").exit_code, 0)
      << status.output;
  EXPECT_EQ(Gabion("dev down").exit_code, 0);
  // Down twice is no mistake; up again has the volume.
  EXPECT_EQ(Gabion("dev down").exit_code, 0);
  ASSERT_EQ(Gabion("dev up").exit_code, 0);
  EXPECT_TRUE(Contains(Gabion("volume list").output, "v1"));
  const CommandResult deleted = Gabion("dev down --delete");
  EXPECT_EQ(deleted.exit_code, 0) << deleted.output;
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(Dev, ACrashedClusterCanBeEndedAndStartedAgain) {
  ASSERT_EQ(Gabion(std::string("dev up") + kShape).exit_code, 0);
  ASSERT_EQ(Gabion("dev kill sds1 sds2 mdm1").exit_code, 0);
  const CommandResult killed = Gabion("dev kill sds1");
  EXPECT_EQ(killed.exit_code, 1);
  EXPECT_TRUE(Contains(killed.output, "gabion dev start sds1")) << killed.output;
  const CommandResult status = Gabion("dev status");
  EXPECT_EQ(status.exit_code, 3) << status.output;
  EXPECT_TRUE(Contains(status.output, "down")) << status.output;
  const CommandResult down = Gabion("dev down");
  EXPECT_EQ(down.exit_code, 0) << down.output;
  EXPECT_EQ(Gabion("dev up").exit_code, 0);
}

TEST_F(Dev, TooLittleDiskLeavesNothingBehind) {
  const CommandResult result = Gabion("dev up --device-size=500T");
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_TRUE(Contains(result.output, "--device-size")) << result.output;
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(Dev, AFolderOfSomebodyElseIsLeftAlone) {
  fs::create_directory(dir_);
  std::ofstream(dir_ + "/letter.txt") << "dear";
  const CommandResult up = Gabion(std::string("dev up") + kShape);
  EXPECT_EQ(up.exit_code, 1);
  EXPECT_TRUE(Contains(up.output, "not empty")) << up.output;
  for (const char* command : {"dev down --delete", "dev status", "dev start sds1"}) {
    const CommandResult result = Gabion(command);
    EXPECT_EQ(result.exit_code, 2) << command;
    EXPECT_TRUE(Contains(result.output, "is no cluster of gabion dev")) << result.output;
  }
  EXPECT_EQ(ReadText(dir_ + "/letter.txt"), "dear");
}

TEST_F(Dev, WhatAnInterruptedUpLeftIsMadeAnew) {
  // As after Ctrl-C between the first and the last file.
  for (const char* folder : {"", "/logs", "/devices", "/sds1"}) fs::create_directory(dir_ + folder);
  std::ofstream(dir_ + "/.unfinished") << "# Made by gabion dev up.\n";
  std::ofstream(dir_ + "/devices/sds1-1.img") << "half";
  const CommandResult up = Gabion(std::string("dev up") + kShape);
  EXPECT_EQ(up.exit_code, 0) << up.output;
  EXPECT_FALSE(fs::exists(dir_ + "/.unfinished"));
}

TEST_F(Dev, AnInterruptedUpCanBeRepeatedAtAnyTime) {
  for (const int millis : {1, 20, 100, 300}) {
    Background up({Program("cli/gabion"), "dev", "up", "--dir=" + dir_, "--sds=2", "--devices=1",
                   "--device-size=128M", "--slices=8"},
                  parent_ + "/log");
    ::poll(nullptr, 0, millis);
    up.Signal(SIGINT);
    up.Wait();
  }
  const CommandResult up = Gabion(std::string("dev up") + kShape);
  EXPECT_EQ(up.exit_code, 0) << up.output;
  EXPECT_EQ(Gabion("volume create v1 --size=64M").exit_code, 0);
}

}  // namespace
}  // namespace gabion::daemon
