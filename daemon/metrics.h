// A small HTTP/1 responder on the reactor: GET /metrics in the text format of Prometheus, GET
// /status for people. One request per connection.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/role/address.h"
#include "net/reactor/reactor.h"

namespace gabion::daemon {

// Collects metrics in exposition format. `name` without the prefix "gabion_".
class MetricsText {
 public:
  void Counter(std::string_view name, std::string_view help, double value);
  void Gauge(std::string_view name, std::string_view help, double value);
  // A constant 1 with labels; label values are escaped.
  void Info(std::string_view name, std::string_view help,
            const std::vector<std::pair<std::string, std::string>>& labels);
  const std::string& text() const { return text_; }

 private:
  void Head(std::string_view name, std::string_view help, std::string_view type);
  std::string text_;
};

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
