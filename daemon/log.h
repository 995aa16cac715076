// One line per event on stderr, as text or as JSON.
#pragma once

#include <string>

#include "core/base/time.h"
#include "core/role/effects.h"
#include "daemon/config.h"

namespace gabion::daemon {

struct LogLine {
  WallTime time;
  Severity severity{};
  std::string program;
  std::string name;  // of the daemon, as configured
  std::string text;
};

// With the newline. Bytes that would break the line are escaped.
std::string FormatLine(LogFormat format, const LogLine& line);

class Logger {
 public:
  Logger(Program program, const Config& config)
      : program_(program),
        name_(config.name),
        format_(config.log_format),
        level_(config.log_level) {}

  // Whole lines: daemons that share a file do not mix them.
  void Write(Severity severity, const std::string& text) const;

 private:
  Program program_;
  std::string name_;
  LogFormat format_;
  Severity level_;
};

}  // namespace gabion::daemon
