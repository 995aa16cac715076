#include "cli/dev_cluster.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "cli/files.h"
#include "cli/size.h"

namespace gabion::cli {

namespace {

namespace fs = std::filesystem;

constexpr const char* kMark = "# Made by gabion dev up.\n";
constexpr const char* kPrograms[] = {"gabion-mdm", "gabion-sds", "gabion-sdc"};

// Under the kernel's range for outgoing connections, so that no client takes the port of a daemon
// that is down for a while.
constexpr uint16_t kPortMin = 20000;
constexpr uint16_t kPortMax = 32000;

// Above a Unix socket's path would not fit.
constexpr size_t kSocketPathMax = 100;

class PortChooser {
 public:
  // A free port on 127.0.0.1 that it has not given before.
  Result<uint16_t> Next() {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      uint16_t random = 0;
      if (::getrandom(&random, sizeof(random), 0) != sizeof(random)) break;
      const auto port = static_cast<uint16_t>(kPortMin + random % (kPortMax - kPortMin));
      if (std::find(given_.begin(), given_.end(), port) != given_.end() || !IsFree(port)) continue;
      given_.push_back(port);
      return port;
    }
    return Err(ErrorCode::kLimit, "found no free port between %u and %u", unsigned{kPortMin},
               unsigned{kPortMax});
  }

 private:
  static bool IsFree(uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool free = ::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0;
    ::close(fd);
    return free;
  }

  std::vector<uint16_t> given_;
};

Result<void> MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return Err(ErrorCode::kIoError, "cannot make %s: %s", path.c_str(), error.message().c_str());
  }
  return {};
}

Result<void> Preallocate(const std::string& path, uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const int error = fd < 0 ? errno : ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (fd >= 0) ::close(fd);
  if (error != 0) {
    return Err(ErrorCode::kIoError, "device %s: cannot allocate %s: %s", path.c_str(),
               FormatSize(bytes).c_str(), std::strerror(error));
  }
  return {};
}

Result<void> CheckRoom(const std::string& dir, uint64_t wanted) {
  struct statvfs room {};
  if (::statvfs(dir.c_str(), &room) != 0) {
    return Err(ErrorCode::kIoError, "%s: %s", dir.c_str(), std::strerror(errno));
  }
  const uint64_t free = uint64_t{room.f_bavail} * room.f_frsize;
  if (free < wanted) {
    return Err(ErrorCode::kNoSpace,
               "%s: the devices need %s, only %s are free; use --device-size, --devices, --sds or "
               "another --dir",
               dir.c_str(), FormatSize(wanted).c_str(), FormatSize(free).c_str());
  }
  return {};
}

std::map<std::string, std::string> ReadKeys(const std::string& path) {
  std::map<std::string, std::string> result;
  std::istringstream lines(ReadFile(path).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos || Trim(line).starts_with('#')) continue;
    result[Trim(line.substr(0, equals))] = Trim(line.substr(equals + 1));
  }
  return result;
}

// The daemon whose folder this is, if it is one.
std::optional<DevDaemon> ReadDaemon(const std::string& dir, const fs::path& folder) {
  for (const char* program : kPrograms) {
    const std::string config = folder.string() + "/" + program + ".conf";
    if (::access(config.c_str(), F_OK) != 0) continue;
    auto keys = ReadKeys(config);
    const std::string name = folder.filename().string();
    return DevDaemon{.name = name,
                     .program = program,
                     .folder = folder.string(),
                     .config = config,
                     .log = dir + "/logs/" + name + ".log",
                     .listen = keys["listen"],
                     .nbd_listen = keys["nbd-listen"],
                     .nbd_socket = keys["nbd-socket"],
                     .metrics_listen = keys["metrics-listen"]};
  }
  return std::nullopt;
}

// MDM first; "sds2" before "sds10".
bool Before(const DevDaemon& a, const DevDaemon& b) {
  const auto rank = [](const DevDaemon& daemon) {
    return std::find(std::begin(kPrograms), std::end(kPrograms), daemon.program) -
           std::begin(kPrograms);
  };
  return std::tuple(rank(a), a.name.size(), a.name) < std::tuple(rank(b), b.name.size(), b.name);
}

// Folder and configuration of one daemon. `own`: lines beside those that all have.
Result<void> WriteDaemon(const std::string& dir, const std::string& name,
                         const std::string& program, uint16_t metrics_port,
                         const std::string& own) {
  const std::string folder = dir + "/" + name;
  if (auto ok = MakeFolder(folder); !ok) return ok;
  return WriteFile(folder + "/" + program + ".conf",
                   kMark + ("name = " + name) + "\nstate-dir = " + folder +
                       "/state\nmetrics-listen = 127.0.0.1:" + std::to_string(metrics_port) + "\n" +
                       own);
}

Result<void> WriteAll(const std::string& dir, const DevOptions& options) {
  PortChooser ports;
  std::vector<uint16_t> chosen;
  for (uint32_t i = 0; i < 2 * (1 + options.sds_count + options.sdc_count); ++i) {
    const Result<uint16_t> port = ports.Next();
    if (!port) return tl::unexpected(port.error());
    chosen.push_back(*port);
  }
  const auto take = [&chosen] {
    const uint16_t port = chosen.back();
    chosen.pop_back();
    return port;
  };
  const std::string mdm = "127.0.0.1:" + std::to_string(take());
  if (auto ok = WriteDaemon(dir, "mdm1", "gabion-mdm", take(), "listen = " + mdm + "\n"); !ok) {
    return ok;
  }
  const std::string mdm_line = "mdm = " + mdm + "\n";
  for (uint32_t i = 1; i <= options.sds_count; ++i) {
    const std::string name = "sds" + std::to_string(i);
    const std::string own = "listen = 127.0.0.1:" + std::to_string(take()) + "\n" + mdm_line;
    if (auto ok = WriteDaemon(dir, name, "gabion-sds", take(), own); !ok) return ok;
    for (uint32_t device = 1; device <= options.devices_per_sds; ++device) {
      const std::string path = dir + "/devices/" + name + "-" + std::to_string(device) + ".img";
      if (auto ok = Preallocate(path, options.device_bytes); !ok) return ok;
    }
  }
  for (uint32_t i = 1; i <= options.sdc_count; ++i) {
    const std::string name = "sdc" + std::to_string(i);
    std::string own = mdm_line + "nbd-listen = 127.0.0.1:" + std::to_string(take()) + "\n";
    const std::string socket = dir + "/" + name + "/nbd.sock";
    if (socket.size() <= kSocketPathMax) own += "nbd-socket = " + socket + "\n";
    if (auto ok = WriteDaemon(dir, name, "gabion-sdc", take(), own); !ok) return ok;
  }
  // Last: a folder without it is no cluster.
  return WriteFile(dir + "/gabion.conf", kMark + mdm_line);
}

// Stands in the folder while a cluster is being made there. Whoever finds it without gabion.conf
// sees the work of a `dev up` that was interrupted, and may begin anew.
std::string UnfinishedMark(const std::string& dir) { return dir + "/.unfinished"; }

// What an interrupted `dev up` has left, and nothing else.
void RemoveUnfinished(const std::string& dir) {
  std::error_code error;
  std::vector<fs::path> ours = {dir + "/devices", dir + "/logs"};
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const bool daemon = ReadDaemon(dir, entry.path()).has_value();
    if (daemon || (entry.is_directory(error) && fs::is_empty(entry.path(), error))) {
      ours.push_back(entry.path());
    }
  }
  for (const fs::path& path : ours) fs::remove_all(path, error);
  fs::remove(UnfinishedMark(dir), error);
}

Result<std::string> ProgramPath(const std::string& program) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = self.parent_path() / program;
  // Bazel leaves the daemons in another folder than this program.
  for (const fs::path& path : {beside, self.parent_path().parent_path() / "daemon" / program}) {
    if (!error && ::access(path.c_str(), X_OK) == 0) return path.string();
  }
  return Err(ErrorCode::kConflict, "%s is not beside gabion (%s); build both: ci/build",
             program.c_str(), beside.c_str());
}

}  // namespace

Result<std::string> AbsoluteDir(const std::string& dir) {
  std::error_code error;
  const fs::path path = fs::weakly_canonical(dir, error);
  if (error) {
    return Err(ErrorCode::kInvalidArgument, "--dir=%s: %s", dir.c_str(), error.message().c_str());
  }
  std::string result = path.string();
  while (result.size() > 1 && result.back() == '/') result.pop_back();
  // A configuration file cannot hold it.
  if (result.find_first_of("\n\r") != std::string::npos || result != Trim(result)) {
    return Err(ErrorCode::kInvalidArgument, "--dir: a path without line breaks, please");
  }
  return result;
}

bool DevCluster::Exists(const std::string& dir) {
  return ReadFile(dir + "/gabion.conf").value_or("").starts_with(kMark);
}

Result<DevCluster> DevCluster::Open(const std::string& dir) {
  if (!Exists(dir)) {
    return Err(ErrorCode::kNotFound,
               "%s is no cluster of gabion dev; make one with: gabion dev up --dir=%s", dir.c_str(),
               dir.c_str());
  }
  DevCluster cluster(dir);
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    if (auto daemon = ReadDaemon(dir, entry.path())) cluster.daemons_.push_back(*daemon);
  }
  std::sort(cluster.daemons_.begin(), cluster.daemons_.end(), Before);
  return cluster;
}

Result<DevCluster> DevCluster::Create(const std::string& dir, const DevOptions& options) {
  std::error_code error;
  if (fs::exists(UnfinishedMark(dir), error)) RemoveUnfinished(dir);
  if (fs::exists(dir, error) && !fs::is_empty(dir, error)) {
    return Err(ErrorCode::kExists,
               "%s is not empty and no cluster of gabion dev; choose another --dir", dir.c_str());
  }
  if (auto ok = MakeFolder(dir); !ok) return tl::unexpected(ok.error());
  if (auto ok = WriteFile(UnfinishedMark(dir), kMark); !ok) return tl::unexpected(ok.error());
  for (const char* sub : {"/logs", "/devices"}) {
    if (auto ok = MakeFolder(dir + sub); !ok) return tl::unexpected(ok.error());
  }
  const uint64_t devices = uint64_t{options.sds_count} * options.devices_per_sds;
  // And the state files.
  const uint64_t wanted = devices * options.device_bytes + (uint64_t{1} << 30);
  Result<void> made = CheckRoom(dir, wanted);
  if (made) made = WriteAll(dir, options);
  if (!made) {
    for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
      fs::remove_all(entry.path(), error);
    }
    fs::remove(dir, error);
    return tl::unexpected(made.error());
  }
  fs::remove(UnfinishedMark(dir), error);
  return Open(dir);
}

const DevDaemon* DevCluster::Find(const std::string& name) const {
  for (const DevDaemon& daemon : daemons_) {
    if (daemon.name == name) return &daemon;
  }
  return nullptr;
}

std::vector<const DevDaemon*> DevCluster::OfProgram(const std::string& program) const {
  std::vector<const DevDaemon*> result;
  for (const DevDaemon& daemon : daemons_) {
    if (daemon.program == program) result.push_back(&daemon);
  }
  return result;
}

std::vector<DevDevice> DevCluster::Devices() const {
  std::vector<DevDevice> result;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir_ + "/devices", error)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".img") || name.find('-') == std::string::npos) continue;
    result.push_back({.sds = name.substr(0, name.rfind('-')), .path = entry.path().string()});
  }
  std::sort(result.begin(), result.end(),
            [](const DevDevice& a, const DevDevice& b) { return a.path < b.path; });
  return result;
}

Result<void> DevCluster::Start(const DevDaemon& daemon) const {
  if (daemon.Find()) return {};
  const Result<std::string> program = ProgramPath(daemon.program);
  if (!program) return tl::unexpected(program.error());
  const Result<ProcessId> id =
      Spawn({*program, "--config=" + daemon.config}, daemon.log, daemon.pid_file());
  if (!id) return tl::unexpected(id.error());
  return {};
}

Result<void> DevCluster::Delete() const {
  std::error_code error;
  std::vector<std::string> ours = {dir_ + "/devices", dir_ + "/logs", UnfinishedMark(dir_),
                                   dir_ + "/gabion.conf"};
  for (const DevDaemon& daemon : daemons_) ours.insert(ours.begin(), daemon.folder);
  for (const std::string& path : ours) {
    fs::remove_all(path, error);
    if (error) {
      return Err(ErrorCode::kIoError, "cannot delete %s: %s", path.c_str(),
                 error.message().c_str());
    }
  }
  fs::remove(dir_, error);  // stays when somebody put something else into it
  return {};
}

}  // namespace gabion::cli
