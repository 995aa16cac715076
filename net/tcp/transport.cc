#include "net/tcp/transport.h"

#include <arpa/inet.h>
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

namespace gabion::net {
namespace {

constexpr std::array<uint8_t, 12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool IsV4(const Address& address) {
  return std::equal(kV4Prefix.begin(), kV4Prefix.end(), address.ip.begin());
}

socklen_t ToSockaddr(const Address& address, sockaddr_storage* out) {
  *out = {};
  if (IsV4(address)) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(out);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    std::memcpy(&v4->sin_addr, address.ip.data() + kV4Prefix.size(), 4);
    return sizeof(*v4);
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(out);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(address.port);
  std::memcpy(&v6->sin6_addr, address.ip.data(), 16);
  return sizeof(*v6);
}

Address FromSockaddr(const sockaddr_storage& from) {
  Address address;
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    std::copy(kV4Prefix.begin(), kV4Prefix.end(), address.ip.begin());
    std::memcpy(address.ip.data() + kV4Prefix.size(), &v4.sin_addr, 4);
    address.port = ntohs(v4.sin_port);
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(address.ip.data(), &v6.sin6_addr, 16);
    address.port = ntohs(v6.sin6_port);
  }
  return address;
}

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
  const int fd =
      ::socket(IsV4(address) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Err(ErrorCode::kLimit, "socket: %s", std::strerror(errno));
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage storage;
  const socklen_t size = ToSockaddr(address, &storage);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd, 1024) != 0) {
    const int error = errno;
    ::close(fd);
    const char* way_out = error == EADDRINUSE
                              ? "another program uses this port: stop it, or choose another"
                          : error == EADDRNOTAVAIL ? "this machine does not have that address"
                          : error == EACCES        ? "ports below 1024 need root"
                                                   : "check the address";
    return Err(ErrorCode::kConflict, "cannot listen on %s: %s; %s", address.ToString().c_str(),
               std::strerror(error), way_out);
  }
  socklen_t bound_size = sizeof(storage);
  CHECK_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bound_size), 0);
  listeners_.push_back(std::make_unique<Listener>(this, fd));
  if (!reactor_->Add(fd, EPOLLIN, listeners_.back().get())) {
    return Err(ErrorCode::kLimit, "epoll: %s", std::strerror(errno));
  }
  return FromSockaddr(storage);
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
  const int fd =
      ::socket(IsV4(address) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
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
  std::vector<ConnId> stalled;
  stalled.swap(stalled_);
  for (const ConnId conn : stalled) {
    if (Connection* connection = Find(conn); connection != nullptr) connection->ResumeReading();
  }
}

void Transport::TakeEvents(std::vector<Event>& events) {
  std::move(events_.begin(), events_.end(), std::back_inserter(events));
  events_.clear();
}

}  // namespace gabion::net
