#include "cli/dev.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/dev_cluster.h"
#include "cli/endpoints.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/size.h"
#include "cli/table.h"

namespace gabion::cli {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kReadyTime(60);
constexpr seconds kGraceTime(15);
constexpr const char* kPoolName = "pool1";

void Say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

int Fail(const Error& error) {
  PrintError(error.message);
  return ExitCodeOf(error);
}

std::string Count(size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

Result<DevCluster> OpenCluster(const std::string& dir) {
  const Result<std::string> path = AbsoluteDir(dir);
  if (!path) return tl::unexpected(path.error());
  return DevCluster::Open(*path);
}

// Brings a cluster up: daemons and objects that are missing are added, so it may be repeated.
class Riser {
 public:
  explicit Riser(const DevCluster& cluster, uint32_t slice_count, std::vector<std::string> mdms)
      : cluster_(cluster),
        slice_count_(slice_count),
        client_({.endpoints = std::move(mdms), .timeout = seconds(1), .on_waiting = nullptr}) {}

  Result<void> Run() {
    if (auto ok = StartAll("gabion-mdm"); !ok) return ok;
    if (auto ok = WaitUntil("the MDM to answer", [](const auto&) { return true; }); !ok) return ok;
    if (auto ok = AddMembers(); !ok) return ok;
    for (const char* program : {"gabion-sds", "gabion-sdc"}) {
      if (auto ok = StartAll(program); !ok) return ok;
    }
    const auto all_up = [](const auto& list) {
      return std::all_of(list.begin(), list.end(), [](const auto& item) { return item.up(); });
    };
    auto ok = WaitUntil("the SDSs to register",
                        [&](const proto::ClusterStatus& now) { return all_up(now.sdss()); });
    if (!ok) return ok;
    if (ok = AddDevices(); !ok) return ok;
    ok = WaitUntil("the devices to be formatted", [](const proto::ClusterStatus& now) {
      return std::all_of(now.devices().begin(), now.devices().end(), [](const auto& device) {
        return device.state() == proto::DEVICE_UP || device.state() == proto::DEVICE_FAILED;
      });
    });
    if (!ok) return ok;
    for (const proto::Device& device : status_.devices()) {
      if (device.state() != proto::DEVICE_FAILED) continue;
      return Err(ErrorCode::kIoError, "device %s has failed: %s", device.path().c_str(),
                 device.error().c_str());
    }
    ok = WaitUntil("the SDCs to register",
                   [&](const proto::ClusterStatus& now) { return all_up(now.sdcs()); });
    if (!ok) return ok;
    return WaitUntil("NBD to listen", [&](const proto::ClusterStatus&) { return NbdListens(); });
  }

 private:
  Result<void> StartAll(const std::string& program) {
    for (const DevDaemon* daemon : cluster_.OfProgram(program)) {
      if (auto ok = cluster_.Start(*daemon); !ok) return ok;
      started_.push_back(daemon);
    }
    return {};
  }

  // A daemon that has ended by itself ends the wait, with what it said.
  Result<void> WaitUntil(const std::string& what,
                         const std::function<bool(const proto::ClusterStatus&)>& good) {
    const auto deadline = steady_clock::now() + kReadyTime;
    const auto slow = steady_clock::now() + seconds(2);
    bool told = false;
    std::string last = "no answer yet";
    while (true) {
      for (const DevDaemon* daemon : started_) {
        if (daemon->Find()) continue;
        return Err(ErrorCode::kConflict, "%s ended; the end of its log %s:\n%s",
                   daemon->name.c_str(), daemon->log.c_str(), Tail(daemon->log, 5).c_str());
      }
      const Result<proto::ClusterStatus> status = AskStatus(client_, false);
      if (status) {
        status_ = *status;
        if (good(status_)) return {};
        last = "not yet so";
      } else if (status.error().code != ErrorCode::kUnavailable) {
        return tl::unexpected(status.error());
      } else {
        last = status.error().message;
      }
      if (steady_clock::now() > deadline) {
        return Err(ErrorCode::kConflict, "waited %lld s for %s (%s); see the logs in %s/logs",
                   static_cast<long long>(kReadyTime.count()), what.c_str(), last.c_str(),
                   cluster_.dir().c_str());
      }
      if (!told && steady_clock::now() > slow) {
        Say("  waiting for " + what);
        told = true;
      }
      std::this_thread::sleep_for(milliseconds(50));
    }
  }

  Result<void> Add(proto::AdminRequest request) {
    const Result<proto::AdminReply> reply = client_.Call(std::move(request));
    if (!reply) return tl::unexpected(reply.error());
    if (reply->code() == proto::AdminReply::OK || reply->code() == proto::AdminReply::EXISTS) {
      return {};
    }
    return Err(ErrorCode::kConflict, "%s", reply->error().c_str());
  }

  template <class List>
  static bool HasName(const List& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(),
                       [&](const auto& item) { return item.name() == name; });
  }

  Result<void> AddMembers() {
    for (const DevDaemon* daemon : cluster_.OfProgram("gabion-sds")) {
      if (HasName(status_.sdss(), daemon->name)) continue;
      proto::AdminRequest request;
      request.mutable_sds_add()->set_name(daemon->name);
      if (auto ok = Add(std::move(request)); !ok) return ok;
    }
    for (const DevDaemon* daemon : cluster_.OfProgram("gabion-sdc")) {
      if (HasName(status_.sdcs(), daemon->name)) continue;
      proto::AdminRequest request;
      request.mutable_sdc_add()->set_name(daemon->name);
      if (auto ok = Add(std::move(request)); !ok) return ok;
    }
    return {};
  }

  Result<void> AddDevices() {
    // Somebody who has made pools of his own has also chosen their devices.
    if (status_.pools_size() > 0 && !HasName(status_.pools(), kPoolName)) return {};
    if (status_.pools_size() == 0) {
      proto::AdminRequest request;
      request.mutable_pool_add()->set_name(kPoolName);
      request.mutable_pool_add()->set_slice_count(slice_count_);
      if (auto ok = Add(std::move(request)); !ok) return ok;
    }
    for (const DevDevice& device : cluster_.Devices()) {
      const bool known = std::any_of(
          status_.devices().begin(), status_.devices().end(),
          [&](const proto::Device& existing) { return existing.path() == device.path; });
      if (known) continue;
      proto::AdminRequest request;
      request.mutable_device_add()->set_sds(device.sds);
      request.mutable_device_add()->set_pool(kPoolName);
      request.mutable_device_add()->set_path(device.path);
      if (auto ok = Add(std::move(request)); !ok) return ok;
    }
    // What follows must see the new ones.
    return WaitUntil("the MDM to answer", [](const auto&) { return true; });
  }

  bool NbdListens() const {
    const auto sdcs = cluster_.OfProgram("gabion-sdc");
    return std::all_of(sdcs.begin(), sdcs.end(), [](const DevDaemon* daemon) {
      return daemon->nbd_listen.empty() || Listens(daemon->nbd_listen);
    });
  }

  const DevCluster& cluster_;
  uint32_t slice_count_;
  MdmClient client_;
  proto::ClusterStatus status_;
  std::vector<const DevDaemon*> started_;
};

// Sends SIGTERM to all, waits, and kills what is left. True when all ended by themselves.
bool EndAll(const std::vector<const DevDaemon*>& daemons) {
  std::vector<std::pair<const DevDaemon*, ProcessHandle>> running;
  for (const DevDaemon* daemon : daemons) {
    const auto id = daemon->Find();
    if (!id) continue;
    if (auto handle = ProcessHandle::Open(*id)) running.emplace_back(daemon, std::move(*handle));
  }
  for (auto& [daemon, handle] : running) handle.Signal(SIGTERM);
  const auto deadline = steady_clock::now() + kGraceTime;
  bool clean = true;
  for (auto& [daemon, handle] : running) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    if (handle.WaitForEnd(std::max(left, milliseconds(0)))) continue;
    clean = false;
    PrintError(daemon->name + " did not end within " + std::to_string(kGraceTime.count()) +
               " s; killing it. Its log: " + daemon->log);
    handle.Signal(SIGKILL);
    handle.WaitForEnd(kGraceTime);
  }
  for (const DevDaemon* daemon : daemons) {
    if (!daemon->Find()) ::unlink(daemon->pid_file().c_str());
  }
  return clean;
}

Result<std::vector<const DevDaemon*>> Named(const DevCluster& cluster,
                                            const std::vector<std::string>& names) {
  std::vector<const DevDaemon*> result;
  for (const std::string& name : names) {
    const DevDaemon* daemon = cluster.Find(name);
    if (daemon == nullptr) {
      std::string known;
      for (const DevDaemon& one : cluster.daemons())
        known += (known.empty() ? "" : ", ") + one.name;
      return Err(ErrorCode::kNotFound, "no daemon is called %s; %s has %s", name.c_str(),
                 cluster.dir().c_str(), known.c_str());
    }
    result.push_back(daemon);
  }
  return result;
}

std::string FormatSeconds(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", value);
  return text;
}

Table DaemonTable(const DevCluster& cluster) {
  Table table({"DAEMON", "STATE", ">PID", "LISTENS ON", "METRICS", ">CPU s", ">RSS"});
  for (const DevDaemon& daemon : cluster.daemons()) {
    const auto id = daemon.Find();
    const auto stats = id ? ReadStats(*id) : std::nullopt;
    const std::string place =
        daemon.listen.empty() ? "nbd://" + daemon.nbd_listen + "/" : daemon.listen;
    table.AddRow({daemon.name, id ? "runs" : "down", id ? std::to_string(id->pid) : "", place,
                  daemon.metrics_listen, stats ? FormatSeconds(stats->cpu_seconds) : "",
                  stats ? FormatSize(stats->resident_bytes) : ""});
  }
  return table;
}

// One object per daemon; names and paths are ours and need no escaping but for '"' and '\'.
std::string DaemonJson(const DevCluster& cluster) {
  const auto quote = [](const std::string& text) {
    std::string result = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') result += '\\';
      result += c;
    }
    return result + "\"";
  };
  std::string result;
  for (const DevDaemon& daemon : cluster.daemons()) {
    const auto id = daemon.Find();
    const auto stats = id ? ReadStats(*id) : std::nullopt;
    result += result.empty() ? "" : ",\n  ";
    result += "{\"name\": " + quote(daemon.name) + ", \"program\": " + quote(daemon.program) +
              ", \"pid\": " + (id ? std::to_string(id->pid) : "null") +
              ", \"cpu_seconds\": " + FormatSeconds(stats ? stats->cpu_seconds : 0) +
              ", \"resident_bytes\": " + std::to_string(stats ? stats->resident_bytes : 0) +
              ", \"listen\": " + quote(daemon.listen) +
              ", \"nbd_listen\": " + quote(daemon.nbd_listen) +
              ", \"nbd_socket\": " + quote(daemon.nbd_socket) +
              ", \"metrics_listen\": " + quote(daemon.metrics_listen) +
              ", \"log\": " + quote(daemon.log) + "}";
  }
  return "[\n  " + result + "\n]";
}

void PrintNextSteps(const DevCluster& cluster, const std::string& mdm) {
  const auto sdcs = cluster.OfProgram("gabion-sdc");
  std::string text = "\nThe cluster runs. To use it:\n  export GABION_MDM=" + mdm +
                     "\n  gabion status\n  gabion volume create v1 --size=10G\n";
  if (!sdcs.empty()) {
    text += "  gabion volume map v1 --sdc=" + sdcs[0]->name + "\n  nbdinfo nbd://" +
            sdcs[0]->nbd_listen + "/v1\n";
  }
  text += "Daemons: gabion dev status --dir=" + cluster.dir() +
          "\nEnd it:  gabion dev down --dir=" + cluster.dir() + " (--delete also removes it)";
  Say(text);
}

}  // namespace

int RunDevUp(const Common& common, const DevOptions& options) {
  const Result<std::string> dir = AbsoluteDir(options.dir);
  if (!dir) return Fail(dir.error());
  const bool exists = DevCluster::Exists(*dir);
  if (exists) {
    Say("Starting the cluster in " + *dir + " again");
  } else {
    Say("Making a cluster in " + *dir + ": 1 MDM, " + Count(options.sds_count, "SDS") + " with " +
        Count(options.devices_per_sds, "device") + " of " + FormatSize(options.device_bytes) +
        ", " + Count(options.sdc_count, "SDC"));
  }
  const Result<DevCluster> cluster =
      exists ? DevCluster::Open(*dir) : DevCluster::Create(*dir, options);
  if (!cluster) return Fail(cluster.error());
  Common mine = common;
  mine.mdms.clear();
  mine.dir = *dir;
  const Result<std::vector<std::string>> mdms = FindEndpoints(mine);
  if (!mdms) return Fail(mdms.error());
  if (auto ok = Riser(*cluster, options.slice_count, *mdms).Run(); !ok) {
    PrintError(ok.error().message);
    PrintError("what runs keeps running; look at " + *dir +
               "/logs, then gabion dev down --dir=" + *dir + ", or dev up again");
    return ExitCodeOf(ok.error());
  }
  PrintNextSteps(*cluster, mdms->front());
  return kExitOk;
}

int RunDevStatus(const Common& common, const DevOptions& options) {
  const Result<DevCluster> cluster = OpenCluster(options.dir);
  if (!cluster) return Fail(cluster.error());
  Common mine = common;
  mine.mdms.clear();
  mine.dir = cluster->dir();
  const auto mdms = FindEndpoints(mine);
  if (!mdms) return Fail(mdms.error());
  MdmClient client({.endpoints = *mdms, .timeout = seconds(1), .on_waiting = nullptr});
  const Result<proto::ClusterStatus> status = AskStatus(client, false);
  if (common.output == Output::kJson) {
    std::printf("{\"daemons\": %s, \"cluster\": %s}\n", DaemonJson(*cluster).c_str(),
                status ? ToJson(*status).c_str() : "null");
  } else {
    std::printf("%s\n%s", DaemonTable(*cluster).ToString().c_str(),
                status ? StatusText(*status).c_str() : "");
  }
  return status ? kExitOk : Fail(status.error());
}

int RunDevDown(const DevOptions& options) {
  const Result<DevCluster> cluster = OpenCluster(options.dir);
  if (!cluster) return Fail(cluster.error());
  bool clean = true;
  // In this order each can still tell the next that it goes.
  for (const char* program : {"gabion-sdc", "gabion-sds", "gabion-mdm"}) {
    clean &= EndAll(cluster->OfProgram(program));
  }
  Say("The cluster in " + cluster->dir() + " is down.");
  if (options.delete_files) {
    if (auto ok = cluster->Delete(); !ok) return Fail(ok.error());
    Say("Its files are deleted.");
  }
  return clean ? kExitOk : kExitRefused;
}

int RunDevStart(const DevOptions& options) {
  const Result<DevCluster> cluster = OpenCluster(options.dir);
  if (!cluster) return Fail(cluster.error());
  const auto daemons = Named(*cluster, options.names);
  if (!daemons) return Fail(daemons.error());
  for (const DevDaemon* daemon : *daemons) {
    const bool ran = daemon->Find().has_value();
    if (auto ok = cluster->Start(*daemon); !ok) return Fail(ok.error());
    Say(daemon->name + (ran ? " runs already." : " started."));
  }
  return kExitOk;
}

int RunDevEnd(const DevOptions& options, Verb verb) {
  const Result<DevCluster> cluster = OpenCluster(options.dir);
  if (!cluster) return Fail(cluster.error());
  const auto daemons = Named(*cluster, options.names);
  if (!daemons) return Fail(daemons.error());
  if (verb == Verb::kDevStop) return EndAll(*daemons) ? kExitOk : kExitRefused;
  for (const DevDaemon* daemon : *daemons) {
    const auto id = daemon->Find();
    auto handle = id ? ProcessHandle::Open(*id) : std::nullopt;
    if (!handle) {
      PrintError(daemon->name + " does not run; start it: gabion dev start " + daemon->name +
                 " --dir=" + cluster->dir());
      return kExitRefused;
    }
    handle->Signal(SIGKILL);
    handle->WaitForEnd(kGraceTime);
    Say(daemon->name + " killed.");
  }
  return kExitOk;
}

}  // namespace gabion::cli
