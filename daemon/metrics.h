// A small HTTP/1 responder on the reactor: GET /metrics in the text format of Prometheus, GET
// /status for people. One request per connection.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/role/address.h"
#include "core/role/metrics.h"
#include "net/reactor/reactor.h"

namespace gabion::daemon {

// In Prometheus' exposition format: metrics of one name together, in the order in which the names
// came first.
std::string ToExposition(const MetricList& metrics);

class MetricsServer {
 public:
  struct Pages {
    std::function<std::string()> metrics;
    std::function<std::string()> status;
  };

  // The error names the address, the reason and the way out. Port 0 takes a free one.
  static Result<std::unique_ptr<MetricsServer>> Listen(net::Reactor* reactor,
                                                       const Address& address, Pages pages);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  ~MetricsServer();

  const Address& listening() const { return listening_; }

 private:
  class Watched;
  class Client;
  class Listener;

  MetricsServer(net::Reactor* reactor, Pages pages);
  void Accept();
  std::string Answer(std::string_view request) const;

  net::Reactor* reactor_;
  Pages pages_;
  Address listening_;
  std::unique_ptr<Listener> listener_;
  std::list<std::unique_ptr<Client>> clients_;
};

}  // namespace gabion::daemon
