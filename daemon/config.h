// What a daemon is told: a text file of `key = value` lines, and flags of the same names that win
// over it. docs/admin.md lists the keys for people; `--help` prints them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/role/effects.h"

namespace gabion::daemon {

enum class Program : uint8_t { kMdm, kSds, kSdc };

// "gabion-mdm", "gabion-sds", "gabion-sdc".
const char* ProgramName(Program program);

enum class LogFormat : uint8_t { kText, kJson };

inline constexpr Duration kScanInterval = std::chrono::hours(7 * 24);

struct Config {
  std::string name;
  std::string state_dir;
  Address listen;                     // not of an SDC
  std::vector<Address> announce;      // SDS: what others connect to; empty: `listen`
  std::vector<Address> mdms;          // SDS and SDC
  std::optional<Address> nbd_listen;  // SDC
  std::string nbd_socket;             // SDC; empty: none
  std::optional<Address> metrics_listen;
  Duration io_timeout{0};                              // SDC; 0: never
  Duration rebuild_delay = std::chrono::seconds(10);   // MDM
  bool hold = false;                                   // MDM
  Duration scan_interval = kScanInterval;              // SDS; 0: no pass begins by itself
  uint64_t scan_bytes_per_second = 0;                  // SDS; 0: as slow as the interval allows
  Duration device_timeout = std::chrono::seconds(30);  // SDS
  LogFormat log_format = LogFormat::kText;
  Severity log_level = Severity::kInfo;
  uint64_t memory_max_bytes = uint64_t{48} << 20;
  uint64_t store_memory_bytes = 0;  // SDS, for each device; 0: by its size
  uint64_t read_cache_bytes = 0;    // SDS, for all devices; 0: none
  bool insecure = false;
};

struct CommandLine {
  enum class Action : uint8_t { kRun, kCheckConfig, kHelp, kVersion };
  Action action = Action::kRun;
  Config config;  // complete and checked for kRun and kCheckConfig
};

// `--config=FILE` reads a file; every other flag is a key. A repeatable key on the command line
// replaces the file's list. Errors name the file and line, or the flag, the reason and the way out.
Result<CommandLine> ParseCommandLine(Program program, std::span<const char* const> arguments);

// Lines of a configuration file, without the checks over the whole. `file` is for messages.
Result<void> ParseConfigText(Program program, std::string_view file, std::string_view text,
                             Config& config);

// What no single key shows: a missing key, an address that others could reach without `insecure`.
Result<void> CheckConfig(Program program, const Config& config);

std::string HelpText(Program program);

}  // namespace gabion::daemon
