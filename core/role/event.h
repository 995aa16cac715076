// What a host tells a role. One event, one Step(), run to completion (ARCHITECTURE.md, "The one
// idea").
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/wire/message.h"

namespace gabion {

// Devices as the host numbers them. 0 is the node's state device: a small file in the state
// directory that holds what the role must remember besides its disks.
enum class DeviceIndex : uint32_t { kState = 0 };

// Opaque numbers that a role hands out and gets back.
using DiskTag = uint64_t;
using TimerTag = uint64_t;
using DialTag = uint64_t;
using UserTag = uint64_t;

enum class DiskStatus : uint8_t {
  kOk,
  kIoError,     // this operation failed; what a write left behind is unknown
  kDeviceGone,  // the device is closed or vanished; nothing on it works any more
};

struct DeviceInfo {
  uint64_t size_bytes = 0;
  uint32_t block_bytes = 512;  // alignment that reads and writes need: 512 or 4096
  bool volatile_cache = true;  // writes need kDurable or a Flush to survive a power cut
  bool discard = false;
};

// First event of every run. `device` describes the state device.
struct StartEvent {
  DeviceInfo state_device;
};
// A connection exists. Dialled by us: `dial` is the tag given to Connect; accepted: dial == 0.
struct ConnectedEvent {
  ConnId conn;
  DialTag dial = 0;
  Address peer;
};
// A dial failed; there is no connection.
struct ConnectFailedEvent {
  DialTag dial = 0;
};
// The connection is gone, by the peer, the network or our own Close (which also gives this event).
// An unknown tail of what was sent may not have arrived.
struct DisconnectedEvent {
  ConnId conn;
};
struct MessageEvent {
  ConnId conn;
  wire::Message message;
};
struct DiskDoneEvent {
  DeviceIndex device{};
  DiskTag tag = 0;
  DiskStatus status{};
};
struct DeviceOpenedEvent {  // answer to OpenDevice
  DiskTag tag = 0;
  bool ok = false;
  DeviceIndex device{};
  DeviceInfo info;
  std::string content;  // foreign data that the host knows, for a person: "an ext4 file system"
  std::string error;    // when !ok: reason for a person, with the path
};
struct TimerEvent {
  TimerTag tag = 0;
};

// Block I/O from the host's front end (NBD, kernel bridge, simulated workload) to an SDC role.
// kAttach finds the volume by `volume`, or by `name` when that is 0. kList needs neither.
// kBlockStatus asks which blocks of a range have data.
enum class UserOp : uint8_t {
  kAttach,
  kDetach,
  kRead,
  kWrite,
  kFlush,
  kTrim,
  kWriteZeroes,
  kList,
  kBlockStatus
};
struct UserRequestEvent {
  UserTag tag = 0;
  UserOp op{};
  VolumeId volume{};
  uint64_t offset_bytes = 0;  // sector-aligned
  uint64_t length_bytes = 0;
  Slice payload{};     // kWrite: the data
  std::string name{};  // kAttach: of the volume, when `volume` is 0
};

// Clean shutdown: finish or refuse what is open, hand the lease back, then Effects::Exit().
struct StopEvent {};

using Event =
    std::variant<StartEvent, ConnectedEvent, ConnectFailedEvent, DisconnectedEvent, MessageEvent,
                 DiskDoneEvent, DeviceOpenedEvent, TimerEvent, UserRequestEvent, StopEvent>;

}  // namespace gabion
