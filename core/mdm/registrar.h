// Who is there: registrations of SDSs, their heartbeats, and what those report about devices and
// slices. All of it volatile; what must last becomes a command.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/leases.h"
#include "core/mdm/repository.h"
#include "core/mdm/scan_orders.h"
#include "core/mdm/survey.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

// SDSs and SDCs name objects by id, or, the first time, by name.
SdsId FindSdsByName(const Repository& repository, std::string_view name);
SdcId FindSdcByName(const Repository& repository, std::string_view name);

class Registrar {
 public:
  struct Options {
    Duration alive{};  // heard within this: alive (a lease as this clock counts it)
    Duration deaf{};   // an answer that it has not heard after this: it hears nothing
    Duration unreachable{};
  };

  explicit Registrar(const Options& options) : options_(options) {}

  // This manager runs from now on: silence is counted from here.
  void Start(Instant now) { started_at_ = now; }

  struct Verdict {
    std::string error;  // not empty: refused; the reason and the way out
    SdsId sds;
    bool needs_commit = false;  // the incarnation or the addresses are new
    bool superseded = false;    // refused for good: another run has its place
    bool is_new_incarnation = false;
    // R22: it shows the state lock that the last one showed, so that one has ended.
    bool has_same_lock = false;
  };
  Verdict Judge(const Repository& repository, const proto::SdsRegister& request) const;
  // What one of this cluster says of the repository that it has followed before, whether it may
  // register or not.
  void NoteRegistration(const Repository& repository, const proto::SdsRegister& request);

  struct Attached {
    ConnId replaced;          // an older connection, to be closed
    bool must_apply = false;  // first registration of this incarnation in this manager's run
  };
  // The registration is committed.
  Attached Attach(const Repository& repository, SdsId sds, ConnId conn,
                  const proto::SdsRegister& request, Instant now);
  // Its connection is gone. What it reported stays true until its lease is over.
  void Detach(SdsId sds);
  void Forget(SdsId sds);

  // False: not from the connection and incarnation that are registered; ignored. `changed`: the
  // control loops should look again.
  bool OnHeartbeat(const Repository& repository, SdsId sds, ConnId conn,
                   const proto::SdsHeartbeat& heartbeat, Instant now, bool* changed);
  void OnCommitted(const Repository& repository, const Changes& changes);
  // R22: the registered incarnation holds a state lock, and has opened every device that was in use
  // by lower ones. Those that showed the same lock are gone.
  bool ProvesOldGone(const Repository& repository, SdsId sds) const;
  // The SDS was told in this version of its configuration to format the device: what it says about
  // it before it has applied that version is about an earlier attempt.
  void ArmDevice(SdsId sds, DeviceId device, uint64_t config_version);

  // Device outcomes that the repository does not know yet.
  proto::ReportDevices NewOutcomes(const Repository& repository) const;

  ConnId ConnOf(SdsId sds) const;
  bool IsAttached(SdsId sds) const { return ConnOf(sds).valid(); }
  // It has heard an answer not long ago, or there was none to hear. What does not arrive is no
  // grant, and must not keep others from taking over.
  bool Hears(SdsId sds, Instant now) const;
  View MakeView(const Repository& repository, const Leases& leases, Instant now) const;
  // The registered incarnation reports that this epoch has started.
  bool IsOpen(const SliceState& slice) const;
  // Why its SDS cannot use it at present; empty when it can, or has not said.
  std::string ErrorOf(DeviceId device) const;

  // What the device's scanner said last; its last finished pass also from before its SDS restarted
  // (scan_orders.h).
  proto::ScanStatus ScanOf(DeviceId device) const;
  void OrderScan(DeviceId device, uint64_t bytes_per_second, bool cancel);
  void AddScanOrders(SdsId sds, proto::SdsGrant* grant) const;

  // Not empty: somebody has followed a newer repository than this one (R23), or an operator says
  // so; the reason and the way out. The first reason stays.
  const std::string& outdated() const { return outdated_; }
  void NoteOutdated(std::string why);
  // The highest generation that anybody has shown.
  uint64_t generation_seen() const { return generation_seen_; }

  // R23: what an SDS that is up holds, in its present incarnation. False: ignored.
  bool OnSurvey(const Repository& repository, SdsId sds, ConnId conn,
                const proto::SdsSurvey& report);
  const Survey& survey() const { return survey_; }
  // Devices of that SDS that the repository does not know, because it is a restored one.
  std::vector<proto::Device> LostDevices(const Repository& repository, SdsId sds) const;
  void NoteLostSdc(const std::string& name, SdcId id) { lost_sdcs_[name] = id; }

  // A report that nobody sent for this epoch and these incarnations (R20).
  uint64_t stale_reports() const { return stale_reports_; }
  std::string Dump(Instant now) const;
  uint64_t StateHash() const;

 private:
  struct DeviceSeen {
    proto::DeviceReport report;
    // It was reported down or failed while slices named it in this incarnation; those are released
    // (R12) until each has a newer epoch.
    bool released = false;
    uint64_t ignored_before = 0;  // configuration version; see ArmDevice
  };
  struct Session {
    ConnId conn;
    Incarnation incarnation;
    bool has_state_lock = false;
    Instant attached_at;
    Instant heard_at;
    // The oldest answer that it has not confirmed to have heard: of this heartbeat, at that time.
    uint64_t unheard_number = 0;
    Instant unheard_since = kNever;
    absl::btree_map<DeviceId, DeviceSeen> devices;
    absl::btree_map<DeviceId, proto::DeviceReport> lost_devices;  // as registered
    std::vector<proto::SliceReport> reports;  // of the last heartbeat, progress left out
    // What a report cannot withdraw, and since when a member has been asked for.
    absl::btree_map<SliceId, Epoch> released;
    absl::btree_map<SliceId, Epoch> open;
    absl::btree_map<SliceId, std::pair<Epoch, Instant>> needed_since;
  };

  void OnDeviceReports(const Repository& repository, SdsId sds, Session& session,
                       const google::protobuf::RepeatedPtrField<proto::DeviceReport>& reports,
                       uint64_t applied_version, bool* changed);
  void NoteAhead(const Repository& repository, SdsId sds, const proto::SliceReport& report);
  bool IsNamed(const Repository& repository, const Session& session, DeviceId device) const;
  // Null: its SDS is not there, or has not reported it.
  const proto::DeviceReport* ReportOf(DeviceId device) const;
  void AddFacts(const Repository& repository, SdsId sds, const Session& session, View& view) const;

  Options options_;
  absl::btree_map<SdsId, Session> sessions_;
  Instant started_at_;
  // (who waits for a member, on which SDS) -> when that was said last. A complaint outlives the
  // epoch that answers it: others who are about to complain may owe it to the same fault.
  absl::btree_map<std::pair<SdsId, SdsId>, Instant> accusations_;
  ScanOrders scans_;
  uint64_t stale_reports_ = 0;
  std::string outdated_;
  uint64_t generation_seen_ = 0;
  Survey survey_;
  absl::btree_map<std::string, SdsId> lost_sdss_;
  absl::btree_map<std::string, SdcId> lost_sdcs_;
};

}  // namespace gabion::mdm
