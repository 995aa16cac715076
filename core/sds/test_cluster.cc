#include "core/sds/test_cluster.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::sds {

namespace {

constexpr DeviceIndex kDisk{1};
constexpr uint64_t kVolumeBytes = 16 << 20;

}  // namespace

TestCluster::TestCluster(std::vector<uint64_t> disk_bytes) : nodes_(disk_bytes.size()) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].state = std::make_unique<store::TestDisk>(
        store::TestDisk::Options{.device = DeviceIndex::kState, .size_bytes = 1 << 20});
    nodes_[i].disk = std::make_unique<store::TestDisk>(
        store::TestDisk::Options{.device = kDisk, .size_bytes = disk_bytes[i]});
    Start(i);
  }
  Run(std::chrono::milliseconds(500));
}

Address TestCluster::AddressOf(int node) {
  return Address::V4(10, 0, 0, static_cast<uint8_t>(node + 100), 7000);
}

proto::Member TestCluster::MemberOf(size_t node, bool present) {
  proto::Member member;
  member.set_sds(node + 1);
  member.set_device(DeviceOf(node));
  member.set_incarnation(nodes_[node].incarnation);
  member.set_present(present);
  return member;
}

void TestCluster::Start(size_t node) {
  nodes_[node].role =
      std::make_unique<SdsRole>(Options{.name = "sds" + std::to_string(node),
                                        .mdms = {AddressOf(kMdm)},
                                        .addresses = {AddressOf(static_cast<int>(node))}},
                                RoleResources{.pool = &pool_});
  Step(node, StartEvent{nodes_[node].state->info()});
}

void TestCluster::Kill(size_t node) {
  Host& host = nodes_[node];
  host.role.reset();
  host.timers.clear();
  host.events.clear();
  RandomStream random(1, node, last_conn_);
  host.state->Kill(random);
  host.disk->Kill(random);
  std::vector<ConnId> conns;
  for (const auto& [conn, pipe] : pipes_) {
    if (pipe.from == static_cast<int>(node)) conns.push_back(conn);
  }
  for (const ConnId conn : conns) Break(conn);
}

void TestCluster::Restart(size_t node) {
  if (alive(node)) Kill(node);
  Start(node);
  Run(std::chrono::milliseconds(300));
}

// ---- Configuration
// ---------------------------------------------------------------------------------

uint64_t TestCluster::Configure(int primary, int secondary, int joining, bool secondary_present,
                                bool release) {
  slice_.Clear();
  slice_.set_slice(kTestSlice);
  slice_.set_epoch(++epoch_);
  if (!keep_reign_) reign_ = epoch_;
  keep_reign_ = false;
  slice_.set_reign(reign_);
  slice_.set_issuer(1);
  slice_.set_release(release);
  *slice_.mutable_primary() = MemberOf(static_cast<size_t>(primary));
  if (secondary >= 0) {
    *slice_.mutable_secondary() = MemberOf(static_cast<size_t>(secondary), secondary_present);
  }
  if (joining >= 0) *slice_.mutable_joining() = MemberOf(static_cast<size_t>(joining));
  proto::ConfigUpdate update;
  *update.add_slices() = slice_;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    proto::Sds* peer = update.add_peers();
    peer->set_id(i + 1);
    peer->add_addresses(AddressOf(static_cast<int>(i)).ToString());
    peer->set_incarnation(nodes_[i].incarnation);
  }
  SendUpdate(std::move(update));
  return epoch_;
}

void TestCluster::Unmap() {
  mapped_ = false;
  proto::ConfigUpdate update;
  update.set_fence(true);
  proto::Mapping* mapping = update.add_removed_mappings();
  mapping->set_volume(kTestVolume);
  mapping->set_sdc(kTestClient);
  SendUpdate(std::move(update));
}

void TestCluster::ReplaceClient() {
  ++client_incarnation_;
  client_connection_ = 0;
  proto::ConfigUpdate update;
  update.set_fence(true);
  proto::Sdc* client = update.add_sdcs();
  client->set_id(kTestClient);
  client->set_incarnation(client_incarnation_);
  SendUpdate(std::move(update));
}

void TestCluster::NameUnknownDevice(size_t node) {
  (node == 0 ? slice_.mutable_primary() : slice_.mutable_secondary())->set_device(999);
  slice_.set_epoch(++epoch_);
  proto::ConfigUpdate update;
  *update.add_slices() = slice_;
  SendUpdate(std::move(update));
}

bool TestCluster::LogHas(std::string_view text) const {
  return std::any_of(log_.begin(), log_.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

void TestCluster::SendUpdate(proto::ConfigUpdate update) {
  for (Host& host : nodes_) {
    if (host.role == nullptr || !host.mdm.valid() || host.version == 0) continue;
    update.set_version(++host.version);
    proto::Management management;
    *management.mutable_config_update() = update;
    ToNode(host.mdm, management);
  }
  RunEvents();
}

void TestCluster::SendFull(size_t node) {
  Host& host = nodes_[node];
  proto::Management management;
  proto::ConfigUpdate* update = management.mutable_config_update();
  update->set_full(true);
  update->set_version(++host.version);
  proto::Pool* pool = update->add_pools();
  pool->set_id(3);
  pool->set_slice_count(1);
  pool->set_first_slice(kTestSlice);
  proto::Volume* volume = update->add_volumes();
  volume->set_id(kTestVolume);
  volume->set_pool(3);
  volume->set_vtree(kTestVtree);
  volume->set_size_bytes(kVolumeBytes);
  volume->set_snap_number(1);
  volume->set_version(1);
  if (mapped_) {
    proto::Mapping* mapping = update->add_mappings();
    mapping->set_volume(kTestVolume);
    mapping->set_sdc(kTestClient);
  }
  proto::Sdc* client = update->add_sdcs();
  client->set_id(kTestClient);
  client->set_incarnation(client_incarnation_);
  proto::Device* device = update->add_devices();
  device->set_id(DeviceOf(node));
  device->set_sds(node + 1);
  device->set_pool(3);
  device->set_path("disk");
  device->set_state(host.device_state);
  device->set_test(host.device_test);
  device->set_force(host.device_force);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    proto::Sds* peer = update->add_peers();
    peer->set_id(i + 1);
    peer->add_addresses(AddressOf(static_cast<int>(i)).ToString());
    peer->set_incarnation(nodes_[i].incarnation);
  }
  update->set_survey(closed_);
  if (epoch_ > 0 && !closed_) *update->add_slices() = slice_;
  ToNode(host.mdm, management);
}

void TestCluster::SetDevice(size_t node, proto::DeviceState state, proto::DeviceTest test,
                            bool force) {
  Host& host = nodes_[node];
  host.device_state = state;
  host.device_test = test;
  host.device_force = force;
  if (alive(node)) SendFull(node);
  RunEvents();
}

void TestCluster::ReplaceDisk(size_t node, std::string content) {
  Host& host = nodes_[node];
  const uint64_t size_bytes = host.disk->info().size_bytes;
  host.disk = std::make_unique<store::TestDisk>(
      store::TestDisk::Options{.device = kDisk, .size_bytes = size_bytes});
  host.content = std::move(content);
}

const proto::DeviceReport& TestCluster::ReportOf(size_t node) const {
  CHECK_EQ(nodes_[node].heartbeat.devices_size(), 1);
  return nodes_[node].heartbeat.devices(0);
}

void TestCluster::CloseSlice() {
  closed_ = true;
  for (size_t node = 0; node < nodes_.size(); ++node) {
    nodes_[node].survey.reset();
    if (alive(node)) SendFull(node);
  }
  RunEvents();
}

const proto::SdsSurvey* TestCluster::SurveyOf(size_t node) const {
  return nodes_[node].survey.has_value() ? &*nodes_[node].survey : nullptr;
}

void TestCluster::Drop(size_t node, uint64_t up_to) {
  proto::Management management;
  proto::ConfigUpdate* update = management.mutable_config_update();
  update->set_version(++nodes_[node].version);
  update->add_dropped_slices(kTestSlice);
  update->add_dropped_devices(DeviceOf(node));
  update->add_dropped_epochs(up_to);
  ToNode(nodes_[node].mdm, management);
  RunEvents();
}

void TestCluster::ToNode(ConnId mdm_conn, const proto::Management& management) {
  Deliver(mdm_conn, wire::ToMessage(management, 0, pool_));
}

void TestCluster::OnMdmMessage(size_t node, ConnId conn, const wire::Message& message) {
  Host& host = nodes_[node];
  if (std::holds_alternative<wire::Hello>(message.body)) {
    host.mdm = conn;
    Deliver(conn, {.body = wire::HelloReply{.cluster = ClusterId(kTestCluster),
                                            .responder = 1,
                                            .incarnation = Incarnation(1),
                                            .version = wire::kVersionMax,
                                            .role = wire::PeerRole::kMdm}});
    return;
  }
  const Result<proto::Management> management = wire::ParseManagement(message);
  CHECK(management.has_value());
  if (management->has_sds_register()) {
    host.incarnation = management->sds_register().incarnation();
    host.registered_devices = static_cast<size_t>(management->sds_register().devices_size());
    proto::Management reply;
    proto::SdsRegisterReply* body = reply.mutable_sds_register_reply();
    body->set_cluster(kTestCluster);
    body->set_sds(node + 1);
    body->set_lease_ms(1000);
    body->set_heartbeat_ms(200);
    body->set_generation(1);
    ToNode(conn, reply);
    SendFull(node);
  } else if (management->has_sds_survey()) {
    host.survey = management->sds_survey();
  } else if (management->has_sds_heartbeat()) {
    host.heartbeat = management->sds_heartbeat();
    host.drained = host.heartbeat.drained_version();
    proto::Management reply;
    proto::SdsGrant* grant = reply.mutable_sds_grant();
    grant->set_number(host.heartbeat.number());
    grant->set_granted(host.lease && host.heartbeat.applied_version() == host.version);
    if (ScanOf(node).order() >= host.scan_order.order()) host.scan_ordered = false;
    if (host.scan_ordered) *grant->add_scans() = host.scan_order;
    ToNode(conn, reply);
  }
}

void TestCluster::OrderScan(size_t node, uint64_t bytes_per_second, bool cancel) {
  proto::ScanOrder& order = nodes_[node].scan_order;
  order.set_device(DeviceOf(node));
  order.set_order(order.order() + 1);
  order.set_bytes_per_second(bytes_per_second);
  order.set_cancel(cancel);
  nodes_[node].scan_ordered = true;
}

proto::ScanStatus TestCluster::ScanOf(size_t node) const {
  for (const proto::DeviceReport& report : nodes_[node].heartbeat.devices()) {
    if (report.device() == DeviceOf(node)) return report.scan();
  }
  return {};
}

bool TestCluster::Reported(size_t node, proto::SliceReport::Kind kind) const {
  for (const proto::SliceReport& report : nodes_[node].heartbeat.reports()) {
    if (report.kind() == kind && report.epoch() == epoch_) return true;
  }
  return false;
}

bool TestCluster::ReportedAhead(size_t node, uint64_t seen_epoch) const {
  for (const proto::SliceReport& report : nodes_[node].heartbeat.reports()) {
    if (report.kind() == proto::SliceReport::AHEAD && report.seen_epoch() == seen_epoch)
      return true;
  }
  return false;
}

// ---- The world
// -------------------------------------------------------------------------------------

ConnId TestCluster::MakePipe(int from, int to) {
  const ConnId near(++last_conn_);
  const ConnId far(++last_conn_);
  pipes_[near] = {.from = from, .to = to, .peer = far, .held = {}};
  pipes_[far] = {.from = to, .to = from, .peer = near, .held = {}};
  return near;
}

void TestCluster::Deliver(ConnId from_conn, wire::Message message) {
  const auto found = pipes_.find(from_conn);
  if (found == pipes_.end()) return;
  Pipe& pipe = found->second;
  if (pipe.from >= 0 && pipe.to >= 0 && tamper_ && !tamper_(message)) return;
  if (pipe.from >= 0 && pipe.to >= 0 &&
      (nodes_[static_cast<size_t>(pipe.from)].cut || nodes_[static_cast<size_t>(pipe.to)].cut)) {
    pipe.held.push_back(std::move(message));
    return;
  }
  if (pipe.to >= 0) {
    Host& host = nodes_[static_cast<size_t>(pipe.to)];
    if (host.role != nullptr) host.events.push_back(MessageEvent{pipe.peer, std::move(message)});
  } else if (pipe.to == kMdm) {
    OnMdmMessage(static_cast<size_t>(pipe.from), pipe.peer, message);
  } else if (const auto* hello = std::get_if<wire::HelloReply>(&message.body)) {
    greetings_[pipe.peer] = hello->status;
  } else if (const auto* write = std::get_if<wire::WriteReply>(&message.body)) {
    CHECK(!answers_.contains(write->tag)) << "a write was answered twice";
    answers_[write->tag] = {.status = write->status, .data = {}};
  } else if (const auto* presence = std::get_if<wire::PresenceReply>(&message.body)) {
    CHECK(!answers_.contains(presence->tag)) << "a question was answered twice";
    answers_[presence->tag] = {.status = presence->status, .data = message.payload};
  } else if (const auto* read = std::get_if<wire::ReadReply>(&message.body)) {
    CHECK(!answers_.contains(read->tag)) << "a read was answered twice";
    answers_[read->tag] = {.status = read->status, .data = message.payload};
  }
}

void TestCluster::Break(ConnId conn) {
  const auto found = pipes_.find(conn);
  if (found == pipes_.end()) return;
  const ConnId peer = found->second.peer;
  for (const ConnId end : {conn, peer}) {
    const int owner = pipes_.at(end).from;
    if (owner < 0) continue;
    Host& host = nodes_[static_cast<size_t>(owner)];
    if (host.role != nullptr) host.events.push_back(DisconnectedEvent{end});
  }
  pipes_.erase(peer);
  pipes_.erase(conn);
}

void TestCluster::Step(size_t node, const Event& event) {
  Host& host = nodes_[node];
  Effects effects;
  host.role->Step({.boot = now_, .wall = WallTime(now_.time_since_epoch())}, event, effects);
  host.role->CheckInvariants();
  CarryOut(node, effects);
  if (!effects.exit) return;
  host.exit_reason = effects.exit_reason;
  Kill(node);
}

std::vector<std::byte> TestCluster::StateImage(size_t node) const {
  const store::TestDisk& state = *nodes_[node].state;
  return state.Content(0, state.info().size_bytes);
}

void TestCluster::PutStateBack(size_t node, const std::vector<std::byte>& image) {
  nodes_[node].state->Overwrite(0, image);
}

size_t TestCluster::Rot(size_t node, uint8_t stamp) {
  store::TestDisk& disk = *nodes_[node].disk;
  const std::vector<std::byte> bytes = disk.Content(0, disk.info().size_bytes);
  std::vector<uint64_t> found;
  for (uint64_t at = 0; at < bytes.size(); at += wire::kBlockBytes) {
    const std::span<const std::byte> block = std::span(bytes).subspan(at, wire::kBlockBytes);
    if (std::all_of(block.begin(), block.end(), [&](std::byte b) { return b == std::byte{stamp}; }))
      found.push_back(at);
  }
  for (const uint64_t at : found) disk.FlipBit((at + 1234) * 8 + 3);
  return found.size();
}

void TestCluster::CarryOut(size_t node, Effects& effects) {
  Host& host = nodes_[node];
  for (const LogEffect& line : effects.logs) {
    log_.push_back("sds" + std::to_string(node) + ": " + line.text);
  }
  for (const TimerEffect& timer : effects.timers) {
    if (timer.when == kNever) {
      host.timers.erase(timer.tag);
    } else {
      host.timers[timer.tag] = timer.when;
    }
  }
  host.state->Submit(effects);
  host.disk->Submit(effects);
  for (const OpenDeviceEffect& open : effects.opens) {
    host.events.push_back(DeviceOpenedEvent{.tag = open.tag,
                                            .ok = true,
                                            .device = kDisk,
                                            .info = host.disk->info(),
                                            .content = host.content,
                                            .error = ""});
  }
  for (const ConnectEffect& connect : effects.connects) {
    int to = kMdm;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (AddressOf(static_cast<int>(i)) == connect.address) to = static_cast<int>(i);
    }
    const bool refused = to >= 0 && (!alive(static_cast<size_t>(to)) || host.cut ||
                                     nodes_[static_cast<size_t>(to)].cut);
    if (refused) {
      host.events.push_back(ConnectFailedEvent{connect.dial});
      continue;
    }
    const ConnId near = MakePipe(static_cast<int>(node), to);
    host.events.push_back(ConnectedEvent{near, connect.dial, connect.address});
    if (to < 0) continue;
    nodes_[static_cast<size_t>(to)].events.push_back(
        ConnectedEvent{pipes_.at(near).peer, 0, AddressOf(static_cast<int>(node))});
  }
  for (SendEffect& send : effects.sends) Deliver(send.conn, std::move(send.message));
  for (const ConnId conn : effects.closes) Break(conn);
}

// Everything that can happen without time passing.
bool TestCluster::RunEvents() {
  bool any = false;
  for (bool busy = true; busy;) {
    busy = false;
    for (auto& [conn, pipe] : pipes_) {
      if (pipe.held.empty() || nodes_[static_cast<size_t>(pipe.from)].cut ||
          nodes_[static_cast<size_t>(pipe.to)].cut) {
        continue;
      }
      std::deque<wire::Message> held = std::exchange(pipe.held, {});
      for (wire::Message& message : held) Deliver(conn, std::move(message));
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      Host& host = nodes_[i];
      if (host.role == nullptr) continue;
      if (!host.events.empty()) {
        const Event event = std::move(host.events.front());
        host.events.pop_front();
        Step(i, event);
        busy = true;
      } else if (host.state->pending() > 0) {
        Step(i, host.state->Complete(0, host.state_fails ? DiskStatus::kIoError : DiskStatus::kOk));
        busy = true;
      } else if (host.disk->pending() > 0) {
        if (host.on_disk) host.on_disk(*host.disk);
        Step(i, host.disk->Complete(0));
        busy = true;
      }
    }
    any = any || busy;
  }
  return any;
}

void TestCluster::Run(Duration duration) {
  const Instant end = now_ + duration;
  while (true) {
    RunEvents();
    Instant next = kNever;
    for (const Host& host : nodes_) {
      for (const auto& [tag, when] : host.timers) next = std::min(next, when);
    }
    if (next > end) break;
    now_ = std::max(now_, next);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      std::vector<TimerTag> due;
      for (const auto& [tag, when] : nodes_[i].timers) {
        if (when <= now_) due.push_back(tag);
      }
      for (const TimerTag tag : due) {
        if (nodes_[i].timers.erase(tag) > 0) Step(i, TimerEvent{tag});
      }
    }
  }
  now_ = end;
}

// ---- What a test sees

const store::Store& TestCluster::StoreOf(size_t index) const {
  return *node(index).devices.Find(DeviceId(DeviceOf(index)))->store;
}

std::string TestCluster::Dump() const {
  std::string text;
  for (const Host& host : nodes_) {
    if (host.role != nullptr) text += host.role->Dump();
  }
  for (const std::string& line : log_) text += line + "\n";
  return text;
}

}  // namespace gabion::sds
