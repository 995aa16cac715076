#include "sim/world/world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::sim {

namespace {

// Steps of one node at one instant; more is a loop in which time stands still.
constexpr uint32_t kStepsPerInstantMax = 100'000;

uint64_t DigestOf(const wire::Message& message) {
  uint32_t crc = 0;
  std::visit(
      [&crc](const auto& body) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(body)>, std::monostate>) {
          crc = Crc32c(std::as_bytes(std::span(&body, 1)));
        }
      },
      message.body);
  return (uint64_t{crc} << 32) ^ (uint64_t{message.payload.size()} << 8) ^ message.type();
}

// What of an event goes into the hash besides its kind.
uint64_t DigestOf(const Event& event) {
  struct Visitor {
    uint64_t operator()(const StartEvent&) const { return 0; }
    uint64_t operator()(const ConnectedEvent& e) const { return e.conn.value() * 31 + e.dial; }
    uint64_t operator()(const ConnectFailedEvent& e) const { return e.dial; }
    uint64_t operator()(const DisconnectedEvent& e) const { return e.conn.value(); }
    uint64_t operator()(const MessageEvent& e) const {
      return DigestOf(e.message) + e.conn.value() * 0x9e3779b97f4a7c15u;
    }
    uint64_t operator()(const DiskDoneEvent& e) const {
      return e.tag * 31 + static_cast<uint64_t>(e.device);
    }
    uint64_t operator()(const DeviceOpenedEvent& e) const { return e.tag; }
    uint64_t operator()(const TimerEvent& e) const { return e.tag; }
    uint64_t operator()(const UserRequestEvent& e) const {
      return e.tag * 31 + e.offset_bytes + (e.length_bytes << 32) + static_cast<uint64_t>(e.op);
    }
    uint64_t operator()(const StopEvent&) const { return 0; }
  };
  return std::visit(Visitor(), event);
}

std::string Describe(const Event& event) {
  struct Visitor {
    std::string operator()(const StartEvent&) const { return "start"; }
    std::string operator()(const ConnectedEvent& e) const {
      return "connected conn " + std::to_string(e.conn.value()) +
             (e.dial == 0 ? " (accepted)" : " dial " + HexId(e.dial));
    }
    std::string operator()(const ConnectFailedEvent& e) const {
      return "connect failed dial " + HexId(e.dial);
    }
    std::string operator()(const DisconnectedEvent& e) const {
      return "disconnected conn " + std::to_string(e.conn.value());
    }
    std::string operator()(const MessageEvent& e) const {
      return "receive " + std::string(wire::TypeName(e.message.type())) + " conn " +
             std::to_string(e.conn.value());
    }
    std::string operator()(const DiskDoneEvent& e) const {
      return "disk done " + HexId(e.tag) + " device " +
             std::to_string(static_cast<uint32_t>(e.device));
    }
    std::string operator()(const DeviceOpenedEvent& e) const {
      return std::string("device opened ") + (e.ok ? "" : "NOT: ") + e.error;
    }
    std::string operator()(const TimerEvent& e) const { return "timer " + HexId(e.tag); }
    std::string operator()(const UserRequestEvent& e) const {
      return "user request " + std::to_string(e.tag) + " op " +
             std::to_string(static_cast<int>(e.op)) + " at " + std::to_string(e.offset_bytes) +
             " + " + std::to_string(e.length_bytes);
    }
    std::string operator()(const StopEvent&) const { return "stop"; }
  };
  return std::visit(Visitor(), event);
}

}  // namespace

TrueTime NodeClock::TrueTimeOf(Instant when) const {
  const int64_t local = when.time_since_epoch().count() - boot_offset;
  TrueTime guess = local / (1'000'000 + drift_ppm) * 1'000'000 +
                   local % (1'000'000 + drift_ppm) * 1'000'000 / (1'000'000 + drift_ppm);
  while (Boot(guess) < when) ++guess;
  return guess;
}

World::World(const Options& options, Choices* choices, PageArena* arena)
    : options_(options),
      choices_(choices),
      arena_(arena),
      schedule_(choices->Open(StreamKind::kSchedule)) {}

World::~World() {
  for (const std::unique_ptr<Node>& node : nodes_) node->role.reset();
}

NodeIndex World::AddNode(const NodeOptions& options) {
  CHECK(links_.empty() || now_ == 0) << "nodes come before time";
  const auto index = static_cast<NodeIndex>(nodes_.size());
  auto node = std::make_unique<Node>();
  node->options = options;
  node->clock = options.clock;
  // A budget that no run reaches: memory pressure is not a fault of this world.
  node->pool = std::make_unique<BufferPool>(BufferPool::Options{.bytes_max = size_t{4} << 30});
  nodes_.push_back(std::move(node));
  AddDisk(index, "", options.state_device);
  link_stride_ = nodes_.size();
  links_.assign(link_stride_ * link_stride_, LinkState());
  for (NodeIndex from = 0; from < nodes_.size(); ++from) {
    for (NodeIndex to = 0; to < nodes_.size(); ++to) {
      LinkOf(from, to).stream = choices_->Open(StreamKind::kLink, from, to);
      LinkOf(from, to).base_delay = std::chrono::microseconds(20);
    }
  }
  return index;
}

void World::AddDisk(NodeIndex node, const std::string& path, const Disk::Options& options) {
  std::vector<Node::NamedDisk>& disks = nodes_[node]->disks;
  const Stream stream =
      choices_->Open(StreamKind::kDevice, node, static_cast<uint32_t>(disks.size()));
  disks.push_back(
      {path, std::make_unique<Disk>(options, arena_, choices_, stream, &faults_, &fired_)});
}

Now World::NowOf(NodeIndex node) const {
  return {.boot = nodes_[node]->clock.Boot(now_), .wall = nodes_[node]->clock.Wall(now_)};
}

void World::Push(TrueTime time, QueueKind kind, NodeIndex node, uint32_t boot, uint64_t arg) {
  const auto band = static_cast<uint8_t>(choices_->Below(schedule_, Site::kBand, 4));
  queue_.Push({.time = time, .arg = arg, .boot = boot, .node = node, .kind = kind}, band);
}

void World::PushInOrder(TrueTime time, QueueKind kind, NodeIndex node, uint32_t boot,
                        uint64_t arg) {
  queue_.Push({.time = time, .arg = arg, .boot = boot, .node = node, .kind = kind}, 1);
}

void World::StepLater(NodeIndex node, TrueTime when, Event event) {
  const uint32_t slot = pending_steps_.Add({std::move(event)});
  // In order: a connection's first event comes before its messages.
  queue_.Push({.time = when,
               .arg = slot,
               .boot = nodes_[node]->boot,
               .node = node,
               .kind = QueueKind::kStep},
              0);
}

void World::At(TrueTime when, std::function<void()> action) {
  const uint32_t slot = actions_.Add(std::move(action));
  queue_.Push({.time = std::max(when, now_), .arg = slot, .kind = QueueKind::kAction}, 2);
}

void World::RunUntil(TrueTime end) {
  while (!failure_.happened() && !queue_.empty() && queue_.top().time <= end) {
    DispatchNext();
  }
  if (!failure_.happened() && now_ < end) now_ = end;
}

bool World::RunUntil(TrueTime end, const std::function<bool()>& done) {
  if (done()) return true;
  while (!failure_.happened() && !queue_.empty() && queue_.top().time <= end) {
    DispatchNext();
    if (done()) return true;
  }
  if (!failure_.happened() && now_ < end) now_ = end;
  return false;
}

void World::DispatchNext() {
  const QueuedEvent event = queue_.Pop();
  Dispatch(event);
  if (tracer_ != nullptr) tracer_->EventEnded(event, hash_);
}

Node* World::Receiver(const QueuedEvent& event) {
  Node& node = *nodes_[event.node];
  if (node.boot != event.boot || node.role == nullptr) return nullptr;
  if (node.paused) {
    node.while_paused.push_back(event);
    return nullptr;
  }
  return &node;
}

void World::Dispatch(const QueuedEvent& event) {
  CHECK_GE(event.time, now_);
  now_ = event.time;
  ++stats_.events;
  hash_.Add(static_cast<uint64_t>(event.time));
  hash_.Add(event.order ^ (uint64_t{event.node} << 8) ^ static_cast<uint64_t>(event.kind) ^
            choices_->digest());
  switch (event.kind) {
    case QueueKind::kDeliver: {
      const Node& node = *nodes_[event.node];
      if (node.boot != event.boot || node.role == nullptr) {
        in_flight_.Free(static_cast<uint32_t>(event.arg));
      } else if (Receiver(event) != nullptr) {
        Arrive(static_cast<uint32_t>(event.arg));
      }
      return;
    }
    case QueueKind::kConnect:
      Dialled(static_cast<uint32_t>(event.arg));
      return;
    case QueueKind::kDiskDone: {
      const auto slot = static_cast<uint32_t>(event.arg);
      Node& node = *nodes_[event.node];
      if (node.boot != event.boot || node.role == nullptr) {
        disk_slots_.Free(slot);
        return;
      }
      // The disk works while its process is paused; only the news waits.
      DiskSlot& pending = disk_slots_[slot];
      DiskDoneEvent done{.device = static_cast<DeviceIndex>(pending.device),
                         .status = DiskStatus::kOk};
      done.tag = node.disks[pending.disk].disk->Complete(pending.slot, &done.status);
      if (node.countdown_when_dirty != 0 && node.disks[pending.disk].disk->has_unflushed()) {
        ArmCrash(event.node, std::exchange(node.countdown_when_dirty, 0), true);
      }
      disk_slots_.Free(slot);
      if (node.paused) {
        StepLater(event.node, now_, done);
      } else {
        Step(event.node, done);
      }
      return;
    }
    case QueueKind::kTimer:
      if (Node* node = Receiver(event); node != nullptr) OnTimerEvent(event, *node);
      return;
    case QueueKind::kStep: {
      const Node& node = *nodes_[event.node];
      if (node.boot != event.boot || node.role == nullptr) {
        pending_steps_.Free(static_cast<uint32_t>(event.arg));
      } else if (Receiver(event) != nullptr) {
        const PendingStep pending = pending_steps_.Take(static_cast<uint32_t>(event.arg));
        Step(event.node, pending.event);
      }
      return;
    }
    case QueueKind::kNotice:
      if (Receiver(event) != nullptr) {
        Notice(static_cast<uint32_t>(event.arg / 2), static_cast<uint8_t>(event.arg % 2));
      }
      return;
    case QueueKind::kResend:
      if (Receiver(event) != nullptr) {
        Resend(static_cast<uint32_t>(event.arg / 2), static_cast<uint8_t>(event.arg % 2));
      }
      return;
    case QueueKind::kAction: {
      const std::function<void()> action = actions_.Take(static_cast<uint32_t>(event.arg));
      action();
      return;
    }
  }
}

void World::OnTimerEvent(const QueuedEvent& event, Node& node) {
  const auto slot = static_cast<uint32_t>(event.arg & 0xffffffffu);
  Timer& timer = node.timers[slot];
  if (timer.version != static_cast<uint32_t>(event.arg >> 32) || timer.when == kNever) return;
  timer.when = kNever;
  Step(event.node, TimerEvent{.tag = node.timer_tags[slot]});
}

void World::Step(NodeIndex index, const Event& event) {
  Node& node = *nodes_[index];
  const Now now = NowOf(index);
  ++stats_.steps;
  ++node.steps;
  if (now_ != node.last_step_time) {
    node.last_step_time = now_;
    node.steps_at_instant = 0;
  }
  if (++node.steps_at_instant > kStepsPerInstantMax) {
    Fail("livelock", node.options.name + " steps again and again while time stands still");
    return;
  }
  hash_.Add(DigestOf(event) ^ (uint64_t{event.index()} << 56) ^ index);
  if (tracer_ != nullptr) Trace(index, Describe(event));
  effects_.Clear();
  node.role->Step(now, event, effects_);
  if (options_.check_every != 0 && node.steps % options_.check_every == 0) {
    node.role->CheckInvariants();
  }
  Apply(index);
  for (Observer* observer : observers_) observer->OnStepped(index, event);
}

bool World::CrashPoint(NodeIndex index) {
  Node& node = *nodes_[index];
  if (node.crash_countdown == 0 || --node.crash_countdown != 0) return true;
  return false;
}

void World::Apply(NodeIndex index) {
  Node& node = *nodes_[index];
  const uint32_t boot = node.boot;
  for (const LogEffect& log : effects_.logs) {
    if (tracer_ != nullptr) Trace(index, "log: " + log.text);
  }
  // Sends and disk operations in either order: it shows when the process dies between them.
  const bool disk_first =
      node.crash_countdown != 0 && choices_->Chance(schedule_, Site::kEffectOrder, 1, 2);
  bool alive =
      disk_first ? ApplyDisk(index) && ApplySends(index) : ApplySends(index) && ApplyDisk(index);
  if (!alive) {
    Die(index, node.crash_power);
    return;
  }
  CHECK_EQ(node.boot, boot);
  ApplyTimers(index);
  for (const ConnectEffect& connect : effects_.connects) Connect(index, connect);
  for (const ConnId conn : effects_.closes) CloseConnection(index, conn);
  ApplyOpens(index);
  for (const UserReplyEffect& reply : effects_.replies) {
    if (tracer_ != nullptr) {
      Trace(index,
            "user reply " + std::to_string(reply.tag) + " error " + std::to_string(reply.error));
    }
    for (Observer* observer : observers_) observer->OnUserReply(index, reply);
  }
  for (const UserNoticeEffect& notice : effects_.notices) {
    for (Observer* observer : observers_) observer->OnUserNotice(index, notice);
  }
  if (effects_.exit) {
    const std::string reason = effects_.exit_reason;
    if (tracer_ != nullptr) Trace(index, "exit: " + (reason.empty() ? "clean" : reason));
    for (Observer* observer : observers_) observer->OnExit(index, reason);
    Die(index, false);
  }
}

bool World::ApplySends(NodeIndex index) {
  for (SendEffect& send : effects_.sends) {
    SendMessage(index, send.conn, std::move(send.message));
    if (!CrashPoint(index)) return false;
  }
  return true;
}

bool World::ApplyDisk(NodeIndex index) {
  Node& node = *nodes_[index];
  for (const DiskEffect& effect : effects_.disk) {
    ++stats_.disk_operations;
    const auto device = static_cast<uint32_t>(effect.device);
    CHECK_LT(device, node.devices.size()) << "a role used a device it never opened";
    if (node.devices[device] < 0) {
      StepLater(index, now_ + 1'000,
                DiskDoneEvent{
                    .device = effect.device, .tag = effect.tag, .status = DiskStatus::kDeviceGone});
      continue;
    }
    const auto disk = static_cast<uint32_t>(node.devices[device]);
    const std::span<const Slice> slices =
        std::span<const Slice>(effects_.slices).subspan(effect.slice_begin, effect.slice_count);
    TrueTime done_at = 0;
    const uint32_t slot = node.disks[disk].disk->Submit(now_, effect, slices, &done_at);
    const uint32_t pending = disk_slots_.Add(
        {.node = index, .boot = node.boot, .disk = disk, .device = device, .slot = slot});
    if (tracer_ != nullptr) {
      Trace(index, "disk op " + std::to_string(static_cast<int>(effect.op)) + " device " +
                       std::to_string(device) + " at " + std::to_string(effect.offset_bytes) +
                       " + " + std::to_string(effect.length_bytes) + " tag " + HexId(effect.tag));
    }
    Push(done_at, QueueKind::kDiskDone, index, node.boot, pending);
    if (!CrashPoint(index)) return false;
  }
  return true;
}

void World::ApplyTimers(NodeIndex index) {
  Node& node = *nodes_[index];
  for (const TimerEffect& effect : effects_.timers) {
    const auto [at, inserted] =
        node.timer_slots.try_emplace(effect.tag, static_cast<uint32_t>(node.timers.size()));
    if (inserted) {
      node.timers.emplace_back();
      node.timer_tags.push_back(effect.tag);
    }
    Timer& timer = node.timers[at->second];
    timer.when = effect.when;
    ++timer.version;
    if (effect.when == kNever) continue;
    // A timer is never early, and a little late.
    const Duration slack = choices_->TailOf(
        schedule_, Site::kTimerSlack, std::chrono::microseconds(50), std::chrono::milliseconds(2));
    const TrueTime when = std::max(now_, node.clock.TrueTimeOf(effect.when)) + slack.count();
    Push(when, QueueKind::kTimer, index, node.boot, (uint64_t{timer.version} << 32) | at->second);
  }
}

void World::ApplyOpens(NodeIndex index) {
  Node& node = *nodes_[index];
  for (const OpenDeviceEffect& open : effects_.opens) {
    DeviceOpenedEvent opened;
    opened.tag = open.tag;
    opened.error = open.path + ": no such device";
    for (size_t i = 1; i < node.disks.size(); ++i) {
      if (node.disks[i].path != open.path || node.disks[i].disk->trouble().gone) continue;
      opened.ok = true;
      opened.error.clear();
      opened.device = static_cast<DeviceIndex>(node.devices.size());
      opened.info = node.disks[i].disk->info();
      node.devices.push_back(static_cast<int32_t>(i));
      break;
    }
    StepLater(index, now_ + 100'000, std::move(opened));
  }
  for (const DeviceIndex device : effects_.device_closes) {
    CHECK_LT(static_cast<uint32_t>(device), node.devices.size());
    node.devices[static_cast<uint32_t>(device)] = -1;
  }
}

void World::Submit(NodeIndex node, UserRequestEvent request) {
  if (Running(node)) StepLater(node, now_, std::move(request));
}

void World::Fail(std::string_view checker, std::string message) {
  if (failure_.happened()) return;
  failure_ = {.checker = std::string(checker), .message = std::move(message), .time = now_};
}

void World::Trace(NodeIndex node, std::string_view text) {
  if (tracer_ == nullptr) return;
  std::string line = std::to_string(now_ / 1'000);
  line.insert(0, line.size() < 10 ? 10 - line.size() : 0, ' ');
  line += " us ";
  line += nodes_[node]->options.name;
  line.append(line.size() < 22 ? 22 - line.size() : 1, ' ');
  line += text;
  tracer_->Line(line);
}

std::string World::Dump() const {
  std::string text;
  for (const std::unique_ptr<Node>& node : nodes_) {
    text += "== " + node->options.name;
    if (node->role == nullptr) {
      text += node->powered ? " (not running)\n" : " (no power)\n";
    } else {
      text += node->paused ? " (paused)\n" : "\n";
      text += node->role->Dump();
      if (!text.ends_with('\n')) text += '\n';
    }
  }
  return text;
}

}  // namespace gabion::sim
