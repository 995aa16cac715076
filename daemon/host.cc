#include "daemon/host.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

#include "core/base/check.h"
#include "disk/aio/content.h"

namespace gabion::daemon {

class Host::Signals : public net::FdHandler {
 public:
  explicit Signals(Host* host) : host_(host) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    fd_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~Signals() override {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  void OnReady(uint32_t) override {
    signalfd_siginfo info;
    while (::read(fd_, &info, sizeof(info)) == sizeof(info)) host_->Stop();
  }

 private:
  Host* host_;
  int fd_ = -1;
};

class Host::DiskReady : public net::FdHandler {
 public:
  explicit DiskReady(Host* host) : host_(host) {}
  void OnReady(uint32_t) override { host_->disks_->Collect(host_->disk_done_); }

 private:
  Host* host_;
};

Host::Host(const Options& options)
    : options_(options), pool_({.bytes_max = options.memory_max_bytes}) {}

Host::~Host() = default;

Result<std::unique_ptr<Host>> Host::Create(const Options& options, const RoleFactory& make_role) {
  std::unique_ptr<Host> host(new Host(options));
  if (Result<void> started = host->Start(make_role); !started) {
    return tl::unexpected(started.error());
  }
  return host;
}

Result<void> Host::Start(const RoleFactory& make_role) {
  ::signal(SIGPIPE, SIG_IGN);
  Result<std::unique_ptr<net::Reactor>> reactor = net::Reactor::Create();
  if (!reactor) return tl::unexpected(reactor.error());
  reactor_ = std::move(*reactor);

  Result<std::unique_ptr<disk::AioDisks>> disks =
      disk::AioDisks::Create({.depth = options_.disk_depth});
  if (!disks) return tl::unexpected(disks.error());
  disks_ = std::move(*disks);
  disk_ready_ = std::make_unique<DiskReady>(this);
  Result<DeviceInfo> state =
      disks_->Open(DeviceIndex::kState, options_.state_path, options_.state_bytes);
  if (!state) return tl::unexpected(state.error());
  state_device_ = *state;

  // What is queued is in our buffers already: a limit below theirs would only cut links.
  const net::Transport::Options transport{.queue_bytes_max =
                                              std::max(net::Transport::Options().queue_bytes_max,
                                                       2 * uint64_t{options_.memory_max_bytes})};
  transport_ = std::make_unique<net::Transport>(reactor_.get(), &pool_, transport, options_.log);
  for (const Address& address : options_.listen) {
    Result<Address> bound = transport_->Listen(address);
    if (!bound) return tl::unexpected(bound.error());
    listening_.push_back(*bound);
  }
  signals_ = std::make_unique<Signals>(this);
  if (signals_->fd() < 0 || !reactor_->Add(signals_->fd(), EPOLLIN, signals_.get()) ||
      !reactor_->Add(disks_->event_fd(), EPOLLIN, disk_ready_.get())) {
    return Err(ErrorCode::kLimit, "event descriptors: %s; raise the limit of open files",
               std::strerror(errno));
  }
  role_ = make_role({.pool = &pool_}, listening_);
  return {};
}

void Host::Stop() {
  if (stopping_) {
    options_.log(Severity::kWarning, "second signal: ending at once");
    exiting_ = true;
    exit_code_ = 1;
    return;
  }
  stopping_ = true;
  options_.log(Severity::kInfo, "asked to stop");
  if (options_.on_stopping) options_.on_stopping();
  if (front_end_ != nullptr) front_end_->Shutdown();
  pending_.push_back(StopEvent{});
}

int Host::Run() {
  pending_.push_back(StartEvent{state_device_});
  if (options_.on_alive && options_.alive_interval.count() > 0) alive_at_ = Instant{};
  while (!exiting_) Turn();
  return exit_code_;
}

void Host::Turn() {
  ++counters_.turns;
  const bool wait = pending_.empty() && !disks_->has_immediate() &&
                    (front_end_ == nullptr || !front_end_->has_requests());
  reactor_->Wait(wait ? std::min(NextTimer(), alive_at_) : Instant{});
  if (disks_->has_immediate()) disks_->Collect(disk_done_);

  batch_.clear();
  batch_.swap(pending_);
  for (const DiskDoneEvent& done : disk_done_) batch_.push_back(done);
  disk_done_.clear();
  transport_->TakeEvents(batch_);
  if (front_end_ != nullptr) front_end_->TakeRequests(batch_);
  const Now now = net::ReadClock();
  if (now.boot >= alive_at_) TellAlive(now.boot);
  while (NextTimer() <= now.boot) {
    const TimerTag tag = timers_.front().tag;
    PopTimer();
    timer_orders_.erase(tag);
    batch_.push_back(TimerEvent{tag});
  }
  for (const Event& event : batch_) {
    Step(now, event);
    if (exiting_) break;
  }
  batch_.clear();  // lets go of payloads
  disks_->Submit();
  transport_->Flush();
  if (front_end_ != nullptr) front_end_->EndTurn();
  transport_->Resume();
}

void Host::Step(const Now& now, const Event& event) {
  ++counters_.events;
  role_->Step(now, event, effects_);
  CarryOut();
  effects_.Clear();
}

void Host::CarryOut() {
  for (const LogEffect& log : effects_.logs) options_.log(log.severity, log.text);
  for (const TimerEffect& timer : effects_.timers) SetTimer(timer);
  for (const SendEffect& send : effects_.sends) transport_->Send(send.conn, send.message);
  for (const ConnectEffect& connect : effects_.connects) {
    transport_->Connect(connect.dial, connect.address);
  }
  for (const ConnId conn : effects_.closes) transport_->Close(conn);
  for (const DiskEffect& effect : effects_.disk) {
    disks_->Queue(effect,
                  std::span(effects_.slices).subspan(effect.slice_begin, effect.slice_count));
  }
  for (const OpenDeviceEffect& open : effects_.opens) OpenDevice(open);
  for (const DeviceIndex device : effects_.device_closes) disks_->Close(device);
  if (front_end_ != nullptr) {
    for (const UserReplyEffect& reply : effects_.replies) front_end_->OnReply(reply);
    for (const UserNoticeEffect& notice : effects_.notices) front_end_->OnNotice(notice);
  }
  if (effects_.exit) {
    exiting_ = true;
    if (!effects_.exit_reason.empty()) {
      options_.log(Severity::kCritical, effects_.exit_reason);
      exit_code_ = effects_.exit_for_good ? kExitForGood : 1;
    }
  }
}

void Host::SetTimer(const TimerEffect& timer) {
  if (timer.when == kNever) {
    timer_orders_.erase(timer.tag);
    return;
  }
  const uint64_t order = ++last_order_;
  timer_orders_[timer.tag] = order;
  // A timer that is put off with every request leaves one entry behind each time.
  if (timers_.size() > 2 * timer_orders_.size() + 64) {
    std::erase_if(timers_, [this](const TimerEntry& entry) { return !IsCurrent(entry); });
    std::make_heap(timers_.begin(), timers_.end(), std::greater<>());
  }
  timers_.push_back({timer.when, order, timer.tag});
  std::push_heap(timers_.begin(), timers_.end(), std::greater<>());
}

bool Host::IsCurrent(const TimerEntry& timer) const {
  const auto current = timer_orders_.find(timer.tag);
  return current != timer_orders_.end() && current->second == timer.order;
}

void Host::PopTimer() {
  std::pop_heap(timers_.begin(), timers_.end(), std::greater<>());
  timers_.pop_back();
}

Instant Host::NextTimer() {
  while (!timers_.empty() && !IsCurrent(timers_.front())) PopTimer();
  return timers_.empty() ? kNever : timers_.front().when;
}

void Host::TellAlive(Instant now) {
  options_.on_alive();
  alive_at_ = SaturatingAdd(now, options_.alive_interval);
}

void Host::OpenDevice(const OpenDeviceEffect& open) {
  const DeviceIndex index = disks_->FreeIndex();
  Result<DeviceInfo> info = disks_->Open(index, open.path);
  DeviceOpenedEvent event;
  event.tag = open.tag;
  event.ok = info.has_value();
  if (info) {
    event.device = index;
    event.info = *info;
    event.content = disk::DescribeContent(open.path);
  } else {
    event.error = info.error().message;
  }
  pending_.push_back(std::move(event));
}

}  // namespace gabion::daemon
