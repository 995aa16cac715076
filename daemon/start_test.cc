// How daemons start and end, well or badly, each alone.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
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

  std::vector<std::string> MdmArguments() const {
    return {Program("daemon/gabion-mdm"), "--state-dir=" + folder_ + "/state",
            "--listen=" + FreeAddress()};
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
    ASSERT_TRUE(AwaitText(log, "serving cluster")) << ReadText(log);
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
  ASSERT_TRUE(AwaitText(log, "serving cluster")) << ReadText(log);
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
    ASSERT_TRUE(AwaitText(log, "\"level\":\"info\"")) << ReadText(log);
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Wait(), 0) << ReadText(log);
  }
}

TEST_F(StartTest, MetricsPortInUseNamesTheAddress) {
  const CommandResult result =
      RunShell(Program("daemon/gabion-mdm") + " --state-dir=" + folder_ +
               "/state --listen=" + FreeAddress() + " --metrics-listen=" + taken_address_);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("metrics-listen"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find(taken_address_), std::string::npos) << result.output;
}

TEST_F(StartTest, NbdSocketOfALiveDaemonIsNotTakenAndThatOfADeadOneIs) {
  const std::string path = folder_ + "/nbd.sock";
  const auto arguments = [&](const std::string& name) {
    return std::vector<std::string>{Program("daemon/gabion-sdc"), "--name=" + name,
                                    "--mdm=" + taken_address_, "--nbd-socket=" + path,
                                    "--state-dir=" + folder_ + "/" + name};
  };
  const std::string log = folder_ + "/log";
  {
    Background first(arguments("first"), log);
    ASSERT_TRUE(AwaitText(log, "NBD exports on " + path)) << ReadText(log);
    const std::string second_log = folder_ + "/log2";
    Background second(arguments("second"), second_log);
    EXPECT_EQ(second.Wait(), 1);
    EXPECT_NE(ReadText(second_log).find(path), std::string::npos) << ReadText(second_log);
    EXPECT_TRUE(first.running());
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  // The first one was killed and has left its socket.
  ASSERT_TRUE(std::filesystem::exists(path));
  const std::string third_log = folder_ + "/log3";
  Background third(arguments("third"), third_log);
  EXPECT_TRUE(AwaitText(third_log, "NBD exports on " + path)) << ReadText(third_log);
}

TEST_F(StartTest, FullDiskNamesTheStateAndTheWayOut) {
  ASSERT_EQ(::geteuid(), 0u) << "run this test as root: it mounts a small file system";
  const std::string mount = folder_ + "/small";
  const CommandResult made =
      RunShell("set -e; mkdir " + mount + "; truncate -s 16M " + folder_ + "/disk; mkfs.ext4 -q " +
               folder_ + "/disk; mount -o loop " + folder_ + "/disk " + mount);
  ASSERT_EQ(made.exit_code, 0) << made.output;
  const CommandResult result = RunShell(Program("daemon/gabion-mdm") + " --state-dir=" + mount +
                                        "/state --listen=" + FreeAddress());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find(mount + "/state"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("No space left"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("make room"), std::string::npos) << result.output;
  // Nothing half made stays behind that would pass for a state the next time.
  EXPECT_FALSE(std::filesystem::exists(mount + "/state/state"));
  EXPECT_EQ(RunShell("umount " + mount).exit_code, 0);
}

// What a supervisor hears, as systemd would.
class NotifyTest : public StartTest {
 protected:
  NotifyTest() : path_(folder_ + "/notify"), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, path_.c_str(), sizeof(name.sun_path) - 1);
    ::bind(fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  }
  ~NotifyTest() override { ::close(fd_); }

  // The next message; empty after a minute of silence.
  std::string Next() const {
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 60'000) != 1) return "";
    char text[64] = {};
    const ssize_t size = ::recv(fd_, text, sizeof(text) - 1, 0);
    return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
  }

  std::string path_;
  int fd_;
};

TEST_F(NotifyTest, HearsReadyThenSignsOfLifeThenStopping) {
  ASSERT_GE(fd_, 0);
  const std::string log = folder_ + "/log";
  std::vector<std::string> arguments = MdmArguments();
  arguments.insert(arguments.begin(), {"env", "NOTIFY_SOCKET=" + path_, "WATCHDOG_USEC=100000"});
  Background mdm(arguments, log);
  EXPECT_EQ(Next(), "READY=1") << ReadText(log);
  // Also while it has nothing to do.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Next(), "WATCHDOG=1") << ReadText(log);
  mdm.Signal(SIGTERM);
  std::string heard = "WATCHDOG=1";
  while (heard == "WATCHDOG=1") heard = Next();
  EXPECT_EQ(heard, "STOPPING=1");
  EXPECT_EQ(mdm.Wait(), 0);
}

TEST_F(NotifyTest, ADaemonThatCannotStartIsNeverReady) {
  const CommandResult result =
      RunShell("NOTIFY_SOCKET=" + path_ + " " + Program("daemon/gabion-mdm") +
               " --state-dir=" + folder_ + "/state --listen=" + taken_address_);
  EXPECT_EQ(result.exit_code, 1);
  char byte = 0;
  EXPECT_LT(::recv(fd_, &byte, 1, MSG_DONTWAIT), 0);
}

TEST_F(StartTest, SystemdUnderstandsTheUnits) {
  const CommandResult result =
      RunShell("set -e; mkdir " + folder_ +
               "/units; for unit in daemon/systemd/*.service; do sed "
               "'s#/usr/bin/gabion-[a-z]*#/bin/true#' $unit > " +
               folder_ + "/units/$(basename $unit); done; systemd-analyze verify --man=no " +
               folder_ + "/units/*.service");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(result.output, "") << "an unknown key is only a warning";
}

}  // namespace
}  // namespace gabion::daemon
