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
  if (memory.cache_bytes_max != 0) {
    metrics.Counter("read_cache_hits_total", "Blocks that small reads found in the read cache.",
                    counters.cache_hits, labels);
    metrics.Counter("read_cache_misses_total", "Blocks that small reads did not find there.",
                    counters.cache_misses, labels);
  }
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
  metrics.Counter("store_redirected_bytes_total",
                  "Of that, what large writes put straight where it stays.",
                  counters.redirected_bytes, labels);
  metrics.Counter("store_checkpoints_total", "Checkpoints.", counters.checkpoints, labels);
  metrics.Counter("store_destaged_blocks_total", "Blocks moved from the log to their homes.",
                  counters.destaged_blocks, labels);
  metrics.Counter("store_checksum_errors_total", "Blocks that did not match their checksum.",
                  counters.checksum_errors, labels);
  const Scanner::Totals& scan = device.scan.totals();
  metrics.Gauge("scan_running", "1 while a pass of the scanner runs over the device.",
                device.scan.running() ? 1 : 0, labels);
  metrics.Gauge("scan_progress_permille", "How far that pass is.", device.scan.progress_permille(),
                labels);
  metrics.Counter("scan_passes_total", "Passes that ran to their end.", scan.passes, labels);
  metrics.Counter("scan_bytes_total", "What they read on the device.", scan.bytes_read, labels);
  metrics.Counter("scan_extents_compared_total", "Extents of 64 KiB compared with the other copy.",
                  scan.extents_compared, labels);
  metrics.Counter("scan_blocks_damaged_total",
                  "Blocks of 4 KiB that passes of this device found damaged, on either copy.",
                  scan.blocks_damaged, labels);
  metrics.Counter("scan_blocks_differing_total",
                  "Blocks that match their checksums on both copies and differ.",
                  scan.blocks_differing, labels);
  metrics.Counter("scan_blocks_repaired_total", "Of both kinds, those that were made good.",
                  scan.blocks_repaired, labels);
  metrics.Counter("scan_extents_unresolved_total",
                  "Extents of 64 KiB in which something could not be made good.",
                  scan.extents_unresolved, labels);
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
  metrics.Counter("blocks_repaired_total", "Blocks replaced by those of the other copy.",
                  counters.blocks_repaired);
  metrics.Counter("repairs_failed_total", "Repairs that found no good copy.",
                  counters.repairs_failed);
  metrics.Counter("copies_differ_total",
                  "Extents of which both copies match their checksums and differ.",
                  counters.copies_differ);
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
