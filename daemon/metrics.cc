#include "daemon/metrics.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "net/tcp/socket_address.h"

namespace gabion::daemon {

namespace {

constexpr size_t kRequestBytesMax = 8192;
// A client that sends nothing holds one of them; the oldest makes room for a new one.
constexpr size_t kClientsMax = 16;

const char* TypeOf(MetricKind kind) {
  switch (kind) {
    case MetricKind::kCounter:
      return "counter";
    case MetricKind::kGauge:
      return "gauge";
    case MetricKind::kHistogram:
      return "histogram";
  }
  UNREACHABLE();
}

std::string ToText(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.16g", value);
  return text;
}

double ToSeconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void AddSample(std::string_view name, std::string_view suffix, const MetricLabels& labels,
               const std::string& value, std::string* text) {
  *text += "gabion_" + std::string(name) + std::string(suffix);
  for (size_t i = 0; i < labels.size(); ++i) {
    *text += (i == 0 ? "{" : ",") + labels[i].first + "=\"";
    for (const char c : labels[i].second) {
      if (c == '"' || c == '\\') *text += '\\';
      *text += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    *text += '"';
  }
  *text += (labels.empty() ? " " : "} ") + value + "\n";
}

void AddMetric(const Metric& metric, std::string* text) {
  if (metric.kind != MetricKind::kHistogram) {
    AddSample(metric.name, "", metric.labels, ToText(metric.value), text);
    return;
  }
  MetricLabels labels = metric.labels;
  labels.emplace_back("le", "");
  uint64_t count = 0;
  for (size_t i = 0; i < metric.histogram.counts().size(); ++i) {
    const bool last = i == LatencyHistogram::kBounds.size();
    count += metric.histogram.counts()[i];
    labels.back().second = last ? "+Inf" : ToText(ToSeconds(LatencyHistogram::kBounds[i]));
    AddSample(metric.name, "_bucket", labels, std::to_string(count), text);
  }
  AddSample(metric.name, "_sum", metric.labels, ToText(ToSeconds(metric.histogram.sum())), text);
  AddSample(metric.name, "_count", metric.labels, std::to_string(count), text);
}

std::string Response(const char* status, const std::string& body, const char* type) {
  return std::string("HTTP/1.1 ") + status + "\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" +
         body;
}

}  // namespace

std::string ToExposition(const MetricList& metrics) {
  std::string text;
  const std::vector<Metric>& all = metrics.all();
  std::vector<bool> done(all.size());
  for (size_t first = 0; first < all.size(); ++first) {
    if (done[first]) continue;
    text += "# HELP gabion_" + std::string(all[first].name) + " " + std::string(all[first].help);
    text += "\n# TYPE gabion_" + std::string(all[first].name) + " ";
    text += TypeOf(all[first].kind);
    text += '\n';
    for (size_t i = first; i < all.size(); ++i) {
      if (done[i] || all[i].name != all[first].name) continue;
      done[i] = true;
      AddMetric(all[i], &text);
    }
  }
  return text;
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
  const Result<int> bound = net::BindTcp(address);
  if (!bound) return Err(bound.error().code, "metrics-listen: %s", bound.error().message.c_str());
  const int fd = *bound;
  if (::listen(fd, 16) != 0) {
    const int error = errno;
    ::close(fd);
    return Err(ErrorCode::kConflict,
               "metrics-listen: cannot listen on %s: %s; another program uses this port: stop it, "
               "or choose another",
               address.ToString().c_str(), std::strerror(error));
  }
  server->listening_ = net::LocalAddress(fd);
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
