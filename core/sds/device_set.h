// The devices that the configuration gives to this SDS: opened, formatted when new, one store each.
//
//   kWaiting --> kOpening --> kRecovering --> kUp --> kFailed
//      ^            |          |       ^  (nothing there, DEVICE_ADDING)
//      |            v          v       |
//      +------- kBackoff <- kFormatting --> kTesting --> kTested
//
// A device that was up and failed stays failed in this run: its slices were released for good
// (R12). After a write or flush error it is not trusted again, whoever opens it (S3). One that
// vanished, or hangs (it has something to do and completes nothing for `device_timeout`), did not
// lie: the next run may open it, and it may hold the only copy.
//
// A device that is to be tested when it is added is formatted (which refuses what holds
// foreign data), closed, tested without its store, and opened again; or, when only the test was
// wanted, erased. Only a device that the MDM has never seen up, and that holds no replica, is
// tested.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/event.h"
#include "core/sds/config.h"
#include "core/sds/context.h"
#include "core/sds/credits.h"
#include "core/sds/hang_watch.h"
#include "core/sds/ops.h"
#include "core/sds/scan.h"
#include "core/sds/trial.h"
#include "core/store/store.h"

namespace gabion::sds {

struct Device {
  enum class Phase : uint8_t {
    kWaiting,
    kOpening,
    kRecovering,
    kFormatting,
    kTesting,
    kTested,
    kUp,
    kBackoff,
    kFailed,
    kClosing,
    kClosed,
  };

  DeviceConfig config;
  Phase phase = Phase::kWaiting;
  uint32_t slot = 0;
  DeviceIndex index{};  // once opened by the host
  bool host_open = false;
  DeviceInfo info;
  std::string content;  // foreign, as the host found it; empty: none known
  std::unique_ptr<store::Store> store;
  DeviceTrial::Range trial_range;
  std::unique_ptr<DeviceTrial> trial;
  std::optional<TrialFigures> figures;  // of a finished trial in this run
  std::string error;
  bool may_return = false;  // kFailed: only not there now
  Duration retry_pause{};   // of the last retry; doubles
  DeviceCredits credits;
  uint32_t acting = 0;  // replicas with a role in their epoch
  Instant join_next{};  // throttle of joinings: no copy is read before
  Scanner scan;

  bool up() const { return phase == Phase::kUp; }
};

class DeviceSet {
 public:
  // Before registration: what the last run had. Nothing is formatted.
  void OpenKnown(Context& ctx);
  // Every device carries this run's incarnation, or cannot be opened for now (R22).
  bool all_marked() const;
  // Opens what is new, closes what is no longer wanted.
  void Apply(Context& ctx);
  // Null when there is none, or it is not up.
  Device* FindUp(DeviceId id);
  Device* FindAny(DeviceId id);
  const Device* Find(DeviceId id) const;

  void OnOpened(Context& ctx, const DeviceOpenedEvent& event);
  void OnDiskDone(Context& ctx, const DiskDoneEvent& event);
  void OnStoreTimer(Context& ctx, uint32_t slot);
  void OnRetryTimer(Context& ctx, uint32_t slot);
  void OnScanTimer(Context& ctx, uint32_t slot);
  void OnScanOrder(Context& ctx, const proto::ScanOrder& order);
  void OnDone(Context& ctx, const Op& op, store::DoneStatus status);
  // After a step: a store may have failed in any call.
  void FindFailures(Context& ctx);
  // After a step: what it asks of devices.
  void CountStarted(const Effects& effects) { hang_watch_.OnStarted(effects); }
  // At the pace of heartbeats.
  void FindHanging(Context& ctx);

  // Clean stop: closes all stores. True when nothing is left to wait for.
  void CloseAll(Context& ctx);
  bool all_closed() const;

  void AddReports(proto::SdsHeartbeat* heartbeat) const;
  void AddReports(proto::SdsRegister* message) const;

  const absl::btree_map<DeviceId, Device>& devices() const { return devices_; }
  void CheckInvariants() const;

 private:
  void Open(Context& ctx, Device& device);
  void StartStore(Context& ctx, Device& device, bool format);
  void BackOff(Context& ctx, Device& device, std::string error);
  void Close(Context& ctx, Device& device, Device::Phase phase);
  Device* FindSlot(uint32_t slot);
  static void Report(const Device& device, proto::DeviceReport* report);

  // ---- device_set_trial.cc
  static bool WantsTrial(const Device& device);
  void CloseForTrial(Context& ctx, Device& device);
  void StartTrial(Context& ctx, Device& device);
  void OnTrialDiskDone(Context& ctx, Device& device, const DiskDoneEvent& event);

  absl::btree_map<DeviceId, Device> devices_;
  HangWatch hang_watch_;  // of what the host has open
  uint32_t next_slot_ = 1;
};

const char* ToString(Device::Phase phase);

}  // namespace gabion::sds
