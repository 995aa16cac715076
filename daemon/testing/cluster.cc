#include "daemon/testing/cluster.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>

namespace gabion::daemon {

namespace {

std::string GabionPath() { return Program("cli/gabion"); }

}  // namespace

TestCluster::TestCluster(const std::string& shape)
    : parent_(MakeFolder()), dir_(parent_ + "/cluster") {
  up_ = Gabion("dev up " + shape);
}

TestCluster::~TestCluster() {
  Gabion("dev down");
  std::filesystem::remove_all(parent_);
}

CommandResult TestCluster::Gabion(const std::string& arguments) const {
  return RunShell(GabionPath() + " " + arguments + " --dir=" + dir_);
}

CommandResult TestCluster::AddVolume(const std::string& name, const std::string& size) const {
  CommandResult created = Gabion("volume create " + name + " --size=" + size);
  if (created.exit_code != 0) return created;
  return Gabion("volume map " + name + " --sdc=sdc1");
}

proto::ClusterStatus TestCluster::Status() const {
  proto::ClusterStatus status;
  const CommandResult result = Gabion("status --output=json 2>/dev/null");
  static_cast<void>(google::protobuf::util::JsonStringToMessage(result.output, &status));
  return status;
}

bool TestCluster::WaitFor(const std::function<bool(const proto::ClusterStatus&)>& good) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!good(Status())) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::poll(nullptr, 0, 20);
  }
  return true;
}

uint16_t TestCluster::Port(const std::string& daemon, const std::string& key) const {
  const std::string program = "gabion-" + daemon.substr(0, 3);
  std::istringstream lines(ReadText(dir_ + "/" + daemon + "/" + program + ".conf"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key + " = ")) continue;
    return static_cast<uint16_t>(std::stoi(line.substr(line.rfind(':') + 1)));
  }
  return 0;
}

std::string TestCluster::NbdUri(const std::string& volume) const {
  return "nbd://127.0.0.1:" + std::to_string(Port("sdc1", "nbd-listen")) + "/" + volume;
}

std::string TestCluster::Log(const std::string& daemon) const {
  return ReadText(dir_ + "/logs/" + daemon + ".log");
}

std::string TestCluster::Logs() const {
  return RunShell("tail -n 40 " + dir_ + "/logs/*.log").output;
}

TestCluster::Cost TestCluster::ReadCost() const {
  google::protobuf::Struct all;
  static_cast<void>(google::protobuf::util::JsonStringToMessage(
      Gabion("dev status --output=json 2>/dev/null").output, &all));
  Cost cost;
  for (const auto& value : all.fields().at("daemons").list_value().values()) {
    const auto& fields = value.struct_value().fields();
    cost.cpu_seconds += fields.at("cpu_seconds").number_value();
    cost.resident_bytes_max =
        std::max(cost.resident_bytes_max, fields.at("resident_bytes").number_value());
  }
  return cost;
}

}  // namespace gabion::daemon
