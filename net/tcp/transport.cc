#include "net/tcp/transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "net/tcp/connection.h"
#include "net/tcp/socket_address.h"

namespace gabion::net {
namespace {

// A peer that vanished without a word is noticed within about five seconds, idle or not.
void SetSocketOptions(int fd) {
  const auto set = [fd](int level, int name, int value) {
    ::setsockopt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
}

}  // namespace

class Listener : public FdHandler {
 public:
  Listener(Transport* transport, int fd) : transport_(transport), fd_(fd) {}
  ~Listener() override { ::close(fd_); }
  void OnReady(uint32_t) override { transport_->Accept(fd_); }
  int fd() const { return fd_; }

 private:
  Transport* transport_;
  int fd_;
};

Transport::Transport(Reactor* reactor, BufferPool* pool, const Options& options, Log log)
    : reactor_(reactor),
      pool_(pool),
      heads_({.bytes_max = size_t{256} << 20}),
      options_(options),
      log_(std::move(log)) {}

Transport::~Transport() {
  for (const auto& listener : listeners_) reactor_->Remove(listener->fd());
  for (const auto& [id, connection] : by_id_) reactor_->Remove(connection->fd());
}

Result<Address> Transport::Listen(const Address& address) {
  Result<int> bound = BindTcp(address);
  if (!bound) return tl::unexpected(bound.error());
  const int fd = *bound;
  auto listener = std::make_unique<Listener>(this, fd);
  if (::listen(fd, 1024) != 0 || !reactor_->Add(fd, EPOLLIN, listener.get())) {
    return Err(ErrorCode::kConflict, "cannot listen on %s: %s", address.ToString().c_str(),
               std::strerror(errno));
  }
  listeners_.push_back(std::move(listener));
  return LocalAddress(fd);
}

void Transport::Accept(int listen_fd) {
  while (true) {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    const int fd = ::accept4(listen_fd, reinterpret_cast<sockaddr*>(&storage), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) {
        ++counters_.refused_connections;
        log_(Severity::kError, std::string("cannot accept a connection: ") + std::strerror(errno));
      }
      return;
    }
    const Address peer = FromSockaddr(storage);
    if (by_id_.size() >= options_.connections_max) {
      if (counters_.refused_connections++ == 0) {
        log_(Severity::kError, "refused " + peer.ToString() + ": all " +
                                   std::to_string(options_.connections_max) +
                                   " connections are in use");
      }
      ::close(fd);
      continue;
    }
    SetSocketOptions(fd);
    Adopt(fd, 0, peer, true);
  }
}

void Transport::Adopt(int fd, DialTag dial, const Address& peer, bool connected) {
  const ConnId id(++last_conn_);
  auto connection = std::make_unique<Connection>(this, id, fd, dial, peer, connected);
  const uint32_t wanted = connected ? EPOLLIN : EPOLLOUT;
  connection->watched_ = wanted;
  if (!reactor_->Add(fd, wanted, connection.get())) {
    log_(Severity::kError, std::string("epoll: ") + std::strerror(errno));
    if (dial != 0) events_.push_back(ConnectFailedEvent{dial});
    return;
  }
  by_id_.emplace(id.value(), std::move(connection));
  if (connected) events_.push_back(ConnectedEvent{id, dial, peer});
}

void Transport::Connect(DialTag dial, const Address& address) {
  const int fd = MakeTcpSocket(address);
  if (fd < 0) {
    log_(Severity::kError, std::string("socket: ") + std::strerror(errno));
    events_.push_back(ConnectFailedEvent{dial});
    return;
  }
  SetSocketOptions(fd);
  sockaddr_storage storage;
  const socklen_t size = ToSockaddr(address, &storage);
  const int result = ::connect(fd, reinterpret_cast<sockaddr*>(&storage), size);
  if (result != 0 && errno != EINPROGRESS) {
    ::close(fd);
    events_.push_back(ConnectFailedEvent{dial});
    return;
  }
  Adopt(fd, dial, address, result == 0);
}

Connection* Transport::Find(ConnId conn) {
  const auto found = by_id_.find(conn.value());
  return found == by_id_.end() ? nullptr : found->second.get();
}

void Transport::Send(ConnId conn, const wire::Message& message) {
  Connection* connection = Find(conn);
  if (connection == nullptr || connection->closing()) return;  // lost; the event tells the role
  Slice head = heads_.Allocate(512);
  if (head.empty() || connection->queued_bytes() > options_.queue_bytes_max) {
    ++counters_.overflows;
    log_(Severity::kWarning,
         "closed the connection with " + connection->peer().ToString() + ": it does not read");
    Drop(connection, true);
    return;
  }
  static_assert(wire::kHeadBytesMax <= 512);
  const size_t size = wire::EncodeHead(message, head.mutable_span());
  ++counters_.messages_sent;
  connection->Queue(std::move(head).Sub(0, static_cast<uint32_t>(size)), message.payload);
  if (!connection->dirty) {
    connection->dirty = true;
    dirty_.push_back(conn);
  }
}

void Transport::Close(ConnId conn) {
  Connection* connection = Find(conn);
  if (connection == nullptr || connection->closing()) return;
  events_.push_back(DisconnectedEvent{conn});
  if (connection->queue_empty()) {
    Drop(connection, false);
    return;
  }
  connection->BeginClose();
}

void Transport::Drop(Connection* connection, bool report) {
  CHECK(!connection->dead());
  connection->dead_ = true;
  reactor_->Remove(connection->fd());
  if (report && !connection->closing()) events_.push_back(DisconnectedEvent{connection->id()});
  const auto found = by_id_.find(connection->id().value());
  CHECK(found != by_id_.end());
  dead_.push_back(std::move(found->second));
  by_id_.erase(found);
}

void Transport::Flush() {
  for (const ConnId conn : dirty_) {
    Connection* connection = Find(conn);
    if (connection == nullptr) continue;
    connection->dirty = false;
    if (connection->connected()) connection->Write();
  }
  dirty_.clear();
  dead_.clear();
}

void Transport::Resume() {
  if (stalled_.empty()) return;
  // Those that stay stalled enter it anew.
  resuming_.swap(stalled_);
  for (const ConnId conn : resuming_) {
    if (Connection* connection = Find(conn); connection != nullptr) connection->ResumeReading();
  }
  resuming_.clear();
}

void Transport::TakeEvents(std::vector<Event>& events) {
  std::move(events_.begin(), events_.end(), std::back_inserter(events));
  events_.clear();
}

}  // namespace gabion::net
