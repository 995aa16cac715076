#include "daemon/metrics.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace gabion::daemon {

namespace {

constexpr size_t kRequestBytesMax = 8192;
// A client that sends nothing holds one of them; the oldest makes room for a new one.
constexpr size_t kClientsMax = 16;

sockaddr_in6 ToSocketAddress(const Address& address) {
  sockaddr_in6 result{};
  result.sin6_family = AF_INET6;
  result.sin6_port = htons(address.port);
  std::memcpy(&result.sin6_addr, address.ip.data(), address.ip.size());
  return result;
}

std::string Response(const char* status, const std::string& body, const char* type) {
  return std::string("HTTP/1.1 ") + status + "\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" +
         body;
}

}  // namespace

void MetricsText::Head(std::string_view name, std::string_view help, std::string_view type) {
  const std::string full = "gabion_" + std::string(name);
  text_ += "# HELP " + full + " " + std::string(help) + "\n";
  text_ += "# TYPE " + full + " " + std::string(type) + "\n" + full;
}

void MetricsText::Counter(std::string_view name, std::string_view help, double value) {
  Head(name, help, "counter");
  char number[40];
  std::snprintf(number, sizeof(number), " %.16g\n", value);
  text_ += number;
}

void MetricsText::Gauge(std::string_view name, std::string_view help, double value) {
  Head(name, help, "gauge");
  char number[40];
  std::snprintf(number, sizeof(number), " %.16g\n", value);
  text_ += number;
}

void MetricsText::Info(std::string_view name, std::string_view help,
                       const std::vector<std::pair<std::string, std::string>>& labels) {
  Head(name, help, "gauge");
  text_ += '{';
  for (const auto& [label, value] : labels) {
    if (text_.back() != '{') text_ += ',';
    text_ += label + "=\"";
    for (const char c : value) {
      if (c == '\n') {
        text_ += "\\n";
        continue;
      }
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += c;
    }
    text_ += '"';
  }
  text_ += "} 1\n";
}

// A descriptor that the reactor watches while this object lives.
class MetricsServer::Watched : public net::FdHandler {
 public:
  Watched(MetricsServer* server, int fd) : server_(server), fd_(fd) {
    watched_ = server_->reactor_->Add(fd_, EPOLLIN, this);
  }
  ~Watched() override {
    if (watched_) server_->reactor_->Remove(fd_);
    ::close(fd_);
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  bool watched() const { return watched_; }
  int fd() const { return fd_; }

 protected:
  MetricsServer* server_;
  int fd_;

 private:
  bool watched_;
};

class MetricsServer::Client : public Watched {
 public:
  using Watched::Watched;

  void OnReady(uint32_t) override {
    if (!Advance()) {
      // Destroys this object.
      server_->clients_.remove_if([this](const auto& client) { return client.get() == this; });
    }
  }

 private:
  // False: done, or given up.
  bool Advance() {
    while (answer_.empty()) {
      char bytes[2048];
      const ssize_t size = ::recv(fd_, bytes, sizeof(bytes), 0);
      if (size < 0) return errno == EAGAIN || errno == EINTR;
      if (size == 0) return false;
      request_.append(bytes, static_cast<size_t>(size));
      if (request_.size() > kRequestBytesMax) return false;
      if (request_.find("\r\n\r\n") == std::string::npos) continue;
      answer_ = server_->Answer(request_);
      server_->reactor_->Modify(fd_, EPOLLOUT, this);
    }
    while (sent_ < answer_.size()) {
      const ssize_t size =
          ::send(fd_, answer_.data() + sent_, answer_.size() - sent_, MSG_NOSIGNAL);
      if (size < 0) return errno == EAGAIN || errno == EINTR;
      sent_ += static_cast<size_t>(size);
    }
    ::shutdown(fd_, SHUT_WR);
    return false;
  }

  std::string request_;
  std::string answer_;
  size_t sent_ = 0;
};

class MetricsServer::Listener : public Watched {
 public:
  using Watched::Watched;
  void OnReady(uint32_t) override { server_->Accept(); }
};

MetricsServer::MetricsServer(net::Reactor* reactor, Pages pages)
    : reactor_(reactor), pages_(std::move(pages)) {}

MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::Listen(net::Reactor* reactor,
                                                             const Address& address, Pages pages) {
  std::unique_ptr<MetricsServer> server(new MetricsServer(reactor, std::move(pages)));
  const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int off = 0;
  sockaddr_in6 name = ToSocketAddress(address);
  socklen_t size = sizeof(name);
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 ||
      ::listen(fd, 16) != 0 || ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    return Err(ErrorCode::kConflict,
               "metrics-listen = %s: %s; choose another port or stop its user",
               address.ToString().c_str(), std::strerror(error));
  }
  server->listening_ = address;
  server->listening_.port = ntohs(name.sin6_port);
  server->listener_ = std::make_unique<Listener>(server.get(), fd);
  if (!server->listener_->watched()) {
    return Err(ErrorCode::kLimit, "metrics-listen: epoll: %s", std::strerror(errno));
  }
  return server;
}

void MetricsServer::Accept() {
  while (true) {
    const int fd = ::accept4(listener_->fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    if (clients_.size() >= kClientsMax) clients_.pop_front();
    auto client = std::make_unique<Client>(this, fd);
    if (client->watched()) clients_.push_back(std::move(client));
  }
}

std::string MetricsServer::Answer(std::string_view request) const {
  const std::string_view line = request.substr(0, request.find("\r\n"));
  const size_t method_end = line.find(' ');
  if (method_end == std::string_view::npos) {
    return Response("400 Bad Request", "not HTTP\n", "text/plain");
  }
  if (line.substr(0, method_end) != "GET") {
    return Response("405 Method Not Allowed", "only GET\n", "text/plain");
  }
  std::string_view path = line.substr(method_end + 1);
  path = path.substr(0, path.find_first_of(" ?"));
  if (path == "/metrics") {
    return Response("200 OK", pages_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  }
  if (path == "/status") return Response("200 OK", pages_.status(), "text/plain; charset=utf-8");
  return Response("404 Not Found", "there are /metrics and /status\n", "text/plain");
}

}  // namespace gabion::daemon
