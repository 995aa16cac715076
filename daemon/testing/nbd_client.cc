#include "daemon/testing/nbd_client.h"

#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
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
  // A server that never answers fails the test instead of hanging it.
  const timeval limit{.tv_sec = 60, .tv_usec = 0};
  const bool good =
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
      ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
      ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
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

int NbdClient::Command(uint16_t type, uint64_t offset, uint32_t length,
                       std::span<const std::byte> out, std::span<std::byte> in) {
  std::vector<std::byte> request;
  Put(request, kRequestMagic);
  Put(request, uint16_t{0});
  Put(request, type);
  Put(request, ++cookie_);
  Put(request, offset);
  Put(request, length);
  request.insert(request.end(), out.begin(), out.end());
  struct {
    uint32_t magic, error;
    uint64_t cookie;
  } __attribute__((packed)) reply;
  if (!SendAll(request.data(), request.size()) || !ReceiveAll(&reply, sizeof(reply)) ||
      be32toh(reply.magic) != kReplyMagic || be64toh(reply.cookie) != cookie_) {
    return -1;
  }
  if (reply.error != 0) return static_cast<int>(be32toh(reply.error));
  return in.empty() || ReceiveAll(in.data(), in.size()) ? 0 : -1;
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
