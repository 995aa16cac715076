#include "cli/client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <variant>

#include "core/base/check.h"
#include "core/wire/management.h"

namespace gabion::cli {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// To reach one MDM, and for the answer to a query: long enough for one that is busy, short enough
// to try another one.
constexpr milliseconds kAttemptTime(3000);
constexpr milliseconds kPause(100);

int MillisLeft(steady_clock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

// True when one of `events`, or an error, has come before the deadline.
bool WaitFor(int fd, short events, steady_clock::time_point deadline) {
  while (true) {
    pollfd poll{.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&poll, 1, MillisLeft(deadline));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

std::string UserName() {
  const passwd* user = ::getpwuid(::geteuid());
  return user != nullptr ? user->pw_name : "uid " + std::to_string(::geteuid());
}

// "HOST:PORT", "[v6]:PORT".
bool SplitEndpoint(const std::string& endpoint, std::string& host, std::string& port) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == endpoint.size()) return false;
  host = endpoint.substr(0, colon);
  port = endpoint.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return true;
}

}  // namespace

std::string NewRequestId() {
  std::array<unsigned char, 16> bytes{};
  CHECK_EQ(::getrandom(bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  std::string result;
  for (const unsigned char byte : bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  }
  return result;
}

bool Listens(const std::string& endpoint) {
  std::string host;
  std::string port;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (!SplitEndpoint(endpoint, host, port) ||
      ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) {
    return false;
  }
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool open = fd >= 0 && ::connect(fd, found->ai_addr, found->ai_addrlen) == 0;
  if (fd >= 0) ::close(fd);
  ::freeaddrinfo(found);
  return open;
}

MdmClient::MdmClient(Options options)
    : options_(std::move(options)), pool_({.bytes_max = size_t{4} * wire::kManagementBytesMax}) {}

MdmClient::~MdmClient() { Disconnect(); }

void MdmClient::Disconnect() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<proto::AdminReply> MdmClient::Call(proto::AdminRequest command) {
  CHECK(!options_.endpoints.empty());
  command.set_request(NewRequestId());
  command.set_user(UserName());
  const Deadline deadline = steady_clock::now() + options_.timeout;
  bool told = false;
  while (true) {
    Result<proto::AdminReply> reply =
        Attempt(command, std::min(deadline, steady_clock::now() + kAttemptTime));
    const bool again = reply ? reply->code() == proto::AdminReply::UNAVAILABLE
                             : reply.error().code == ErrorCode::kUnavailable;
    if (!again) return reply;
    const std::string why =
        reply ? reply->error() : "the MDM at " + endpoint_ + ": " + reply.error().message;
    if (steady_clock::now() + kPause >= deadline) {
      if (reply) return reply;
      return Err(ErrorCode::kUnavailable,
                 "%s; gave up after %.1f s. Is gabion-mdm running there? Another address: --mdm "
                 "or GABION_MDM",
                 why.c_str(), static_cast<double>(options_.timeout.count()) / 1000);
    }
    if (!told && options_.on_waiting) options_.on_waiting(why);
    told = true;
    std::this_thread::sleep_for(kPause);
  }
}

Result<proto::AdminReply> MdmClient::Attempt(const proto::AdminRequest& command,
                                             Deadline deadline) {
  if (fd_ < 0) {
    const std::string& endpoint = options_.endpoints[next_endpoint_ % options_.endpoints.size()];
    ++next_endpoint_;
    if (auto ok = Connect(endpoint, deadline); !ok) return tl::unexpected(ok.error());
    if (auto ok = Greet(deadline); !ok) {
      Disconnect();
      return tl::unexpected(ok.error());
    }
  }
  proto::Management management;
  *management.mutable_admin_request() = command;
  const bool change = !command.has_status();
  if (change) deadline = steady_clock::now() + options_.answer_timeout;
  const uint64_t tag = ++last_tag_;
  const wire::Message message = wire::ToMessage(management, tag, pool_);
  if (message.payload.empty()) {
    return Err(ErrorCode::kInvalidArgument, "the command is too long to be sent");
  }
  if (auto ok = Send(message, deadline); !ok) {
    Disconnect();
    return tl::unexpected(ok.error());
  }
  while (true) {
    const Result<wire::Message> received = Receive(deadline);
    if (!received) {
      Disconnect();
      if (change && steady_clock::now() >= deadline) {
        return Err(
            ErrorCode::kTimeout,
            "the MDM at %s has the command but has not answered within %.3g s; whether it is "
            "carried out, `gabion status` tells",
            endpoint_.c_str(), static_cast<double>(options_.answer_timeout.count()) / 1000);
      }
      return tl::unexpected(received.error());
    }
    const auto* body = std::get_if<wire::ManagementBody>(&received->body);
    if (body == nullptr || body->tag != tag) continue;
    Result<proto::Management> parsed = wire::ParseManagement(*received);
    if (!parsed || !parsed->has_admin_reply()) {
      Disconnect();
      return Err(ErrorCode::kUnsupported,
                 "the MDM at %s sent an answer that this version of "
                 "gabion does not know",
                 endpoint_.c_str());
    }
    return std::move(*parsed->mutable_admin_reply());
  }
}

Result<void> MdmClient::Connect(const std::string& endpoint, Deadline deadline) {
  endpoint_ = endpoint;
  std::string host;
  std::string port;
  if (!SplitEndpoint(endpoint, host, port)) {
    return Err(ErrorCode::kInvalidArgument,
               "MDM address '%s': wants HOST:PORT, such as 127.0.0.1:7070", endpoint.c_str());
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return Err(ErrorCode::kUnavailable, "%s", ::gai_strerror(error));
  }
  std::string why = "no address";
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int fd = ::socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    int error = 0;
    if (::connect(fd, info->ai_addr, info->ai_addrlen) != 0) error = errno;
    if (error == EINPROGRESS) {
      socklen_t size = sizeof(error);
      if (!WaitFor(fd, POLLOUT, deadline)) {
        error = ETIMEDOUT;
      } else if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
    if (error == 0) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      fd_ = fd;
      break;
    }
    why = std::strerror(error);
    ::close(fd);
  }
  ::freeaddrinfo(found);
  if (fd_ < 0) return Err(ErrorCode::kUnavailable, "%s", why.c_str());
  return {};
}

Result<void> MdmClient::Greet(Deadline deadline) {
  wire::Hello hello;
  hello.role = wire::PeerRole::kAdmin;
  if (auto ok = Send({hello, {}}, deadline); !ok) return ok;
  const Result<wire::Message> received = Receive(deadline);
  if (!received) return tl::unexpected(received.error());
  const auto* reply = std::get_if<wire::HelloReply>(&received->body);
  if (reply == nullptr || reply->role != wire::PeerRole::kMdm) {
    return Err(ErrorCode::kConflict, "%s is no MDM; check --mdm or GABION_MDM", endpoint_.c_str());
  }
  if (reply->status == wire::Status::kOk) return {};
  const std::string name(wire::StatusName(reply->status));
  if (reply->status == wire::Status::kUnavailable || reply->status == wire::Status::kBusy) {
    return Err(ErrorCode::kUnavailable, "not ready (%s)", name.c_str());
  }
  return Err(ErrorCode::kUnsupported,
             "the MDM at %s refuses this program (%s); use the gabion of its own version",
             endpoint_.c_str(), name.c_str());
}

Result<void> MdmClient::Send(const wire::Message& message, Deadline deadline) {
  std::array<std::byte, wire::kHeadBytesMax> head;
  const size_t head_size = wire::EncodeHead(message, head);
  const auto send_all = [&](const std::byte* data, size_t size) -> Result<void> {
    while (size > 0) {
      const ssize_t sent = ::send(fd_, data, size, MSG_NOSIGNAL);
      if (sent > 0) {
        data += sent;
        size -= static_cast<size_t>(sent);
      } else if (errno == EAGAIN) {
        if (!WaitFor(fd_, POLLOUT, deadline)) return Err(ErrorCode::kUnavailable, "no answer");
      } else if (errno != EINTR) {
        return Err(ErrorCode::kUnavailable, "%s", std::strerror(errno));
      }
    }
    return {};
  };
  if (auto ok = send_all(head.data(), head_size); !ok) return ok;
  return send_all(message.payload.data(), message.payload.size());
}

Result<void> MdmClient::ReceiveBytes(std::byte* into, size_t size, Deadline deadline) {
  while (size > 0) {
    const ssize_t got = ::recv(fd_, into, size, 0);
    if (got > 0) {
      into += got;
      size -= static_cast<size_t>(got);
    } else if (got == 0) {
      return Err(ErrorCode::kUnavailable, "closed the connection");
    } else if (errno == EAGAIN) {
      if (!WaitFor(fd_, POLLIN, deadline)) return Err(ErrorCode::kUnavailable, "no answer");
    } else if (errno != EINTR) {
      return Err(ErrorCode::kUnavailable, "%s", std::strerror(errno));
    }
  }
  return {};
}

Result<wire::Message> MdmClient::Receive(Deadline deadline) {
  std::array<std::byte, wire::kFrameHeaderBytes> head;
  if (auto ok = ReceiveBytes(head.data(), head.size(), deadline); !ok) {
    return tl::unexpected(ok.error());
  }
  const auto not_ours = [this](const Error& error) {
    return Err(ErrorCode::kCorrupt, "what answers at %s does not speak Gabion's protocol (%s)",
               endpoint_.c_str(), error.message.c_str());
  };
  const Result<wire::FrameHeader> header = wire::ParseHeader(head);
  if (!header) return not_ours(header.error());
  std::array<std::byte, wire::kBodyBytesMax> body;
  if (header->body_bytes > body.size() || header->payload_bytes > wire::kManagementBytesMax) {
    return not_ours({.code = ErrorCode::kCorrupt, .message = "oversized frame"});
  }
  if (auto ok = ReceiveBytes(body.data(), header->body_bytes, deadline); !ok) {
    return tl::unexpected(ok.error());
  }
  Slice payload;
  if (header->payload_bytes > 0) {
    payload = pool_.Allocate(header->payload_bytes);
    if (payload.empty()) return Err(ErrorCode::kLimit, "the answer is too large");
    if (auto ok = ReceiveBytes(payload.mutable_span().data(), payload.size(), deadline); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  Result<wire::Message> message =
      wire::DecodeFrame(*header, std::span(body).first(header->body_bytes), std::move(payload));
  if (!message) return not_ours(message.error());
  return message;
}

}  // namespace gabion::cli
