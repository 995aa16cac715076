#include "daemon/config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/base/check.h"

namespace gabion::daemon {

namespace {

constexpr uint8_t kForMdm = 1;
constexpr uint8_t kForSds = 2;
constexpr uint8_t kForSdc = 4;
constexpr uint8_t kForAll = kForMdm | kForSds | kForSdc;

// Under it, a full set of requests does not fit beside the store's own buffers.
constexpr uint64_t kMemoryMin = uint64_t{32} << 20;

uint8_t Bit(Program program) {
  switch (program) {
    case Program::kMdm:
      return kForMdm;
    case Program::kSds:
      return kForSds;
    case Program::kSdc:
      return kForSdc;
  }
  UNREACHABLE("a program without a bit");
}

std::string_view Trim(std::string_view text) {
  const char* const kBlank = " \t\r";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

// ---- Values: each parser says what it wants, the caller says where it stood
// -------------------------

using Parsed = std::optional<std::string>;  // the complaint, or nothing

Parsed ParseName(std::string_view value, std::string& to) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (value.empty() || value.size() > 63 || !std::all_of(value.begin(), value.end(), allowed)) {
    return "wants a name of 1 to 63 letters, digits, '.', '_' or '-'";
  }
  to = value;
  return {};
}

Parsed ParsePath(std::string_view value, std::string& to) {
  if (!value.starts_with('/')) return "wants an absolute path, such as /var/lib/gabion";
  to = value;
  return {};
}

Parsed ParseAddress(std::string_view value, Address& to) {
  const std::optional<Address> address = Address::Parse(value);
  if (!address) {
    return "wants an IP address and a port from 1 to 65535, such as 127.0.0.1:7070 or [::1]:7070";
  }
  to = *address;
  return {};
}

Parsed ParseOptionalAddress(std::string_view value, std::optional<Address>& to) {
  Address address;
  if (Parsed complaint = ParseAddress(value, address)) return complaint;
  to = address;
  return {};
}

Parsed AppendAddress(std::string_view value, std::vector<Address>& to) {
  Address address;
  if (Parsed complaint = ParseAddress(value, address)) return complaint;
  to.push_back(address);
  return {};
}

// The number at the front of `value`, which keeps the rest.
std::optional<uint64_t> TakeNumber(std::string_view& value) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc()) return std::nullopt;
  value.remove_prefix(static_cast<size_t>(end - value.data()));
  return number;
}

Parsed ParseDuration(std::string_view value, Duration& to) {
  constexpr const char* kWanted = "wants a number of s or ms, such as 30s or 500ms";
  const std::optional<uint64_t> number = TakeNumber(value);
  if (!number || *number > 1'000'000'000) return kWanted;
  const auto count = static_cast<int64_t>(*number);
  if (value == "s") {
    to = std::chrono::seconds(count);
  } else if (value == "ms") {
    to = std::chrono::milliseconds(count);
  } else {
    return kWanted;
  }
  return {};
}

Parsed ParseTimeout(std::string_view value, Duration& to) {
  if (value == "never") {
    to = Duration{0};
    return {};
  }
  if (ParseDuration(value, to) || to == Duration{0}) {
    return "wants \"never\" or a number of s or ms, such as 30s";
  }
  return {};
}

// Under it, a disk that is only slow would be given up.
constexpr Duration kDeviceTimeoutMin = std::chrono::seconds(1);

Parsed ParseDeviceTimeout(std::string_view value, Duration& to) {
  if (ParseDuration(value, to) || to < kDeviceTimeoutMin) {
    return "wants a number of s or ms, at least 1s, such as 30s";
  }
  return {};
}

Parsed ParseMemory(std::string_view value, uint64_t& to) {
  const std::optional<uint64_t> number = TakeNumber(value);
  const unsigned shift = value == "M" ? 20 : value == "G" ? 30 : 0;
  if (!number || shift == 0 || *number > (uint64_t{1} << 20) || (*number << shift) < kMemoryMin) {
    return "wants a size of at least 32M, such as 48M or 1G";
  }
  to = *number << shift;
  return {};
}

Parsed ParseCache(std::string_view value, uint64_t& to) {
  if (value == "0") {
    to = 0;
    return {};
  }
  const Parsed parsed = ParseMemory(value, to);
  return parsed ? "wants 0 for none, or a size of at least 32M, such as 128M or 4G" : parsed;
}

// "auto", or a rate in whole KiB; "0" turns passes that begin by themselves off.
Parsed ParseScanRate(std::string_view value, Config& to) {
  to.scan_interval = kScanInterval;
  to.scan_bytes_per_second = 0;
  if (value == "auto") return {};
  if (value == "0") {
    to.scan_interval = Duration{0};
    return {};
  }
  const std::optional<uint64_t> number = TakeNumber(value);
  const unsigned shift = value == "K" ? 10 : value == "M" ? 20 : value == "G" ? 30 : 0;
  if (!number || shift == 0 || *number == 0 || *number > (uint64_t{1} << 20)) {
    return "wants \"auto\", 0, or bytes per second, such as 512K or 50M";
  }
  to.scan_bytes_per_second = *number << shift;
  return {};
}

Parsed ParseBool(std::string_view value, bool& to) {
  if (value != "true" && value != "false") return "wants true or false";
  to = value == "true";
  return {};
}

Parsed ParseLogFormat(std::string_view value, LogFormat& to) {
  if (value != "text" && value != "json") return "wants text or json";
  to = value == "json" ? LogFormat::kJson : LogFormat::kText;
  return {};
}

Parsed ParseLevel(std::string_view value, Severity& to) {
  constexpr std::array<std::pair<std::string_view, Severity>, 4> kLevels = {{
      {"debug", Severity::kDebug},
      {"info", Severity::kInfo},
      {"warning", Severity::kWarning},
      {"error", Severity::kError},
  }};
  for (const auto& [name, severity] : kLevels) {
    if (value != name) continue;
    to = severity;
    return {};
  }
  return "wants debug, info, warning or error";
}

// ---- Keys
// -------------------------------------------------------------------------------------------

struct Key {
  std::string_view name;
  uint8_t programs;
  bool is_switch;  // as a flag it may stand without a value
  std::string_view value_name;
  std::string_view help;
  Parsed (*apply)(std::string_view value, Config& config);
  void (*clear)(Config& config);  // repeatable keys only
};

constexpr std::array<Key, 19> kKeys = {{
    {"name", kForAll, false, "NAME", "as added by `gabion sds add` or `gabion sdc add`",
     [](std::string_view v, Config& c) { return ParseName(v, c.name); }, nullptr},
    {"state-dir", kForAll, false, "DIR", "folder of this daemon alone; made when it is missing",
     [](std::string_view v, Config& c) { return ParsePath(v, c.state_dir); }, nullptr},
    {"listen", kForMdm | kForSds, false, "IP:PORT", "where others connect",
     [](std::string_view v, Config& c) { return ParseAddress(v, c.listen); }, nullptr},
    {"announce", kForSds, false, "IP:PORT",
     "what others are told to connect to, when it is not `listen`; repeatable",
     [](std::string_view v, Config& c) { return AppendAddress(v, c.announce); },
     [](Config& c) { c.announce.clear(); }},
    {"mdm", kForSds | kForSdc, false, "IP:PORT", "an MDM; repeatable",
     [](std::string_view v, Config& c) { return AppendAddress(v, c.mdms); },
     [](Config& c) { c.mdms.clear(); }},
    {"nbd-listen", kForSdc, false, "IP:PORT", "serve volumes as NBD exports over TCP",
     [](std::string_view v, Config& c) { return ParseOptionalAddress(v, c.nbd_listen); }, nullptr},
    {"nbd-socket", kForSdc, false, "PATH", "serve volumes as NBD exports on a Unix socket",
     [](std::string_view v, Config& c) { return ParsePath(v, c.nbd_socket); }, nullptr},
    {"io-timeout", kForSdc, false, "TIME",
     "I/O that nobody can serve fails after this; default: never",
     [](std::string_view v, Config& c) { return ParseTimeout(v, c.io_timeout); }, nullptr},
    {"rebuild-delay", kForMdm, false, "TIME",
     "how long a lost copy may come back before a new one is made; default: 10s",
     [](std::string_view v, Config& c) { return ParseDuration(v, c.rebuild_delay); }, nullptr},
    {"hold", kForMdm, true, "true|false",
     "the state folder is an old copy: wait for `gabion mdm restored`",
     [](std::string_view v, Config& c) { return ParseBool(v, c.hold); }, nullptr},
    {"scan-rate", kForSds, false, "auto|0|RATE",
     "each device is read once a week, as slowly as that allows (auto), or in bytes per second; 0: "
     "never by itself",
     [](std::string_view v, Config& c) { return ParseScanRate(v, c); }, nullptr},
    {"device-timeout", kForSds, false, "TIME",
     "a device that completes nothing for so long, with something to do, is given up; default: 30s",
     [](std::string_view v, Config& c) { return ParseDeviceTimeout(v, c.device_timeout); },
     nullptr},
    {"metrics-listen", kForAll, false, "IP:PORT", "Prometheus text at /metrics; default: none",
     [](std::string_view v, Config& c) { return ParseOptionalAddress(v, c.metrics_listen); },
     nullptr},
    {"log", kForAll, false, "text|json", "one line per event on stderr; default: text",
     [](std::string_view v, Config& c) { return ParseLogFormat(v, c.log_format); }, nullptr},
    {"log-level", kForAll, false, "LEVEL", "debug, info, warning or error; default: info",
     [](std::string_view v, Config& c) { return ParseLevel(v, c.log_level); }, nullptr},
    {"memory-max", kForAll, false, "SIZE", "of buffers for data in flight; default: 48M",
     [](std::string_view v, Config& c) { return ParseMemory(v, c.memory_max_bytes); }, nullptr},
    {"store-memory", kForSds, false, "SIZE",
     "for the metadata of each device; default: 16M + 256M per TiB",
     [](std::string_view v, Config& c) { return ParseMemory(v, c.store_memory_bytes); }, nullptr},
    {"read-cache", kForSds, false, "SIZE|0",
     "memory for what clients have read, all devices together; default: 0, none",
     [](std::string_view v, Config& c) { return ParseCache(v, c.read_cache_bytes); }, nullptr},
    {"insecure", kForAll, true, "true|false",
     "allow addresses that other machines reach; there is no authentication yet",
     [](std::string_view v, Config& c) { return ParseBool(v, c.insecure); }, nullptr},
}};

const Key* FindKey(Program program, std::string_view name) {
  for (const Key& key : kKeys) {
    if (key.name == name && (key.programs & Bit(program)) != 0) return &key;
  }
  return nullptr;
}

std::string KnownKeys(Program program) {
  std::string result;
  for (const Key& key : kKeys) {
    if ((key.programs & Bit(program)) == 0) continue;
    if (!result.empty()) result += ", ";
    result += key.name;
  }
  return result;
}

bool IsLoopback(const Address& address) {
  constexpr std::array<uint8_t, 13> kV4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127};
  constexpr std::array<uint8_t, 16> kV6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return address.ip == kV6 || std::equal(kV4.begin(), kV4.end(), address.ip.begin());
}

bool IsWildcard(const Address& address) {
  const Address v4 = Address::V4(0, 0, 0, 0, 0);
  return address.ip == v4.ip || address.ip == std::array<uint8_t, 16>{};
}

Result<void> CheckReach(std::string_view key, const Address& address, bool insecure) {
  if (insecure || IsLoopback(address)) return {};
  return Err(ErrorCode::kPermission,
             "%.*s = %s: other machines could connect there, and connections are neither "
             "authenticated nor encrypted yet; use 127.0.0.1, or set insecure = true on a network "
             "that you trust",
             static_cast<int>(key.size()), key.data(), address.ToString().c_str());
}

Address DefaultListen(Program program) {
  return Address::V4(127, 0, 0, 1, program == Program::kMdm ? 7070 : 7080);
}

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return Err(ErrorCode::kNotFound, "configuration file %s: %s", path.c_str(),
               std::strerror(errno));
  }
  std::ostringstream text;
  text << file.rdbuf();
  // A folder opens, and then reads as nothing.
  if (file.bad() || text.fail()) {
    return Err(ErrorCode::kIoError, "configuration file %s: cannot be read, or is empty",
               path.c_str());
  }
  return text.str();
}

struct Flag {
  std::string_view name;
  std::optional<std::string_view> value;
};

// "--name=value", "--name value", and switches. `next` moves over what was taken.
Result<Flag> TakeFlag(Program program, std::span<const char* const> arguments, size_t& next) {
  const std::string_view text = arguments[next++];
  if (!text.starts_with("--") || text.size() == 2) {
    return Err(ErrorCode::kInvalidArgument, "unexpected argument '%s'; see %s --help", text.data(),
               ProgramName(program));
  }
  const size_t equals = text.find('=');
  Flag flag;
  flag.name = text.substr(2, equals == std::string_view::npos ? equals : equals - 2);
  if (equals != std::string_view::npos) {
    flag.value = text.substr(equals + 1);
    return flag;
  }
  const Key* key = FindKey(program, flag.name);
  const bool takes_value = flag.name == "config" || (key != nullptr && !key->is_switch);
  if (takes_value && next < arguments.size()) flag.value = arguments[next++];
  return flag;
}

}  // namespace

const char* ProgramName(Program program) {
  switch (program) {
    case Program::kMdm:
      return "gabion-mdm";
    case Program::kSds:
      return "gabion-sds";
    case Program::kSdc:
      return "gabion-sdc";
  }
  UNREACHABLE("a program without a name");
}

Result<void> ParseConfigText(Program program, std::string_view file, std::string_view text,
                             Config& config) {
  int line_number = 0;
  std::vector<std::string_view> seen;
  while (!text.empty()) {
    ++line_number;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const auto fail = [&](const std::string& why) {
      return Err(ErrorCode::kInvalidArgument, "%.*s:%d: %s", static_cast<int>(file.size()),
                 file.data(), line_number, why.c_str());
    };
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) return fail("wants `key = value`");
    const std::string_view name = Trim(line.substr(0, equals));
    const Key* key = FindKey(program, name);
    if (key == nullptr) {
      return fail("unknown key '" + std::string(name) + "'; " + ProgramName(program) +
                  " knows: " + KnownKeys(program));
    }
    const bool again = std::find(seen.begin(), seen.end(), name) != seen.end();
    if (again && key->clear == nullptr) return fail("'" + std::string(name) + "' is set twice");
    seen.push_back(name);
    if (Parsed complaint = key->apply(Trim(line.substr(equals + 1)), config)) {
      return fail("'" + std::string(name) + "' " + *complaint);
    }
  }
  return {};
}

Result<void> CheckConfig(Program program, const Config& config) {
  const auto missing = [&](const char* key, const char* example) {
    return Err(ErrorCode::kInvalidArgument, "'%s' is not set; add `%s = %s` to the configuration",
               key, key, example);
  };
  if (config.state_dir.empty()) return missing("state-dir", "/var/lib/gabion/NAME");
  if (config.name.empty()) return missing("name", "NAME");
  if (program != Program::kMdm && config.mdms.empty()) return missing("mdm", "127.0.0.1:7070");
  if (program != Program::kSdc) {
    if (auto ok = CheckReach("listen", config.listen, config.insecure); !ok) return ok;
    if (program == Program::kSds && IsWildcard(config.listen) && config.announce.empty()) {
      return Err(ErrorCode::kInvalidArgument,
                 "listen = %s stands for every address of this machine; add `announce = IP:PORT` "
                 "to say which one others shall use",
                 config.listen.ToString().c_str());
    }
  }
  if (config.nbd_listen) {
    if (auto ok = CheckReach("nbd-listen", *config.nbd_listen, config.insecure); !ok) return ok;
  }
  if (config.metrics_listen) {
    return CheckReach("metrics-listen", *config.metrics_listen, config.insecure);
  }
  return {};
}

Result<CommandLine> ParseCommandLine(Program program, std::span<const char* const> arguments) {
  CommandLine result;
  Config& config = result.config;
  config.listen = DefaultListen(program);
  if (program == Program::kMdm) config.name = "mdm1";

  std::vector<Flag> flags;
  std::optional<std::string_view> file;
  for (size_t next = 0; next < arguments.size();) {
    Result<Flag> flag = TakeFlag(program, arguments, next);
    if (!flag) return tl::unexpected(flag.error());
    if (flag->name == "help" || flag->name == "version") {
      result.action =
          flag->name == "help" ? CommandLine::Action::kHelp : CommandLine::Action::kVersion;
      return result;
    }
    if (flag->name == "check-config") {
      result.action = CommandLine::Action::kCheckConfig;
    } else if (flag->name == "config") {
      if (!flag->value) return Err(ErrorCode::kInvalidArgument, "--config wants a file");
      file = flag->value;
    } else {
      flags.push_back(*flag);
    }
  }
  if (file) {
    const Result<std::string> text = ReadFile(std::string(*file));
    if (!text) return tl::unexpected(text.error());
    if (auto ok = ParseConfigText(program, *file, *text, config); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  std::vector<std::string_view> seen;
  for (const Flag& flag : flags) {
    const std::string name(flag.name);
    const Key* key = FindKey(program, flag.name);
    if (key == nullptr) {
      return Err(ErrorCode::kInvalidArgument, "unknown flag --%s; %s --help shows all",
                 name.c_str(), ProgramName(program));
    }
    if (!flag.value && !key->is_switch) {
      return Err(ErrorCode::kInvalidArgument, "--%s wants a value", name.c_str());
    }
    const bool again = std::find(seen.begin(), seen.end(), flag.name) != seen.end();
    if (!again && key->clear != nullptr) key->clear(config);
    seen.push_back(flag.name);
    if (Parsed complaint = key->apply(flag.value.value_or("true"), config)) {
      return Err(ErrorCode::kInvalidArgument, "--%s %s", name.c_str(), complaint->c_str());
    }
  }
  if (auto ok = CheckConfig(program, config); !ok) return tl::unexpected(ok.error());
  return result;
}

std::string HelpText(Program program) {
  const char* what = "";
  switch (program) {
    case Program::kMdm:
      what = "metadata manager: owns all metadata of a cluster; never in the I/O path";
      break;
    case Program::kSds:
      what = "data server: lends devices, mirrors writes, serves reads, copies slices";
      break;
    case Program::kSdc:
      what = "data client: exposes the volumes mapped to it as block devices (NBD)";
      break;
  }
  std::string result = std::string(ProgramName(program)) + " - " + what +
                       "\n\nUsage: " + ProgramName(program) +
                       " --config=FILE [--KEY=VALUE...]\n\n"
                       "The file has lines `KEY = VALUE`; flags win over it. Keys:\n";
  const auto line = [&result](const std::string& left, std::string_view right) {
    result += "  " + left + std::string(left.size() < 26 ? 26 - left.size() : 1, ' ');
    result += std::string(right) + "\n";
  };
  for (const Key& key : kKeys) {
    if ((key.programs & Bit(program)) == 0) continue;
    std::string help(key.help);
    if (key.name == "listen") help += "; default: " + DefaultListen(program).ToString();
    line(std::string(key.name) + " " + std::string(key.value_name), help);
  }
  result += "Only as flags:\n";
  line("--config FILE", "the configuration file");
  line("--check-config", "check the configuration and end: 0 good, 2 not");
  line("--help, --version", "");
  result +=
      "\nSIGTERM ends it cleanly; a second one at once. Exit codes: 0 clean, 1 failed, 2 usage.\n";
  return result;
}

}  // namespace gabion::daemon
