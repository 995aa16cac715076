// The folder of a `gabion dev` cluster:
//
//   DIR/gabion.conf            where the MDM is; marks the folder as ours
//   DIR/NAME/gabion-sds.conf   configuration of a daemon; the file's name says which program
//   DIR/NAME/pid               its process, while it runs (and after a crash)
//   DIR/NAME/state/            its state folder
//   DIR/devices/NAME-1.img     devices
//   DIR/logs/NAME.log
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/invocation.h"
#include "cli/process.h"
#include "core/base/result.h"

namespace gabion::cli {

struct DevDaemon {
  std::string name;     // "sds1"
  std::string program;  // "gabion-sds"
  std::string folder;
  std::string config;  // path
  std::string log;     // path
  // Values of the configuration that people ask for; empty: not set.
  std::string listen;
  std::string nbd_listen;
  std::string nbd_socket;
  std::string metrics_listen;

  std::string pid_file() const { return folder + "/pid"; }
  std::optional<ProcessId> Find() const { return FindProcess(pid_file(), program); }
};

struct DevDevice {
  std::string sds;
  std::string path;
};

class DevCluster {
 public:
  // Reads the folder. Errors say when it is no such cluster.
  static Result<DevCluster> Open(const std::string& dir);
  // Makes the folder, all configurations and preallocated devices. Refuses a folder with anything
  // in it, or a disk without room; what it made by then is removed again.
  static Result<DevCluster> Create(const std::string& dir, const DevOptions& options);
  static bool Exists(const std::string& dir);

  const std::string& dir() const { return dir_; }
  // MDMs, then SDSs, then SDCs, by name.
  const std::vector<DevDaemon>& daemons() const { return daemons_; }
  const DevDaemon* Find(const std::string& name) const;
  std::vector<const DevDaemon*> OfProgram(const std::string& program) const;
  std::vector<DevDevice> Devices() const;

  // Starts one that does not run. The programs are beside this one.
  Result<void> Start(const DevDaemon& daemon) const;

  // Deletes what Create made, and the folder when nothing else is in it.
  Result<void> Delete() const;

 private:
  explicit DevCluster(std::string dir) : dir_(std::move(dir)) {}

  std::string dir_;
  std::vector<DevDaemon> daemons_;
};

// An absolute path without links; the folder itself may be missing.
Result<std::string> AbsoluteDir(const std::string& dir);

}  // namespace gabion::cli
