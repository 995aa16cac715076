#include "daemon/testing/nbd_client.h"

#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace gabion::daemon {

namespace {

// doc/proto.md of the NetworkBlockDevice project; simple replies only.
constexpr uint64_t kInitMagic = 0x4e42444d41474943;
constexpr uint64_t kOptionMagic = 0x49484156454f5054;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kReplyMagic = 0x67446698;
constexpr uint32_t kOptionExportName = 1;
constexpr uint32_t kFlagFixedNewstyle = 1;
constexpr uint32_t kFlagNoZeroes = 2;

template <class T>
void Put(std::vector<std::byte>& to, T value) {
  for (size_t i = sizeof(T); i > 0; --i) {
    to.push_back(static_cast<std::byte>(value >> (8 * (i - 1))));
  }
}

}  // namespace

NbdClient::NbdClient(uint16_t port, const std::string& name) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Begin(name, &address, sizeof(address));
}

NbdClient::NbdClient(const std::string& path, const std::string& name) {
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  Begin(name, &address, sizeof(address));
}

void NbdClient::Begin(const std::string& name, const void* address, size_t address_size) {
  // A server that never answers fails the test instead of hanging it.
  const timeval limit{.tv_sec = 60, .tv_usec = 0};
  const bool good = ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
                    ::connect(fd_, static_cast<const sockaddr*>(address),
                              static_cast<socklen_t>(address_size)) == 0 &&
                    Negotiate(name);
  if (!good) {
    ::close(fd_);
    fd_ = -1;
  }
}

NbdClient::~NbdClient() {
  if (fd_ >= 0) ::close(fd_);
}

bool NbdClient::Negotiate(const std::string& name) {
  struct {
    uint64_t magic, option_magic;
    uint16_t flags;
  } __attribute__((packed)) greeting;
  if (!ReceiveAll(&greeting, sizeof(greeting)) || be64toh(greeting.magic) != kInitMagic ||
      be64toh(greeting.option_magic) != kOptionMagic) {
    return false;
  }
  std::vector<std::byte> out;
  Put(out, kFlagFixedNewstyle | kFlagNoZeroes);
  Put(out, kOptionMagic);
  Put(out, kOptionExportName);
  Put(out, static_cast<uint32_t>(name.size()));
  for (const char c : name) out.push_back(static_cast<std::byte>(c));
  struct {
    uint64_t size;
    uint16_t flags;
  } __attribute__((packed)) reply;
  if (!SendAll(out.data(), out.size()) || !ReceiveAll(&reply, sizeof(reply))) return false;
  size_bytes_ = be64toh(reply.size);
  return true;
}

int NbdClient::Write(uint64_t offset, std::span<const std::byte> data) {
  return Command(1, offset, static_cast<uint32_t>(data.size()), data, {});
}

int NbdClient::Read(uint64_t offset, std::span<std::byte> data) {
  return Command(0, offset, static_cast<uint32_t>(data.size()), {}, data);
}

bool NbdClient::StartWrite(uint64_t offset, std::span<const std::byte> data) {
  return SendRequest(1, offset, static_cast<uint32_t>(data.size()), data);
}

int NbdClient::FinishWrite() { return ReceiveReply(nullptr); }

int NbdClient::Command(uint16_t type, uint64_t offset, uint32_t length,
                       std::span<const std::byte> out, std::span<std::byte> in) {
  uint64_t cookie = 0;
  if (!SendRequest(type, offset, length, out)) return -1;
  const int error = ReceiveReply(&cookie);
  if (error < 0 || cookie != cookie_) return -1;
  if (error != 0) return error;
  return in.empty() || ReceiveAll(in.data(), in.size()) ? 0 : -1;
}

bool NbdClient::SendRequest(uint16_t type, uint64_t offset, uint32_t length,
                            std::span<const std::byte> out) {
  std::vector<std::byte> request;
  Put(request, kRequestMagic);
  Put(request, uint16_t{0});
  Put(request, type);
  Put(request, ++cookie_);
  Put(request, offset);
  Put(request, length);
  request.insert(request.end(), out.begin(), out.end());
  return SendAll(request.data(), request.size());
}

int NbdClient::ReceiveReply(uint64_t* cookie) {
  struct {
    uint32_t magic, error;
    uint64_t cookie;
  } __attribute__((packed)) reply;
  if (!ReceiveAll(&reply, sizeof(reply)) || be32toh(reply.magic) != kReplyMagic) return -1;
  if (cookie != nullptr) *cookie = be64toh(reply.cookie);
  return static_cast<int>(be32toh(reply.error));
}

bool NbdClient::SendAll(const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(fd_, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool NbdClient::ReceiveAll(void* data, size_t size) {
  auto* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::recv(fd_, bytes, size, 0);
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace gabion::daemon
