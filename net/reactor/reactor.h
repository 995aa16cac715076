// The event loop of one thread: epoll over file descriptors, and one deadline. Level-triggered; a
// handler may add and remove any descriptor, itself included, while events are being delivered.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/result.h"
#include "core/base/time.h"

namespace gabion::net {

class FdHandler {
 public:
  virtual ~FdHandler() = default;
  // `events`: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR as epoll reports them.
  virtual void OnReady(uint32_t events) = 0;
};

// Clocks of this machine: CLOCK_BOOTTIME and CLOCK_REALTIME.
Now ReadClock();

class Reactor {
 public:
  static Result<std::unique_ptr<Reactor>> Create();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  ~Reactor();

  // The descriptor stays the caller's. False: the kernel refused it (errno).
  bool Add(int fd, uint32_t events, FdHandler* handler);
  void Modify(int fd, uint32_t events, FdHandler* handler);
  void Remove(int fd);

  // Waits until something is ready or `deadline` (boot time; kNever: no limit), then calls the
  // handlers of what is ready.
  void Wait(Instant deadline);

 private:
  Reactor() = default;

  struct Entry {
    FdHandler* handler = nullptr;
    uint32_t use = 0;  // events of an earlier use of the descriptor are dropped
  };
  int epoll_fd_ = -1;
  std::vector<Entry> entries_;  // by descriptor
};

}  // namespace gabion::net
