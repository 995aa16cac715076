// A node of a world: a machine with clocks and disks, and at most one process on it, which runs a
// role. The machine outlives the process.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/role/role.h"
#include "sim/world/disk.h"
#include "sim/world/event_queue.h"

namespace gabion::sim {

// True time -> what the node's clocks show.
struct NodeClock {
  int64_t boot_offset = 0;  // ns; changes when the machine is powered on anew
  int64_t drift_ppm = 0;    // +-10,000 is the 1 % that leases assume
  int64_t wall_offset = 0;

  Instant Boot(TrueTime now) const {
    return Instant(Duration(boot_offset + now + now / 1'000'000 * drift_ppm +
                            now % 1'000'000 * drift_ppm / 1'000'000));
  }
  WallTime Wall(TrueTime now) const { return WallTime(Duration(wall_offset + now)); }
  // The first true time at which Boot() is at least `when`; `when` is not kNever.
  TrueTime TrueTimeOf(Instant when) const;
};

struct NodeOptions {
  std::string name;
  Address address;  // where it listens; not valid: nowhere
  NodeClock clock;
  Disk::Options state_device;
  // A new process. Called at every start; the resources live as long as the node.
  std::function<std::unique_ptr<Role>(const RoleResources&)> make_role;
};

struct Timer {
  Instant when = kNever;
  uint32_t version = 0;  // of the queued event that counts
};

struct Node {
  struct NamedDisk {
    std::string path;  // empty: the state device
    std::unique_ptr<Disk> disk;
  };

  NodeOptions options;
  NodeClock clock;
  std::unique_ptr<BufferPool> pool;
  std::vector<NamedDisk> disks;

  // The process; null when none runs.
  std::unique_ptr<Role> role;
  uint32_t boot = 0;             // counts processes
  bool powered = true;           // false between a power cut and the next start
  std::vector<int32_t> devices;  // DeviceIndex -> index in `disks`; -1: closed
  std::map<TimerTag, uint32_t> timer_slots;
  std::vector<Timer> timers;
  std::vector<TimerTag> timer_tags;
  std::vector<uint32_t> connections;  // open ones: 2 * connection + end, in order of opening
  bool paused = false;
  std::vector<QueuedEvent> while_paused;
  uint32_t crash_countdown = 0;  // 0: not armed
  bool crash_power = false;
  uint32_t countdown_when_dirty = 0;  // 0: not armed
  uint64_t steps = 0;
  TrueTime last_step_time = -1;
  uint32_t steps_at_instant = 0;
};

}  // namespace gabion::sim
