// What the manager tells about the cluster.
#include "core/mdm/mdm_role.h"
#include "core/mdm/status.h"

namespace gabion::mdm {

void MdmRole::Collect(MetricList& metrics) const {
  metrics.Gauge("mdm_serving", "1 while this manager answers.", phase_ == Phase::kServing ? 1 : 0);
  metrics.Gauge("connections", "Connections of SDSs, SDCs and administrators.",
                connections_.size());
  metrics.Counter("refused_messages_total", "Messages that were refused.", refused_messages_);
  if (phase_ != Phase::kServing) return;
  const proto::ClusterStatus status =
      MakeStatus(MakeView({.boot = now_, .wall = {}}), registrar_, maps_, false);
  const auto slices = [&](const char* state, uint64_t count) {
    metrics.Gauge("slices", "Slices by state; joining ones are also degraded.", count,
                  {{"state", state}});
  };
  slices("mirrored", status.slices_mirrored());
  slices("degraded", status.slices_degraded());
  slices("joining", status.slices_joining());
  slices("unavailable", status.slices_unavailable());
  for (const proto::Sds& sds : status.sdss()) {
    metrics.Gauge("sds_up", "1 while the SDS has a lease.", sds.up() ? 1 : 0,
                  {{"sds", sds.name()}});
  }
  for (const proto::Sdc& sdc : status.sdcs()) {
    metrics.Gauge("sdc_up", "1 while the SDC is heard.", sdc.up() ? 1 : 0, {{"sdc", sdc.name()}});
  }
  for (const proto::Device& device : status.devices()) {
    metrics.Gauge("device_up", "1 while the device is in use.",
                  device.state() == proto::DEVICE_UP ? 1 : 0,
                  {{"device", std::to_string(device.id())}, {"path", device.path()}});
  }
  for (const proto::Pool& pool : status.pools()) {
    metrics.Gauge("pool_capacity_bytes", "Size of the pool's devices in use, both copies counted.",
                  pool.capacity_bytes(), {{"pool", pool.name()}});
    metrics.Gauge("pool_used_bytes", "What is used of it.", pool.used_bytes(),
                  {{"pool", pool.name()}});
  }
  metrics.Gauge("volumes", "Volumes.", static_cast<uint64_t>(status.volumes_size()));
  metrics.Gauge("mappings", "Mappings of volumes to SDCs.",
                static_cast<uint64_t>(status.mappings_size()));
}

}  // namespace gabion::mdm
