// What a data server tells about its work and its devices.
#include "core/sds/node.h"
#include "core/sds/replica.h"
#include "core/sds/sds_role.h"

namespace gabion::sds {

namespace {

void CollectDevice(DeviceId id, const Device& device, MetricList& metrics) {
  const MetricLabels labels = {{"device", ToString(id)}, {"path", device.config.path}};
  metrics.Gauge("device_up", "1 while the device is in use.", device.up() ? 1 : 0, labels);
  if (device.store == nullptr) return;
  const store::Capacity capacity = device.store->capacity();
  metrics.Gauge("device_size_bytes", "Size of the device.", capacity.size_bytes, labels);
  metrics.Gauge("device_extents", "Extents of 64 KiB for data.", capacity.extents_total, labels);
  metrics.Gauge("device_free_extents", "Extents that are free.", capacity.extents_free, labels);
  metrics.Gauge("log_bytes", "Size of the device's log.", capacity.log_bytes, labels);
  metrics.Gauge("log_used_bytes", "Log that is not in its homes yet.", capacity.log_used_bytes,
                labels);
  const store::Memory memory = device.store->memory();
  metrics.Gauge("store_memory_budget_bytes", "What the store may keep in memory.",
                memory.budget_bytes, labels);
  const auto part = [&](const char* name, uint64_t bytes) {
    MetricLabels with_part = labels;
    with_part.emplace_back("part", name);
    metrics.Gauge("store_memory_bytes", "What the store keeps in memory, by part.", bytes,
                  with_part);
  };
  part("directory", memory.directory_bytes);
  part("fixed", memory.fixed_bytes);
  part("log", memory.log_bytes);
  part("pages", memory.page_bytes);
  const store::Counters counters = device.store->counters();
  metrics.Counter("store_page_hits_total", "Blocks read whose checksums were in memory.",
                  counters.page_hits, labels);
  metrics.Counter("store_page_misses_total", "Blocks read whose checksums were read with them.",
                  counters.page_misses, labels);
  metrics.Counter("store_batches_total", "Writes to the log.", counters.batches, labels);
  metrics.Counter("store_entries_total", "Entries in these writes.", counters.entries, labels);
  metrics.Counter("store_user_bytes_total", "Data that was to be stored.", counters.user_bytes,
                  labels);
  metrics.Counter(
      "store_device_bytes_total",
      "What was written to the device for it; divided by the data: write amplification.",
      counters.device_bytes, labels);
  metrics.Counter("store_checkpoints_total", "Checkpoints.", counters.checkpoints, labels);
  metrics.Counter("store_destaged_blocks_total", "Blocks moved from the log to their homes.",
                  counters.destaged_blocks, labels);
  metrics.Counter("store_checksum_errors_total", "Blocks that did not match their checksum.",
                  counters.checksum_errors, labels);
}

}  // namespace

void SdsRole::Collect(MetricList& metrics) const {
  const Counters& counters = node_.counters;
  metrics.Counter("client_writes_total", "Writes of clients that were admitted.", counters.writes);
  metrics.Counter("client_reads_total", "Reads of clients that were admitted.", counters.reads);
  metrics.Counter("client_refusals_total", "Requests of clients that were refused.",
                  counters.refused);
  metrics.Gauge("client_requests", "Requests of clients that are not answered yet.",
                node_.requests.size());
  metrics.Gauge("connections", "Connections of clients and of other SDSs.", node_.sessions.size());
  metrics.Counter("protocol_violations_total", "Connections closed for what came over them.",
                  node_.sessions.violations());
  metrics.Counter("promises_broken_total",
                  "Entries that found no room in a log although it was promised: a defect.",
                  counters.promises_broken);
  metrics.Counter("rebuild_extents_total", "Extents of 64 KiB copied to members that are joining.",
                  counters.extents_copied);
  metrics.Gauge("mdm_connected", "1 while registered with the MDM.",
                node_.registration.registered() ? 1 : 0);
  uint64_t primaries = 0;
  uint64_t serving = 0;
  uint64_t followers = 0;
  for (const auto& [key, replica] : node_.replicas) {
    if (replica->primary != nullptr) {
      ++primaries;
      serving += replica->primary->serving() ? 1 : 0;
    }
    followers += replica->secondary != nullptr ? 1 : 0;
  }
  metrics.Gauge("slices_primary", "Slices that this SDS is primary of.", primaries);
  metrics.Gauge("slices_serving", "Of these, those that are open.", serving);
  metrics.Gauge("slices_following", "Slices that this SDS is the second copy of, or is joining.",
                followers);
  for (const auto& [id, device] : node_.devices.devices()) CollectDevice(id, device, metrics);
}

}  // namespace gabion::sds
