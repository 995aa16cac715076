// What a role asks of its host. A step appends; the host carries out and clears. Order between
// lists is free, inside a list it is kept: messages of one connection leave in order, and a Close
// comes after every Send before it. What must be durable first waits for its DiskDone in the role.
//
// The vectors keep their capacity, so a warmed-up role allocates nothing here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/time.h"
#include "core/role/event.h"
#include "core/wire/message.h"

namespace gabion {

enum class Severity : uint8_t { kDebug, kInfo, kWarning, kError, kCritical };

enum class DiskOp : uint8_t { kRead, kWrite, kDurableWrite, kFlush, kDiscard };

struct DiskEffect {
  DeviceIndex device{};
  DiskOp op{};
  uint64_t offset_bytes = 0;  // aligned to the device's block
  uint64_t length_bytes = 0;
  uint32_t slice_begin = 0;  // range of Effects::slices: source of a write, target of a read
  uint32_t slice_count = 0;
  DiskTag tag = 0;
};

struct SendEffect {
  ConnId conn;
  wire::Message message;
};
struct ConnectEffect {
  DialTag dial = 0;
  Address address;
};
struct TimerEffect {
  TimerTag tag = 0;
  Instant when;  // kNever cancels
};
struct OpenDeviceEffect {
  DiskTag tag = 0;
  std::string path;
};

// error: 0, or an errno of the block layer: EIO, ENOSPC, EINVAL, ENODEV (not mapped or unknown),
// EROFS, EBUSY (too many requests at once), ESHUTDOWN (the role is stopping).
struct UserReplyEffect {
  UserTag tag = 0;
  int error = 0;
  // kRead: the data; kList: the names of mapped volumes, each ended by \n; kBlockStatus: one
  // wire::ChunkPresence for each chunk that the range touches.
  Slice payload{};
  VolumeId volume{};        // kAttach
  uint64_t size_bytes = 0;  // kAttach: size of the volume now
  bool read_only = false;   // kAttach
};
// The size or mapping of an attached volume changed (grow, unmap: size 0).
struct UserNoticeEffect {
  VolumeId volume;
  uint64_t size_bytes = 0;
};
struct LogEffect {
  Severity severity{};
  std::string text;
};

// A connection's outgoing messages and its Close share one ordered list.
struct Effects {
  std::vector<SendEffect> sends;
  std::vector<ConnectEffect> connects;
  std::vector<ConnId> closes;  // after all sends of this step; the peer gets what was sent
  std::vector<DiskEffect> disk;
  std::vector<Slice> slices;
  std::vector<OpenDeviceEffect> opens;
  std::vector<DeviceIndex> device_closes;
  std::vector<TimerEffect> timers;
  std::vector<UserReplyEffect> replies;
  std::vector<UserNoticeEffect> notices;
  std::vector<LogEffect> logs;
  bool exit = false;        // the role is done: clean shutdown, or it must not go on
  std::string exit_reason;  // empty: clean
  // Started again at once it would do harm: a person must look first.
  bool exit_for_good = false;

  void Send(ConnId conn, wire::Body body, Slice payload = {});
  void Connect(DialTag dial, const Address& address);
  void Close(ConnId conn);
  void Read(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> into, DiskTag tag);
  void Write(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> from, DiskTag tag);
  void DurableWrite(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> from,
                    DiskTag tag);
  void Flush(DeviceIndex device, DiskTag tag);
  void Discard(DeviceIndex device, uint64_t offset_bytes, uint64_t length_bytes, DiskTag tag);
  void OpenDevice(DiskTag tag, std::string path);
  void CloseDevice(DeviceIndex device);
  void SetTimer(TimerTag tag, Instant when);  // one-shot; the same tag replaces
  void CancelTimer(TimerTag tag);
  void Reply(UserReplyEffect reply);
  void Log(Severity severity, std::string text);
  void Exit(std::string reason, bool for_good = false);

  void Clear();  // keeps capacity
  bool empty() const;
};

}  // namespace gabion
