// Processes that `gabion dev` starts and ends. A pid alone may have been reused; with its start
// time it names one process for ever.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace gabion::cli {

struct ProcessId {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // since boot; field 22 of /proc/PID/stat

  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

struct ProcessStats {
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;
};

// "PID TICKS\n", as in a pid file.
std::string FormatProcessId(const ProcessId& id);
std::optional<ProcessId> ParseProcessId(const std::string& text);

// Starts `argv` in a session of its own, with no input and output appended to `log`; writes
// `pid_file` before the program runs. Errors: the log or the program cannot be opened.
Result<ProcessId> Spawn(const std::vector<std::string>& argv, const std::string& log,
                        const std::string& pid_file);

// The process of a pid file, if it lives and runs `program` (name of the executable).
std::optional<ProcessId> FindProcess(const std::string& pid_file, const std::string& program);

// Nullopt when it has ended.
std::optional<ProcessStats> ReadStats(const ProcessId& id);

// A process held by descriptor: signals can never reach a later process of the same pid.
class ProcessHandle {
 public:
  static std::optional<ProcessHandle> Open(const ProcessId& id);
  ProcessHandle(ProcessHandle&& other) noexcept;
  ProcessHandle& operator=(ProcessHandle&&) = delete;
  ~ProcessHandle();

  void Signal(int signal);
  // True when it has ended within `limit`.
  bool WaitForEnd(std::chrono::milliseconds limit);

 private:
  ProcessHandle(int fd, pid_t pid) : fd_(fd), pid_(pid) {}

  int fd_ = -1;
  pid_t pid_ = 0;
};

}  // namespace gabion::cli
