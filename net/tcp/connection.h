// One TCP connection of a Transport: receive state machine and send queue.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/fifo.h"
#include "net/tcp/transport.h"

namespace gabion::net {

class Connection : public FdHandler {
 public:
  Connection(Transport* transport, ConnId id, int fd, DialTag dial, const Address& peer,
             bool connected);
  ~Connection() override;

  void OnReady(uint32_t events) override;
  void Queue(Slice head, const Slice& payload);
  // Writes until the socket is full or the queue is empty.
  void Write();
  // Goes on with a payload that could not get its buffer.
  void ResumeReading();
  // Takes nothing more from the peer; ends when the queue is sent.
  void BeginClose() { closing_ = true; }

  ConnId id() const { return id_; }
  int fd() const { return fd_; }
  const Address& peer() const { return peer_; }
  DialTag dial() const { return dial_; }
  bool connected() const { return connected_; }
  bool closing() const { return closing_; }
  bool dead() const { return dead_; }
  bool queue_empty() const { return queue_.empty(); }
  uint64_t queued_bytes() const { return queued_bytes_; }
  bool dirty = false;  // in Transport::dirty_

 private:
  friend class Transport;

  enum class Phase : uint8_t { kHead, kAwaitingMemory, kPayload };

  void Read();
  // Takes frames out of the staging area. False: the connection is gone.
  bool Parse();
  bool StartPayload();
  void Deliver();
  void WatchEvents();

  Transport* transport_;
  ConnId id_;
  int fd_;
  DialTag dial_;
  Address peer_;
  bool connected_;
  bool closing_ = false;
  bool dead_ = false;
  uint32_t watched_ = 0;

  Phase phase_ = Phase::kHead;
  BufferUse use_;  // of payloads: who is at the other end
  std::vector<std::byte> staging_;
  size_t staged_begin_ = 0;
  size_t staged_end_ = 0;
  wire::FrameHeader header_;
  std::array<std::byte, wire::kBodyBytesMax> body_;
  Slice payload_;
  uint32_t payload_filled_ = 0;

  Fifo<Slice> queue_;
  uint32_t front_sent_ = 0;  // bytes of queue_.front() that have left
  uint64_t queued_bytes_ = 0;
};

}  // namespace gabion::net
