// The production host: one thread that feeds a role with what sockets, disks, timers and the front
// end report, and carries out its effects. The simulator is the other host (sim/world).
//
// One turn of the loop: wait; take everything that has happened; step the role once per event; then
// one io_submit for all disk effects and one writev per peer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/role/role.h"
#include "disk/aio/aio.h"
#include "net/export/front_end.h"
#include "net/reactor/reactor.h"
#include "net/tcp/transport.h"

namespace gabion::daemon {

struct HostCounters {
  uint64_t turns = 0;
  uint64_t events = 0;
};

// Exit code: another process has this one's place; starting it again would take it back.
inline constexpr int kExitForGood = 4;

class Host {
 public:
  using Log = std::function<void(Severity, const std::string&)>;
  // Called once, after the listeners are bound (`listening`: real ports).
  using RoleFactory = std::function<std::unique_ptr<Role>(const RoleResources&,
                                                          const std::vector<Address>& listening)>;

  struct Options {
    std::vector<Address> listen;                     // port 0: a free one
    std::string state_path;                          // file of the state device
    uint64_t state_bytes = uint64_t{64} << 20;       // when it has to be made
    uint64_t memory_max_bytes = uint64_t{48} << 20;  // payload buffers
    uint32_t disk_depth = 512;
    Log log;
    // Told when a clean stop begins, and every `alive_interval` while the loop turns.
    std::function<void()> on_stopping;
    std::function<void()> on_alive;
    Duration alive_interval{0};  // 0: never
  };

  static Result<std::unique_ptr<Host>> Create(const Options& options, const RoleFactory& make_role);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Before Run. `front_end` is the caller's.
  void SetFrontEnd(net::FrontEnd* front_end) { front_end_ = front_end; }

  // Until the role exits. SIGTERM and SIGINT ask it to; a second one ends at once. Returns the
  // process exit code: 0 after a clean exit, 1 with the reason logged.
  int Run();

  net::Reactor& reactor() { return *reactor_; }
  BufferPool& pool() { return pool_; }
  const Role& role() const { return *role_; }
  const std::vector<Address>& listening() const { return listening_; }
  const net::Transport::Counters& transport_counters() const { return transport_->counters(); }
  const disk::AioDisks::Counters& disk_counters() const { return disks_->counters(); }
  const HostCounters& counters() const { return counters_; }

 private:
  class Signals;
  class DiskReady;

  struct TimerEntry {
    Instant when;
    uint64_t order;  // equal instants fire in the order they were set
    TimerTag tag;
    bool operator>(const TimerEntry& other) const {
      return std::pair(when, order) > std::pair(other.when, other.order);
    }
  };

  explicit Host(const Options& options);
  Result<void> Start(const RoleFactory& make_role);
  void Turn();
  void Step(const Now& now, const Event& event);
  void CarryOut();
  void SetTimer(const TimerEffect& timer);
  bool IsCurrent(const TimerEntry& timer) const;
  void PopTimer();
  Instant NextTimer();
  void TellAlive(Instant now);
  void OpenDevice(const OpenDeviceEffect& open);
  void Stop();

  Options options_;
  BufferPool pool_;
  std::unique_ptr<net::Reactor> reactor_;
  std::unique_ptr<disk::AioDisks> disks_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Signals> signals_;
  std::unique_ptr<DiskReady> disk_ready_;
  net::FrontEnd* front_end_ = nullptr;
  std::vector<Address> listening_;
  DeviceInfo state_device_;
  std::unique_ptr<Role> role_;

  Effects effects_;
  std::vector<Event> pending_;  // to be stepped this turn, or (made while stepping) the next
  std::vector<Event> batch_;
  std::vector<DiskDoneEvent> disk_done_;
  std::vector<TimerEntry> timers_;  // a heap, the next one in front; some are out of date
  absl::flat_hash_map<TimerTag, uint64_t> timer_orders_;  // the order that counts, by tag
  uint64_t last_order_ = 0;
  Instant alive_at_ = kNever;  // when to tell so next
  bool stopping_ = false;
  bool exiting_ = false;
  int exit_code_ = 0;
  HostCounters counters_;
};

}  // namespace gabion::daemon
