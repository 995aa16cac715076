#include "daemon/testing/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "core/base/check.h"

namespace gabion::daemon {

namespace {

constexpr int kLimitMillis = 120'000;

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

CommandResult RunShell(const std::string& command) {
  CommandResult result;
  std::string quoted;
  for (const char c : command) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  FILE* pipe = ::popen(("timeout 120 bash -c '" + quoted + "' 2>&1").c_str(), "re");
  CHECK(pipe != nullptr);
  std::array<char, 4096> bytes;
  while (const size_t size = std::fread(bytes.data(), 1, bytes.size(), pipe)) {
    result.output.append(bytes.data(), size);
  }
  result.exit_code = ExitCode(::pclose(pipe));
  return result;
}

Background::Background(const std::vector<std::string>& argv, const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_ = ::fork();
  CHECK_GE(pid_, 0);
  if (pid_ == 0) {
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
}

Background::~Background() {
  if (!running()) return;
  Signal(SIGKILL);
  Wait();
}

void Background::Signal(int signal) {
  if (running()) ::kill(pid_, signal);
}

bool Background::running() {
  int status = 0;
  if (!ended_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = true;
    exit_code_ = ExitCode(status);
  }
  return !ended_;
}

int Background::Wait() {
  if (!running()) return exit_code_;
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  CHECK_GE(fd, 0);
  pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&poll, 1, kLimitMillis) <= 0) ::kill(pid_, SIGKILL);
  ::close(fd);
  int status = 0;
  CHECK_EQ(::waitpid(pid_, &status, 0), pid_);
  ended_ = true;
  exit_code_ = ExitCode(status);
  return exit_code_;
}

std::string Program(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  CHECK(real != nullptr) << path;
  std::string result = real;
  ::free(real);
  return result;
}

std::string MakeFolder() {
  // Not TEST_TMPDIR: a Unix socket's path ends at 107 characters. Not /tmp: it may be in memory,
  // and these tests are about disks.
  std::string path = "/var/tmp/gabion-XXXXXX";
  CHECK(::mkdtemp(path.data()) != nullptr) << path;
  return path;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

bool AwaitText(const std::string& path, const std::string& text) {
  for (int waited = 0; waited < kLimitMillis; waited += 10) {
    if (ReadText(path).find(text) != std::string::npos) return true;
    ::poll(nullptr, 0, 10);
  }
  return false;
}

std::string FreeAddress() {
  const auto pid = static_cast<unsigned>(::getpid());
  return "127." + std::to_string(1 + (pid >> 16 & 63)) + "." + std::to_string(pid >> 8 & 255) +
         "." + std::to_string(pid & 255) + ":17070";
}

}  // namespace gabion::daemon
