// A whole cluster in a world: one MDM, some SDSs with devices, some SDCs, an administrator who sets
// it up by commands, and a workload. The same roles as in production.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/cluster/admin.h"
#include "sim/cluster/workload.h"
#include "sim/world/world.h"

namespace gabion::sim {

struct ClusterOptions {
  uint32_t sds_count = 3;
  uint32_t devices_per_sds = 1;
  uint32_t sdc_count = 1;
  uint32_t volume_count = 1;
  uint32_t slice_count = 8;
  uint64_t volume_bytes = 8 << 20;
  uint64_t device_bytes = uint64_t{64} << 20;
  uint32_t block_bytes = 4096;  // of data devices
  uint64_t log_bytes = 0;       // of their stores; 0: as the store decides
  uint64_t store_memory_bytes = 0;
  uint64_t read_cache_bytes = 0;  // of each SDS
  bool volatile_cache = true;
  Duration lease = std::chrono::milliseconds(1000);
  Duration rebuild_delay = std::chrono::seconds(10);
  Duration scan_interval{0};  // of the scanner; 0: no pass begins by itself
  uint64_t scan_bytes_per_second = 0;
  uint32_t drift_ppm_max = 0;  // clocks drift by up to this, pairs at opposite ends
  Duration wall_offset_max{0};
  Duration io_timeout{0};
  Duration device_timeout = std::chrono::seconds(5);  // of the SDSs
  std::vector<int64_t> drift_ppm;  // of the MDM, then of each SDS; draws decide where it is short
  // One more node, not started: another process with the name of the first SDS.
  bool twin = false;
  Workload::ClientOptions client;  // `node` is set per client
};

class Cluster {
 public:
  // Draws what `options` leaves open (clock offsets and the like) from the plan stream.
  Cluster(World* world, const ClusterOptions& options);
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Starts everything, sets it up, and waits until all slices are mirrored and all volumes
  // attached. False when that has not happened by `end`; the world may then have failed, too.
  bool SetUp(TrueTime end);

  // A command; `done` may be null.
  void Command(proto::AdminRequest request,
               std::function<void(const proto::AdminReply&)> done = nullptr);
  // Asks the MDM for its status until `good` says yes or `end`; whether it did.
  bool WaitForStatus(TrueTime end, const std::function<bool(const proto::ClusterStatus&)>& good);
  bool WaitMirrored(TrueTime end);
  const proto::ClusterStatus& last_status() const { return last_status_; }

  World& world() { return *world_; }
  const World& world() const { return *world_; }
  Workload& workload() { return workload_; }
  const ClusterOptions& options() const { return options_; }
  NodeIndex mdm() const { return mdm_; }
  const std::vector<NodeIndex>& sds() const { return sds_; }
  const std::vector<NodeIndex>& sdc() const { return sdc_; }
  NodeIndex admin() const { return admin_; }
  NodeIndex twin() const { return twin_; }
  // From its next start on the MDM's state folder counts as an old copy, or does not.
  void HoldMdm(bool hold) { hold_mdm_ = hold; }
  // From now on the twin's machine is the one that holds the first SDS's devices.
  void TakeOverByTwin() { taken_over_ = true; }
  // The SDS whose name the MDM knows under this id; the node count when there is none.
  NodeIndex NodeOfSds(uint64_t sds_id) const;
  // Of a device: its log and metadata lie below.
  uint64_t FirstDataByte() const;
  uint64_t FirstLogByte() const;

 private:
  bool SetUpSteps(TrueTime end);
  NodeClock DrawClock();
  Disk::Options DiskOptions(uint64_t size_bytes, uint32_t block_bytes) const;

  World* world_;
  ClusterOptions options_;
  Stream plan_;
  Stream clocks_;
  Workload workload_;
  std::shared_ptr<AdminQueue> commands_ = std::make_shared<AdminQueue>();
  NodeIndex mdm_ = 0;
  std::vector<NodeIndex> sds_;
  std::vector<NodeIndex> sdc_;
  NodeIndex admin_ = 0;
  NodeIndex twin_ = 0;
  bool taken_over_ = false;
  bool hold_mdm_ = false;
  proto::ClusterStatus last_status_;
};

}  // namespace gabion::sim
