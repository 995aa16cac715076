#include "net/tcp/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/check.h"

namespace gabion::net {
namespace {

constexpr size_t kStagingBytes = 16 << 10;
constexpr int kReadsPerWake = 8;  // then the other sockets have their turn
constexpr size_t kPiecesMax = 64;

}  // namespace

Connection::Connection(Transport* transport, ConnId id, int fd, DialTag dial, const Address& peer,
                       bool connected)
    : transport_(transport),
      id_(id),
      fd_(fd),
      dial_(dial),
      peer_(peer),
      connected_(connected),
      use_(dial != 0 ? BufferUse::kPeer : BufferUse::kClient),
      staging_(kStagingBytes) {
  static_assert(kStagingBytes > wire::kFrameHeaderBytes + wire::kBodyBytesMax);
}

Connection::~Connection() { ::close(fd_); }

void Connection::WatchEvents() {
  uint32_t wanted = 0;
  if (!connected_ || !queue_.empty()) wanted |= EPOLLOUT;
  if (connected_ && !closing_ && phase_ != Phase::kAwaitingMemory) wanted |= EPOLLIN;
  if (wanted == watched_) return;
  watched_ = wanted;
  transport_->reactor_->Modify(fd_, wanted, this);
}

void Connection::OnReady(uint32_t events) {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0 || (events & (EPOLLERR | EPOLLHUP)) != 0) {
      transport_->events_.push_back(ConnectFailedEvent{dial_});
      transport_->Drop(this, false);
      return;
    }
    connected_ = true;
    transport_->events_.push_back(ConnectedEvent{id_, dial_, peer_});
    WatchEvents();
    return;
  }
  // Data that arrived before a reset or an end is taken first.
  if ((events & EPOLLIN) != 0) Read();
  if (!dead_ && (events & EPOLLOUT) != 0) Write();
  if (!dead_ && (events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
    transport_->Drop(this, true);
  }
}

void Connection::Read() {
  for (int i = 0; i < kReadsPerWake && !dead_ && phase_ != Phase::kAwaitingMemory; ++i) {
    if (staged_begin_ == staged_end_) {
      staged_begin_ = staged_end_ = 0;
    } else if (staged_begin_ > 0) {
      // Less than one head is left over.
      std::memmove(staging_.data(), staging_.data() + staged_begin_, staged_end_ - staged_begin_);
      staged_end_ -= staged_begin_;
      staged_begin_ = 0;
    }
    iovec pieces[2];
    int count = 0;
    size_t payload_room = 0;
    if (phase_ == Phase::kPayload) {
      payload_room = payload_.size() - payload_filled_;
      pieces[count++] = {payload_.mutable_span().data() + payload_filled_, payload_room};
    }
    const size_t staging_room = staging_.size() - staged_end_;
    pieces[count++] = {staging_.data() + staged_end_, staging_room};
    const ssize_t got = ::readv(fd_, pieces, count);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      transport_->Drop(this, true);
      return;
    }
    const auto bytes = static_cast<size_t>(got);
    transport_->counters_.bytes_received += bytes;
    const size_t into_payload = std::min(bytes, payload_room);
    payload_filled_ += static_cast<uint32_t>(into_payload);
    staged_end_ += bytes - into_payload;
    if (!Parse()) return;
    if (bytes < payload_room + staging_room) return;  // the socket is empty
  }
}

bool Connection::Parse() {
  while (true) {
    if (phase_ == Phase::kPayload) {
      const size_t copy =
          std::min<size_t>(staged_end_ - staged_begin_, payload_.size() - payload_filled_);
      if (copy > 0) {
        payload_.CopyFrom(payload_filled_, std::span(staging_).subspan(staged_begin_, copy));
        staged_begin_ += copy;
        payload_filled_ += static_cast<uint32_t>(copy);
      }
      if (payload_filled_ < payload_.size()) return true;
      Deliver();
      if (dead_) return false;
      continue;
    }
    const std::span<const std::byte> staged(staging_.data() + staged_begin_,
                                            staged_end_ - staged_begin_);
    if (staged.size() < wire::kFrameHeaderBytes) return true;
    Result<wire::FrameHeader> header = wire::ParseHeader(staged.first(wire::kFrameHeaderBytes));
    if (!header) {
      ++transport_->counters_.bad_frames;
      transport_->log_(Severity::kWarning, "closed the connection with " + peer_.ToString() + ": " +
                                               header.error().message);
      transport_->Drop(this, true);
      return false;
    }
    CHECK_LE(header->body_bytes, wire::kBodyBytesMax);
    if (staged.size() < wire::kFrameHeaderBytes + header->body_bytes) return true;
    header_ = *header;
    std::memcpy(body_.data(), staged.data() + wire::kFrameHeaderBytes, header_.body_bytes);
    staged_begin_ += wire::kFrameHeaderBytes + header_.body_bytes;
    if (header_.payload_bytes == 0) {
      payload_ = Slice();
      Deliver();
      if (dead_) return false;
      continue;
    }
    if (!StartPayload()) return true;
  }
}

bool Connection::StartPayload() {
  payload_filled_ = 0;
  payload_ = transport_->pool_->Allocate(header_.payload_bytes, use_);
  if (payload_.empty()) {
    phase_ = Phase::kAwaitingMemory;
    transport_->stalled_.push_back(id_);
    WatchEvents();
    return false;
  }
  phase_ = Phase::kPayload;
  return true;
}

void Connection::ResumeReading() {
  if (dead_ || phase_ != Phase::kAwaitingMemory) return;
  if (!StartPayload()) return;
  WatchEvents();
  Parse();
}

void Connection::Deliver() {
  phase_ = Phase::kHead;
  Result<wire::Message> message = wire::DecodeFrame(
      header_, std::span(body_).first(header_.body_bytes), std::exchange(payload_, Slice()));
  if (!message) {
    ++transport_->counters_.bad_frames;
    transport_->log_(Severity::kWarning, "closed the connection with " + peer_.ToString() + ": " +
                                             message.error().message);
    transport_->Drop(this, true);
    return;
  }
  ++transport_->counters_.messages_received;
  if (const auto* hello = std::get_if<wire::Hello>(&message->body)) {
    const bool server = hello->role == wire::PeerRole::kSds || hello->role == wire::PeerRole::kMdm;
    if (server) use_ = BufferUse::kPeer;
  }
  if (!closing_) transport_->events_.push_back(MessageEvent{id_, std::move(*message)});
}

void Connection::Queue(Slice head, const Slice& payload) {
  queued_bytes_ += head.size() + payload.size();
  queue_.push_back(std::move(head));
  if (!payload.empty()) queue_.push_back(payload);
}

void Connection::Write() {
  while (!queue_.empty()) {
    iovec pieces[kPiecesMax];
    size_t count = 0;
    for (; count < std::min(queue_.size(), kPiecesMax); ++count) {
      const Slice& slice = queue_[count];
      const uint32_t skip = count == 0 ? front_sent_ : 0;
      pieces[count] = {const_cast<std::byte*>(slice.data()) + skip, slice.size() - skip};
    }
    msghdr header{};
    header.msg_iov = pieces;
    header.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      transport_->Drop(this, !closing_);
      return;
    }
    transport_->counters_.bytes_sent += static_cast<uint64_t>(sent);
    queued_bytes_ -= static_cast<uint64_t>(sent);
    uint64_t left = static_cast<uint64_t>(sent) + front_sent_;
    while (!queue_.empty() && left >= queue_.front().size()) {
      left -= queue_.front().size();
      queue_.pop_front();
    }
    front_sent_ = static_cast<uint32_t>(left);
  }
  if (closing_ && queue_.empty()) {
    transport_->Drop(this, false);
    return;
  }
  WatchEvents();
}

}  // namespace gabion::net
