#include "net/export/nbd_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "net/tcp/socket_address.h"

namespace gabion::nbd {
namespace {

constexpr size_t kPiecesMax = 64;
constexpr int kReceivesPerWake = 16;  // then the other sockets have their turn

}  // namespace

class NbdServer::Listener : public net::FdHandler {
 public:
  Listener(NbdServer* server, int fd) : server_(server), fd_(fd) {}
  ~Listener() override { ::close(fd_); }
  void OnReady(uint32_t) override { server_->Accept(fd_); }
  int fd() const { return fd_; }

 private:
  NbdServer* server_;
  int fd_;
};

// A socket and its session. The socket goes first; the session stays until the role has answered
// all.
class NbdServer::Client : public net::FdHandler {
 public:
  Client(NbdServer* server, int fd, const SessionOptions& options)
      : server_(server), fd_(fd), session_(options) {}
  ~Client() override { CloseSocket(); }

  NbdSession& session() { return session_; }

  bool Begin() {
    if (!server_->reactor_->Add(fd_, EPOLLIN | EPOLLOUT, this)) {
      ::close(std::exchange(fd_, -1));
      return false;
    }
    watched_ = EPOLLIN | EPOLLOUT;
    return true;
  }

  void OnReady(uint32_t events) override {
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Receive();
    // Epoll reports the end of a connection again and again, also while nothing is to be received.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) CloseSocket();
    Progress();
  }

  // Everything that may follow from bytes, replies or memory.
  void Progress() {
    session_.Resume();
    session_.TakeRequests(&server_->requests_);
    Transmit();
    // Sending makes room for commands that were received already.
    session_.TakeRequests(&server_->requests_);
    if (fd_ >= 0 && session_.wants_close()) CloseSocket();
    Watch();
  }

 private:
  void Receive() {
    for (int i = 0; i < kReceivesPerWake && fd_ >= 0; ++i) {
      const std::span<std::byte> into = session_.ReceiveInto();
      if (into.empty()) return;
      const ssize_t got = ::recv(fd_, into.data(), into.size(), 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) {
        CloseSocket();
        return;
      }
      session_.Received(static_cast<size_t>(got));
      if (static_cast<size_t>(got) < into.size()) return;
    }
  }

  void Transmit() {
    while (fd_ >= 0) {
      std::array<std::span<const std::byte>, kPiecesMax> pieces;
      const size_t count = session_.Output(pieces);
      blocked_ = false;
      if (count == 0) return;
      std::array<iovec, kPiecesMax> vectors;
      for (size_t i = 0; i < count; ++i) {
        vectors[i] = {const_cast<std::byte*>(pieces[i].data()), pieces[i].size()};
      }
      msghdr header{};
      header.msg_iov = vectors.data();
      header.msg_iovlen = count;
      const ssize_t sent = ::sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        session_.Sent(static_cast<size_t>(sent));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        blocked_ = true;
        return;
      }
      CloseSocket();
    }
  }

  void Watch() {
    if (fd_ < 0) return;
    const uint32_t wanted = (session_.ReceiveInto().empty() ? 0u : uint32_t{EPOLLIN}) |
                            (blocked_ ? uint32_t{EPOLLOUT} : 0u);
    if (wanted == watched_) return;
    watched_ = wanted;
    server_->reactor_->Modify(fd_, wanted, this);
  }

  void CloseSocket() {
    if (fd_ < 0) return;
    if (!session_.error().empty()) {
      server_->log_(Severity::kWarning, "NBD client of '" + session_.export_name() +
                                            "' disconnected: " + session_.error());
    }
    server_->reactor_->Remove(fd_);
    ::close(std::exchange(fd_, -1));
    session_.Disconnected();
  }

  NbdServer* server_;
  int fd_;
  uint32_t watched_ = 0;
  bool blocked_ = false;  // the socket takes no more for now
  NbdSession session_;
};

NbdServer::NbdServer(net::Reactor* reactor, BufferPool* pool, const Options& options, Log log)
    : reactor_(reactor),
      pool_(pool),
      options_(options),
      log_(std::move(log)),
      budget_{options.requests_max} {}

NbdServer::~NbdServer() {
  for (const auto& listener : listeners_) reactor_->Remove(listener->fd());
  for (const std::string& path : unix_paths_) ::unlink(path.c_str());
}

Result<int> NbdServer::Listen(int fd, const std::string& name) {
  if (::listen(fd, 128) != 0) {
    const int error = errno;
    ::close(fd);
    return Err(ErrorCode::kConflict, "cannot listen on %s: %s", name.c_str(), std::strerror(error));
  }
  listeners_.push_back(std::make_unique<Listener>(this, fd));
  if (!reactor_->Add(fd, EPOLLIN, listeners_.back().get())) {
    listeners_.pop_back();
    return Err(ErrorCode::kLimit, "epoll: %s", std::strerror(errno));
  }
  return fd;
}

Result<Address> NbdServer::ListenTcp(const Address& address) {
  Result<int> bound = net::BindTcp(address);
  if (!bound) return tl::unexpected(bound.error());
  Result<int> fd = Listen(*bound, address.ToString());
  if (!fd) return tl::unexpected(fd.error());
  return net::LocalAddress(*fd);
}

Result<void> NbdServer::ListenUnix(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) {
    return Err(
        ErrorCode::kInvalidArgument,
        "cannot listen on %s: a socket path has at most %zu characters; choose a shorter one",
        path.c_str(), sizeof(name.sun_path) - 1);
  }
  std::memcpy(name.sun_path, path.c_str(), path.size());
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Err(ErrorCode::kLimit, "socket: %s", std::strerror(errno));
  int result = ::bind(fd, address, sizeof(name));
  if (result != 0 && errno == EADDRINUSE) {
    // A leftover of a killed daemon refuses connections; a live one accepts.
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool stale =
        probe >= 0 && ::connect(probe, address, sizeof(name)) != 0 && errno == ECONNREFUSED;
    if (probe >= 0) ::close(probe);
    errno = EADDRINUSE;
    if (stale && ::unlink(path.c_str()) == 0) result = ::bind(fd, address, sizeof(name));
  }
  if (result != 0) {
    const int error = errno;
    ::close(fd);
    return Err(ErrorCode::kConflict,
               "cannot listen on %s: %s; stop the other daemon or choose "
               "another path",
               path.c_str(), std::strerror(error));
  }
  unix_paths_.push_back(path);
  Result<int> listening = Listen(fd, path);
  if (!listening) return tl::unexpected(listening.error());
  return {};
}

void NbdServer::Accept(int listen_fd) {
  while (true) {
    const int fd = ::accept4(listen_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) {
        log_(Severity::kError, std::string("cannot accept an NBD client: ") + std::strerror(errno));
      }
      return;
    }
    if (stopping_ || clients_.size() >= options_.clients_max) {
      log_(Severity::kWarning, stopping_ ? "refused an NBD client: stopping"
                                         : "refused an NBD client: all " +
                                               std::to_string(options_.clients_max) +
                                               " places are taken");
      ++refused_;
      ::close(fd);
      continue;
    }
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                 sizeof(on));  // fails on Unix sockets: no matter
    const uint32_t session = ++last_session_;
    auto client = std::make_unique<Client>(this, fd,
                                           SessionOptions{.session = session,
                                                          .pool = pool_,
                                                          .budget = &budget_,
                                                          .default_export = options_.default_export,
                                                          .read_only = options_.read_only});
    if (!client->Begin()) {
      log_(Severity::kError, std::string("epoll: ") + std::strerror(errno));
      continue;
    }
    clients_.emplace(session, std::move(client));
  }
}

void NbdServer::TakeRequests(std::vector<Event>& events) {
  for (UserRequestEvent& request : requests_) events.push_back(std::move(request));
  requests_.clear();
}

void NbdServer::OnReply(const UserReplyEffect& reply) {
  const auto found = clients_.find(static_cast<uint32_t>(reply.tag >> 32));
  CHECK(found != clients_.end());
  found->second->session().OnReply(reply);
}

void NbdServer::OnNotice(const UserNoticeEffect& notice) {
  for (auto& [session, client] : clients_) client->session().OnNotice(notice);
}

void NbdServer::EndTurn() {
  for (auto it = clients_.begin(); it != clients_.end();) {
    it->second->Progress();
    if (it->second->session().finished()) {
      it = clients_.erase(it);
    } else {
      ++it;
    }
  }
}

void NbdServer::Collect(MetricList& metrics) const {
  metrics.Gauge("nbd_connections", "NBD connections.", clients_.size());
  metrics.Counter("nbd_refused_connections_total", "NBD connections over the limit.", refused_);
}

void NbdServer::Shutdown() {
  stopping_ = true;
  for (auto& [session, client] : clients_) client->session().Shutdown();
}

}  // namespace gabion::nbd
