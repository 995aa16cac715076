#include "daemon/log.h"

#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "core/base/check.h"
#include "net/reactor/reactor.h"

namespace gabion::daemon {

namespace {

const char* LevelName(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return "debug";
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
    case Severity::kCritical:
      return "critical";
  }
  UNREACHABLE("a severity without a name");
}

// Names and reasons may come from peers: control characters must not reach a terminal.
std::string Escape(std::string_view text, bool json) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (json && (c == '"' || c == '\\')) {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof(code), json ? "\\u%04x" : "\\x%02x", byte);
      result += code;
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::string FormatLine(LogFormat format, const LogLine& line) {
  const std::string level = LevelName(line.severity);
  switch (format) {
    case LogFormat::kText:
      return ToString(line.time) + " " + level + std::string(9 - level.size(), ' ') + line.name +
             ": " + Escape(line.text, false) + "\n";
    case LogFormat::kJson: {
      std::string time = ToString(line.time);  // "2024-02-29 23:59:59.123" -> RFC 3339
      if (time.size() > 10) time[10] = 'T';
      return "{\"time\":\"" + time + "Z\",\"level\":\"" + level + "\",\"program\":\"" +
             line.program + "\",\"name\":\"" + Escape(line.name, true) + "\",\"message\":\"" +
             Escape(line.text, true) + "\"}\n";
    }
  }
  UNREACHABLE("a log format without a writer");
}

void Logger::Write(Severity severity, const std::string& text) const {
  if (severity < level_) return;
  const std::string line = FormatLine(format_, {.time = net::ReadClock().wall,
                                                .severity = severity,
                                                .program = ProgramName(program_),
                                                .name = name_,
                                                .text = text});
  // A log that nobody can take (full disk, closed pipe) must not stop the daemon.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace gabion::daemon
