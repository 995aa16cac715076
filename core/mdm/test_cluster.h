// For tests: a real MDM role on a test disk, with model SDSs and clients around it. The model SDSs
// follow docs/roles.md with one register per slice instead of data, each on its own drifting clock,
// and check what no epoch may break: one primary at a time, and no acknowledged value lost.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/random.h"
#include "core/mdm/mdm.h"
#include "core/store/test_disk.h"
#include "core/wire/management.pb.h"

namespace gabion::mdm {

struct ModelDevice {
  std::string path;
  proto::DeviceState state = proto::DEVICE_UP;  // what its SDS says of it
  bool tested = false;                          // and that it was tested
  bool spoiled = false;                         // a replica it holds cannot be built upon
  uint64_t log_position = 0;
  proto::ScanStatus scan;  // a pass is finished as soon as it is ordered
  uint64_t scans = 0;
  std::map<uint64_t, uint64_t> values;  // by slice: the newest value held, committed or not
  std::map<uint64_t, proto::RecordedReplica> recorded;  // by slice: the newest epoch started (R23)
};

struct ModelSds {
  std::string name;
  uint64_t id = 0;
  uint64_t cluster = 0;  // learnt with the id
  uint64_t incarnation = 0;
  bool running = false;
  bool paused = false;  // the process is frozen; its connection stays
  std::string state_lock = "lock";
  uint64_t run = 0;
  bool obeys = true;   // applies its configuration
  bool deaf = false;   // what the MDM says does not arrive
  bool keeps = false;  // does not release what it is asked to release
  bool drops = true;   // its devices are up, so that it can forget replicas
  int64_t drift_permille = 0;

  ConnId conn;
  bool connected = false;
  bool registered = false;
  bool superseded = false;
  std::string error;
  uint64_t generation = 0;     // highest seen
  bool names_devices = false;  // when it registers, as one does that remembers them
  bool survey_due = false;
  uint64_t applied = 0;
  uint64_t drained = 0;
  uint64_t heartbeat = 0;
  uint64_t heard = 0;
  std::map<uint64_t, int64_t> sent_at;  // heartbeat -> own clock, ns
  int64_t lease_end = -1;               // own clock, ns
  uint64_t lease_of = 0;                // heartbeat of the lease
  Instant next_heartbeat;
  std::map<uint64_t, proto::SliceConfig> slices;
  std::map<uint64_t, uint64_t> started;  // primary: epoch that it has started, by slice
  std::map<uint64_t, uint64_t> needs;    // primary: epoch in which a member is needed
  std::map<uint64_t, uint64_t> joined;   // primary: epoch in which its join is complete
  // Epoch up to which the slice is released in this incarnation, because its device was given up,
  // or because it was asked to.
  std::map<uint64_t, uint64_t> released;
  std::vector<uint64_t> devices_of_config;
  std::set<std::pair<uint64_t, uint64_t>> undropped;  // slice, device
};

wire::Hello HelloOf(wire::PeerRole role);

class TestCluster {
 public:
  explicit TestCluster(const Options& options = Options(), uint64_t seed = 1);

  // ---- The world -------------------------------------------------------------------------------
  void AddSds(const std::string& name);  // its process runs at once, and registers when it is known
  void Kill(size_t sds);
  void StartSds(size_t sds);
  void HandBack(size_t sds);
  void Disconnect(size_t sds);  // the network: it dials again at once
  void CutOff(size_t sds, bool cut);
  void CrashMdm(bool power_cut);
  // The MDM's state device as it is; and a crash after which it is as it was.
  std::vector<std::byte> MdmBackup() const;
  void RestoreMdm(const std::vector<std::byte>& backup, bool hold);
  void Advance(Duration duration);
  // Everything that is under way arrives.
  void Settle();
  // Writes a new value to every slice that can be written now; counts those acknowledged.
  size_t WriteAll();

  // ---- Administration --------------------------------------------------------------------------
  // Sends and runs until answered, for at most 40 s. Unanswered: nothing.
  std::optional<proto::AdminReply> Admin(proto::AdminRequest request);
  proto::AdminRequest Request();
  void MustSdsAdd(const std::string& name, const std::string& fault_set = "");
  void MustPoolAdd(const std::string& name, uint32_t slice_count);
  uint64_t MustDeviceAdd(const std::string& sds, const std::string& pool, const std::string& path);
  uint64_t MustVolumeCreate(const std::string& name, const std::string& pool, uint64_t size_bytes);
  void MustSdcAdd(const std::string& name);
  proto::AdminRequest MapRequest(const std::string& sdc);  // of volume "vol"
  proto::ClusterStatus Status(bool slices = false);
  // SDSs sds1..n with one device each in pool "pool", and a volume "vol".
  void Build(size_t sds_count, uint32_t slice_count);
  // R23: the administrator says that this repository is the newest there is.
  std::optional<proto::AdminReply> AcceptOlderRepository();

  // ---- A client --------------------------------------------------------------------------------
  // Connects, greets and registers; a newer call replaces.
  ConnId ConnectSdc(const std::string& name, uint64_t incarnation);
  std::vector<proto::Management> TakeMessages(ConnId conn);
  bool IsOpen(ConnId conn) const;

  ModelSds& sds(size_t index) { return sdss_[index]; }
  size_t sds_count() const { return sdss_.size(); }
  ModelDevice& device(uint64_t id) { return devices_[id]; }
  Role& mdm() { return *mdm_; }
  Instant now() const { return now_; }
  bool hold_disk = false;  // the MDM's disk answers nothing
  int64_t mdm_drift_permille = 0;

  ConnId Connect(const wire::Hello& hello);
  void SendToMdm(ConnId conn, const proto::Management& management, uint64_t tag = 0);
  void SendRaw(ConnId conn, wire::Message message);

 private:
  struct Conn {
    bool open = true;
    bool greeted = false;
    size_t sds = SIZE_MAX;
    std::deque<proto::Management> received;
  };

  void StartMdm();
  void StepMdm(const Event& event);
  void Deliver(ConnId conn, const wire::Message& message);
  void Close(ConnId conn);
  void RunSds(size_t index);
  void OnConfig(ModelSds& sds, const proto::ConfigUpdate& update);
  void OpenEpochs(ModelSds& sds);
  void SendHeartbeat(ModelSds& sds, bool hand_back);
  void Record(const proto::SliceConfig& slice, uint64_t device);
  int64_t Clock(const ModelSds& sds) const;
  bool HasLease(const ModelSds& sds) const;
  ModelSds* Acting(const proto::SliceConfig& slice, const proto::Member& member);
  Instant MdmNow() const;
  bool IsServing(ModelSds& sds, const proto::SliceConfig& slice);
  void CheckSinglePrimary();

  Options options_;
  BufferPool pool_;
  RandomStream random_;
  store::TestDisk disk_;
  std::unique_ptr<Role> mdm_;
  Instant now_;
  Instant timer_ = kNever;
  uint64_t next_conn_ = 1;
  uint64_t next_request_ = 1;
  std::map<uint64_t, Conn> conns_;
  std::vector<ModelSds> sdss_;
  std::map<size_t, bool> cut_;
  std::map<uint64_t, ModelDevice> devices_;
  std::map<uint64_t, uint64_t> acknowledged_;  // by slice
  uint64_t next_value_ = 1;
};

}  // namespace gabion::mdm
