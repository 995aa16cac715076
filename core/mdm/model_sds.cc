// The model SDSs of a TestCluster.
#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

constexpr uint64_t kDeviceBytes = uint64_t{10} << 30;

}  // namespace

void TestCluster::AddSds(const std::string& name) {
  ModelSds sds;
  sds.name = name;
  sdss_.push_back(sds);
  StartSds(sdss_.size() - 1);
}

void TestCluster::StartSds(size_t index) {
  ModelSds& sds = sdss_[index];
  if (sds.running) return;
  ModelSds fresh;
  fresh.name = sds.name;
  fresh.id = sds.id;
  fresh.cluster = sds.cluster;
  fresh.incarnation = sds.incarnation + 1;
  fresh.state_lock = sds.state_lock;
  fresh.run = sds.run;
  fresh.drops = sds.drops;
  fresh.drift_permille = sds.drift_permille;
  fresh.generation = sds.generation;
  fresh.names_devices = sds.names_devices;
  if (sds.names_devices) fresh.devices_of_config = sds.devices_of_config;
  fresh.running = true;
  sds = fresh;
}

void TestCluster::Kill(size_t index) {
  ModelSds& sds = sdss_[index];
  if (!sds.running) return;
  sds.running = false;
  Disconnect(index);
}

void TestCluster::Disconnect(size_t index) {
  ModelSds& sds = sdss_[index];
  const bool was_connected = sds.connected;
  sds.connected = sds.registered = false;
  if (!was_connected) return;
  conns_[sds.conn.value()].open = false;
  StepMdm(DisconnectedEvent{sds.conn});
  Settle();
}

void TestCluster::CutOff(size_t index, bool cut) {
  cut_[index] = cut;
  if (cut) Disconnect(index);
}

void TestCluster::HandBack(size_t index) {
  ModelSds& sds = sdss_[index];
  if (!sds.registered) return;
  sds.lease_end = -1;
  SendHeartbeat(sds, true);
  Kill(index);
}

int64_t TestCluster::Clock(const ModelSds& sds) const {
  return now_.time_since_epoch().count() / 1000 * (1000 + sds.drift_permille);
}

bool TestCluster::HasLease(const ModelSds& sds) const {
  return sds.running && Clock(sds) < sds.lease_end;
}

void TestCluster::RunSds(size_t index) {
  ModelSds& sds = sdss_[index];
  if (!sds.running || sds.paused || cut_[index]) return;
  if (!sds.connected) {
    wire::Hello hello = HelloOf(wire::PeerRole::kSds);
    hello.sender = sds.id;
    hello.cluster = ClusterId(sds.cluster);
    hello.incarnation = Incarnation(sds.incarnation);
    sds.conn = Connect(hello);
    if (!IsOpen(sds.conn)) return;
    conns_[sds.conn.value()].sds = index;
    sds.connected = true;
    proto::Management management;
    proto::SdsRegister* request = management.mutable_sds_register();
    request->set_sds(sds.id);
    request->set_name(sds.name);
    request->set_incarnation(sds.incarnation);
    request->set_state_lock(sds.state_lock);
    request->set_run(sds.run);
    request->set_generation_seen(sds.generation);
    for (const uint64_t id : sds.devices_of_config) {
      if (!sds.names_devices) break;
      proto::DeviceReport* report = request->add_devices();
      report->set_device(id);
      report->set_path(devices_[id].path);
      report->set_size_bytes(kDeviceBytes);
      report->set_state(devices_[id].state);
      report->set_log_position(devices_[id].log_position);
    }
    request->add_addresses("127.0.0.1:" + std::to_string(7000 + index));
    SendToMdm(sds.conn, management);
  }
  std::vector<proto::Management> messages = TakeMessages(sds.conn);
  if (sds.deaf && sds.registered) messages.clear();
  for (const proto::Management& management : messages) {
    if (management.has_sds_register_reply()) {
      const proto::SdsRegisterReply& reply = management.sds_register_reply();
      sds.error = reply.error();
      sds.superseded = reply.superseded();
      if (!reply.error().empty()) {
        Disconnect(index);
        return;
      }
      sds.id = reply.sds();
      sds.cluster = reply.cluster();
      CHECK_GE(reply.generation(), sds.generation);
      sds.generation = reply.generation();
      sds.registered = true;
      sds.next_heartbeat = now_;
    } else if (management.has_sds_grant()) {
      const proto::SdsGrant& grant = management.sds_grant();
      sds.heard = std::max(sds.heard, grant.number());
      for (const proto::ScanOrder& order : grant.scans()) {
        ModelDevice& device = devices_[order.device()];
        if (order.order() <= device.scan.order()) continue;
        ++device.scans;
        device.scan.set_order(order.order());
        device.scan.set_bytes_per_second(order.bytes_per_second());
        device.scan.mutable_last()->set_finished_unix_ms(1000 * device.scans);
      }
      const auto sent = sds.sent_at.find(grant.number());
      if (sent == sds.sent_at.end() || !grant.granted()) continue;
      sds.lease_end = sent->second + options_.lease.count();
      sds.sent_at.erase(sds.sent_at.begin(), std::next(sent));
    } else if (management.has_config_update() && sds.obeys) {
      OnConfig(sds, management.config_update());
    }
  }
  OpenEpochs(sds);
  if (sds.registered && now_ >= sds.next_heartbeat) {
    SendHeartbeat(sds, false);
    sds.next_heartbeat = now_ + options_.heartbeat;
  }
}

void TestCluster::OnConfig(ModelSds& sds, const proto::ConfigUpdate& update) {
  CHECK(update.full() || update.version() == sds.applied + 1);
  if (update.full()) {
    sds.slices.clear();
    sds.devices_of_config.clear();
    sds.undropped.clear();
    sds.survey_due = update.survey();
  }
  sds.applied = sds.drained = update.version();
  for (const proto::Device& device : update.devices()) {
    if (device.state() == proto::DEVICE_REMOVING) {
      std::erase(sds.devices_of_config, device.id());
      continue;
    }
    std::erase(sds.devices_of_config, device.id());
    sds.devices_of_config.push_back(device.id());
    devices_[device.id()].path = device.path();
  }
  for (int i = 0; i < update.dropped_slices_size(); ++i) {
    ModelDevice& device = devices_[update.dropped_devices(i)];
    const uint64_t slice = update.dropped_slices(i);
    const bool stays = device.recorded.contains(slice) &&
                       device.recorded[slice].epoch() > update.dropped_epochs(i);
    if (sds.drops && !stays) {
      device.values.erase(slice);
      device.recorded.erase(slice);
    } else {
      sds.undropped.emplace(update.dropped_slices(i), update.dropped_devices(i));
    }
  }
  for (const proto::SliceConfig& slice : update.slices()) {
    const auto known = sds.slices.find(slice.slice());
    CHECK(known == sds.slices.end() || known->second.epoch() <= slice.epoch());
    sds.slices[slice.slice()] = slice;
    // Reads stop at once; the new epoch opens as soon as it can.
    if (slice.release() && slice.primary().sds() == sds.id && !sds.keeps) {
      sds.released[slice.slice()] = slice.epoch();
      sds.next_heartbeat = now_;
    }
  }
  if (update.fence()) sds.next_heartbeat = now_;
}

void TestCluster::SendHeartbeat(ModelSds& sds, bool hand_back) {
  proto::Management management;
  proto::SdsHeartbeat* heartbeat = management.mutable_sds_heartbeat();
  heartbeat->set_number(++sds.heartbeat);
  heartbeat->set_incarnation(sds.incarnation);
  heartbeat->set_applied_version(sds.applied);
  heartbeat->set_drained_version(sds.drained);
  heartbeat->set_hand_back(hand_back);
  for (const auto& [slice, device] : sds.undropped) {
    heartbeat->add_undropped_slices(slice);
    heartbeat->add_undropped_devices(device);
  }
  heartbeat->set_heard_number(sds.heard);
  for (const uint64_t id : sds.devices_of_config) {
    proto::DeviceReport* report = heartbeat->add_devices();
    report->set_device(id);
    report->set_state(devices_[id].state);
    report->set_error(devices_[id].state == proto::DEVICE_FAILED ? "write error" : "");
    report->set_size_bytes(kDeviceBytes);
    if (devices_[id].tested) report->mutable_figures()->set_write_bytes_per_second(812 << 20);
    report->set_log_position(devices_[id].log_position);
    *report->mutable_scan() = devices_[id].scan;
    if (devices_[id].state == proto::DEVICE_UP) continue;
    for (const auto& [slice_id, slice] : sds.slices) {
      if (slice.primary().device() == id || slice.secondary().device() == id ||
          slice.joining().device() == id) {
        sds.released[slice_id] = slice.epoch();
      }
    }
  }
  for (const auto& [id, slice] : sds.slices) {
    if (slice.primary().sds() != sds.id || slice.primary().incarnation() != sds.incarnation) {
      continue;
    }
    const auto add = [&](proto::SliceReport::Kind kind, const proto::Member& member) {
      proto::SliceReport* report = heartbeat->add_reports();
      report->set_kind(kind);
      report->set_slice(id);
      report->set_epoch(slice.epoch());
      report->set_primary_incarnation(sds.incarnation);
      report->set_device(member.device());
      report->set_device_incarnation(member.incarnation());
    };
    if (sds.released.contains(id) && sds.released[id] == slice.epoch()) {
      add(proto::SliceReport::RELEASED, slice.primary());
    }
    if (sds.started[id] == slice.epoch()) add(proto::SliceReport::OPEN, slice.primary());
    if (sds.needs[id] == slice.epoch()) add(proto::SliceReport::MEMBER_NEEDED, slice.secondary());
    if (sds.joined[id] == slice.epoch()) add(proto::SliceReport::JOIN_COMPLETE, slice.joining());
    if (!slice.has_joining()) continue;
    const ModelDevice& target = devices_[slice.joining().device()];
    if (target.spoiled && target.values.contains(id) && sds.joined[id] != slice.epoch()) {
      add(proto::SliceReport::NEEDS_RESYNC, slice.joining());
    }
  }
  sds.sent_at[sds.heartbeat] = Clock(sds);
  SendToMdm(sds.conn, management);
  if (!std::exchange(sds.survey_due, false)) return;
  for (const uint64_t id : sds.devices_of_config) {
    if (devices_[id].state != proto::DEVICE_UP) continue;
    proto::Management report;
    report.mutable_sds_survey()->set_incarnation(sds.incarnation);
    report.mutable_sds_survey()->set_device(id);
    for (const auto& [slice, recorded] : devices_[id].recorded) {
      *report.mutable_sds_survey()->add_replicas() = recorded;
    }
    SendToMdm(sds.conn, report);
  }
}

// Whoever acts in an epoch has recorded it.
void TestCluster::Record(const proto::SliceConfig& slice, uint64_t device) {
  proto::RecordedReplica& recorded = devices_[device].recorded[slice.slice()];
  CHECK_LE(recorded.epoch(), slice.epoch());
  recorded.set_slice(slice.slice());
  recorded.set_epoch(slice.epoch());
  recorded.set_issuer(slice.issuer());
  recorded.set_primary_device(slice.primary().device());
  recorded.set_secondary_device(slice.secondary().device());
  recorded.set_joining_device(slice.joining().device());
}

// The process that acts as this member, if it runs and its device works.
ModelSds* TestCluster::Acting(const proto::SliceConfig& slice, const proto::Member& member) {
  if (!member.present() || devices_[member.device()].state != proto::DEVICE_UP) return nullptr;
  for (ModelSds& sds : sdss_) {
    if (sds.id != member.sds() || !sds.running || sds.incarnation != member.incarnation()) continue;
    if (sds.paused) return nullptr;
    const auto released = sds.released.find(slice.slice());
    const bool is_released = released != sds.released.end() && released->second >= slice.epoch();
    return is_released ? nullptr : &sds;
  }
  return nullptr;
}

// R14, R18, R19 in one register per slice: the exchange takes the newer of both values.
void TestCluster::OpenEpochs(ModelSds& sds) {
  for (auto& [id, slice] : sds.slices) {
    if (slice.primary().sds() != sds.id || Acting(slice, slice.primary()) != &sds) continue;
    const uint64_t epoch = slice.epoch();
    if (sds.started[id] != epoch) {
      uint64_t& own = devices_[slice.primary().device()].values[id];
      if (slice.has_secondary() && slice.secondary().present()) {
        ModelSds* other = Acting(slice, slice.secondary());
        const bool knows =
            other != nullptr && other->slices.contains(id) && other->slices[id].epoch() == epoch;
        if (!knows) {
          sds.needs[id] = epoch;
          continue;
        }
        uint64_t& theirs = devices_[slice.secondary().device()].values[id];
        own = theirs = std::max(own, theirs);
        Record(slice, slice.secondary().device());
      }
      Record(slice, slice.primary().device());
      sds.started[id] = epoch;
      sds.needs.erase(id);
    }
    const bool spoiled = slice.has_joining() && devices_[slice.joining().device()].spoiled &&
                         devices_[slice.joining().device()].values.contains(id);
    if (slice.has_joining() && sds.joined[id] != epoch && !spoiled) {
      ModelSds* target = Acting(slice, slice.joining());
      if (target != nullptr && target->slices.contains(id) && target->slices[id].epoch() == epoch) {
        Record(slice, slice.joining().device());
        devices_[slice.joining().device()].values[id] =
            devices_[slice.primary().device()].values[id];
        sds.joined[id] = epoch;
      }
    }
  }
}

bool TestCluster::IsServing(ModelSds& sds, const proto::SliceConfig& slice) {
  const auto started = sds.started.find(slice.slice());
  return started != sds.started.end() && started->second == slice.epoch() &&
         slice.primary().sds() == sds.id && Acting(slice, slice.primary()) == &sds && HasLease(sds);
}

size_t TestCluster::WriteAll() {
  CheckSinglePrimary();
  size_t count = 0;
  for (ModelSds& sds : sdss_) {
    for (auto& [id, slice] : sds.slices) {
      if (!IsServing(sds, slice)) continue;
      std::map<uint64_t, uint64_t>& own = devices_[slice.primary().device()].values;
      CHECK_GE(own[id], acknowledged_[id]) << "slice " << id << ": an acknowledged write is lost";
      std::vector<uint64_t> devices = {slice.primary().device()};
      bool can_acknowledge = true;
      const auto include = [&](const proto::Member& member, bool joining) {
        ModelSds* other = Acting(slice, member);
        const bool reached = other != nullptr && other->slices.contains(id) &&
                             other->slices[id].epoch() == slice.epoch();
        if (reached) {
          devices.push_back(member.device());
          return;
        }
        can_acknowledge = false;  // R7; for T: R19
        if (!joining) sds.needs[id] = slice.epoch();
      };
      if (slice.has_secondary()) include(slice.secondary(), false);
      if (sds.joined[id] == slice.epoch()) include(slice.joining(), true);
      // An absent member is sent nothing, and holds up the write before it is admitted.
      if (slice.has_secondary() && !slice.secondary().present()) continue;
      const uint64_t value = next_value_++;
      for (const uint64_t device : devices) {
        devices_[device].values[id] = value;
        devices_[device].log_position = value;
      }
      if (!can_acknowledge) continue;
      acknowledged_[id] = value;
      ++count;
    }
  }
  return count;
}

// By true time: two processes that would both serve a slice now are one too many.
void TestCluster::CheckSinglePrimary() {
  std::map<uint64_t, std::string> serving;
  for (ModelSds& sds : sdss_) {
    for (auto& [id, slice] : sds.slices) {
      if (!IsServing(sds, slice)) continue;
      const auto [at, is_first] = serving.emplace(id, sds.name);
      CHECK(is_first) << "slice " << id << " is served by " << at->second << " and " << sds.name;
    }
  }
}

}  // namespace gabion::mdm
