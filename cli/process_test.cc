#include "cli/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "cli/files.h"

namespace gabion::cli {
namespace {

class ProcessTest : public testing::Test {
 protected:
  ProcessTest() {
    char path[] = "/tmp/gabion-cli-process-test-XXXXXX";
    if (::mkdtemp(path) != nullptr) dir_ = path;
  }
  ~ProcessTest() override { std::filesystem::remove_all(dir_); }

  std::string dir_;
};

// `cat` without input ends at once; a FIFO that nobody opens for writing makes it wait for ever.
std::string Fifo(const std::string& dir) {
  const std::string path = dir + "/fifo";
  EXPECT_EQ(::system(("mkfifo " + path).c_str()), 0);
  return path;
}

TEST_F(ProcessTest, IsFoundByItsPidFileAndEndsByItsHandle) {
  const auto id = Spawn({"/bin/cat", Fifo(dir_)}, dir_ + "/log", dir_ + "/pid");
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_EQ(FindProcess(dir_ + "/pid", "cat"), *id);
  EXPECT_EQ(FindProcess(dir_ + "/pid", "dog"), std::nullopt);
  ASSERT_TRUE(ReadStats(*id));
  EXPECT_NE(::getpgid(id->pid), ::getpgid(0));

  std::optional<ProcessHandle> handle = ProcessHandle::Open(*id);
  ASSERT_TRUE(handle);
  EXPECT_FALSE(handle->WaitForEnd(std::chrono::milliseconds(0)));
  handle->Signal(SIGKILL);
  EXPECT_TRUE(handle->WaitForEnd(std::chrono::seconds(60)));
  EXPECT_EQ(FindProcess(dir_ + "/pid", "cat"), std::nullopt);
  EXPECT_FALSE(ProcessHandle::Open(*id));
}

TEST_F(ProcessTest, AnotherProcessUnderTheSamePidIsNotFound) {
  const auto self = ParseProcessId(std::to_string(::getpid()) + " 1");
  ASSERT_TRUE(self);
  ASSERT_TRUE(WriteFile(dir_ + "/pid", FormatProcessId(*self)));
  EXPECT_EQ(FindProcess(dir_ + "/pid", "process_test"), std::nullopt);
  EXPECT_FALSE(ProcessHandle::Open(*self));
  EXPECT_FALSE(ReadStats(*self));
}

TEST_F(ProcessTest, ProgramThatCannotRunIsAnErrorWithItsName) {
  const auto id = Spawn({"/does/not/exist"}, dir_ + "/log", dir_ + "/pid");
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().message, "cannot start /does/not/exist: No such file or directory");
  EXPECT_FALSE(ReadFile(dir_ + "/pid"));
}

TEST_F(ProcessTest, OutputGoesToTheLog) {
  const auto id = Spawn({"/bin/echo", "hello"}, dir_ + "/log", dir_ + "/pid");
  ASSERT_TRUE(id);
  if (auto handle = ProcessHandle::Open(*id)) handle->WaitForEnd(std::chrono::seconds(60));
  EXPECT_EQ(ReadFile(dir_ + "/log"), "hello\n");
  EXPECT_EQ(Tail(dir_ + "/log", 5), "  hello\n");
}

TEST(ProcessId, PidFilesOfOthersAreRefused) {
  for (const char* text : {"", "x", "12", "1 5", "0 5", "-4 5"}) {
    EXPECT_FALSE(ParseProcessId(text)) << text;
  }
  EXPECT_EQ(ParseProcessId("12 34\n"), (ProcessId{12, 34}));
}

TEST(Files, TailKeepsTheLastLines) {
  char path[] = "/tmp/gabion-cli-tail-test-XXXXXX";
  ::close(::mkstemp(path));
  ASSERT_TRUE(WriteFile(path, "1\n2\n3\n"));
  EXPECT_EQ(Tail(path, 2), "  2\n  3\n");
  EXPECT_EQ(Tail(path, 9), "  1\n  2\n  3\n");
  ASSERT_TRUE(WriteFile(path, "1\n2"));
  EXPECT_EQ(Tail(path, 1), "  2\n");
  std::filesystem::remove(path);
  EXPECT_EQ(Tail(path, 1), "  (empty)\n");
}

}  // namespace
}  // namespace gabion::cli
