// Runs programs for tests of real daemons.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace gabion::daemon {

struct CommandResult {
  int exit_code = -1;  // 128 + signal when it was killed
  std::string output;  // stdout and stderr
};

// In a shell; ends by itself or after two minutes (124).
CommandResult RunShell(const std::string& command);

// A program that runs beside the test; killed at the end if it is still there.
class Background {
 public:
  // Output goes to `log`.
  Background(const std::vector<std::string>& argv, const std::string& log);
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  ~Background();

  void Signal(int signal);
  bool running();
  // The exit code (128 + signal when killed); at most two minutes, then it is killed.
  int Wait();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  int exit_code_ = -1;
};

// Path of a program of this project, such as "daemon/gabion-mdm".
std::string Program(const std::string& path);

// A new folder in /var/tmp, with a short name.
std::string MakeFolder();

std::string ReadText(const std::string& path);
// Until the file has it; false after two minutes.
bool AwaitText(const std::string& path, const std::string& text);

// An address of this machine that nobody else uses: 127/8 is large, and the process id is ours.
std::string FreeAddress();

}  // namespace gabion::daemon
