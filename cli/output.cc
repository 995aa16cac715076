#include "cli/output.h"

#include <google/protobuf/util/json_util.h>

#include "cli/size.h"
#include "cli/table.h"
#include "core/base/check.h"
#include "core/base/ids.h"
#include "core/base/time.h"

namespace gabion::cli {

namespace {

// The name of an object by id, or "#7" for one that is gone.
template <class List>
std::string NameOf(const List& list, uint64_t id) {
  if (id == 0) return "";
  for (const auto& item : list) {
    if (item.id() == id) return item.name();
  }
  return "#" + std::to_string(id);
}

std::string StateName(proto::DeviceState state) {
  switch (state) {
    case proto::DEVICE_ADDING:
      return "adding";
    case proto::DEVICE_UP:
      return "up";
    case proto::DEVICE_DOWN:
      return "down";
    case proto::DEVICE_FAILED:
      return "failed";
    case proto::DEVICE_REMOVING:
      return "removing";
    case proto::DEVICE_TESTED:
      return "tested";
    default:
      return "unknown";
  }
}

std::string Percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "";
  char text[16];
  std::snprintf(text, sizeof(text), "%.0f %%",
                100 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

Table SdsTable(const proto::ClusterStatus& status) {
  Table table({">ID", "NAME", "STATE", "ADDRESS", ">DEVICES"});
  for (const proto::Sds& sds : status.sdss()) {
    int devices = 0;
    for (const proto::Device& device : status.devices()) devices += device.sds() == sds.id();
    std::string addresses;
    for (const std::string& address : sds.addresses()) {
      addresses += (addresses.empty() ? "" : ",") + address;
    }
    const bool seen = sds.incarnation() != 0;
    std::string state = sds.up() ? "up" : seen ? "down" : "never seen";
    if (sds.removing()) state += ", leaving";
    table.AddRow({std::to_string(sds.id()), sds.name(), state, addresses, std::to_string(devices)});
  }
  return table;
}

Table PoolTable(const proto::ClusterStatus& status) {
  Table table({">ID", "NAME", ">SLICES", ">DEVICES", ">CAPACITY", ">USED", ">USED %"});
  for (const proto::Pool& pool : status.pools()) {
    int devices = 0;
    for (const proto::Device& device : status.devices()) devices += device.pool() == pool.id();
    table.AddRow({std::to_string(pool.id()), pool.name(), std::to_string(pool.slice_count()),
                  std::to_string(devices), FormatSize(pool.capacity_bytes()),
                  FormatSize(pool.used_bytes()),
                  Percent(pool.used_bytes(), pool.capacity_bytes())});
  }
  return table;
}

std::string DateText(uint64_t unix_ms) {
  return ToString(WallTime(std::chrono::milliseconds(unix_ms))).substr(0, 16);
}

// In a table: how far it is, or when the last pass ended, and what is not well.
std::string ScanSummary(const proto::ScanStatus& scan) {
  const bool runs = scan.has_pass();
  std::string text = runs ? Percent(scan.progress_permille(), 1000) : "";
  if (!runs && scan.has_last()) text = DateText(scan.last().finished_unix_ms());
  uint64_t found = 0;
  uint64_t unresolved = 0;
  for (const proto::ScanPass* pass : {&scan.pass(), &scan.last()}) {
    found += pass->blocks_damaged() + pass->blocks_differing();
    unresolved += pass->extents_unresolved();
  }
  if (unresolved != 0) return text + ", DAMAGE REMAINS";
  return found != 0 ? text + ", damage repaired" : text;
}

std::string PassText(const proto::ScanPass& pass) {
  return FormatSize(pass.bytes_read()) + " read, " + std::to_string(pass.extents_compared()) +
         " extents compared with the other copy; " + std::to_string(pass.blocks_damaged()) +
         " blocks damaged, " + std::to_string(pass.blocks_differing()) + " different, " +
         std::to_string(pass.blocks_repaired()) + " made good, " +
         std::to_string(pass.extents_unresolved()) + " extents not";
}

std::string ScanText(const proto::ScanStatus& scan) {
  std::string text;
  switch (scan.state()) {
    case proto::ScanStatus::OFF:
      text = "none by itself";
      break;
    case proto::ScanStatus::WAITING:
      text = "waits for its time";
      break;
    case proto::ScanStatus::RUNNING:
    case proto::ScanStatus::PAUSED:
      text = (scan.state() == proto::ScanStatus::PAUSED ? "paused for copies at " : "runs, ") +
             Percent(scan.progress_permille(), 1000) + " since " +
             DateText(scan.pass().started_unix_ms()) + " UTC at " +
             FormatSize(scan.bytes_per_second()) + "/s: " + PassText(scan.pass());
      break;
    default:
      text = "unknown";
      break;
  }
  text = "Scan: " + text + "\n";
  if (scan.has_last()) {
    text += "Last scan: " + DateText(scan.last().started_unix_ms()) + " to " +
            DateText(scan.last().finished_unix_ms()) + " UTC: " + PassText(scan.last()) + "\n";
  }
  if (!scan.last_finding().empty()) text += "Newest finding: " + scan.last_finding() + "\n";
  return text;
}

uint64_t BytesOf(const proto::StoreMemory& memory) {
  return memory.directory_bytes() + memory.fixed_bytes() + memory.log_bytes() + memory.page_bytes();
}

// In a table: what its store takes, and may take.
std::string MemorySummary(const proto::StoreMemory& memory) {
  if (memory.budget_bytes() == 0) return "-";
  return FormatSize(BytesOf(memory)) + "/" + FormatSize(memory.budget_bytes());
}

std::string MemoryText(const proto::StoreMemory& memory, const std::string& sds) {
  if (memory.budget_bytes() == 0) return {};
  std::string text = "Memory: " + FormatSize(BytesOf(memory)) + " of " +
                     FormatSize(memory.budget_bytes()) + ": directory " +
                     FormatSize(memory.directory_bytes() + memory.fixed_bytes()) +
                     ", index of the log " + FormatSize(memory.log_bytes()) + ", checksums " +
                     FormatSize(memory.page_bytes()) + "\nRead cache of " + sds + ": ";
  if (memory.cache_budget_bytes() == 0) return text + "none\n";
  return text + FormatSize(memory.cache_bytes()) + " of " +
         FormatSize(memory.cache_budget_bytes()) + "\n";
}

Table DeviceTable(const proto::ClusterStatus& status) {
  Table table({">ID", "SDS", "POOL", "STATE", ">SIZE", ">USED", ">SLICES", ">MEMORY", "SCAN",
               "PATH", "ERROR"});
  for (const proto::Device& device : status.devices()) {
    table.AddRow({std::to_string(device.id()), NameOf(status.sdss(), device.sds()),
                  NameOf(status.pools(), device.pool()),
                  StateName(device.state()) + (device.removing() ? ", leaving" : ""),
                  FormatSize(device.size_bytes()), FormatSize(device.used_bytes()),
                  std::to_string(device.slices()), MemorySummary(device.memory()),
                  ScanSummary(device.scan()), device.path(), device.error()});
  }
  return table;
}

Table VolumeTable(const proto::ClusterStatus& status) {
  Table table({">ID", "NAME", "POOL", ">SIZE", "MAPPED TO"});
  for (const proto::Volume& volume : status.volumes()) {
    std::string mapped;
    for (const proto::Mapping& mapping : status.mappings()) {
      if (mapping.volume() != volume.id()) continue;
      mapped += (mapped.empty() ? "" : ", ") + NameOf(status.sdcs(), mapping.sdc()) +
                (mapping.read_only() ? " (read-only)" : "");
    }
    table.AddRow({std::to_string(volume.id()), volume.name(), NameOf(status.pools(), volume.pool()),
                  FormatSize(volume.size_bytes()), mapped});
  }
  return table;
}

Table SdcTable(const proto::ClusterStatus& status) {
  Table table({">ID", "NAME", "STATE", ">VOLUMES"});
  for (const proto::Sdc& sdc : status.sdcs()) {
    int volumes = 0;
    for (const proto::Mapping& mapping : status.mappings()) volumes += mapping.sdc() == sdc.id();
    const bool seen = sdc.incarnation() != 0;
    table.AddRow({std::to_string(sdc.id()), sdc.name(),
                  sdc.up() ? "up"
                  : seen   ? "down"
                           : "never seen",
                  std::to_string(volumes)});
  }
  return table;
}

Table TableOf(const proto::ClusterStatus& status, Kind kind) {
  switch (kind) {
    case Kind::kSds:
      return SdsTable(status);
    case Kind::kPool:
      return PoolTable(status);
    case Kind::kDevice:
      return DeviceTable(status);
    case Kind::kVolume:
      return VolumeTable(status);
    case Kind::kSdc:
      return SdcTable(status);
  }
  UNREACHABLE("a kind without a table");
}

const char* Plural(Kind kind) {
  switch (kind) {
    case Kind::kSds:
      return "SDSs";
    case Kind::kPool:
      return "pools";
    case Kind::kDevice:
      return "devices";
    case Kind::kVolume:
      return "volumes";
    case Kind::kSdc:
      return "SDCs";
  }
  UNREACHABLE("a kind without a name");
}

// "sds1 device 7"; "none" for an empty place.
std::string MemberText(const proto::ClusterStatus& status, const proto::Member& member) {
  return NameOf(status.sdss(), member.sds()) + " device " + std::to_string(member.device()) +
         (member.present() ? "" : " (absent)");
}

Table SliceTable(const proto::ClusterStatus& status) {
  Table table({">SLICE", ">EPOCH", "PRIMARY", "SECONDARY", "JOINING"});
  for (const proto::SliceConfig& slice : status.slices()) {
    table.AddRow({std::to_string(slice.slice()), std::to_string(slice.epoch()),
                  slice.has_primary() ? MemberText(status, slice.primary()) : "",
                  slice.has_secondary() ? MemberText(status, slice.secondary()) : "",
                  slice.has_joining() ? MemberText(status, slice.joining()) : ""});
  }
  return table;
}

std::string UptimeText(uint64_t milliseconds) {
  const uint64_t seconds = milliseconds / 1000;
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  if (seconds < 172'800) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86'400) + " days";
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

proto::ClusterStatus Filter(const proto::ClusterStatus& status, Kind kind) {
  proto::ClusterStatus result;
  result.set_cluster(status.cluster());
  result.set_generation(status.generation());
  switch (kind) {
    case Kind::kSds:
      *result.mutable_sdss() = status.sdss();
      break;
    case Kind::kPool:
      *result.mutable_pools() = status.pools();
      break;
    case Kind::kDevice:
      *result.mutable_devices() = status.devices();
      break;
    case Kind::kVolume:
      *result.mutable_volumes() = status.volumes();
      *result.mutable_mappings() = status.mappings();
      break;
    case Kind::kSdc:
      *result.mutable_sdcs() = status.sdcs();
      *result.mutable_mappings() = status.mappings();
      break;
  }
  return result;
}

std::string ListText(const proto::ClusterStatus& status, Kind kind) {
  const Table table = TableOf(status, kind);
  return table.empty() ? std::string("No ") + Plural(kind) + ".\n" : table.ToString();
}

std::string SliceSummary(const proto::ClusterStatus& status) {
  const uint32_t all =
      status.slices_mirrored() + status.slices_degraded() + status.slices_unavailable();
  if (all == 0) return "no data placed yet";
  std::string result = std::to_string(all) + " slices: ";
  if (status.slices_mirrored() == all) return result + "all mirrored";
  result += std::to_string(status.slices_mirrored()) + " mirrored";
  if (status.slices_degraded() > 0) {
    result += ", " + std::to_string(status.slices_degraded()) + " with one copy (" +
              std::to_string(status.slices_joining()) + " being copied)";
  }
  if (status.slices_unavailable() > 0) {
    result += ", " + std::to_string(status.slices_unavailable()) + " UNAVAILABLE";
    if (status.slices_closed() > 0) {
      result += " (" + std::to_string(status.slices_closed()) + " wait for devices to report)";
    }
  }
  return result;
}

std::string StatusText(const proto::ClusterStatus& status) {
  std::string result = "Cluster " + HexId(status.cluster()) + ", generation " +
                       std::to_string(status.generation()) + "; MDM up for " +
                       UptimeText(status.uptime_ms()) + "\n";
  if (!status.problem().empty()) result += "PROBLEM: " + status.problem() + "\n";
  for (const std::string& notice : status.notices()) result += "NOTICE: " + notice + "\n";
  result += "Data: " + SliceSummary(status) + "\n";
  for (const Kind kind : {Kind::kSds, Kind::kDevice, Kind::kPool, Kind::kVolume, Kind::kSdc}) {
    result += "\n" + ListText(status, kind);
  }
  if (status.slices_size() > 0) result += "\n" + SliceTable(status).ToString();
  if (status.closed_slices_size() > 0) result += "\nSlices that are not served yet:\n";
  for (const proto::ClosedSlice& closed : status.closed_slices()) {
    result += "  " + std::to_string(closed.slice()) + ": " + closed.why() + "\n";
  }
  return result;
}

std::string DeviceText(const proto::ClusterStatus& status, const std::string& id) {
  proto::ClusterStatus one = status;
  one.clear_devices();
  for (const proto::Device& device : status.devices()) {
    if (std::to_string(device.id()) == id) *one.add_devices() = device;
  }
  if (one.devices().empty()) return {};
  const proto::Device& device = one.devices(0);
  return DeviceTable(one).ToString() +
         MemoryText(device.memory(), NameOf(status.sdss(), device.sds())) + ScanText(device.scan());
}

std::string DoneText(const proto::AdminRequest& request, const proto::AdminReply& reply) {
  // Not done yet: what follows.
  const std::string follows = reply.note().empty() ? " removed.\n" : ": " + reply.note() + ".\n";
  const std::string id = " (id " + std::to_string(reply.id()) + ")";
  switch (request.command_case()) {
    case proto::AdminRequest::kSdsAdd:
      return "SDS " + request.sds_add().name() + " added" + id +
             ". Start its daemon: gabion-sds --name=" + request.sds_add().name() + "\n";
    case proto::AdminRequest::kSdsRemove:
      if (request.sds_remove().cancel()) return "SDS " + request.sds_remove().sds() + " stays.\n";
      return "SDS " + request.sds_remove().sds() + follows;
    case proto::AdminRequest::kMdmRestored:
      return "The MDM goes on with this repository" +
             (reply.note().empty() ? "" : ": " + reply.note()) + ".\n";
    case proto::AdminRequest::kPoolAdd:
      return "Pool " + request.pool_add().name() + " added" + id + ".\n";
    case proto::AdminRequest::kPoolRemove:
      return "Pool " + request.pool_remove().pool() + " removed.\n";
    case proto::AdminRequest::kDeviceAdd:
      return "Device " + request.device_add().path() + " of SDS " + request.device_add().sds() +
             (request.device_add().test() == proto::TEST_ONLY
                  ? " tested, not in use" + id
                  : " added to pool " + request.device_add().pool() + id) +
             (reply.note().empty() ? "" : ": " + reply.note()) + ".\n";
    case proto::AdminRequest::kDeviceRemove:
      if (request.device_remove().cancel()) {
        return "Device " + request.device_remove().device() + " stays.\n";
      }
      return "Device " + request.device_remove().device() + follows;
    case proto::AdminRequest::kDeviceScan:
      return request.device_scan().cancel()
                 ? "The scan of device " + request.device_scan().device() + " ends.\n"
                 : "Device " + request.device_scan().device() +
                       " is scanned now: `gabion device show " + request.device_scan().device() +
                       "` tells how far that is.\n";
    case proto::AdminRequest::kSliceForce:
      return "Slice " + std::to_string(request.slice_force().slice()) + " is served from device " +
             std::to_string(request.slice_force().device()) +
             " now; what that copy lacked is lost.\n";
    case proto::AdminRequest::kVolumeCreate:
      return "Volume " + request.volume_create().name() +
             " created: " + FormatSize(request.volume_create().size_bytes()) + ", thin, in pool " +
             request.volume_create().pool() + id + ".\n";
    case proto::AdminRequest::kVolumeDelete:
      return "Volume " + request.volume_delete().volume() + " deleted.\n";
    case proto::AdminRequest::kVolumeGrow:
      return "Volume " + request.volume_grow().volume() + " is now " +
             FormatSize(request.volume_grow().size_bytes()) + ".\n";
    case proto::AdminRequest::kVolumeMap:
      return "Volume " + request.volume_map().volume() + " mapped to SDC " +
             request.volume_map().sdc() + (request.volume_map().read_only() ? ", read-only" : "") +
             "; it is an NBD export of that name there.\n";
    case proto::AdminRequest::kVolumeUnmap:
      return "Volume " + request.volume_unmap().volume() + " unmapped from SDC " +
             request.volume_unmap().sdc() + ".\n";
    case proto::AdminRequest::kSdcAdd:
      return "SDC " + request.sdc_add().name() + " added" + id +
             ". Start its daemon: gabion-sdc --name=" + request.sdc_add().name() + "\n";
    case proto::AdminRequest::kSdcRemove:
      return "SDC " + request.sdc_remove().sdc() + " removed.\n";
    default:
      return "Done.\n";
  }
}

}  // namespace gabion::cli
