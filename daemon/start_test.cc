// How daemons start and end, well or badly, each alone.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "daemon/testing/command.h"

namespace gabion::daemon {
namespace {

class StartTest : public testing::Test {
 protected:
  StartTest() : folder_(MakeFolder()) {
    // Held for the whole test: nobody else gets it, and a daemon cannot have it.
    taken_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(name);
    ::bind(taken_, reinterpret_cast<const sockaddr*>(&name), size);
    ::listen(taken_, 1);
    ::getsockname(taken_, reinterpret_cast<sockaddr*>(&name), &size);
    taken_address_ = "127.0.0.1:" + std::to_string(ntohs(name.sin_port));
  }
  ~StartTest() override {
    ::close(taken_);
    std::filesystem::remove_all(folder_);
  }

  // An address of this machine that nobody uses: 127/8 is large, and the process id is ours.
  static std::string FreeAddress() {
    const auto pid = static_cast<unsigned>(::getpid());
    return "127." + std::to_string(1 + (pid >> 16 & 63)) + "." + std::to_string(pid >> 8 & 255) +
           "." + std::to_string(pid & 255) + ":17070";
  }

  std::vector<std::string> MdmArguments() const {
    return {Program("daemon/gabion-mdm"), "--state-dir=" + folder_ + "/state",
            "--listen=" + FreeAddress()};
  }

  static void AwaitText(const std::string& file, const std::string& text) {
    for (int i = 0; i < 6000 && ReadText(file).find(text) == std::string::npos; ++i) {
      ::poll(nullptr, 0, 10);
    }
    EXPECT_NE(ReadText(file).find(text), std::string::npos) << ReadText(file);
  }

  std::string folder_;
  int taken_ = -1;
  std::string taken_address_;
};

TEST_F(StartTest, SigtermEndsCleanlyAndTheNextStartServesTheSameCluster) {
  std::string first;
  for (int round = 0; round < 2; ++round) {
    const std::string log = folder_ + "/log" + std::to_string(round);
    Background mdm(MdmArguments(), log);
    AwaitText(log, "serving cluster");
    mdm.Signal(SIGTERM);
    EXPECT_EQ(mdm.Wait(), 0) << ReadText(log);
    const std::string text = ReadText(log);
    EXPECT_NE(text.find("ended cleanly"), std::string::npos) << text;
    const size_t name = text.find("serving cluster");
    const std::string cluster = text.substr(name, 33);
    if (round == 0) first = cluster;
    EXPECT_EQ(cluster, first);
  }
}

TEST_F(StartTest, PortInUseNamesTheAddress) {
  const CommandResult result = RunShell(Program("daemon/gabion-mdm") + " --state-dir=" + folder_ +
                                        "/state --listen=" + taken_address_);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find(taken_address_), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("in use"), std::string::npos) << result.output;
}

TEST_F(StartTest, NbdPortInUseNamesTheAddress) {
  const CommandResult result =
      RunShell(Program("daemon/gabion-sdc") + " --name=c --mdm=127.0.0.1:1 --state-dir=" + folder_ +
               "/state --nbd-listen=" + taken_address_);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find(taken_address_), std::string::npos) << result.output;
}

TEST_F(StartTest, BadConfigurationNamesFileAndLine) {
  const std::string file = folder_ + "/mdm.conf";
  std::ofstream(file) << "state-dir = /s\n\nlisen = 127.0.0.1:7070\n";
  for (const char* flag : {"", " --check-config"}) {
    const CommandResult result =
        RunShell(Program("daemon/gabion-mdm") + " --config=" + file + flag);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.output.find(file + ":3: unknown key 'lisen'"), std::string::npos)
        << result.output;
  }
}

TEST_F(StartTest, GoodConfigurationIsCheckedWithoutATrace) {
  const std::string file = folder_ + "/mdm.conf";
  std::ofstream(file) << "state-dir = " << folder_ << "/state\n";
  const CommandResult result =
      RunShell(Program("daemon/gabion-mdm") + " --config=" + file + " --check-config");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/state"));
}

TEST_F(StartTest, AddressThatOthersReachIsRefused) {
  const CommandResult result = RunShell(Program("daemon/gabion-mdm") + " --state-dir=" + folder_ +
                                        "/state --listen=0.0.0.0:7070");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.output.find("insecure"), std::string::npos) << result.output;
}

TEST_F(StartTest, SecondDaemonOnAStateFolderIsRefusedAndTheFirstGoesOn) {
  const std::string log = folder_ + "/log";
  Background mdm(MdmArguments(), log);
  AwaitText(log, "serving cluster");
  const CommandResult second = RunShell(Program("daemon/gabion-mdm") + " --state-dir=" + folder_ +
                                        "/state --listen=127.0.0.1:7099");
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_NE(second.output.find("in use by process " + std::to_string(mdm.pid())), std::string::npos)
      << second.output;
  EXPECT_TRUE(mdm.running());
  mdm.Signal(SIGTERM);
  EXPECT_EQ(mdm.Wait(), 0);
}

TEST_F(StartTest, MissingPermissionNamesTheFolder) {
  ASSERT_EQ(::geteuid(), 0u) << "run this test as root: it becomes nobody";
  // Somewhere that nobody may read, beside a folder that nobody may not write.
  const std::string open = "/tmp/gabion-start-test-" + std::to_string(::getpid());
  std::filesystem::create_directory(open);
  std::filesystem::permissions(open, std::filesystem::perms(0755));
  std::filesystem::copy_file(Program("daemon/gabion-mdm"), open + "/gabion-mdm");
  std::filesystem::permissions(open + "/gabion-mdm", std::filesystem::perms(0755));
  std::filesystem::create_directory(open + "/state");
  std::filesystem::permissions(open + "/state", std::filesystem::perms(0700));
  for (const char* state : {"/state", "/missing"}) {
    const CommandResult result =
        RunShell("cd / && setpriv --reuid=65534 --regid=65534 --clear-groups " + open +
                 "/gabion-mdm --listen=" + FreeAddress() + " --state-dir=" + open + state);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_NE(result.output.find("state folder " + open + state), std::string::npos)
        << result.output;
    EXPECT_NE(result.output.find("Permission denied"), std::string::npos) << result.output;
  }
  std::filesystem::remove_all(open);
}

TEST_F(StartTest, TooFewOpenFilesSaysWhatToSet) {
  const CommandResult result =
      RunShell("ulimit -n 100; exec " + Program("daemon/gabion-mdm") + " --state-dir=" + folder_ +
               "/state --listen=" + FreeAddress());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("LimitNOFILE"), std::string::npos) << result.output;
}

TEST_F(StartTest, DaemonWithoutAnMdmWaitsAndEndsCleanly) {
  for (const char* program : {"daemon/gabion-sds", "daemon/gabion-sdc"}) {
    const std::string log = folder_ + "/log-" + std::filesystem::path(program).filename().string();
    std::vector<std::string> arguments = {
        Program(program), "--name=a", "--mdm=" + taken_address_,
        "--state-dir=" + folder_ + "/state-" + std::filesystem::path(program).filename().string(),
        "--log=json"};
    if (std::string(program).ends_with("sds")) {
      arguments.push_back("--listen=" + FreeAddress());
    } else {
      arguments.push_back("--nbd-socket=" + folder_ + "/nbd.sock");
    }
    Background daemon(arguments, log);
    AwaitText(log, "\"level\":\"info\"");
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Wait(), 0) << ReadText(log);
  }
}

}  // namespace
}  // namespace gabion::daemon
