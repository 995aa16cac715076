#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <utility>

#include "cli/files.h"

namespace gabion::cli {

namespace {

struct Stat {
  char state = 0;
  uint64_t cpu_ticks = 0;  // user and system
  uint64_t start_ticks = 0;
};

// /proc/PID/stat; the name in it, in parentheses, may hold anything.
std::optional<Stat> ReadStat(pid_t pid) {
  const auto text = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return std::nullopt;
  const size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text->substr(name_end + 1));
  Stat result;
  std::string skipped;
  uint64_t user = 0;
  uint64_t system = 0;
  fields >> result.state;                           // field 3
  for (int i = 4; i < 14; ++i) fields >> skipped;   // up to field 13
  fields >> user >> system;                         // 14, 15
  for (int i = 16; i < 22; ++i) fields >> skipped;  // up to field 21
  fields >> result.start_ticks;                     // 22
  if (!fields) return std::nullopt;
  result.cpu_ticks = user + system;
  return result;
}

bool Lives(const ProcessId& id) {
  const std::optional<Stat> stat = ReadStat(id.pid);
  return stat && stat->start_ticks == id.start_ticks && stat->state != 'Z' && stat->state != 'X';
}

// The file name of the program that it runs, though the file may have been replaced.
std::string ProgramOf(pid_t pid) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/" + std::to_string(pid) + "/exe";
  const ssize_t size = ::readlink(link.c_str(), path.data(), path.size());
  if (size <= 0) return "";
  std::string result(path.data(), static_cast<size_t>(size));
  constexpr std::string_view kDeleted = " (deleted)";
  if (result.ends_with(kDeleted)) result.resize(result.size() - kDeleted.size());
  return result.substr(result.rfind('/') + 1);
}

// The child of Spawn. Returns only when something failed, with errno.
void BecomeProgram(const std::vector<std::string>& argv, int log_fd, const std::string& pid_file) {
  ::setsid();
  const int null_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd < 0 || ::dup2(null_fd, STDIN_FILENO) < 0 || ::dup2(log_fd, STDOUT_FILENO) < 0 ||
      ::dup2(log_fd, STDERR_FILENO) < 0) {
    return;
  }
  // Blocked signals would be inherited.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const std::optional<Stat> stat = ReadStat(::getpid());
  if (!stat || !WriteFile(pid_file, FormatProcessId({::getpid(), stat->start_ticks}))) {
    errno = EIO;
    return;
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
}

}  // namespace

std::string FormatProcessId(const ProcessId& id) {
  return std::to_string(id.pid) + " " + std::to_string(id.start_ticks) + "\n";
}

std::optional<ProcessId> ParseProcessId(const std::string& text) {
  std::istringstream fields(text);
  ProcessId id;
  fields >> id.pid >> id.start_ticks;
  if (!fields || id.pid <= 1) return std::nullopt;
  return id;
}

Result<ProcessId> Spawn(const std::vector<std::string>& argv, const std::string& log,
                        const std::string& pid_file) {
  const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd < 0) {
    return Err(ErrorCode::kIoError, "log %s: %s", log.c_str(), std::strerror(errno));
  }
  // Closed by a successful exec; otherwise it brings the error number.
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) {
    ::close(log_fd);
    return Err(ErrorCode::kLimit, "pipe: %s", std::strerror(errno));
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    BecomeProgram(argv, log_fd, pid_file);
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(report[1], &error, sizeof(error));
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(log_fd);
  ::close(report[1]);
  if (pid < 0) {
    ::close(report[0]);
    return Err(ErrorCode::kLimit, "fork: %s", std::strerror(fork_error));
  }
  int error = 0;
  ssize_t size = 0;
  while ((size = ::read(report[0], &error, sizeof(error))) < 0 && errno == EINTR) {
  }
  ::close(report[0]);
  if (size == static_cast<ssize_t>(sizeof(error))) {
    ::waitpid(pid, nullptr, 0);
    ::unlink(pid_file.c_str());
    return Err(ErrorCode::kNotFound, "cannot start %s: %s", argv[0].c_str(), std::strerror(error));
  }
  const auto id = ParseProcessId(ReadFile(pid_file).value_or(""));
  if (!id) return Err(ErrorCode::kIoError, "pid file %s cannot be read", pid_file.c_str());
  return *id;
}

std::optional<ProcessId> FindProcess(const std::string& pid_file, const std::string& program) {
  const auto id = ParseProcessId(ReadFile(pid_file).value_or(""));
  if (!id || !Lives(*id) || ProgramOf(id->pid) != program) return std::nullopt;
  return id;
}

std::optional<ProcessStats> ReadStats(const ProcessId& id) {
  const std::optional<Stat> stat = ReadStat(id.pid);
  if (!stat || stat->start_ticks != id.start_ticks) return std::nullopt;
  ProcessStats result;
  result.cpu_seconds =
      static_cast<double>(stat->cpu_ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  std::istringstream memory(ReadFile("/proc/" + std::to_string(id.pid) + "/statm").value_or(""));
  uint64_t total = 0;
  uint64_t resident = 0;
  if (memory >> total >> resident) {
    result.resident_bytes = resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  return result;
}

std::optional<ProcessHandle> ProcessHandle::Open(const ProcessId& id) {
  // Not through <sys/pidfd.h>: Debian 12's lacks C linkage.
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, id.pid, 0));
  if (fd < 0) return std::nullopt;
  ProcessHandle handle(fd, id.pid);
  // Checked after the descriptor is held: the pid cannot be reused in between unnoticed.
  if (!Lives(id)) return std::nullopt;
  return handle;
}

ProcessHandle::ProcessHandle(ProcessHandle&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pid_(other.pid_) {}

ProcessHandle::~ProcessHandle() {
  if (fd_ >= 0) ::close(fd_);
}

void ProcessHandle::Signal(int signal) {
  ::syscall(SYS_pidfd_send_signal, fd_, signal, nullptr, 0);
}

bool ProcessHandle::WaitForEnd(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd poll{.fd = fd_, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready > 0) {
      ::waitpid(pid_, nullptr, WNOHANG);  // when it is a child of ours
      return true;
    }
    if (ready == 0 || errno != EINTR) return false;
  }
}

}  // namespace gabion::cli
