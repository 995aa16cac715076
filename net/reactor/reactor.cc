#include "net/reactor/reactor.h"

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "core/base/check.h"

namespace gabion::net {
namespace {

constexpr int kEventsMax = 128;

Duration Read(clockid_t clock) {
  timespec now{};
  CHECK_EQ(::clock_gettime(clock, &now), 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// A deadline that has passed gives 0; one in the future never less than what is left, or the loop
// would spin through the last millisecond.
timespec UntilDeadline(Instant deadline) {
  const Duration left = deadline - Instant(Read(CLOCK_BOOTTIME));
  if (left <= Duration::zero()) return {};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((left - seconds).count())};
}

}  // namespace

Now ReadClock() { return {Instant(Read(CLOCK_BOOTTIME)), WallTime(Read(CLOCK_REALTIME))}; }

Result<std::unique_ptr<Reactor>> Reactor::Create() {
  std::unique_ptr<Reactor> reactor(new Reactor());
  reactor->epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (reactor->epoll_fd_ < 0) {
    return Err(ErrorCode::kLimit, "epoll_create1: %s", std::strerror(errno));
  }
  return reactor;
}

Reactor::~Reactor() {
  if (epoll_fd_ >= 0) ::close(epoll_fd_);
}

bool Reactor::Add(int fd, uint32_t events, FdHandler* handler) {
  CHECK_GE(fd, 0);
  const auto index = static_cast<size_t>(fd);
  if (entries_.size() <= index) entries_.resize(index + 1);
  Entry& entry = entries_[index];
  CHECK(entry.handler == nullptr);
  epoll_event event{};
  event.events = events;
  event.data.u64 = (uint64_t{++entry.use} << 32) | static_cast<uint32_t>(fd);
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  entry.handler = handler;
  return true;
}

void Reactor::Modify(int fd, uint32_t events, FdHandler* handler) {
  Entry& entry = entries_[static_cast<size_t>(fd)];
  CHECK(entry.handler != nullptr);
  entry.handler = handler;
  epoll_event event{};
  event.events = events;
  event.data.u64 = (uint64_t{entry.use} << 32) | static_cast<uint32_t>(fd);
  CHECK_EQ(::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event), 0);
}

void Reactor::Remove(int fd) {
  Entry& entry = entries_[static_cast<size_t>(fd)];
  CHECK(entry.handler != nullptr);
  entry.handler = nullptr;
  CHECK_EQ(::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr), 0);
}

void Reactor::Wait(Instant deadline) {
  std::array<epoll_event, kEventsMax> events;
  timespec left{};
  if (deadline != kNever) left = UntilDeadline(deadline);
  const int ready = ::epoll_pwait2(epoll_fd_, events.data(), kEventsMax,
                                   deadline == kNever ? nullptr : &left, nullptr);
  if (ready < 0) {
    CHECK_EQ(errno, EINTR);
    return;
  }
  for (int i = 0; i < ready; ++i) {
    const uint64_t data = events[static_cast<size_t>(i)].data.u64;
    const auto fd = static_cast<uint32_t>(data);
    const Entry entry = entries_[fd];
    if (entry.handler == nullptr || entry.use != static_cast<uint32_t>(data >> 32)) continue;
    entry.handler->OnReady(events[static_cast<size_t>(i)].events);
  }
}

}  // namespace gabion::net
