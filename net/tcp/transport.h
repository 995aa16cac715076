// Messages over TCP for one reactor: listens, dials, frames, and queues. What it gives its owner
// are the events of core/role/event.h; what it is told are the effects.
//
// Receiving: one readv per readable socket takes the rest of a payload, straight into its aligned
// buffer, and a staging area with the next headers; only bytes that arrive together with their
// header are copied, once. Sending: heads and payloads of a burst leave in one writev per peer;
// payloads by reference. Garbage is counted, logged once per peer, and ends the connection.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/role/address.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/wire/frame.h"
#include "net/reactor/reactor.h"

namespace gabion::net {

class Connection;
class Listener;

class Transport {
 public:
  struct Options {
    uint32_t connections_max = 8192;
    uint64_t queue_bytes_max = uint64_t{64} << 20;  // unsent, per connection; above it is closed
  };
  struct Counters {
    uint64_t messages_received = 0;
    uint64_t messages_sent = 0;
    uint64_t bytes_received = 0;
    uint64_t bytes_sent = 0;
    uint64_t bad_frames = 0;
    uint64_t refused_connections = 0;
    uint64_t overflows = 0;  // connections closed because the peer did not read
  };
  using Log = std::function<void(Severity, const std::string&)>;

  Transport(Reactor* reactor, BufferPool* pool, const Options& options, Log log);
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  ~Transport();

  // Port 0 takes a free one; the address returned says which. The error names the address, the
  // reason and the way out.
  Result<Address> Listen(const Address& address);

  void Connect(DialTag dial, const Address& address);
  void Send(ConnId conn, const wire::Message& message);
  // What was sent before still leaves. DisconnectedEvent follows at once.
  void Close(ConnId conn);

  // Writes what has been queued. Call after every burst of effects.
  void Flush();
  // Reads on where memory was short. Call when slices may have been freed.
  void Resume();
  bool stalled() const { return !stalled_.empty(); }

  // Events since the last call, in order.
  void TakeEvents(std::vector<Event>& events);

  const Counters& counters() const { return counters_; }
  size_t connections() const { return by_id_.size(); }

 private:
  friend class Connection;
  friend class Listener;

  void Accept(int listen_fd);
  void Adopt(int fd, DialTag dial, const Address& peer, bool connected);
  Connection* Find(ConnId conn);
  // Ends a connection; `report` gives the event. The object dies at the next Flush.
  void Drop(Connection* connection, bool report);

  Reactor* reactor_;
  BufferPool* pool_;
  BufferPool
      heads_;  // headers of queued frames; apart, so that full payload memory cannot stop answers
  Options options_;
  Log log_;
  Counters counters_;
  uint64_t last_conn_ = 0;
  std::vector<std::unique_ptr<Listener>> listeners_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> by_id_;
  std::vector<ConnId> dirty_;    // have something to write
  std::vector<ConnId> stalled_;  // wait for payload memory
  std::vector<ConnId> resuming_;
  std::vector<std::unique_ptr<Connection>> dead_;
  std::vector<Event> events_;
};

}  // namespace gabion::net
