// NBD over TCP and Unix sockets: listens, and drives one NbdSession per client (nbd_session.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/role/address.h"
#include "net/export/front_end.h"
#include "net/export/nbd_session.h"
#include "net/reactor/reactor.h"

namespace gabion::nbd {

class NbdServer : public net::FrontEnd {
 public:
  struct Options {
    uint32_t clients_max = 256;
    uint32_t requests_max = 1024;  // user requests in the role at once, of all clients
    std::string default_export;
    bool read_only = false;
  };
  using Log = std::function<void(Severity, const std::string&)>;

  NbdServer(net::Reactor* reactor, BufferPool* pool, const Options& options, Log log);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;
  ~NbdServer() override;

  // Port 0 takes a free one; returns the real address.
  Result<Address> ListenTcp(const Address& address);
  // A socket file that nobody listens on is replaced; it is removed at the end.
  Result<void> ListenUnix(const std::string& path);

  void TakeRequests(std::vector<Event>& events) override;
  void OnReply(const UserReplyEffect& reply) override;
  void OnNotice(const UserNoticeEffect& notice) override;
  void EndTurn() override;
  bool has_requests() const override { return !requests_.empty(); }
  void Collect(MetricList& metrics) const override;
  void Shutdown() override;

  size_t clients() const { return clients_.size(); }

 private:
  class Listener;
  class Client;

  Result<int> Listen(int fd, const std::string& name);
  void Accept(int listen_fd);

  net::Reactor* reactor_;
  BufferPool* pool_;
  Options options_;
  Log log_;
  RequestBudget budget_;
  uint32_t last_session_ = 0;
  uint64_t refused_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::string> unix_paths_;
  std::map<uint32_t, std::unique_ptr<Client>> clients_;  // by session
  std::vector<UserRequestEvent> requests_;
};

}  // namespace gabion::nbd
