// Stories of docs/scenarios.md as short scripts. Each has a cluster of its own, without random
// faults, and says in a sentence what must come out.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "sim/cluster/cluster.h"
#include "sim/cluster/config_watch.h"
#include "sim/world/world.h"

namespace gabion::sim {

// What a script acts on. Every step of a script that does not come out stops the script: Failed().
class Stage : public Observer {
 public:
  Stage(Cluster* cluster, ConfigWatch* watch) : cluster_(cluster), watch_(watch) {}

  Cluster& cluster() { return *cluster_; }
  World& world() { return cluster_->world(); }
  Workload& workload() { return cluster_->workload(); }
  const ConfigWatch& watch() const { return *watch_; }

  // The nodes of the primary and the secondary of a chunk's slice, as last committed. Chunk 0 of
  // volume 0 unless told otherwise.
  NodeIndex Primary(uint32_t volume = 0, uint32_t chunk = 0);
  NodeIndex Secondary(uint32_t volume = 0, uint32_t chunk = 0);
  // An SDS that is neither.
  NodeIndex Bystander();

  void Sleep(Duration duration);
  // Writes to chunk 0 of volume 0 (or `offset`), from the first client, and waits for it.
  void WriteAndWait(uint64_t offset_bytes, uint64_t length_bytes = 4096, uint32_t client = 0);
  void ReadAndWait(uint64_t offset_bytes, uint64_t length_bytes = 4096, uint32_t client = 0);
  // Requests that are not waited for; `*done` becomes true with a good answer.
  void WriteLater(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client, bool* done);
  void ReadLater(uint64_t offset_bytes, uint64_t length_bytes, uint32_t client, bool* done);

  void CutBoth(NodeIndex a, NodeIndex b);
  void HealBoth(NodeIndex a, NodeIndex b);
  void CutFromAll(NodeIndex node);
  void HealFromAll(NodeIndex node);

  // The administrator has no newer copy of the MDM's state than the one that it runs from.
  void AcceptOlderRepository();
  // What the node's last process that ended by itself said.
  const std::string& exit_reason(NodeIndex node) { return exits_[node]; }

  void OnExit(NodeIndex node, std::string_view reason) override { exits_[node] = reason; }

  void WaitMirrored(Duration within = std::chrono::seconds(60));
  void WaitFor(std::string_view what, Duration within, const std::function<bool()>& condition);
  // Everything reads back, from client 0.
  void ReadEverything();
  void Expect(bool good, std::string_view what);
  bool failed() { return world().failure().happened(); }

 private:
  NodeIndex NodeOfMember(uint64_t sds);
  const proto::SliceConfig* SliceOf(uint32_t volume, uint32_t chunk);

  Cluster* cluster_;
  ConfigWatch* watch_;
  std::map<NodeIndex, std::string> exits_;
};

struct Scenario {
  std::string_view name;   // s04-cut-primary-serves-no-stale-reads
  std::string_view title;  // what must come out
  void (*script)(Stage&);
  ClusterOptions options{};
};

std::span<const Scenario> AllScenarios();
// Parts of them.
std::span<const Scenario> ServerScenarios();
std::span<const Scenario> DeviceScenarios();
std::span<const Scenario> DiskScenarios();
std::span<const Scenario> ClientScenarios();
std::span<const Scenario> ManagerScenarios();
std::span<const Scenario> StateScenarios();

// What most scripts begin with: one volume of 4 MiB in 4 slices.
ClusterOptions SmallCluster(uint32_t sds_count, uint32_t sdc_count = 1);

// Empty, or what went wrong. `tracer` may be null.
std::string RunScenarioScript(const Scenario& scenario, Tracer* tracer);

}  // namespace gabion::sim
