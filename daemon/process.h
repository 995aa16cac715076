// What a daemon arranges with the system before it starts: its state folder, its limits, and the
// word to systemd.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"
#include "core/base/time.h"

namespace gabion::daemon {

// The state folder, held exclusively until destruction or the end of the process (R22 rests on it).
class StateDir {
 public:
  // Makes the folder when it is missing (its parent must exist). Errors name the folder, the reason
  // (who holds it, what is not permitted) and the way out.
  static Result<StateDir> Lock(const std::string& path);

  StateDir(StateDir&& other) noexcept;
  StateDir& operator=(StateDir&&) = delete;
  ~StateDir();

  const std::string& path() const { return path_; }

  // Names the lock and the boot of this host that enforces it: who shows the same name holds, or
  // held, this very lock. Empty when the system does not tell.
  static std::string NameOfLock(const std::string& path);

 private:
  StateDir(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
};

// Raises the soft limit of open files to the hard one and returns it; an error when that is under
// `wanted`.
Result<uint64_t> RaiseOpenFiles(uint64_t wanted);

// sd_notify(3): "READY=1", "STOPPING=1", "WATCHDOG=1". Does nothing without NOTIFY_SOCKET.
void NotifySupervisor(const std::string& state);
// How often a supervisor wants to hear WATCHDOG=1: half of WATCHDOG_USEC; 0: never.
Duration WatchdogInterval();

struct Usage {
  uint64_t cpu_microseconds = 0;  // user and system
  uint64_t resident_bytes = 0;
  uint64_t open_files = 0;
};
Usage ReadUsage();

}  // namespace gabion::daemon
