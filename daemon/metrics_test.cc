#include "daemon/metrics.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace gabion::daemon {
namespace {

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() {
    auto reactor = net::Reactor::Create();
    reactor_ = std::move(*reactor);
    auto server = MetricsServer::Listen(reactor_.get(), Address::V4(127, 0, 0, 1, 0),
                                        {.metrics = [] { return std::string("m 1\n"); },
                                         .status = [] { return std::string("fine\n"); }});
    server_ = std::move(*server);
  }

  int Connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(server_->listening().port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
    return fd;
  }

  // Sends in two pieces, and reads until the server ends the connection.
  std::string Ask(const std::string& request) {
    const int fd = Connect();
    std::string answer;
    size_t sent = 0;
    for (int turn = 0; turn < 100'000; ++turn) {
      if (sent < request.size()) {
        const size_t part = sent == 0 ? request.size() / 2 : request.size() - sent;
        const ssize_t size = ::send(fd, request.data() + sent, part, MSG_NOSIGNAL);
        if (size > 0) sent += static_cast<size_t>(size);
      }
      reactor_->Wait(Instant{});
      char bytes[4096];
      const ssize_t size = ::recv(fd, bytes, sizeof(bytes), 0);
      if (size > 0) answer.append(bytes, static_cast<size_t>(size));
      if (size == 0 || (size < 0 && errno != EAGAIN && errno != ENOTCONN)) break;
    }
    ::close(fd);
    return answer;
  }

  std::unique_ptr<net::Reactor> reactor_;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsTest, ServesMetricsAndStatus) {
  const std::string metrics = Ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(metrics.starts_with("HTTP/1.1 200 OK\r\n")) << metrics;
  EXPECT_TRUE(metrics.ends_with("\r\n\r\nm 1\n")) << metrics;
  EXPECT_NE(metrics.find("Content-Length: 4\r\n"), std::string::npos);
  EXPECT_TRUE(Ask("GET /status HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nfine\n"));
}

TEST_F(MetricsTest, RefusesWhatItDoesNotServe) {
  EXPECT_TRUE(Ask("GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
  EXPECT_TRUE(Ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
  EXPECT_TRUE(Ask("garbage\r\n\r\n").starts_with("HTTP/1.1 400"));
}

TEST_F(MetricsTest, EndsAnEndlessRequest) {
  EXPECT_EQ(Ask(std::string(100'000, 'x')), "");
  EXPECT_TRUE(Ask("GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
}

TEST_F(MetricsTest, ClientsThatSayNothingDoNotLockOthersOut) {
  std::vector<int> silent;
  for (int i = 0; i < 40; ++i) {
    silent.push_back(Connect());
    reactor_->Wait(Instant{});
  }
  EXPECT_TRUE(Ask("GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
  for (const int fd : silent) ::close(fd);
}

TEST_F(MetricsTest, PortInUseIsAnErrorThatNamesIt) {
  const auto second = MetricsServer::Listen(reactor_.get(), server_->listening(), {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(server_->listening().ToString()), std::string::npos);
}

TEST_F(MetricsTest, ListensOnIpv6Too) {
  Address address = *Address::Parse("[::1]:1");
  address.port = 0;
  const auto server = MetricsServer::Listen(reactor_.get(), address, {});
  ASSERT_TRUE(server) << server.error().message;
  EXPECT_TRUE((*server)->listening().ToString().starts_with("[::1]:"));
}

TEST(Exposition, FollowsTheFormat) {
  MetricList list;
  list.Counter("writes_total", "Writes.", 12345678901);
  list.Seconds("cpu_seconds_total", "CPU.", 0.5);
  list.Gauge("info", "Which.", 1, {{"name", "a\"b\\c\nd"}, {"x", "y"}});
  EXPECT_EQ(ToExposition(list),
            "# HELP gabion_writes_total Writes.\n# TYPE gabion_writes_total counter\n"
            "gabion_writes_total 12345678901\n"
            "# HELP gabion_cpu_seconds_total CPU.\n# TYPE gabion_cpu_seconds_total counter\n"
            "gabion_cpu_seconds_total 0.5\n"
            "# HELP gabion_info Which.\n# TYPE gabion_info gauge\n"
            "gabion_info{name=\"a\\\"b\\\\c\\nd\",x=\"y\"} 1\n");
}

TEST(Exposition, KeepsMetricsOfOneNameTogether) {
  MetricList list;
  list.Gauge("up", "Up.", 1, {{"d", "1"}});
  list.Gauge("size", "Size.", 5, {{"d", "1"}});
  list.Gauge("up", "Up.", 0, {{"d", "2"}});
  EXPECT_EQ(ToExposition(list),
            "# HELP gabion_up Up.\n# TYPE gabion_up gauge\n"
            "gabion_up{d=\"1\"} 1\ngabion_up{d=\"2\"} 0\n"
            "# HELP gabion_size Size.\n# TYPE gabion_size gauge\ngabion_size{d=\"1\"} 5\n");
}

TEST(Exposition, CountsAHistogramUpwards) {
  LatencyHistogram histogram;
  histogram.Add(std::chrono::microseconds(50));
  histogram.Add(std::chrono::microseconds(51));
  histogram.Add(std::chrono::seconds(11));
  MetricList list;
  list.Histogram("io_seconds", "I/O.", histogram, {{"op", "read"}});
  const std::string text = ToExposition(list);
  for (const char* line : {"# TYPE gabion_io_seconds histogram\n",
                           "gabion_io_seconds_bucket{op=\"read\",le=\"5e-05\"} 1\n",
                           "gabion_io_seconds_bucket{op=\"read\",le=\"0.0001\"} 2\n",
                           "gabion_io_seconds_bucket{op=\"read\",le=\"10\"} 2\n",
                           "gabion_io_seconds_bucket{op=\"read\",le=\"+Inf\"} 3\n",
                           "gabion_io_seconds_sum{op=\"read\"} 11.000101\n",
                           "gabion_io_seconds_count{op=\"read\"} 3\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace gabion::daemon
