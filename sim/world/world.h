// A world: nodes that run roles, the network between them, their disks and clocks, in virtual time.
// The simulator's host: it feeds roles their events and carries out their effects, as net/ and
// disk/ do in production, and does to them whatever the tape says.
//
// One thread, one event at a time, in order of (time, band, sequence). Everything that is not the
// roles' own doing is a choice (sim/world/choice.h), so a seed or a tape is the whole run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/time.h"
#include "core/role/role.h"
#include "sim/fault/classes.h"
#include "sim/world/choice.h"
#include "sim/world/disk.h"
#include "sim/world/event_queue.h"
#include "sim/world/network.h"
#include "sim/world/node.h"
#include "sim/world/rolling_hash.h"
#include "sim/world/slab.h"

namespace gabion::sim {

// Sees what happens; changes nothing but its own books, and may call World::Fail and World::At.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void OnUserReply(NodeIndex, const UserReplyEffect&) {}
  virtual void OnUserNotice(NodeIndex, const UserNoticeEffect&) {}
  virtual void OnSend(NodeIndex /*from*/, NodeIndex /*to*/, const wire::Message&) {}
  virtual void OnStepped(NodeIndex, const Event&) {}
  virtual void OnStarted(NodeIndex) {}
  // The process is gone, for whatever reason.
  virtual void OnStopped(NodeIndex) {}
  // The role asked to exit; OnStopped follows. An empty reason is a clean shutdown.
  virtual void OnExit(NodeIndex, std::string_view /*reason*/) {}
};

// Where trace lines go.
class Tracer {
 public:
  virtual ~Tracer() = default;
  virtual void Line(std::string_view line) = 0;
  // The lines of an event are complete. `hash` covers everything up to here.
  virtual void EventEnded(const QueuedEvent&, const RollingHash& /*hash*/) {}
};

struct Failure {
  std::string checker;  // empty: no failure
  std::string message;
  TrueTime time = 0;

  bool happened() const { return !checker.empty(); }
};

struct WorldStats {
  uint64_t events = 0;
  uint64_t steps = 0;
  uint64_t messages = 0;
  uint64_t messages_lost = 0;
  uint64_t disk_operations = 0;
};

class World {
 public:
  struct Options {
    bool through_codec = false;  // every message is encoded and decoded
    uint32_t check_every = 1;    // steps of a node between CheckInvariants(); 0: never
  };

  World(const Options& options, Choices* choices, PageArena* arena);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  // ---- Building -------------------------------------------------------------------------------
  NodeIndex AddNode(const NodeOptions& options);
  // `path` is what the role opens; the state device is there already.
  void AddDisk(NodeIndex node, const std::string& path, const Disk::Options& options);
  void Observe(Observer* observer) { observers_.push_back(observer); }
  void TraceTo(Tracer* tracer) { tracer_ = tracer; }

  // ---- Running --------------------------------------------------------------------------------
  // Until `end`, or until a failure.
  void RunUntil(TrueTime end);
  // Until `done` (asked after each event) or `end`; whether `done`.
  bool RunUntil(TrueTime end, const std::function<bool()>& done);
  void At(TrueTime when, std::function<void()> action);
  void After(Duration delay, std::function<void()> action) {
    At(now_ + delay.count(), std::move(action));
  }
  TrueTime now() const { return now_; }
  Now NowOf(NodeIndex node) const;

  // ---- Processes ------------------------------------------------------------------------------
  void Start(NodeIndex node);
  // The process dies at once; its device caches live.
  void Kill(NodeIndex node);
  // The machine dies; its device caches are lost.
  void PowerCut(NodeIndex node);
  // Clean shutdown; the role exits when it is ready.
  void Stop(NodeIndex node);
  // Stands still until `until` (kForever: until Resume), then goes on with queued work. Its clocks
  // run on.
  void Pause(NodeIndex node, TrueTime until);
  void Resume(NodeIndex node) {
    if (nodes_[node]->paused) Unpause(node);
  }
  // The process dies (or the machine, with `power`) in the middle of the effects of a step, at the
  // `countdown`th send or disk operation from now.
  void ArmCrash(NodeIndex node, uint32_t countdown, bool power);
  // The same, counted from the first moment at which a disk of the node holds what a power cut
  // loses.
  void ArmPowerCutWhenDirty(NodeIndex node, uint32_t countdown);
  bool Running(NodeIndex node) const { return nodes_[node]->role != nullptr; }
  // A user request to a running SDC.
  void Submit(NodeIndex node, UserRequestEvent request);

  // ---- Network --------------------------------------------------------------------------------
  // Cuts nest: each needs its Heal.
  void Cut(NodeIndex from, NodeIndex to);
  void Heal(NodeIndex from, NodeIndex to);
  void Clog(NodeIndex from, NodeIndex to, TrueTime until);
  // Breaks one connection between the two, if there is any. The ends learn it after these delays;
  // negative: not until they send.
  void BreakConnection(NodeIndex a, NodeIndex b, Duration notice_a, Duration notice_b);
  bool IsCut(NodeIndex from, NodeIndex to) const { return LinkOf(from, to).cuts != 0; }

  // ---- Books ----------------------------------------------------------------------------------
  void Fail(std::string_view checker, std::string message);
  const Failure& failure() const { return failure_; }
  const WorldStats& stats() const { return stats_; }
  const RollingHash& hash() const { return hash_; }
  size_t node_count() const { return nodes_.size(); }
  Node& node(NodeIndex index) { return *nodes_[index]; }
  const Node& node(NodeIndex index) const { return *nodes_[index]; }
  Choices& choices() { return *choices_; }
  WorldFaults& faults() { return faults_; }
  PerFault<uint64_t>& fired() { return fired_; }
  PageArena* arena() { return arena_; }
  // State of every running role, for the report of a failure.
  std::string Dump() const;
  bool tracing() const { return tracer_ != nullptr; }
  void Trace(NodeIndex node, std::string_view text);

 private:
  struct PendingStep {
    Event event;
  };
  struct DiskSlot {
    NodeIndex node = 0;
    uint32_t boot = 0;
    uint32_t disk = 0;  // index in Node::disks
    uint32_t device = 0;
    uint32_t slot = 0;  // in the disk
  };

  LinkState& LinkOf(NodeIndex from, NodeIndex to) { return links_[from * link_stride_ + to]; }
  const LinkState& LinkOf(NodeIndex from, NodeIndex to) const {
    return links_[from * link_stride_ + to];
  }

  void Push(TrueTime time, QueueKind kind, NodeIndex node, uint32_t boot, uint64_t arg);
  void PushInOrder(TrueTime time, QueueKind kind, NodeIndex node, uint32_t boot, uint64_t arg);
  void DispatchNext();
  void Dispatch(const QueuedEvent& event);
  // The running process that the event is for; null when it is gone. Queues the event when the
  // process is paused, and returns null.
  Node* Receiver(const QueuedEvent& event);
  void StepLater(NodeIndex node, TrueTime when, Event event);

  // One step of the role, and its effects.
  void Step(NodeIndex index, const Event& event);
  void Apply(NodeIndex index);
  // False: the node has crashed in the middle.
  bool ApplySends(NodeIndex index);
  bool ApplyDisk(NodeIndex index);
  void ApplyTimers(NodeIndex index);
  void ApplyOpens(NodeIndex index);
  // One send or disk operation more; false when the process dies of it.
  bool CrashPoint(NodeIndex index);
  void Die(NodeIndex index, bool power);
  void Unpause(NodeIndex index);
  void OnTimerEvent(const QueuedEvent& event, Node& node);

  // world_network.cc
  void Dialled(uint32_t slot);
  void Connect(NodeIndex from, const ConnectEffect& effect);
  void SendMessage(NodeIndex from, ConnId conn, wire::Message message);
  void CloseConnection(NodeIndex from, ConnId conn);
  // Puts something on its way to end `to`; drawn delay, in order.
  void Transmit(uint32_t connection, uint8_t to, InFlight::Kind kind, wire::Message message);
  void Arrive(uint32_t slot);
  void Deliver(uint32_t slot);
  void Resend(uint32_t connection, uint8_t to);
  void Notice(uint32_t connection, uint8_t end);
  // From now on messages are lost, in both directions, but for a drawn head of those under way.
  void Break(uint32_t connection);
  void NoticeLater(uint32_t connection, uint8_t end, Duration delay);
  void DisconnectAll(NodeIndex node, bool power);
  void EndOpened(uint32_t connection, uint8_t end);
  void EndClosed(uint32_t connection, uint8_t end);
  bool RecodeMessage(NodeIndex to, wire::Message* message);

  Options options_;
  Choices* choices_;
  PageArena* arena_;
  Stream schedule_;
  WorldFaults faults_;
  PerFault<uint64_t> fired_;
  EventQueue queue_;
  TrueTime now_ = 0;
  RollingHash hash_;
  WorldStats stats_;
  Failure failure_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<LinkState> links_;
  size_t link_stride_ = 0;
  std::vector<Connection> connections_;
  Slab<InFlight> in_flight_;
  Slab<Dial> dials_;
  Slab<PendingStep> pending_steps_;
  Slab<DiskSlot> disk_slots_;
  Slab<std::function<void()>> actions_;
  std::vector<Observer*> observers_;
  Tracer* tracer_ = nullptr;
  Effects effects_;
};

}  // namespace gabion::sim
