#include "core/mdm/test_cluster.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/wire/management.h"

namespace gabion::mdm {
namespace {

constexpr Instant kBegin{std::chrono::seconds(100)};
constexpr Duration kStepMax = std::chrono::milliseconds(10);

store::TestDisk::Options DiskOptions() {
  store::TestDisk::Options options;
  options.device = DeviceIndex::kState;
  options.size_bytes = uint64_t{4} << 20;
  return options;
}

}  // namespace

wire::Hello HelloOf(wire::PeerRole role) {
  wire::Hello hello;
  hello.role = role;
  return hello;
}

TestCluster::TestCluster(const Options& options, uint64_t seed)
    : options_(options), pool_({}), random_(seed, 0, 0), disk_(DiskOptions()), now_(kBegin) {
  options_.entropy = seed;
  StartMdm();
}

void TestCluster::StartMdm() {
  mdm_ = MakeMdm(options_, {.pool = &pool_});
  timer_ = kNever;
  StepMdm(StartEvent{disk_.info()});
  Settle();
}

void TestCluster::StepMdm(const Event& event) {
  Effects effects;
  mdm_->Step({MdmNow(), WallTime()}, event, effects);
  mdm_->CheckInvariants();
  disk_.Submit(effects);
  for (const TimerEffect& timer : effects.timers) timer_ = timer.when;
  for (const SendEffect& send : effects.sends) Deliver(send.conn, send.message);
  for (const ConnId conn : effects.closes) Close(conn);
  CHECK(!effects.exit) << effects.exit_reason;
}

Instant TestCluster::MdmNow() const {
  return kBegin + (now_ - kBegin) / 1000 * (1000 + mdm_drift_permille);
}

void TestCluster::Settle() {
  while (!hold_disk && disk_.pending() != 0) StepMdm(disk_.Complete(0));
}

void TestCluster::CrashMdm(bool power_cut) {
  mdm_.reset();
  if (power_cut) {
    disk_.PowerCut(random_);
  } else {
    disk_.Kill(random_);
  }
  for (auto& [id, conn] : conns_) conn.open = false;
  for (ModelSds& sds : sdss_) sds.connected = sds.registered = false;
  StartMdm();
}

std::vector<std::byte> TestCluster::MdmBackup() const {
  return disk_.Content(0, DiskOptions().size_bytes);
}

void TestCluster::RestoreMdm(const std::vector<std::byte>& backup, bool hold) {
  mdm_.reset();
  disk_.PowerCut(random_);
  disk_.Overwrite(0, backup);
  options_.hold = hold;
  CrashMdm(/*power_cut=*/false);
  options_.hold = false;  // at its next start
}

std::optional<proto::AdminReply> TestCluster::AcceptOlderRepository() {
  proto::AdminRequest request = Request();
  request.mutable_mdm_restored()->set_accept_older_repository(true);
  return Admin(request);
}

ConnId TestCluster::Connect(const wire::Hello& hello) {
  const ConnId conn(next_conn_++);
  conns_[conn.value()];
  StepMdm(ConnectedEvent{conn, 0, Address()});
  wire::Hello numbered = hello;
  numbered.connection = ConnectionNumber(conn.value());
  SendRaw(conn, {numbered, {}});
  return conn;
}

void TestCluster::SendRaw(ConnId conn, wire::Message message) {
  if (!IsOpen(conn)) return;
  StepMdm(MessageEvent{conn, std::move(message)});
  Settle();
}

void TestCluster::SendToMdm(ConnId conn, const proto::Management& management, uint64_t tag) {
  SendRaw(conn, wire::ToMessage(management, tag, pool_));
}

bool TestCluster::IsOpen(ConnId conn) const {
  const auto at = conns_.find(conn.value());
  return at != conns_.end() && at->second.open;
}

void TestCluster::Close(ConnId conn) {
  Conn& state = conns_[conn.value()];
  state.open = false;
  if (state.sds != SIZE_MAX && sdss_[state.sds].conn == conn) {
    sdss_[state.sds].connected = sdss_[state.sds].registered = false;
  }
}

void TestCluster::Deliver(ConnId conn, const wire::Message& message) {
  Conn& state = conns_[conn.value()];
  if (!state.open) return;
  if (const auto* reply = std::get_if<wire::HelloReply>(&message.body)) {
    state.greeted = reply->status == wire::Status::kOk;
    return;
  }
  Result<proto::Management> management = wire::ParseManagement(message);
  CHECK(management.has_value());
  state.received.push_back(*std::move(management));
}

std::vector<proto::Management> TestCluster::TakeMessages(ConnId conn) {
  auto& received = conns_[conn.value()].received;
  std::vector<proto::Management> out(received.begin(), received.end());
  received.clear();
  return out;
}

void TestCluster::Advance(Duration duration) {
  const Instant end = now_ + duration;
  while (now_ < end) {
    now_ = std::min(end, now_ + kStepMax);
    if (timer_ <= MdmNow()) {
      timer_ = kNever;
      StepMdm(TimerEvent{1});
      Settle();
    }
    for (size_t i = 0; i < sdss_.size(); ++i) RunSds(i);
    CheckSinglePrimary();
  }
}

// ---- Administration ----------------------------------------------------------------------------

proto::AdminRequest TestCluster::Request() {
  proto::AdminRequest request;
  request.set_request("request-" + std::to_string(next_request_++));
  request.set_user("test");
  return request;
}

std::optional<proto::AdminReply> TestCluster::Admin(proto::AdminRequest request) {
  const ConnId conn = Connect(HelloOf(wire::PeerRole::kAdmin));
  proto::Management management;
  *management.mutable_admin_request() = std::move(request);
  SendToMdm(conn, management, 7);
  for (int i = 0; i < 4000; ++i) {
    for (const proto::Management& answer : TakeMessages(conn)) {
      CHECK(answer.has_admin_reply());
      conns_[conn.value()].open = false;
      StepMdm(DisconnectedEvent{conn});
      return answer.admin_reply();
    }
    Advance(kStepMax);
  }
  return std::nullopt;
}

void TestCluster::MustSdsAdd(const std::string& name, const std::string& fault_set) {
  proto::AdminRequest request = Request();
  request.mutable_sds_add()->set_name(name);
  request.mutable_sds_add()->set_fault_set(fault_set);
  const auto reply = Admin(request);
  CHECK(reply && reply->code() == proto::AdminReply::OK);
}

void TestCluster::MustPoolAdd(const std::string& name, uint32_t slice_count) {
  proto::AdminRequest request = Request();
  request.mutable_pool_add()->set_name(name);
  request.mutable_pool_add()->set_slice_count(slice_count);
  const auto reply = Admin(request);
  CHECK(reply && reply->code() == proto::AdminReply::OK);
}

uint64_t TestCluster::MustDeviceAdd(const std::string& sds, const std::string& pool,
                                    const std::string& path) {
  proto::AdminRequest request = Request();
  request.mutable_device_add()->set_sds(sds);
  request.mutable_device_add()->set_pool(pool);
  request.mutable_device_add()->set_path(path);
  const auto reply = Admin(request);
  CHECK(reply && reply->code() == proto::AdminReply::OK) << reply->error();
  return reply->id();
}

uint64_t TestCluster::MustVolumeCreate(const std::string& name, const std::string& pool,
                                       uint64_t size_bytes) {
  proto::AdminRequest request = Request();
  request.mutable_volume_create()->set_name(name);
  request.mutable_volume_create()->set_pool(pool);
  request.mutable_volume_create()->set_size_bytes(size_bytes);
  const auto reply = Admin(request);
  CHECK(reply && reply->code() == proto::AdminReply::OK) << reply->error();
  return reply->id();
}

proto::ClusterStatus TestCluster::Status(bool slices) {
  proto::AdminRequest request;
  request.mutable_status()->set_slices(slices);
  const auto reply = Admin(request);
  CHECK(reply.has_value());
  return reply->status();
}

void TestCluster::Build(size_t sds_count, uint32_t slice_count) {
  MustPoolAdd("pool", slice_count);
  for (size_t i = 1; i <= sds_count; ++i) {
    const std::string name = "sds" + std::to_string(i);
    MustSdsAdd(name);
    AddSds(name);
  }
  Advance(std::chrono::milliseconds(500));
  for (size_t i = 1; i <= sds_count; ++i) {
    MustDeviceAdd("sds" + std::to_string(i), "pool", "/dev/vdb");
  }
  MustVolumeCreate("vol", "pool", uint64_t{1} << 30);
  Advance(std::chrono::milliseconds(500));
}

void TestCluster::MustSdcAdd(const std::string& name) {
  proto::AdminRequest request = Request();
  request.mutable_sdc_add()->set_name(name);
  const auto reply = Admin(request);
  CHECK(reply && reply->code() == proto::AdminReply::OK);
}

proto::AdminRequest TestCluster::MapRequest(const std::string& sdc) {
  proto::AdminRequest request = Request();
  request.mutable_volume_map()->set_volume("vol");
  request.mutable_volume_map()->set_sdc(sdc);
  return request;
}

ConnId TestCluster::ConnectSdc(const std::string& name, uint64_t incarnation) {
  wire::Hello hello = HelloOf(wire::PeerRole::kSdc);
  hello.incarnation = Incarnation(incarnation);
  const ConnId conn = Connect(hello);
  proto::Management management;
  management.mutable_sdc_register()->set_name(name);
  management.mutable_sdc_register()->set_incarnation(incarnation);
  SendToMdm(conn, management);
  return conn;
}

}  // namespace gabion::mdm
