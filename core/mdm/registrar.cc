#include "core/mdm/registrar.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/role/address.h"

namespace gabion::mdm {
namespace {

constexpr int kAddressesMax = 16;
constexpr Duration kAccusationMemory = std::chrono::seconds(3);

bool IsReportOf(const SliceState& slice, const proto::SliceReport& report, SdsId sds,
                Incarnation incarnation) {
  if (slice.primary.sds != sds || slice.primary.incarnation != incarnation) return false;
  if (Incarnation(report.primary_incarnation()) != incarnation) return false;
  return Epoch(report.epoch()) == slice.epoch;
}

bool Names(const proto::SliceReport& report, const Member& member) {
  return member && DeviceId(report.device()) == member.device &&
         Incarnation(report.device_incarnation()) == member.incarnation;
}

}  // namespace

SdsId FindSdsByName(const Repository& repository, std::string_view name) {
  for (const auto& [id, sds] : repository.sdss()) {
    if (sds.name() == name) return id;
  }
  return SdsId();
}

SdcId FindSdcByName(const Repository& repository, std::string_view name) {
  for (const auto& [id, sdc] : repository.sdcs()) {
    if (sdc.name() == name) return id;
  }
  return SdcId();
}

Registrar::Verdict Registrar::Judge(const Repository& repository,
                                    const proto::SdsRegister& request) const {
  Verdict verdict;
  if (!outdated_.empty()) {
    verdict.error = outdated_;
    return verdict;
  }
  verdict.sds =
      request.sds() != 0 ? SdsId(request.sds()) : FindSdsByName(repository, request.name());
  const proto::Sds* sds = repository.FindSds(verdict.sds);
  if (sds == nullptr) {
    verdict.error =
        repository.IsOfLostRepository(request.sds())
            ? absl::StrCat("SDS ", request.sds(), " (", request.name().substr(0, 64),
                           ") was added after the copy of this repository was made: `gabion sds "
                           "add ",
                           request.name().substr(0, 64),
                           "` (with its fault set) takes it in again with its data")
        : request.sds() != 0
            ? absl::StrCat("SDS ", request.sds(), " (", request.name(),
                           ") was removed from the cluster: add it under a name with `gabion sds "
                           "add` and start it with an empty state directory")
            : absl::StrCat("no SDS named \"", request.name(),
                           "\": add it with `gabion sds add`, or correct its name");
    return verdict;
  }
  if (request.incarnation() == 0) {
    verdict.error = absl::StrCat("SDS ", sds->name(), " came without an incarnation");
    return verdict;
  }
  // R22. The same number from another run: both began with copies of one state directory.
  const bool is_other_run =
      request.incarnation() == sds->incarnation() && request.run() != sds->run();
  if (request.incarnation() < sds->incarnation() || is_other_run) {
    verdict.superseded = true;
    verdict.error =
        is_other_run && request.sds() == 0
            ? absl::StrCat("SDS ", sds->name(),
                           " has registered from another state directory: start it with that one, "
                           "or add this one under a name of its own")
            : absl::StrCat("SDS ", sds->name(), " came with incarnation ", request.incarnation(),
                           ", but ", sds->incarnation(),
                           is_other_run ? " is another process" : " has been seen",
                           ": another process runs under this name, or its state directory is an "
                           "old copy; stop one of them");
    return verdict;
  }
  if (request.addresses_size() == 0 || request.addresses_size() > kAddressesMax) {
    verdict.error =
        absl::StrCat("SDS ", sds->name(), " announces ", request.addresses_size(),
                     " addresses: give it 1 to ", kAddressesMax, " in its configuration");
    return verdict;
  }
  for (const std::string& address : request.addresses()) {
    if (Address::Parse(address).has_value()) continue;
    verdict.error = absl::StrCat("SDS ", sds->name(), " announces \"", address.substr(0, 64),
                                 "\", which is no address: write it as 192.0.2.1:7070");
    return verdict;
  }
  verdict.is_new_incarnation = request.incarnation() != sds->incarnation();
  verdict.has_same_lock =
      !request.state_lock().empty() && request.state_lock() == sds->state_lock();
  verdict.needs_commit = verdict.is_new_incarnation ||
                         !std::equal(request.addresses().begin(), request.addresses().end(),
                                     sds->addresses().begin(), sds->addresses().end());
  return verdict;
}

void Registrar::NoteOutdated(std::string why) {
  if (!outdated_.empty()) return;
  outdated_ = absl::StrCat(
      why,
      ". Nothing is granted or changed. Stop this MDM, and start it with its newest state folder; "
      "if that is lost, `gabion mdm restored` goes on with this one");
}

void Registrar::NoteRegistration(const Repository& repository, const proto::SdsRegister& request) {
  // Beyond what ids can hold it is no generation.
  if (request.generation_seen() <= kGenerationMax) {
    generation_seen_ = std::max(generation_seen_, request.generation_seen());
  }
  const std::string name = request.name().substr(0, 64);
  if (request.generation_seen() > repository.generation()) {
    NoteOutdated(absl::StrCat("SDS \"", name, "\" has followed an MDM of repository generation ",
                              request.generation_seen(), ", this one is of generation ",
                              repository.generation(), ": it is an old copy"));
  }
  const auto note_id = [&](const char* kind, uint64_t id) {
    if (!repository.IsFromTheFuture(id)) return;
    generation_seen_ = std::max(generation_seen_, GenerationOf(id));
    NoteOutdated(absl::StrCat("SDS \"", name, "\" comes with ", kind, " ", id,
                              ", an id that this MDM's repository has not issued: it is an old "
                              "copy, restored from a backup or started twice"));
  };
  if (request.sds() != 0) note_id("its own id", request.sds());
  for (const proto::DeviceReport& device : request.devices()) note_id("device", device.device());
  const SdsId id(request.sds());
  if (repository.FindSds(id) != nullptr) {
    lost_sdss_.erase(name);
  } else if (request.sds() != 0 && repository.IsOfLostRepository(request.sds())) {
    lost_sdss_[name] = id;
  }
}

bool Registrar::OnSurvey(const Repository& repository, SdsId sds, ConnId conn,
                         const proto::SdsSurvey& report) {
  const auto at = sessions_.find(sds);
  if (at == sessions_.end() || at->second.conn != conn ||
      at->second.incarnation != Incarnation(report.incarnation()) ||
      at->second.incarnation != repository.IncarnationOf(sds)) {
    return false;
  }
  const DeviceId id(report.device());
  const proto::Device* known = repository.FindDevice(id);
  if (known == nullptr ? !at->second.lost_devices.contains(id) : SdsId(known->sds()) != sds) {
    return false;
  }
  // One whose content went back has forgotten what it was in.
  const auto seen = at->second.devices.find(id);
  if (known != nullptr &&
      (seen == at->second.devices.end() || seen->second.report.state() != proto::DEVICE_UP ||
       seen->second.report.log_position() < known->log_position())) {
    return false;
  }
  if (!survey_.Note(sds, report)) return false;
  generation_seen_ = std::max(generation_seen_, survey_.GenerationMax());
  return true;
}

std::vector<proto::Device> Registrar::LostDevices(const Repository& repository, SdsId sds) const {
  std::vector<proto::Device> out;
  const auto at = sessions_.find(sds);
  if (at == sessions_.end()) return out;
  for (const auto& [id, report] : at->second.lost_devices) {
    if (repository.FindDevice(id) != nullptr) continue;
    proto::Device& device = out.emplace_back();
    device.set_id(id.value());
    device.set_sds(sds.value());
    device.set_path(report.path());
    device.set_state(proto::DEVICE_UP);
    device.set_size_bytes(report.size_bytes());
  }
  return out;
}

Registrar::Attached Registrar::Attach(const Repository& repository, SdsId sds, ConnId conn,
                                      const proto::SdsRegister& request, Instant now) {
  Attached attached;
  Session& session = sessions_[sds];
  const Incarnation incarnation(request.incarnation());
  attached.replaced = session.conn == conn ? ConnId() : session.conn;
  attached.must_apply = session.incarnation != incarnation;
  if (attached.must_apply) session = Session();
  session.incarnation = incarnation;
  session.has_state_lock = !request.state_lock().empty();
  session.conn = conn;
  session.attached_at = session.heard_at = now;
  session.unheard_since = kNever;  // a new connection, whose first answers it has heard
  bool changed = false;
  OnDeviceReports(repository, sds, session, request.devices(), 0, &changed);
  session.lost_devices.clear();
  for (const proto::DeviceReport& report : request.devices()) {
    if (report.path().empty() || repository.FindDevice(DeviceId(report.device())) != nullptr ||
        !repository.IsOfLostRepository(report.device())) {
      continue;
    }
    session.lost_devices[DeviceId(report.device())] = report;
  }
  return attached;
}

void Registrar::Detach(SdsId sds) {
  const auto at = sessions_.find(sds);
  if (at != sessions_.end()) at->second.conn = ConnId();
}

void Registrar::Forget(SdsId sds) {
  sessions_.erase(sds);
  absl::erase_if(accusations_, [&](const auto& entry) {
    return entry.first.first == sds || entry.first.second == sds;
  });
}

ConnId Registrar::ConnOf(SdsId sds) const {
  const auto at = sessions_.find(sds);
  return at == sessions_.end() ? ConnId() : at->second.conn;
}

// Does an epoch name the device as one that acts in the session's incarnation?
bool Registrar::IsNamed(const Repository& repository, const Session& session,
                        DeviceId device) const {
  for (const auto& [id, slice] : repository.slices()) {
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      if (member->device == device && member->present &&
          member->incarnation == session.incarnation) {
        return true;
      }
    }
  }
  return false;
}

void Registrar::OnDeviceReports(
    const Repository& repository, SdsId sds, Session& session,
    const google::protobuf::RepeatedPtrField<proto::DeviceReport>& reports,
    uint64_t applied_version, bool* changed) {
  for (const proto::DeviceReport& report : reports) {
    const DeviceId id(report.device());
    const proto::Device* device = repository.FindDevice(id);
    if (device == nullptr || SdsId(device->sds()) != sds) continue;
    DeviceSeen& seen = session.devices[id];
    if (applied_version < seen.ignored_before) continue;
    if (report.state() != seen.report.state()) *changed = true;
    const bool down = report.state() != proto::DEVICE_UP;
    // Released until no epoch names the device as what it was; OnCommitted looks again.
    if (down != seen.released) seen.released = IsNamed(repository, session, id);
    seen.report = report;
    scans_.OnReport(id, report.scan());
  }
}

proto::ScanStatus Registrar::ScanOf(DeviceId device) const {
  const proto::DeviceReport* report = ReportOf(device);
  proto::ScanStatus scan = report == nullptr ? proto::ScanStatus() : report->scan();
  const proto::ScanPass* last = scans_.LastOf(device);
  if (!scan.has_last() && last != nullptr) *scan.mutable_last() = *last;
  return scan;
}

void Registrar::OrderScan(DeviceId device, uint64_t bytes_per_second, bool cancel) {
  scans_.Add(device, ScanOf(device).order(), bytes_per_second, cancel);
}

void Registrar::AddScanOrders(SdsId sds, proto::SdsGrant* grant) const {
  const auto session = sessions_.find(sds);
  if (session == sessions_.end()) return;
  for (const auto& [id, seen] : session->second.devices) scans_.Tell(id, grant);
}

bool Registrar::OnHeartbeat(const Repository& repository, SdsId sds, ConnId conn,
                            const proto::SdsHeartbeat& heartbeat, Instant now, bool* changed) {
  const auto at = sessions_.find(sds);
  if (at == sessions_.end() || at->second.conn != conn ||
      at->second.incarnation != Incarnation(heartbeat.incarnation()) ||
      at->second.incarnation != repository.IncarnationOf(sds)) {
    return false;
  }
  Session& session = at->second;
  session.heard_at = now;
  if (session.unheard_since == kNever || heartbeat.heard_number() >= session.unheard_number) {
    session.unheard_number = heartbeat.number();
    session.unheard_since = now;
  }
  OnDeviceReports(repository, sds, session, heartbeat.devices(), heartbeat.applied_version(),
                  changed);

  std::vector<proto::SliceReport> reports;
  absl::btree_map<SliceId, std::pair<Epoch, Instant>> needed_since;
  for (const proto::SliceReport& report : heartbeat.reports()) {
    const SliceId id(report.slice());
    const SliceState* slice = repository.FindSlice(id);
    if (report.kind() == proto::SliceReport::AHEAD) {
      NoteAhead(repository, sds, report);
      continue;
    }
    if (slice == nullptr || !IsReportOf(*slice, report, sds, session.incarnation)) {
      ++stale_reports_;
      continue;
    }
    switch (report.kind()) {
      case proto::SliceReport::NONE:
        continue;
      case proto::SliceReport::OPEN:
        session.open[id] = slice->epoch;
        continue;
      case proto::SliceReport::RELEASED:
        *changed = *changed || session.released[id] != slice->epoch;
        session.released[id] = slice->epoch;
        continue;
      case proto::SliceReport::MEMBER_NEEDED: {
        const auto known = session.needed_since.find(id);
        const bool is_known =
            known != session.needed_since.end() && known->second.first == slice->epoch;
        needed_since[id] = {slice->epoch, is_known ? known->second.second : now};
        for (const Member* member : {&slice->secondary, &slice->joining}) {
          if (member->present && Names(report, *member)) accusations_[{sds, member->sds}] = now;
        }
        break;
      }
      case proto::SliceReport::JOIN_COMPLETE:
      case proto::SliceReport::JOIN_FAILED:
      case proto::SliceReport::NEEDS_RESYNC:
        break;
      default:
        continue;  // of a later version
    }
    reports.push_back(report);
  }
  const auto same = [](const proto::SliceReport& a, const proto::SliceReport& b) {
    return a.kind() == b.kind() && a.slice() == b.slice() && a.epoch() == b.epoch() &&
           a.device() == b.device() && a.device_incarnation() == b.device_incarnation();
  };
  if (!std::equal(reports.begin(), reports.end(), session.reports.begin(), session.reports.end(),
                  same)) {
    *changed = true;
  }
  session.reports = std::move(reports);
  session.needed_since = std::move(needed_since);
  return true;
}

// Epochs only grow here, so whatever configuration the SDS has, a later one than the repository's
// was issued by another repository.
void Registrar::NoteAhead(const Repository& repository, SdsId sds,
                          const proto::SliceReport& report) {
  const SliceState* slice = repository.FindSlice(SliceId(report.slice()));
  if (slice == nullptr || Epoch(report.seen_epoch()) <= slice->epoch) return;
  generation_seen_ = std::max(generation_seen_, GenerationOf(report.seen_epoch()));
  NoteOutdated(absl::StrCat("SDS ", repository.FindSds(sds)->name(), " has seen epoch ",
                            report.seen_epoch(), " of slice ", report.slice(),
                            ", but this MDM's repository has epoch ", slice->epoch.value(),
                            ": it is an old copy, restored from a backup or started twice"));
}

void Registrar::OnCommitted(const Repository& repository, const Changes& changes) {
  for (const SdsId sds : changes.removed_sdss) Forget(sds);
  for (const proto::Device& device : changes.removed_devices) {
    const auto at = sessions_.find(SdsId(device.sds()));
    if (at != sessions_.end()) at->second.devices.erase(DeviceId(device.id()));
    survey_.Forget(DeviceId(device.id()));
    scans_.Forget(DeviceId(device.id()));
  }
  // A device that is up again is usable as soon as no epoch names it any more as what it was
  // before.
  for (auto& [sds, session] : sessions_) {
    for (auto& [id, seen] : session.devices) {
      if (seen.released && seen.report.state() == proto::DEVICE_UP) {
        seen.released = IsNamed(repository, session, id);
      }
    }
  }
}

bool Registrar::ProvesOldGone(const Repository& repository, SdsId sds) const {
  const auto at = sessions_.find(sds);
  if (at == sessions_.end()) return false;
  const Session& session = at->second;
  if (!session.has_state_lock || session.incarnation != repository.IncarnationOf(sds)) {
    return false;
  }
  return std::all_of(
      repository.devices().begin(), repository.devices().end(), [&](const auto& entry) {
        const auto& [id, device] = entry;
        if (SdsId(device.sds()) != sds || device.state() != proto::DEVICE_UP) return true;
        const auto seen = session.devices.find(id);
        return seen != session.devices.end() && seen->second.report.state() == proto::DEVICE_UP;
      });
}

void Registrar::ArmDevice(SdsId sds, DeviceId device, uint64_t config_version) {
  const auto at = sessions_.find(sds);
  if (at == sessions_.end()) return;
  DeviceSeen seen;
  seen.ignored_before = config_version;
  at->second.devices[device] = seen;
}

proto::ReportDevices Registrar::NewOutcomes(const Repository& repository) const {
  proto::ReportDevices out;
  for (const auto& [sds, session] : sessions_) {
    for (const auto& [id, seen] : session.devices) {
      const proto::Device* device = repository.FindDevice(id);
      if (device == nullptr || device->state() == proto::DEVICE_FAILED) continue;
      const proto::DeviceReport& report = seen.report;
      const bool is_new = device->state() == proto::DEVICE_ADDING;
      const bool due = device->test() == proto::TEST_NONE || report.has_figures();
      const bool came_up = is_new && due && report.state() == proto::DEVICE_UP;
      const bool tested = is_new && due && report.state() == proto::DEVICE_TESTED;
      const bool failed = report.state() == proto::DEVICE_FAILED;
      if (!came_up && !tested && !failed) continue;
      proto::DeviceOutcome* outcome = out.add_devices();
      outcome->set_device(id.value());
      outcome->set_state(report.state());
      outcome->set_size_bytes(came_up || tested ? report.size_bytes() : 0);
      if (is_new && report.has_figures()) *outcome->mutable_figures() = report.figures();
      outcome->set_error(report.error());
    }
  }
  return out;
}

void Registrar::AddFacts(const Repository& repository, SdsId sds, const Session& session,
                         View& view) const {
  for (const proto::SliceReport& report : session.reports) {
    const SliceId id(report.slice());
    const SliceState* slice = repository.FindSlice(id);
    if (slice == nullptr || !IsReportOf(*slice, report, sds, session.incarnation)) continue;
    SliceFacts& facts = view.slices[id];
    switch (report.kind()) {
      case proto::SliceReport::MEMBER_NEEDED: {
        // An absent member is asked for by its device alone.
        if (!slice->secondary || DeviceId(report.device()) != slice->secondary.device) break;
        const auto since = session.needed_since.find(id);
        facts.member_needed = true;
        if (since == session.needed_since.end()) break;
        facts.member_needed_for = view.now - since->second.second;
        facts.member_needed_long = facts.member_needed_for >= options_.unreachable;
        break;
      }
      case proto::SliceReport::JOIN_COMPLETE:
        facts.join_complete = facts.join_complete || Names(report, slice->joining);
        break;
      case proto::SliceReport::JOIN_FAILED:
        facts.join_failed = facts.join_failed || Names(report, slice->joining);
        break;
      case proto::SliceReport::NEEDS_RESYNC:
        if (Names(report, slice->joining)) facts.join_failed = facts.joining_useless = true;
        if (Names(report, slice->primary)) facts.primary_needs_resync = true;
        if (Names(report, slice->secondary)) facts.secondary_needs_resync = true;
        break;
      default:
        break;
    }
  }
  for (const auto& [id, epoch] : session.released) {
    const SliceState* slice = repository.FindSlice(id);
    if (slice != nullptr && slice->epoch == epoch && slice->primary.sds == sds &&
        slice->primary.incarnation == session.incarnation) {
      view.slices[id].released = true;
    }
  }
}

bool Registrar::Hears(SdsId sds, Instant now) const {
  const auto at = sessions_.find(sds);
  if (at == sessions_.end() || at->second.unheard_since == kNever) return true;
  return now - at->second.unheard_since < options_.deaf;
}

View Registrar::MakeView(const Repository& repository, const Leases& leases, Instant now) const {
  View view{.repository = repository, .now = now, .sdss = {}, .devices = {}, .slices = {}};
  for (const auto& [id, sds] : repository.sdss()) {
    SdsView& seen = view.sdss[id];
    seen.lease_over = leases.IsOver(id, now);
    seen.old_lease_over = leases.IsOldOver(id, now);
    seen.silent = now - started_at_ >= options_.unreachable;
    const auto at = sessions_.find(id);
    if (at == sessions_.end()) continue;
    const Session& session = at->second;
    if (session.incarnation != Incarnation(sds.incarnation())) continue;
    // One that is heard, and yet has had no lease for so long, cannot apply its fences or is cut
    // off one way: others take over (R12 holds).
    const bool stalled =
        seen.lease_over &&
        now - std::max(leases.OverSince(id), session.attached_at) >= options_.alive;
    seen.alive = now - session.heard_at < options_.alive && !leases.handed_back(id) &&
                 Hears(id, now) && !stalled;
    seen.silent = seen.silent && now - session.heard_at >= options_.unreachable;
    for (const auto& [device_id, device] : session.devices) {
      const bool up = device.report.state() == proto::DEVICE_UP;
      const proto::Device* known = repository.FindDevice(device_id);
      DeviceView& device_view = view.devices[device_id];
      device_view.behind =
          up && known != nullptr && device.report.log_position() < known->log_position();
      device_view.usable = up && !device.released && !device_view.behind && known != nullptr &&
                           known->state() == proto::DEVICE_UP;
      device_view.log_position = up ? device.report.log_position() : 0;
      device_view.released = device.released;
      device_view.used_bytes = device.report.used_bytes();
      device_view.memory = device.report.memory();
    }
    AddFacts(repository, id, session, view);
  }
  for (const auto& [who, at] : accusations_) {
    if (now - at >= kAccusationMemory) continue;
    view.accusers[who.second].insert({.is_sdc = false, .id = who.first.value()});
  }
  for (const auto& [id, device] : repository.rolled_back()) {
    const SliceState* slice = repository.FindSlice(id);
    SliceFacts& facts = view.slices[id];
    if (slice->primary.device == device) facts.primary_rolled_back = true;
    if (slice->secondary.device == device) facts.secondary_needs_resync = true;
  }
  view.survey = &survey_;
  view.generation_seen = generation_seen_;
  view.lost_sdss = lost_sdss_;
  view.lost_sdcs = lost_sdcs_;
  return view;
}

bool Registrar::IsOpen(const SliceState& slice) const {
  const auto at = sessions_.find(slice.primary.sds);
  if (at == sessions_.end() || at->second.incarnation != slice.primary.incarnation) return false;
  const auto open = at->second.open.find(slice.id);
  return open != at->second.open.end() && open->second == slice.epoch;
}

const proto::DeviceReport* Registrar::ReportOf(DeviceId device) const {
  for (const auto& [sds, session] : sessions_) {
    const auto at = session.devices.find(device);
    if (at != session.devices.end()) return &at->second.report;
  }
  return nullptr;
}

std::string Registrar::ErrorOf(DeviceId device) const {
  const proto::DeviceReport* report = ReportOf(device);
  return report == nullptr ? "" : report->error();
}

std::string Registrar::Dump(Instant now) const {
  std::string out = "registered SDSs:\n";
  for (const auto& [sds, session] : sessions_) {
    absl::StrAppend(&out, "  sds ", gabion::ToString(sds), " incarnation ",
                    session.incarnation.value(), ", heard ",
                    gabion::ToString(now - session.heard_at), " ago, ",
                    session.conn.valid() ? "connected" : "not connected", ", devices ",
                    session.devices.size(), ", open reports ", session.reports.size(), "\n");
  }
  return out;
}

uint64_t Registrar::StateHash() const {
  uint64_t hash = stale_reports_ + generation_seen_;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ mix64(value + 11)); };
  for (const auto& [sds, session] : sessions_) {
    add(sds.value()), add(session.conn.value()), add(session.incarnation.value());
    add(static_cast<uint64_t>(session.heard_at.time_since_epoch().count()));
    for (const auto& [id, seen] : session.devices) {
      add(id.value()), add(seen.report.state()), add(seen.report.used_bytes());
      add(seen.released);
    }
    for (const proto::SliceReport& report : session.reports) {
      add(report.kind()), add(report.slice()), add(report.epoch()), add(report.device());
    }
    for (const auto& [id, epoch] : session.released) add(id.value()), add(epoch.value());
    for (const auto& [id, epoch] : session.open) add(id.value()), add(epoch.value());
    add(session.unheard_number), add(session.lost_devices.size());
  }
  for (const auto& [id, reported] : survey_.devices()) {
    add(id.value());
    for (const auto& [slice, recorded] : reported.replicas)
      add(slice.value() + recorded.epoch.value());
  }
  for (const auto& [who, at] : accusations_) {
    add(who.first.value()), add(who.second.value());
    add(static_cast<uint64_t>(at.time_since_epoch().count()));
  }
  return hash;
}

}  // namespace gabion::mdm
