#include "core/sds/registration.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/bytes.h"
#include "core/base/mix.h"
#include "core/sds/node.h"
#include "core/wire/management.h"

namespace gabion::sds {

namespace {

constexpr uint32_t kRecordVersion = 3;
constexpr uint32_t kRecordVersionOfDevicesOnly = 2;
enum class Item : uint8_t { kDevice = 1, kScan = 2 };
constexpr uint32_t kPathBytesMax = 4096;
constexpr size_t kRecordBytesMax = 64 << 10;
// A device that does not answer must not keep the others away. It is looked at before it is used.
constexpr Duration kMarkingMax = std::chrono::seconds(3);
constexpr Duration kMdmSilenceMin = std::chrono::seconds(1);

std::vector<std::byte> Encode(const Identity& identity) {
  std::vector<std::byte> bytes;
  ByteWriter writer(&bytes);
  writer.U32(kRecordVersion);
  writer.Of(identity.cluster);
  writer.Of(identity.sds);
  writer.Of(identity.incarnation);
  writer.U64(identity.generation);
  for (const KnownDevice& device : identity.devices) {
    if (bytes.size() + device.path.size() > kRecordBytesMax) break;  // opened when they are named
    writer.U8(static_cast<uint8_t>(Item::kDevice));
    writer.Of(device.id);
    writer.SizedText(device.path);
  }
  for (const auto& [device, scan] : identity.scans) {
    if (bytes.size() > kRecordBytesMax) break;  // these begin anew
    writer.U8(static_cast<uint8_t>(Item::kScan));
    writer.Of(device);
    scan.Encode(&writer);
  }
  return bytes;
}

std::optional<Identity> Decode(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  const uint32_t version = reader.U32();
  if (version != kRecordVersion && version != kRecordVersionOfDevicesOnly) return std::nullopt;
  Identity identity;
  identity.cluster = reader.As<ClusterId>();
  identity.sds = reader.As<SdsId>();
  identity.incarnation = reader.As<Incarnation>();
  identity.generation = reader.U64();
  while (reader.ok() && reader.remaining() > 0) {
    const auto item = version == kRecordVersion ? Item(reader.U8()) : Item::kDevice;
    const auto id = reader.As<DeviceId>();
    if (item == Item::kDevice) {
      identity.devices.push_back({.id = id, .path = std::string(reader.SizedText(kPathBytesMax))});
    } else if (item == Item::kScan) {
      identity.scans[id] = ScanMemory::Decode(&reader);
    } else {
      reader.Fail();
    }
  }
  if (!reader.done()) return std::nullopt;
  return identity;
}

}  // namespace

const char* ToString(Registration::State state) {
  switch (state) {
    case Registration::State::kStarting:
      return "starting";
    case Registration::State::kRaising:
      return "raising its incarnation";
    case Registration::State::kMarking:
      return "marking its devices";
    case Registration::State::kConnecting:
      return "connecting to the MDM";
    case Registration::State::kRegistering:
      return "registering";
    case Registration::State::kRegistered:
      return "registered";
    case Registration::State::kEnding:
      return "ending";
    case Registration::State::kFailed:
      return "failed";
  }
  UNREACHABLE();
}

Registration::Registration(const Options&, BufferPool* pool)
    : journal_({.device = DeviceIndex::kState, .pool = pool}),
      link_({.dial_base = DialBase(1), .timer = TimerOf(TimerKind::kMdmLink)}) {}

void Registration::OnStart(Context& ctx, const StartEvent& event) {
  journal_.Open(event.state_device, ctx.effects);
  if (journal_.state() == store::Journal::State::kFailed) OnStateDeviceFailed(ctx);
}

void Registration::OnStateDiskDone(Context& ctx, const DiskDoneEvent& event) {
  bool handled = false;
  const store::Journal::Progress progress = journal_.OnDiskDone(event, ctx.effects, &handled);
  if (!handled) return;
  if (journal_.state() == store::Journal::State::kFailed) return OnStateDeviceFailed(ctx);
  if (progress.opened) OnOpened(ctx);
  if (journal_.durable_sequence() < awaited_record_) return;
  if (state_ == State::kRaising) {
    state_ = State::kMarking;
    ctx.effects.SetTimer(TimerOf(TimerKind::kMarking), SaturatingAdd(ctx.now.boot, kMarkingMax));
    ctx.node.devices.OpenKnown(ctx);
  } else if (state_ == State::kEnding) {
    state_ = State::kFailed;
    ctx.effects.Exit(why_ending_);
  }
}

void Registration::OnStateDeviceFailed(Context& ctx) {
  if (state_ == State::kFailed) return;
  const std::string why =
      absl::StrCat("the state device failed: ", journal_.error(),
                   ". If it stays so, put any copy of the state folder in its place; admin.md says "
                   "how");
  if (!std::exchange(state_device_failed_, true)) ctx.Log(Severity::kCritical, why);
  // This run needs it for nothing else then, and the next one does not begin: that nobody knows how
  // far scans are is no reason to end.
  const bool is_needed =
      state_ == State::kStarting || journal_.durable_sequence() < awaited_record_;
  if (!is_needed) return;
  state_ = State::kFailed;
  ctx.effects.Exit(why);
}

void Registration::AdvanceMarking(Context& ctx, bool late) {
  if (state_ != State::kMarking || !(late || ctx.node.devices.all_marked())) return;
  ctx.effects.CancelTimer(TimerOf(TimerKind::kMarking));
  state_ = State::kConnecting;
  link_.Start(ctx.now, {.role = wire::PeerRole::kMdm, .addresses = ctx.node.options.mdms},
              ctx.effects);
}

// Nothing of this incarnation acts any more.
void Registration::StopActing(Context& ctx) {
  ctx.node.stopping = true;
  ctx.node.RefuseUnadmitted(ctx, wire::Status::kUnavailable);
  ctx.node.EndReplicas(ctx);
  ctx.node.lease.GiveUp();
  Disconnect(ctx);
}

void Registration::OnNewerIncarnation(Context& ctx, Incarnation newer, const std::string& why) {
  if (state_ == State::kEnding || state_ == State::kFailed) return;
  StopActing(ctx);
  // The next run goes on from there.
  ctx.node.self.incarnation = std::max(ctx.node.self.incarnation, newer);
  why_ending_ = absl::StrCat(why, ". Started again it takes a higher one");
  state_ = State::kEnding;
  Save(ctx);
}

void Registration::RememberDevices(Context& ctx) {
  std::vector<KnownDevice> wanted = ctx.node.config.WantedDevices();
  if (wanted == ctx.node.self.devices) return;
  ctx.node.self.devices = std::move(wanted);
  absl::erase_if(ctx.node.self.scans, [&](const auto& scan) {
    const auto& devices = ctx.node.self.devices;
    return std::none_of(devices.begin(), devices.end(),
                        [&](const KnownDevice& device) { return device.id == scan.first; });
  });
  Save(ctx);
}

void Registration::OnOpened(Context& ctx) {
  std::optional<Identity> newest;
  if (!journal_.snapshot().empty()) newest = Decode(journal_.snapshot());
  bool sane = journal_.snapshot().empty() || newest.has_value();
  for (const std::vector<std::byte>& record : journal_.records()) {
    newest = Decode(record);
    sane = sane && newest.has_value();
  }
  if (!sane) {
    state_ = State::kFailed;
    ctx.effects.Exit("the state device holds records of another version or program");
    return;
  }
  journal_.ForgetRecovered();
  ctx.node.self = newest.value_or(Identity());
  ctx.node.self.incarnation = ctx.node.self.incarnation.next();
  ctx.node.self.run = mix64(ctx.node.options.entropy ^
                            mix64(static_cast<uint64_t>(ctx.now.boot.time_since_epoch().count()))) |
                      1;
  state_ = State::kRaising;
  Save(ctx);
  ctx.Log(Severity::kInfo, absl::StrCat("incarnation ", ToString(ctx.node.self.incarnation)));
}

void Registration::Save(Context& ctx) {
  awaited_record_ = Append(ctx);
  if (journal_.state() == store::Journal::State::kFailed) OnStateDeviceFailed(ctx);
}

void Registration::SaveScans(Context& ctx) {
  if (!scans_moved_ || ctx.now.boot < scans_save_at_) return;
  scans_moved_ = false;
  scans_save_at_ = SaturatingAdd(ctx.now.boot, ctx.node.options.scan_save_pause);
  if (journal_.state() == store::Journal::State::kOpen) Append(ctx);
}

uint64_t Registration::Append(Context& ctx) {
  const std::vector<std::byte> record = Encode(ctx.node.self);
  const uint64_t sequence = journal_.Append(record, ctx.effects);
  if (journal_.needs_snapshot()) journal_.WriteSnapshot(record, ctx.effects);
  return sequence;
}

void Registration::OnConnected(Context& ctx, const ConnectedEvent& event) {
  link_.OnConnected(ctx.now, event,
                    {.cluster = ctx.node.self.cluster,
                     .sender = ctx.node.self.sds.value(),
                     .incarnation = ctx.node.self.incarnation,
                     .connection = ctx.node.NextConnectionNumber(),
                     .role = wire::PeerRole::kSds},
                    ctx.effects);
}

void Registration::OnConnectFailed(Context& ctx, const ConnectFailedEvent& event) {
  link_.OnConnectFailed(ctx.now, event, ctx.effects);
}

void Registration::OnDisconnected(Context& ctx, const DisconnectedEvent& event) {
  if (link_.OnDisconnected(ctx.now, event, ctx.effects) == Link::Change::kDown) LostMdm(ctx);
}

void Registration::OnLinkTimer(Context& ctx) { link_.OnTimer(ctx.now, ctx.effects); }

bool Registration::OwnsConn(ConnId conn) const {
  const Link::State state = link_.state();
  return (state == Link::State::kAwaitingHello || state == Link::State::kUp) &&
         link_.conn() == conn;
}

void Registration::LostMdm(Context&) {
  if (state_ == State::kRegistering || state_ == State::kRegistered) state_ = State::kConnecting;
  full_received_ = false;
}

bool Registration::Send(Context& ctx, const proto::Management& management) {
  wire::Message message = wire::ToMessage(management, 0, *ctx.node.resources.pool);
  // No memory for it: the next heartbeat, or the silence that follows, repairs it.
  if (message.payload.empty()) return false;
  ctx.effects.Send(link_.conn(), message.body, std::move(message.payload));
  return true;
}

void Registration::Register(Context& ctx) {
  state_ = State::kRegistering;
  ctx.node.config.ExpectFull();
  proto::Management management;
  proto::SdsRegister* message = management.mutable_sds_register();
  message->set_sds(ctx.node.self.sds.value());
  message->set_name(ctx.node.options.name);
  message->set_incarnation(ctx.node.self.incarnation.value());
  for (const Address& address : ctx.node.options.addresses) {
    message->add_addresses(address.ToString());
  }
  message->set_state_lock(ctx.node.options.state_lock);
  message->set_run(ctx.node.self.run);
  message->set_generation_seen(ctx.node.self.generation);
  ctx.node.devices.AddReports(message);
  Send(ctx, management);
  heard_at_ = ctx.now.boot;
  ctx.effects.SetTimer(TimerOf(TimerKind::kHeartbeat), SaturatingAdd(ctx.now.boot, heartbeat_));
}

void Registration::OnMessage(Context& ctx, const wire::Message& message) {
  if (const auto* reply = std::get_if<wire::HelloReply>(&message.body)) {
    const Link::Change change = link_.OnHelloReply(ctx.now, link_.conn(), *reply, ctx.effects);
    if (change == Link::Change::kUp) {
      Register(ctx);
    } else if (said_ != link_.error()) {
      said_ = link_.error();
      ctx.Log(Severity::kWarning, absl::StrCat("MDM: ", said_));
    }
    return;
  }
  if (!link_.up()) return;
  const Result<proto::Management> management = wire::ParseManagement(message);
  if (!management.has_value()) {
    if (link_.Reconnect(ctx.now, ctx.effects) == Link::Change::kDown) LostMdm(ctx);
    return;
  }
  switch (management->body_case()) {
    case proto::Management::kSdsRegisterReply:
      OnReply(ctx, management->sds_register_reply());
      return;
    case proto::Management::kSdsGrant:
      OnGrant(ctx, management->sds_grant());
      return;
    case proto::Management::kConfigUpdate:
      if (state_ != State::kRegistered) return;
      full_received_ = full_received_ || management->config_update().full();
      if (!ctx.node.ApplyConfig(ctx, management->config_update())) {
        ctx.Log(Severity::kWarning, "a configuration update does not follow the last; asking anew");
        if (link_.Reconnect(ctx.now, ctx.effects) == Link::Change::kDown) LostMdm(ctx);
        return;
      }
      if (management->config_update().fence() || management->config_update().full()) {
        ctx.node.HeartbeatSoon(ctx);
      }
      return;
    default:
      return;  // not for an SDS
  }
}

void Registration::OnReply(Context& ctx, const proto::SdsRegisterReply& reply) {
  if (state_ != State::kRegistering) return;
  std::string error = reply.error();
  if (!error.empty() && reply.superseded()) {
    StopActing(ctx);
    state_ = State::kFailed;
    ctx.effects.Exit(std::move(error), /*for_good=*/true);
    return;
  }
  Identity& self = ctx.node.self;
  if (error.empty() && (reply.cluster() == 0 || reply.sds() == 0 || reply.lease_ms() == 0)) {
    error = "the MDM's answer names no cluster, no id or no lease";
  }
  if (error.empty() && self.cluster.valid() &&
      (self.cluster.value() != reply.cluster() || self.sds.value() != reply.sds())) {
    error = "the MDM belongs to another cluster, or takes this SDS for another one";
  }
  if (error.empty() && reply.generation() < self.generation) {
    error = absl::StrCat("the MDM's repository is of generation ", reply.generation(),
                         ", this SDS has seen ", self.generation,
                         ": it was restored from an older state");
  }
  if (!error.empty()) {
    if (said_ != error) ctx.Log(Severity::kError, absl::StrCat("not registered: ", error));
    said_ = std::move(error);
    if (link_.Reconnect(ctx.now, ctx.effects) == Link::Change::kDown) LostMdm(ctx);
    return;
  }
  said_.clear();
  const Identity before = self;
  self.cluster = ClusterId(reply.cluster());
  self.sds = SdsId(reply.sds());
  self.generation = reply.generation();
  if (before.cluster != self.cluster || before.sds != self.sds ||
      before.generation != self.generation) {
    Save(ctx);
  }
  lease_ = std::chrono::milliseconds(std::min<uint64_t>(reply.lease_ms(), 3'600'000));
  heartbeat_ = std::chrono::milliseconds(std::clamp<uint64_t>(reply.heartbeat_ms(), 10, 60'000));
  state_ = State::kRegistered;
  first_number_ = number_ + 1;
  heard_at_ = ctx.now.boot;
  ctx.Log(Severity::kInfo, absl::StrCat("registered as SDS ", ToString(self.sds), " of cluster ",
                                        ToString(self.cluster)));
  ctx.node.HeartbeatSoon(ctx);
}

void Registration::OnGrant(Context& ctx, const proto::SdsGrant& grant) {
  if (state_ != State::kRegistered || grant.number() > number_) return;
  heard_ = std::max(heard_, grant.number());
  heard_at_ = ctx.now.boot;
  for (const proto::ScanOrder& order : grant.scans()) ctx.node.devices.OnScanOrder(ctx, order);
  if (!grant.granted() || ctx.node.stopping) return;
  // A right is only worth something with the fences that go with it.
  if (!full_received_) return;
  ctx.node.lease.OnGrant(grant.number(), lease_);
  ctx.effects.SetTimer(TimerOf(TimerKind::kLease), ctx.node.lease.end());
}

void Registration::OnHeartbeatTimer(Context& ctx) {
  if (state_ != State::kRegistering && state_ != State::kRegistered) return;
  if (ctx.now.boot - heard_at_ > std::max<Duration>(kMdmSilenceMin, 5 * heartbeat_)) {
    ctx.Log(Severity::kWarning, "the MDM does not answer; connecting anew");
    if (link_.Reconnect(ctx.now, ctx.effects) == Link::Change::kDown) LostMdm(ctx);
    return;
  }
  if (state_ == State::kRegistered) {
    SaveScans(ctx);
    SendHeartbeat(ctx, /*hand_back=*/false);
  } else {
    ctx.effects.SetTimer(TimerOf(TimerKind::kHeartbeat), SaturatingAdd(ctx.now.boot, heartbeat_));
  }
}

void Registration::SendHeartbeat(Context& ctx, bool hand_back) {
  if (!registered()) return;
  proto::Management management;
  proto::SdsHeartbeat* heartbeat = management.mutable_sds_heartbeat();
  heartbeat->set_number(++number_);
  heartbeat->set_incarnation(ctx.node.self.incarnation.value());
  const ConfigVersion applied = full_received_ ? ctx.node.config.version() : ConfigVersion();
  heartbeat->set_applied_version(applied.value());
  heartbeat->set_drained_version(ctx.node.outstanding.Drained(applied).value());
  heartbeat->set_hand_back(hand_back);
  heartbeat->set_heard_number(heard_);
  if (hand_back) hand_back_number_ = number_;
  ctx.node.AddReports(ctx, heartbeat);
  ctx.node.devices.AddReports(heartbeat);
  ctx.node.lease.OnSent(number_, ctx.now);
  Send(ctx, management);
  if (full_received_) SendSurveys(ctx);
  ctx.effects.SetTimer(TimerOf(TimerKind::kHeartbeat), SaturatingAdd(ctx.now.boot, heartbeat_));
}

// Behind a heartbeat, which has said that the device is up and how far its log goes.
void Registration::SendSurveys(Context& ctx) {
  absl::btree_set<DeviceId>& due = ctx.node.surveys_due;
  while (!due.empty()) {
    if (const Device* device = ctx.node.devices.FindUp(*due.begin())) {
      proto::Management management;
      *management.mutable_sds_survey() = ctx.node.SurveyOf(*device);
      if (!Send(ctx, management)) return;  // with the next one
    }
    due.erase(due.begin());
  }
}

void Registration::Disconnect(Context& ctx) {
  link_.Stop(ctx.effects);
  LostMdm(ctx);
}

std::string Registration::Dump() const {
  return absl::StrCat(ToString(state_), ", heartbeat ", number_, ", heard ", heard_, ", ",
                      link_.Dump());
}

uint64_t Registration::StateHash() const {
  return mix64(mix64(number_ * 3 + heard_) + static_cast<uint64_t>(state_) + link_.StateHash() +
               journal_.StateHash());
}

}  // namespace gabion::sds
