// A few SDS roles on real stores and test disks, with a manager and a client that a test plays.
// Time is virtual, disks answer at once, messages arrive in order.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/role/role.h"
#include "core/sds/sds_role.h"
#include "core/store/test_disk.h"
#include "core/wire/management.h"

namespace gabion::sds {

inline constexpr uint64_t kTestCluster = 77;
inline constexpr uint64_t kTestSlice = 500;
inline constexpr uint64_t kTestVolume = 7;
inline constexpr uint64_t kTestVtree = 70;
inline constexpr uint64_t kTestClient = 9;

class TestCluster {
 public:
  explicit TestCluster(size_t nodes) : TestCluster(std::vector<uint64_t>(nodes, 96 << 20)) {}
  // Sizes of the devices.
  explicit TestCluster(std::vector<uint64_t> disk_bytes);

  // SDS `node` has id node + 1 and one device of id 101 + node.
  static uint64_t DeviceOf(size_t node) { return 101 + node; }
  proto::Member MemberOf(size_t node, bool present = true);

  void Run(Duration duration);
  void Start(size_t node);
  // The process ends; what the disks were doing is lost, what they hold stays.
  void Kill(size_t node);
  void Restart(size_t node);
  // Why the process ended by itself; empty while it has not.
  const std::string& exit_reason(size_t node) const { return nodes_[node].exit_reason; }
  // The state directory as it is, and an old copy put back.
  std::vector<std::byte> StateImage(size_t node) const;
  void PutStateBack(size_t node, const std::vector<std::byte>& image);
  uint64_t incarnation(size_t node) const { return nodes_[node].incarnation; }
  size_t registered_devices(size_t node) const { return nodes_[node].registered_devices; }
  // What the manager says of the node's device from now on; at once when the node is there.
  void SetDevice(size_t node, proto::DeviceState state, proto::DeviceTest test, bool force = false);
  // An empty disk, while the node is down; `content`: what the host sees on it.
  void ReplaceDisk(size_t node, std::string content);
  store::TestDisk& disk(size_t node) { return *nodes_[node].disk; }
  // What its state device is asked for fails from now on.
  void FailState(size_t node) { nodes_[node].state_fails = true; }
  // Sees the disk before each completion of its oldest operation.
  void OnDisk(size_t node, std::function<void(store::TestDisk&)> see) {
    nodes_[node].on_disk = std::move(see);
  }
  // Of its device, in the newest heartbeat.
  const proto::DeviceReport& ReportOf(size_t node) const;
  // Damages every block on the device that is filled with `stamp`; how many.
  size_t Rot(size_t node, uint8_t stamp);
  bool alive(size_t node) const { return nodes_[node].role != nullptr; }
  // Messages between SDSs, to and from this one, wait until it is healed.
  void CutPeers(size_t node, bool cut) { nodes_[node].cut = cut; }
  // What happens to each message between SDSs; false: it is lost. Empty: nothing.
  void Tamper(std::function<bool(wire::Message&)> tamper) { tamper_ = std::move(tamper); }
  // The next grant orders a pass of the scanner over the node's device, or the end of it.
  void OrderScan(size_t node, uint64_t bytes_per_second = uint64_t{1} << 30, bool cancel = false);
  // As the last heartbeat of the node said.
  proto::ScanStatus ScanOf(size_t node) const;
  void SetLease(size_t node, bool granted) { nodes_[node].lease = granted; }

  // Gives everybody alive the slice's configuration. -1: none.
  uint64_t Configure(int primary, int secondary, int joining = -1, bool secondary_present = true,
                     bool release = false);
  void SameReign() { keep_reign_ = true; }
  uint64_t epoch() const { return epoch_; }
  // A new epoch in which the primary (node 0) or the secondary is on a device that nobody has.
  void NameUnknownDevice(size_t node);
  void Unmap();
  // The repository was restored: a full configuration without the slice, which asks for surveys.
  void CloseSlice();
  // What the device of the node said it holds; null: nothing since then.
  const proto::SdsSurvey* SurveyOf(size_t node) const;
  // The node is to forget its replica, unless that has started an epoch above `up_to`.
  void Drop(size_t node, uint64_t up_to);
  void ReplaceClient();

  // The newest report of this kind that the primary sent for the present epoch.
  bool Reported(size_t node, proto::SliceReport::Kind kind) const;
  // That its replica has started this epoch, which the manager does not know (R23).
  bool ReportedAhead(size_t node, uint64_t seen_epoch) const;
  uint64_t DrainedVersion(size_t node) const { return nodes_[node].drained; }
  uint64_t AppliedVersion(size_t node) const { return nodes_[node].version; }

  // ---- The client
  struct Answer {
    wire::Status status{};
    Slice data;
  };
  // Whose hello was answered well.
  ConnId Client(size_t node);
  // Opens the next connection; it is usable when Greeted() says kOk.
  ConnId Connect(size_t node);
  std::optional<wire::Status> Greeted(ConnId conn) const;
  bool Open(ConnId conn) const;
  struct Io {
    uint32_t offset_bytes = 0;
    uint32_t length_bytes = 4096;
    uint64_t request = 0;  // 0: the next
    uint64_t reign = 0;    // 0: the present
    uint32_t chunk = 0;
    wire::EntryKind kind = wire::EntryKind::kWrite;
    uint64_t low_water = 1;
  };
  uint64_t Write(ConnId conn, uint8_t stamp, const Io& io);
  // A whole one, counted from chunk 0 on; there is time for the answer.
  uint64_t WriteExtent(ConnId conn, uint32_t extent, uint8_t stamp);
  uint64_t Read(ConnId conn, const Io& io);
  // Zeroes whole blocks.
  uint64_t Zero(ConnId conn, const Io& io);
  // Asks which blocks of `count` chunks have data, from chunk 0 on.
  uint64_t AskPresence(ConnId conn, uint32_t count = 1, uint64_t reign = 0);
  // Of chunk 0, when the answer has come.
  std::optional<wire::ChunkPresence> PresenceOf(uint64_t tag) const;
  void SendRaw(ConnId conn, wire::Message message);
  const Answer* Find(uint64_t tag) const;
  wire::Status StatusOf(uint64_t tag) const;
  // Every byte of the answer; nothing when they differ.
  std::optional<uint8_t> StampOf(uint64_t tag) const;
  uint64_t last_request() const { return last_request_; }
  uint64_t last_tag() const { return last_tag_; }

  const Node& node(size_t index) const { return nodes_[index].role->node(); }
  const store::Store& StoreOf(size_t index) const;
  std::string Dump() const;
  const std::vector<std::string>& log() const { return log_; }
  bool LogHas(std::string_view text) const;
  BufferPool& pool() { return pool_; }

 private:
  struct Host {
    std::unique_ptr<SdsRole> role;
    std::unique_ptr<store::TestDisk> state;
    std::unique_ptr<store::TestDisk> disk;
    std::map<TimerTag, Instant> timers;
    std::deque<Event> events;
    uint64_t incarnation = 0;
    uint64_t version = 0;
    uint64_t drained = 0;
    ConnId mdm;  // the manager's side of its connection
    bool lease = true;
    bool cut = false;
    proto::SdsHeartbeat heartbeat;
    proto::ScanOrder scan_order;
    bool scan_ordered = false;  // and the node has not said that it was carried out
    bool state_fails = false;
    std::optional<proto::SdsSurvey> survey;
    std::string exit_reason;
    proto::DeviceState device_state = proto::DEVICE_ADDING;
    proto::DeviceTest device_test{};
    bool device_force = false;
    std::string content;
    std::function<void(store::TestDisk&)> on_disk;
    size_t registered_devices = 0;  // that the last registration named
  };
  struct Pipe {
    int from = 0;  // node, or kMdm, or kClient
    int to = 0;
    ConnId peer;
    std::deque<wire::Message> held;
  };
  static constexpr int kMdm = -1;
  static constexpr int kClient = -2;

  static Address AddressOf(int node);
  void Step(size_t node, const Event& event);
  void CarryOut(size_t node, Effects& effects);
  ConnId MakePipe(int from, int to);
  void Deliver(ConnId from_conn, wire::Message message);
  void Break(ConnId conn);
  void OnMdmMessage(size_t node, ConnId conn, const wire::Message& message);
  void ToNode(ConnId mdm_conn, const proto::Management& management);
  void SendFull(size_t node);
  void SendUpdate(proto::ConfigUpdate update);
  bool RunEvents();

  Instant now_{std::chrono::seconds(1)};
  BufferPool pool_{{.bytes_max = size_t{256} << 20}};
  std::vector<Host> nodes_;
  std::map<ConnId, Pipe> pipes_;
  uint64_t last_conn_ = 0;
  proto::SliceConfig slice_;
  uint64_t epoch_ = 0;
  uint64_t reign_ = 0;
  bool keep_reign_ = false;
  bool mapped_ = true;
  bool closed_ = false;
  uint64_t client_incarnation_ = 1;
  uint64_t client_connection_ = 0;
  uint64_t last_tag_ = 0;
  uint64_t last_request_ = 0;
  std::map<ConnId, wire::Status> greetings_;
  std::map<uint64_t, Answer> answers_;
  std::vector<std::string> log_;
  std::function<bool(wire::Message&)> tamper_;
};

}  // namespace gabion::sds
