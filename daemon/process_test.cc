#include "daemon/process.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

namespace gabion::daemon {
namespace {

class TempDir {
 public:
  TempDir() {
    char path[] = "/tmp/gabion-process-test-XXXXXX";
    if (::mkdtemp(path) != nullptr) path_ = path;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(StateDir, IsMadeForItsOwnerAlone) {
  const TempDir temp;
  const auto locked = StateDir::Lock(temp.path() + "/state");
  ASSERT_TRUE(locked) << locked.error().message;
  struct stat status {};
  ASSERT_EQ(::stat(locked->path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0700u);
}

TEST(StateDir, SecondHolderIsRefusedByNameAndMayFollowTheFirst) {
  const TempDir temp;
  std::optional<Result<StateDir>> first(StateDir::Lock(temp.path()));
  ASSERT_TRUE(first->has_value());
  const auto second = StateDir::Lock(temp.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_NE(second.error().message.find(temp.path()), std::string::npos);
  EXPECT_NE(second.error().message.find("process " + std::to_string(::getpid())),
            std::string::npos);
  first.reset();
  EXPECT_TRUE(StateDir::Lock(temp.path()));
}

TEST(StateDir, ItsLockHasANameThatNoCopyHas) {
  const TempDir temp;
  EXPECT_EQ(StateDir::NameOfLock(temp.path()), "") << "there is no lock";
  ASSERT_TRUE(StateDir::Lock(temp.path()));
  const std::string name = StateDir::NameOfLock(temp.path());
  EXPECT_FALSE(name.empty());
  ASSERT_TRUE(StateDir::Lock(temp.path()));
  EXPECT_EQ(StateDir::NameOfLock(temp.path()), name) << "the same folder, locked again";
  const TempDir copies;
  std::filesystem::copy(temp.path(), copies.path() + "/copy");
  EXPECT_NE(StateDir::NameOfLock(copies.path() + "/copy"), name);
}

TEST(StateDir, MissingParentAndPlainFilesAreRefused) {
  const TempDir temp;
  EXPECT_FALSE(StateDir::Lock(temp.path() + "/a/b"));
  const auto on_file = StateDir::Lock("/dev/null");
  ASSERT_FALSE(on_file);
  EXPECT_NE(on_file.error().message.find("/dev/null"), std::string::npos);
}

TEST(OpenFiles, RaisesTheSoftLimitAndRefusesTooFew) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const auto raised = RaiseOpenFiles(1);
  ASSERT_TRUE(raised);
  EXPECT_EQ(*raised, limit.rlim_max);
  if (limit.rlim_max != RLIM_INFINITY) {
    const auto refused = RaiseOpenFiles(limit.rlim_max + 1);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("LimitNOFILE"), std::string::npos);
  }
}

TEST(Supervisor, HearsTheStateOnItsSocket) {
  const TempDir temp;
  const std::string path = temp.path() + "/notify";
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(fd, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  NotifySupervisor("READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  char text[32] = {};
  ASSERT_EQ(::recv(fd, text, sizeof(text), MSG_DONTWAIT), 7);
  EXPECT_STREQ(text, "READY=1");
  ::close(fd);
}

TEST(Supervisor, WantsSignsOfLifeTwiceInItsPatience) {
  EXPECT_EQ(WatchdogInterval(), Duration(0));
  ::setenv("WATCHDOG_USEC", "300000", 1);
  EXPECT_EQ(WatchdogInterval(), std::chrono::milliseconds(150));
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(WatchdogInterval(), std::chrono::milliseconds(150));
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(WatchdogInterval(), Duration(0)) << "meant for another process";
  ::unsetenv("WATCHDOG_PID");
  for (const char* text : {"", "-5", "soon", "10x"}) {
    ::setenv("WATCHDOG_USEC", text, 1);
    EXPECT_EQ(WatchdogInterval(), Duration(0)) << text;
  }
  ::unsetenv("WATCHDOG_USEC");
}

TEST(Usage, CountsThisProcess) {
  const Usage usage = ReadUsage();
  EXPECT_GT(usage.resident_bytes, 1u << 20);
  EXPECT_GE(usage.open_files, 3u);
}

}  // namespace
}  // namespace gabion::daemon
