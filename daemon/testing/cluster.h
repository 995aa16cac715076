// A cluster of `gabion dev` for a test; ended and deleted with the object.
#pragma once

#include <functional>
#include <string>

#include "core/wire/management.pb.h"
#include "daemon/testing/command.h"

namespace gabion::daemon {

class TestCluster {
 public:
  // `shape`: further options of `gabion dev up`.
  explicit TestCluster(const std::string& shape);
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;
  ~TestCluster();

  bool up() const { return up_.exit_code == 0; }
  const CommandResult& up_result() const { return up_; }
  const std::string& dir() const { return dir_; }

  // `gabion ARGUMENTS --dir=...`.
  CommandResult Gabion(const std::string& arguments) const;
  // Creates and maps it.
  CommandResult AddVolume(const std::string& name, const std::string& size) const;
  proto::ClusterStatus Status() const;
  // Asks for the status until it pleases; false after two minutes.
  bool WaitFor(const std::function<bool(const proto::ClusterStatus&)>& good) const;
  bool WaitMirrored() const { return Gabion("wait --timeout=110").exit_code == 0; }

  // From the configuration of a daemon: port of `key`.
  uint16_t Port(const std::string& daemon, const std::string& key) const;
  std::string NbdUri(const std::string& volume) const;
  std::string Log(const std::string& daemon) const;
  // All logs, for messages.
  std::string Logs() const;
  // CPU seconds of all daemons, and the largest resident set in bytes.
  struct Cost {
    double cpu_seconds = 0;
    double resident_bytes_max = 0;
  };
  Cost ReadCost() const;

 private:
  std::string parent_;
  std::string dir_;
  CommandResult up_;
};

}  // namespace gabion::daemon
