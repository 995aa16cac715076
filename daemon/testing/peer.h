// A peer that speaks raw bytes to a daemon, well or badly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/wire/message.h"

namespace gabion::daemon {

using Bytes = std::vector<std::byte>;

// The frame of a message, header and payload.
Bytes FrameOf(const wire::Message& message);
// Sets the header's checksum after a test has changed the header.
void Reseal(Bytes* frame);

class Peer {
 public:
  // `port` on 127.0.0.1. Check ok().
  explicit Peer(uint16_t port);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer();

  bool ok() const { return fd_ >= 0; }
  // What the other side does not take any more is dropped.
  void Send(std::span<const std::byte> bytes);
  void Send(const wire::Message& message) { Send(FrameOf(message)); }
  void FinishSending();
  // The next frame; nothing when the connection ends, or nothing comes for 20 s.
  std::optional<wire::Message> Receive();
  // The other side ends the connection within 20 s; what it sends until then is passed over.
  bool Ended();

 private:
  bool Read(std::byte* to, size_t size);

  BufferPool pool_{{.bytes_max = size_t{32} << 20}};
  int fd_ = -1;
};

}  // namespace gabion::daemon
