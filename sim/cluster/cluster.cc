#include "sim/cluster/cluster.h"

#include <utility>

#include "core/base/check.h"
#include "core/mdm/mdm.h"
#include "core/sdc/sdc.h"
#include "core/sds/sds.h"
#include "core/store/layout.h"

namespace gabion::sim {

namespace {

constexpr uint16_t kPort = 7000;
// Small, so that journals change areas often, and are read quickly.
constexpr uint64_t kStateBytes = 64 << 10;
constexpr uint64_t kRepositoryBytes = 512 << 10;
constexpr Duration kPoll = std::chrono::milliseconds(100);

Address AddressOf(uint32_t node) {
  return Address::V4(10, 0, 0, static_cast<uint8_t>(node + 1), kPort);
}

std::string DevicePath(uint32_t device) { return "/dev/sim" + std::to_string(device); }

}  // namespace

NodeClock Cluster::DrawClock() {
  NodeClock clock;
  Choices& choices = world_->choices();
  clock.boot_offset =
      static_cast<int64_t>(choices.Below(clocks_, Site::kClockOffset, 1'000)) * 1'000'000'007;
  if (options_.drift_ppm_max != 0) {
    // Half of the clocks at an end of the range, so that pairs at opposite ends are frequent.
    const auto limit = static_cast<int64_t>(options_.drift_ppm_max);
    switch (choices.Below(clocks_, Site::kClockDrift, 4)) {
      case 0:
        break;
      case 1:
        clock.drift_ppm = limit;
        break;
      case 2:
        clock.drift_ppm = -limit;
        break;
      default:
        clock.drift_ppm = static_cast<int64_t>(choices.Below(
                              clocks_, Site::kClockDrift, static_cast<uint64_t>(2 * limit + 1))) -
                          limit;
        break;
    }
    if (clock.drift_ppm != 0) ++world_->fired()[Fault::kClockDrift];
  }
  constexpr int64_t kYear2024 = 1'704'067'200'000'000'000;
  clock.wall_offset = kYear2024;
  if (options_.wall_offset_max.count() != 0) {
    const auto limit = static_cast<uint64_t>(options_.wall_offset_max.count());
    clock.wall_offset +=
        static_cast<int64_t>(choices.Below(clocks_, Site::kClockOffset, 2 * limit + 1)) -
        static_cast<int64_t>(limit);
    ++world_->fired()[Fault::kWallOffset];
  }
  return clock;
}

Disk::Options Cluster::DiskOptions(uint64_t size_bytes, uint32_t block_bytes) const {
  Disk::Options disk;
  disk.info.size_bytes = size_bytes;
  disk.info.block_bytes = block_bytes;
  disk.info.volatile_cache = options_.volatile_cache;
  disk.info.discard = true;
  return disk;
}

Cluster::Cluster(World* world, const ClusterOptions& options)
    : world_(world),
      options_(options),
      plan_(world->choices().Open(StreamKind::kPlan, 1)),
      clocks_(world->choices().Open(StreamKind::kClock)),
      workload_(world) {
  uint32_t next = 0;
  const std::vector<Address> mdms = {AddressOf(0)};
  const auto add = [&](std::string name, uint64_t state_bytes, uint32_t block_bytes, auto make) {
    NodeOptions node;
    node.name = std::move(name);
    node.address = AddressOf(next++);
    node.clock = DrawClock();
    if (next <= options_.drift_ppm.size()) node.clock.drift_ppm = options_.drift_ppm[next - 1];
    node.state_device = DiskOptions(state_bytes, block_bytes);
    node.make_role = std::move(make);
    return world_->AddNode(node);
  };
  const uint64_t entropy =
      world->choices().Bits(world->choices().Open(StreamKind::kEntropy), Site::kEntropyDraw);
  mdm_ = add("mdm1", kRepositoryBytes, 4096, [this, entropy](const RoleResources& resources) {
    mdm::Options mdm;
    mdm.entropy = entropy | 1;
    mdm.lease = options_.lease;
    mdm.rebuild_delay = options_.rebuild_delay;
    mdm.hold = hold_mdm_;
    return mdm::MakeMdm(mdm, resources);
  });
  const auto add_sds = [&](const std::string& node_name, const std::string& sds_name,
                           const std::string& state_lock) {
    sds::Options sds;
    sds.name = sds_name;
    sds.mdms = mdms;
    sds.addresses = {AddressOf(next)};
    sds.state_lock = state_lock;
    sds.log_bytes = options_.log_bytes;
    sds.store_memory_bytes = options_.store_memory_bytes;
    sds.read_cache_bytes = options_.read_cache_bytes;
    sds.scan_interval = options_.scan_interval;
    sds.scan_bytes_per_second = options_.scan_bytes_per_second;
    sds.scan_save_pause = std::chrono::seconds(2);  // so that restarts find something
    sds.device_timeout = options_.device_timeout;
    sds.entropy = next;
    // Another number for each run of each process.
    const NodeIndex node =
        add(node_name, kStateBytes, 4096, [sds](const RoleResources& resources) mutable {
          sds.entropy += 1'000;
          return sds::MakeSds(sds, resources);
        });
    for (uint32_t device = 0; device < options_.devices_per_sds; ++device) {
      world_->AddDisk(node, DevicePath(device),
                      DiskOptions(options_.device_bytes, options_.block_bytes));
    }
    return node;
  };
  for (uint32_t i = 0; i < options_.sds_count; ++i) {
    const std::string name = "sds" + std::to_string(i + 1);
    sds_.push_back(add_sds(name, name, name));
  }
  for (uint32_t i = 0; i < options_.sdc_count; ++i) {
    sdc::Options sdc;
    sdc.name = "sdc" + std::to_string(i + 1);
    sdc.mdms = mdms;
    sdc.io_timeout = options_.io_timeout;
    sdc_.push_back(add(sdc.name, kStateBytes, 4096, [sdc](const RoleResources& resources) {
      return sdc::MakeSdc(sdc, resources);
    }));
  }
  admin_ = add("admin", kStateBytes, 4096, [this, mdms](const RoleResources& resources) {
    return std::make_unique<AdminRole>(mdms, commands_, resources);
  });
  if (options_.twin) twin_ = add_sds("twin", "sds1", "twin");
  world_->Observe(&workload_);
}

uint64_t Cluster::FirstLogByte() const {
  return store::ComputeGeometry(options_.device_bytes, options_.log_bytes)->log_offset();
}

uint64_t Cluster::FirstDataByte() const {
  return store::ComputeGeometry(options_.device_bytes, options_.log_bytes)->extents_offset();
}

void Cluster::Command(proto::AdminRequest request,
                      std::function<void(const proto::AdminReply&)> done) {
  commands_->Add(std::move(request), std::move(done));
  world_->Submit(admin_, UserRequestEvent());
}

NodeIndex Cluster::NodeOfSds(uint64_t sds_id) const {
  for (const proto::Sds& sds : last_status_.sdss()) {
    if (sds.id() != sds_id) continue;
    for (const NodeIndex node : sds_) {
      if (world_->node(node).options.name != sds.name()) continue;
      return taken_over_ && node == sds_[0] ? twin_ : node;
    }
  }
  return static_cast<NodeIndex>(world_->node_count());
}

bool Cluster::WaitForStatus(TrueTime end,
                            const std::function<bool(const proto::ClusterStatus&)>& good) {
  bool reached = false;
  bool asking = false;
  TrueTime next = world_->now();
  while (!reached && world_->now() < end && !world_->failure().happened()) {
    if (!asking) {
      asking = true;
      proto::AdminRequest request;
      request.mutable_status()->set_slices(true);
      Command(std::move(request), [&](const proto::AdminReply& reply) {
        asking = false;
        last_status_ = reply.status();
        reached = good(last_status_);
      });
    }
    next = std::min<TrueTime>(world_->now() + kPoll.count(), end);
    world_->RunUntil(next);
  }
  // As in SetUp.
  if (asking) {
    for (AdminQueue::Command& command : commands_->commands) command.done = nullptr;
  }
  return reached;
}

bool Cluster::WaitMirrored(TrueTime end) {
  const uint32_t total = options_.slice_count;
  return WaitForStatus(end, [total](const proto::ClusterStatus& status) {
    return status.slices_mirrored() == total && status.slices_degraded() == 0 &&
           status.slices_unavailable() == 0;
  });
}

bool Cluster::SetUp(TrueTime end) {
  const bool done = SetUpSteps(end);
  // Answers that are still on their way must not touch a frame that is gone.
  for (AdminQueue::Command& command : commands_->commands) command.done = nullptr;
  return done;
}

bool Cluster::SetUpSteps(TrueTime end) {
  world_->Start(mdm_);
  for (const NodeIndex node : sds_) world_->Start(node);
  for (const NodeIndex node : sdc_) world_->Start(node);
  world_->Start(admin_);
  uint32_t waiting = 0;
  const auto command = [&](const proto::AdminRequest& request, std::function<void(uint64_t)> done) {
    ++waiting;
    Command(request, [this, &waiting, done](const proto::AdminReply& reply) {
      --waiting;
      if (reply.code() != proto::AdminReply::OK) {
        world_->Fail("set-up", "the MDM refused a command: " + reply.error());
        return;
      }
      if (done) done(reply.id());
    });
  };
  proto::AdminRequest request;
  for (const NodeIndex node : sds_) {
    request.mutable_sds_add()->set_name(world_->node(node).options.name);
    command(request, nullptr);
  }
  request.mutable_pool_add()->set_name("pool1");
  request.mutable_pool_add()->set_slice_count(options_.slice_count);
  command(request, nullptr);
  for (const NodeIndex node : sdc_) {
    request.mutable_sdc_add()->set_name(world_->node(node).options.name);
    command(request, nullptr);
  }
  if (!world_->RunUntil(end, [&] { return waiting == 0; })) return false;
  for (uint32_t device = 0; device < options_.devices_per_sds; ++device) {
    for (const NodeIndex node : sds_) {
      request.mutable_device_add()->set_sds(world_->node(node).options.name);
      request.mutable_device_add()->set_pool("pool1");
      request.mutable_device_add()->set_path(DevicePath(device));
      command(request, nullptr);
    }
  }
  if (!world_->RunUntil(end, [&] { return waiting == 0; })) return false;
  std::vector<uint64_t> volumes(options_.volume_count, 0);
  for (uint32_t i = 0; i < options_.volume_count; ++i) {
    const std::string name = "vol" + std::to_string(i + 1);
    request.mutable_volume_create()->set_name(name);
    request.mutable_volume_create()->set_pool("pool1");
    request.mutable_volume_create()->set_size_bytes(options_.volume_bytes);
    command(request, [&volumes, i](uint64_t id) { volumes[i] = id; });
    for (const NodeIndex node : sdc_) {
      request.mutable_volume_map()->set_volume(name);
      request.mutable_volume_map()->set_sdc(world_->node(node).options.name);
      command(request, nullptr);
    }
  }
  if (!world_->RunUntil(end, [&] { return waiting == 0; })) return false;
  if (!WaitMirrored(end)) return false;
  for (const NodeIndex node : sdc_) {
    Workload::ClientOptions client = options_.client;
    client.node = node;
    client.io_timeout = options_.io_timeout;
    workload_.AddClient(client);
  }
  for (const uint64_t id : volumes) workload_.AddVolume(VolumeId(id), options_.volume_bytes);
  return world_->RunUntil(end, [&] {
    for (uint32_t client = 0; client < sdc_.size(); ++client) {
      for (uint32_t volume = 0; volume < volumes.size(); ++volume) {
        if (!workload_.Attached(client, volume)) return false;
      }
    }
    return true;
  });
}

}  // namespace gabion::sim
