#include "daemon/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

namespace gabion::daemon {

namespace {

// The pid that the holder wrote, for the message; "another process" when it is not there.
std::string Holder(int fd) {
  char text[32] = {};
  const ssize_t size = ::pread(fd, text, sizeof(text) - 1, 0);
  const long pid = size > 0 ? std::strtol(text, nullptr, 10) : 0;
  return pid > 0 ? "process " + std::to_string(pid) : "another process";
}

}  // namespace

Result<StateDir> StateDir::Lock(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Err(ErrorCode::kPermission,
               "state folder %s cannot be made: %s; make it, owned by the daemon's user",
               path.c_str(), std::strerror(errno));
  }
  const std::string file = path + "/lock";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return Err(ErrorCode::kPermission,
               "state folder %s cannot be written: %s; it must belong to the daemon's user",
               path.c_str(), std::strerror(errno));
  }
  StateDir result(path, fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Err(
          ErrorCode::kConflict,
          "state folder %s is in use by %s; stop that one, or give this daemon its own folder",
          path.c_str(), Holder(fd).c_str());
    }
    return Err(ErrorCode::kIoError, "state folder %s: flock: %s; it must be on a local file system",
               path.c_str(), std::strerror(errno));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return Err(ErrorCode::kNoSpace, "state folder %s: cannot write: %s", path.c_str(),
               std::strerror(errno));
  }
  return result;
}

std::string StateDir::NameOfLock(const std::string& path) {
  struct stat status {};
  if (::stat((path + "/lock").c_str(), &status) != 0) return "";
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  if (!std::getline(file, boot) || boot.empty()) return "";
  return boot + "/" + std::to_string(status.st_dev) + "/" + std::to_string(status.st_ino);
}

StateDir::StateDir(StateDir&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

StateDir::~StateDir() {
  if (fd_ >= 0) ::close(fd_);
}

Result<uint64_t> RaiseOpenFiles(uint64_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return Err(ErrorCode::kLimit, "open files: %s", std::strerror(errno));
  }
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur < wanted) {
    return Err(
        ErrorCode::kLimit,
        "%llu open files are allowed, %llu are needed; raise the hard limit: LimitNOFILE= in "
        "the systemd unit, or `ulimit -Hn`",
        static_cast<unsigned long long>(limit.rlim_cur), static_cast<unsigned long long>(wanted));
  }
  return uint64_t{limit.rlim_cur};
}

void NotifySupervisor(const std::string& state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t size = std::strlen(path);
  if (size >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, path, size);
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract name space
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  ::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
           reinterpret_cast<const sockaddr*>(&address),
           static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size));
  ::close(fd);
}

Duration WatchdogInterval() {
  const char* text = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  if (text == nullptr || (pid != nullptr && std::to_string(::getpid()) != pid)) return {};
  uint64_t microseconds = 0;
  const char* const end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, microseconds);
  if (parsed.ec != std::errc() || parsed.ptr != end) return {};
  // Half of it, as systemd asks for; a day is as good as for ever.
  return std::chrono::microseconds(std::min<uint64_t>(microseconds, 86'400'000'000) / 2);
}

Usage ReadUsage() {
  Usage usage;
  rusage self{};
  if (::getrusage(RUSAGE_SELF, &self) == 0) {
    const auto micros = [](const timeval& time) {
      return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_usec);
    };
    usage.cpu_microseconds = micros(self.ru_utime) + micros(self.ru_stime);
  }
  if (FILE* file = std::fopen("/proc/self/statm", "re"); file != nullptr) {
    unsigned long long total = 0;
    unsigned long long resident = 0;
    if (std::fscanf(file, "%llu %llu", &total, &resident) == 2) {
      usage.resident_bytes = resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    }
    std::fclose(file);
  }
  if (DIR* folder = ::opendir("/proc/self/fd"); folder != nullptr) {
    while (::readdir(folder) != nullptr) ++usage.open_files;
    ::closedir(folder);
    usage.open_files -= usage.open_files < 3 ? usage.open_files : 3;  // ".", "..", and the folder
  }
  return usage;
}

}  // namespace gabion::daemon
