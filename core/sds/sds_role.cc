#include "core/sds/sds_role.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/mix.h"
#include "core/sds/entry_check.h"
#include "core/sds/replica.h"

namespace gabion::sds {

namespace {

constexpr Duration kDrainMax = std::chrono::seconds(1);
constexpr Duration kCloseMax = std::chrono::seconds(5);

}  // namespace

std::unique_ptr<Role> MakeSds(const Options& options, const RoleResources& resources) {
  return std::make_unique<SdsRole>(options, resources);
}

SdsRole::SdsRole(const Options& options, const RoleResources& resources)
    : node_(options, resources) {}

void SdsRole::Step(const Now& now, const Event& event, Effects& effects) {
  Context ctx{now, effects, node_};
  std::visit([&](const auto& alternative) { On(ctx, alternative); }, event);
  Settle(ctx);
  node_.devices.CountStarted(effects);
}

// ---- Events
// ----------------------------------------------------------------------------------------

void SdsRole::On(Context& ctx, const StartEvent& event) { node_.registration.OnStart(ctx, event); }

void SdsRole::On(Context& ctx, const ConnectedEvent& event) {
  if (event.dial == 0) return node_.sessions.OnConnected(ctx, event);
  if (node_.registration.OwnsDial(event.dial)) return node_.registration.OnConnected(ctx, event);
  if (!node_.peers.OnConnected(ctx, event)) ctx.effects.Close(event.conn);
}

void SdsRole::On(Context& ctx, const ConnectFailedEvent& event) {
  if (node_.registration.OwnsDial(event.dial)) {
    node_.registration.OnConnectFailed(ctx, event);
  } else {
    node_.peers.OnConnectFailed(ctx, event);
  }
}

void SdsRole::On(Context& ctx, const DisconnectedEvent& event) {
  if (node_.registration.OwnsConn(event.conn)) return node_.registration.OnDisconnected(ctx, event);
  if (node_.peers.OnDisconnected(ctx, event)) return;
  node_.sessions.OnDisconnected(ctx, event.conn);
}

void SdsRole::On(Context& ctx, const MessageEvent& event) {
  const wire::Message& message = event.message;
  if (node_.registration.OwnsConn(event.conn)) return node_.registration.OnMessage(ctx, message);
  if (const auto* reply = std::get_if<wire::HelloReply>(&message.body)) {
    return node_.peers.OnHelloReply(ctx, event.conn, *reply);
  }
  if (const SdsId peer = node_.peers.OwnerOf(event.conn); peer.valid()) {
    return node_.OnFollowerMessage(ctx, peer, message);
  }
  if (const auto* hello = std::get_if<wire::Hello>(&message.body)) {
    return node_.sessions.OnHello(ctx, event.conn, *hello);
  }
  const Connection* connection = node_.sessions.FindReady(event.conn);
  if (connection == nullptr) {
    // On its way when the connection was given up, or sent before the hello.
    if (node_.sessions.Knows(event.conn)) {
      node_.sessions.Violation(ctx, event.conn, "a message before its hello");
    }
    return;
  }
  if (connection->role == wire::PeerRole::kSds) {
    return node_.OnPeerMessage(ctx, event.conn, message);
  }
  if (const auto* write = std::get_if<wire::WriteRequest>(&message.body)) {
    node_.OnWriteRequest(ctx, event.conn, *write, message.payload);
  } else if (const auto* read = std::get_if<wire::ReadRequest>(&message.body)) {
    node_.OnReadRequest(ctx, event.conn, *read);
  } else if (const auto* presence = std::get_if<wire::PresenceRequest>(&message.body)) {
    node_.OnPresenceRequest(ctx, event.conn, *presence);
  } else if (const auto* heartbeat = std::get_if<wire::SessionHeartbeat>(&message.body)) {
    node_.OnSessionHeartbeat(ctx, event.conn, *heartbeat, message.payload);
  } else {
    node_.sessions.Violation(ctx, event.conn, "a message that no client sends");
  }
}

void SdsRole::On(Context& ctx, const DiskDoneEvent& event) {
  if (event.device == DeviceIndex::kState) {
    node_.registration.OnStateDiskDone(ctx, event);
  } else {
    node_.devices.OnDiskDone(ctx, event);
  }
}

void SdsRole::On(Context& ctx, const DeviceOpenedEvent& event) {
  node_.devices.OnOpened(ctx, event);
}

void SdsRole::On(Context& ctx, const TimerEvent& event) {
  const uint32_t index = IndexOf(event.tag);
  switch (KindOf(event.tag)) {
    case TimerKind::kHeartbeat:
      node_.MarkPrimariesDirty();  // silence is looked for at this pace
      node_.RefillCredits(ctx);
      node_.devices.FindHanging(ctx);
      return node_.registration.OnHeartbeatTimer(ctx);
    case TimerKind::kLease:
      if (!node_.lease.Valid(ctx.now)) node_.RefuseUnadmitted(ctx, wire::Status::kNoLease);
      return;
    case TimerKind::kMdmLink:
      return node_.registration.OnLinkTimer(ctx);
    case TimerKind::kCommitPoints:
      node_.commit_timer_armed = false;
      return SendCommitPoints(ctx);
    case TimerKind::kWake:
      return OnWake(ctx);
    case TimerKind::kStop:
      return AdvanceStop(ctx, /*late=*/true);
    case TimerKind::kDeviceStore:
      return node_.devices.OnStoreTimer(ctx, index);
    case TimerKind::kDeviceRetry:
      return node_.devices.OnRetryTimer(ctx, index);
    case TimerKind::kPeerLink:
      return node_.peers.OnTimer(ctx, index);
    case TimerKind::kScan:
      return node_.devices.OnScanTimer(ctx, index);
    case TimerKind::kMarking:
      return node_.registration.AdvanceMarking(ctx, /*late=*/true);
  }
}

void SdsRole::On(Context&, const UserRequestEvent&) {}  // block I/O is the SDC's

void SdsRole::On(Context& ctx, const StopEvent&) {
  if (stop_ != Stop::kNo) return;
  stop_ = Stop::kDraining;
  node_.stopping = true;
  node_.RefuseUnadmitted(ctx, wire::Status::kUnavailable);
  ctx.effects.SetTimer(TimerOf(TimerKind::kStop), SaturatingAdd(ctx.now.boot, kDrainMax));
}

// Clean stop: what is admitted finishes, the lease goes back, the stores write a checkpoint.
void SdsRole::AdvanceStop(Context& ctx, bool late) {
  if (stop_ == Stop::kNo) return;
  if (stop_ == Stop::kDraining && (late || node_.requests.empty())) {
    stop_ = Stop::kClosing;
    // Before it is handed back nothing of this incarnation acts any more: it is irrevocable (R12).
    node_.EndReplicas(ctx);
    node_.lease.GiveUp();
    node_.registration.SendHeartbeat(ctx, /*hand_back=*/true);
    node_.peers.StopAll(ctx);
    node_.devices.CloseAll(ctx);
    ctx.effects.SetTimer(TimerOf(TimerKind::kStop), SaturatingAdd(ctx.now.boot, kCloseMax));
    late = false;
  }
  if (stop_ != Stop::kClosing) return;
  const bool heard = node_.registration.hand_back_heard() || !node_.registration.registered();
  if (!late && (!node_.devices.all_closed() || !heard)) return;
  ctx.effects.CancelTimer(TimerOf(TimerKind::kStop));
  ctx.effects.Exit("");
}

// ---- Settling
// --------------------------------------------------------------------------------------

void SdsRole::Settle(Context& ctx) {
  while (true) {
    while (!node_.done.empty()) {
      done_.swap(node_.done);
      for (const store::Done& one : done_) OnDone(ctx, one);
      done_.clear();
    }
    node_.devices.FindFailures(ctx);
    if (!node_.dirty.empty()) {
      const ReplicaKey key = node_.dirty.back();
      node_.dirty.pop_back();
      AdvanceReplica(ctx, key);
      continue;
    }
    if (!node_.done.empty()) continue;
    node_.sessions.Advance(ctx);
    // Closing the stores may be done at once.
    if (stop_ != Stop::kNo) AdvanceStop(ctx, /*late=*/false);
    if (node_.done.empty() && node_.dirty.empty()) break;
  }
  node_.registration.AdvanceMarking(ctx, /*late=*/false);
  if (node_.heartbeat_soon) {
    node_.heartbeat_soon = false;
    if (stop_ != Stop::kClosing) node_.registration.SendHeartbeat(ctx, /*hand_back=*/false);
  }
  SetWakeTimer(ctx);
}

void SdsRole::OnDone(Context& ctx, const store::Done& done) {
  if (!node_.ops.Live(done.tag)) return;  // its device was given up
  const Op op = node_.ops.Take(done.tag);
  switch (op.kind) {
    case OpKind::kDeviceOpen:
    case OpKind::kDeviceFormat:
    case OpKind::kDeviceClose:
      return node_.devices.OnDone(ctx, op, done.status);
    case OpKind::kDrop:
      return node_.OnDropped(op, done.status);
    case OpKind::kScanRead:
      if (Device* device = node_.devices.FindUp(op.replica.device)) {
        device->scan.OnRead(ctx, *device, op, done.status);
      }
      return;
    case OpKind::kNone:
    case OpKind::kMark:
      return;
    case OpKind::kAdopt:
    case OpKind::kStart:
    case OpKind::kAppend:
    case OpKind::kLoadEntry:
    case OpKind::kMergeRead:
    case OpKind::kClientRead:
    case OpKind::kCopyRead:
    case OpKind::kRepairRead:
    case OpKind::kRepairAppend:
    case OpKind::kExamineRead:
    case OpKind::kServeRead:
    case OpKind::kScanFix:
    case OpKind::kFollowStart:
    case OpKind::kFollowAppend:
    case OpKind::kFetchRead:
    case OpKind::kJoinAppend:
      break;
  }
  Replica* replica = node_.FindReplica(op.replica);
  if (replica == nullptr) return;
  if (replica->primary != nullptr && replica->primary->instance() == op.instance) {
    replica->primary->OnDone(ctx, op, done.status);
  } else if (replica->secondary != nullptr && replica->secondary->instance() == op.instance) {
    replica->secondary->OnDone(ctx, op, done.status);
  }
}

void SdsRole::AdvanceReplica(Context& ctx, const ReplicaKey& key) {
  Replica* replica = node_.FindReplica(key);
  if (replica == nullptr) return;
  replica->dirty = false;
  if (replica->primary != nullptr) replica->primary->Advance(ctx);
  if (replica->secondary != nullptr) replica->secondary->Advance(ctx);
}

void SdsRole::OnWake(Context& ctx) {
  wake_at_ = kNever;
  while (!node_.wakes.empty() && node_.wakes.begin()->first <= ctx.now.boot) {
    node_.MarkDirty(node_.wakes.begin()->second);
    node_.wakes.erase(node_.wakes.begin());
  }
}

void SdsRole::SetWakeTimer(Context& ctx) {
  const Instant wanted = node_.wakes.empty() ? kNever : node_.wakes.begin()->first;
  if (wanted >= wake_at_) return;
  wake_at_ = wanted;
  ctx.effects.SetTimer(TimerOf(TimerKind::kWake), wanted);
}

void SdsRole::SendCommitPoints(Context& ctx) {
  node_.commit_items.clear();
  for (auto& [key, replica] : node_.replicas) {
    if (replica->primary != nullptr) replica->primary->AddCommitPoints(ctx);
  }
  std::sort(node_.commit_items.begin(), node_.commit_items.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second.pair.slice) < std::pair(b.first, b.second.pair.slice);
  });
  const auto& items = node_.commit_items;
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin;
    while (end < items.size() && items[end].first == items[begin].first) ++end;
    constexpr size_t kItemBytes = sizeof(wire::CommitItem);
    Slice payload =
        node_.resources.pool->Allocate(static_cast<uint32_t>((end - begin) * kItemBytes));
    // Without memory for it the next entry, or the next commit, carries the commit point.
    if (!payload.empty()) {
      std::byte* to = payload.mutable_span().data();
      for (size_t i = begin; i < end; ++i, to += kItemBytes) {
        std::memcpy(to, &items[i].second, kItemBytes);
      }
      ctx.effects.Send(items[begin].first,
                       wire::CommitPoints{.count = static_cast<uint32_t>(end - begin)},
                       std::move(payload));
    }
    begin = end;
  }
  node_.commit_items.clear();
}

// ---- For people and the simulator
// ------------------------------------------------------------------

void SdsRole::CheckInvariants() const {
  node_.registration.CheckInvariants();
  node_.sessions.CheckInvariants();
  node_.peers.CheckInvariants();
  node_.devices.CheckInvariants();
  CHECK(node_.dirty.empty() && node_.done.empty());
  CHECK_EQ(node_.counters.promises_broken, 0u);
  for (const auto& [id, device] : node_.devices.devices()) {
    uint64_t extents = 0;
    uint64_t log_bytes = device.credits.log_debts();
    for (const auto& [key, replica] : node_.replicas) {
      if (key.device != id || replica->secondary == nullptr) continue;
      extents += replica->secondary->promise().extents_left();
      log_bytes += replica->secondary->promise().log_left();
    }
    CHECK_EQ(extents, device.credits.extents_promised());
    CHECK_EQ(log_bytes, device.credits.log_promised());
  }
  for (const auto& [key, replica] : node_.replicas) {
    CHECK(replica->primary == nullptr || replica->secondary == nullptr);
    if (replica->primary != nullptr) replica->primary->CheckInvariants(node_);
    if (replica->secondary != nullptr) replica->secondary->CheckInvariants(node_);
  }
}

std::string SdsRole::Dump() const {
  std::string text = absl::StrCat(
      "sds ", node_.options.name, " ", ToString(node_.self.sds), " incarnation ",
      ToString(node_.self.incarnation), "\n  ", node_.registration.Dump(), "\n  lease until ",
      ToString(node_.lease.end()), ", configuration ", ToString(node_.config.version()),
      ", drained ", ToString(node_.outstanding.Drained(node_.config.version())), "\n  requests ",
      node_.requests.size(), " of ", node_.requests.capacity(), ", connections ",
      node_.sessions.size(), ", violations ", node_.sessions.violations(), ", operations ",
      node_.ops.live(), "\n  writes ", node_.counters.writes, ", reads ", node_.counters.reads,
      ", refused ", node_.counters.refused, ", extents copied ", node_.counters.extents_copied,
      ", blocks repaired ", node_.counters.blocks_repaired, ", repairs failed ",
      node_.counters.repairs_failed, ", copies that differ ", node_.counters.copies_differ, "\n");
  for (const auto& [id, device] : node_.devices.devices()) {
    absl::StrAppend(&text, "  device ", ToString(id), " ", device.config.path, " ",
                    ToString(device.phase), device.error.empty() ? "" : ": ", device.error, "\n");
    if (device.store == nullptr) continue;
    const store::Capacity capacity = device.store->capacity();
    absl::StrAppend(&text, "    log ", capacity.log_used_bytes, " of ", capacity.log_bytes,
                    " B used, room for ", device.store->append_room(), ", promised ",
                    device.credits.log_promised(), "; extents ", capacity.extents_free, " of ",
                    capacity.extents_total, " free, promised ", device.credits.extents_promised(),
                    "\n");
    const store::Memory memory = device.store->memory();
    absl::StrAppend(&text, "    memory ", memory.used_bytes(), " of ", memory.budget_bytes,
                    " B: directory ", memory.directory_bytes, ", index of the log ",
                    memory.log_bytes, " of ", memory.log_bytes_max, ", ", memory.pages, " of ",
                    memory.pages_max, " pages of checksums, ", memory.fixed_bytes, " fixed\n");
  }
  absl::StrAppend(&text, node_.peers.Dump());
  for (const auto& [key, replica] : node_.replicas) {
    absl::StrAppend(&text, "  slice ", ToString(key.slice), " on ", ToString(key.device), ": ",
                    replica->primary != nullptr     ? replica->primary->Dump()
                    : replica->secondary != nullptr ? replica->secondary->Dump()
                                                    : "acts in nothing",
                    "\n");
  }
  return text;
}

uint64_t SdsRole::StateHash() const {
  uint64_t hash = node_.registration.StateHash() ^ node_.config.StateHash();
  hash = mix64(hash + node_.sessions.StateHash()) + node_.peers.StateHash();
  hash = mix64(hash + node_.requests.size() * 3 + node_.outstanding.count());
  hash = mix64(hash + static_cast<uint64_t>(node_.lease.end().time_since_epoch().count()));
  for (const auto& [id, device] : node_.devices.devices()) {
    hash = mix64(hash + id.value() + static_cast<uint64_t>(device.phase));
    hash = mix64(hash + device.scan.StateHash());
    if (device.up()) hash = mix64(hash + device.store->StateHash());
  }
  for (const auto& [key, replica] : node_.replicas) {
    hash = mix64(hash + key.slice.value() * 3 + key.device.value());
    if (replica->primary != nullptr) hash = mix64(hash + replica->primary->StateHash());
    if (replica->secondary != nullptr) hash = mix64(hash + replica->secondary->StateHash());
  }
  return hash;
}

}  // namespace gabion::sds
