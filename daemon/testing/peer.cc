#include "daemon/testing/peer.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/wire/frame.h"

namespace gabion::daemon {

namespace {

constexpr int kPatienceMillis = 20'000;

}  // namespace

Bytes FrameOf(const wire::Message& message) {
  Bytes frame(wire::kHeadBytesMax);
  frame.resize(wire::EncodeHead(message, frame));
  const auto payload = message.payload.span();
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

void Reseal(Bytes* frame) {
  StoreLe(frame->data() + 28, Crc32c(std::span<const std::byte>(*frame).first(28)));
}

Peer::Peer(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    ::close(std::exchange(fd_, -1));
  }
}

Peer::~Peer() {
  if (fd_ >= 0) ::close(fd_);
}

void Peer::Send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

void Peer::FinishSending() { ::shutdown(fd_, SHUT_WR); }

bool Peer::Read(std::byte* to, size_t size) {
  while (size > 0) {
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kPatienceMillis) != 1) return false;
    const ssize_t got = ::recv(fd_, to, size, 0);
    if (got <= 0) return false;
    to += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

std::optional<wire::Message> Peer::Receive() {
  std::array<std::byte, wire::kFrameHeaderBytes> head;
  if (!Read(head.data(), head.size())) return std::nullopt;
  const Result<wire::FrameHeader> header = wire::ParseHeader(head);
  if (!header) return std::nullopt;
  Bytes body(header->body_bytes);
  Slice payload;
  if (header->payload_bytes > 0) payload = pool_.Allocate(header->payload_bytes);
  if (!Read(body.data(), body.size())) return std::nullopt;
  if (!payload.empty() && !Read(payload.mutable_span().data(), payload.size())) {
    return std::nullopt;
  }
  Result<wire::Message> message = wire::DecodeFrame(*header, body, std::move(payload));
  if (!message) return std::nullopt;
  return std::move(*message);
}

bool Peer::Ended() {
  std::array<std::byte, 4096> bytes;
  while (true) {
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kPatienceMillis) != 1) return false;
    if (::recv(fd_, bytes.data(), bytes.size(), 0) <= 0) return true;
  }
}

}  // namespace gabion::daemon
