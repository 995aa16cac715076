// The event log: everything that a role was told, and a hash of what it answered. Because a role is
// a pure function of its events, a log from production replays in a debugger, step by step.
//
//   log    = magic u64 | label (size u32, bytes) | record ...
//   record = size u32 | CRC32C u32 of the rest | kind u8 | ...
//   kind 1 = an event: boot i64, wall i64, event (event_log.cc), what its reads brought
//   kind 2 = the step's effects: HashEffects u64
//
// The event goes out before the step, so the log of a role that aborts ends with the event that did
// it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/role/role.h"

namespace gabion {

// Where the log goes; the host's. It may buffer, and cut the log off anywhere at its end.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void Write(std::span<const std::byte> bytes) = 0;
};

// Covers all effects, payloads included. Equal effects give equal hashes in every process.
uint64_t HashEffects(const Effects& effects);

// The targets of reads on their way: what a read brought is a part of its event.
class ReadTargets {
 public:
  void OnEffects(const Effects& effects);
  // The slices of this operation, which is over; nothing when it is no read.
  std::vector<Slice> Take(DeviceIndex device, DiskTag tag);

 private:
  std::map<std::pair<DeviceIndex, DiskTag>, std::vector<Slice>> targets_;
};

class EventLogWriter {
 public:
  // `label` is for whoever replays: which role, which options, which build.
  EventLogWriter(std::string_view label, ByteSink& sink);

  // Around every step, in this order. After BeforeStep the writer holds no slice of the event.
  void BeforeStep(const Now& now, const Event& event);
  void AfterStep(const Effects& effects);

 private:
  void Emit();

  ByteSink& sink_;
  ReadTargets reads_;
  std::vector<std::byte> record_;  // being built; keeps its capacity
};

struct ReplayReport {
  uint64_t steps = 0;
  bool cut_off = false;  // the log ends in the middle of a record, or of a step
};

// The label of a log; kCorrupt when the bytes are no event log.
Result<std::string> ReadLabel(std::span<const std::byte> log);

// Feeds the log to `role`, fresh and with the options it had, and compares the effects of each
// step. kConflict: a step answered otherwise (names the step, its event and what came out);
// kCorrupt: a damaged log. `pool` is the role's own, so that it runs short where it did.
Result<ReplayReport> Replay(std::span<const std::byte> log, Role& role, BufferPool& pool);

}  // namespace gabion
