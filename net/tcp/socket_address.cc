#include "net/tcp/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/base/check.h"

namespace gabion::net {
namespace {

constexpr std::array<uint8_t, 12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool IsV4(const Address& address) {
  return std::equal(kV4Prefix.begin(), kV4Prefix.end(), address.ip.begin());
}

}  // namespace

socklen_t ToSockaddr(const Address& address, sockaddr_storage* out) {
  *out = {};
  if (IsV4(address)) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(out);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    std::memcpy(&v4->sin_addr, address.ip.data() + kV4Prefix.size(), 4);
    return sizeof(*v4);
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(out);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(address.port);
  std::memcpy(&v6->sin6_addr, address.ip.data(), 16);
  return sizeof(*v6);
}

Address FromSockaddr(const sockaddr_storage& from) {
  Address address;
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    std::copy(kV4Prefix.begin(), kV4Prefix.end(), address.ip.begin());
    std::memcpy(address.ip.data() + kV4Prefix.size(), &v4.sin_addr, 4);
    address.port = ntohs(v4.sin_port);
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(address.ip.data(), &v6.sin6_addr, 16);
    address.port = ntohs(v6.sin6_port);
  }
  return address;
}

int MakeTcpSocket(const Address& address) {
  return ::socket(IsV4(address) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                  0);
}

Result<int> BindTcp(const Address& address) {
  const int fd = MakeTcpSocket(address);
  if (fd < 0) return Err(ErrorCode::kLimit, "socket: %s", std::strerror(errno));
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage storage;
  const socklen_t size = ToSockaddr(address, &storage);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) == 0) return fd;
  const int error = errno;
  ::close(fd);
  const char* way_out = error == EADDRINUSE
                            ? "another program uses this port: stop it, or choose another"
                        : error == EADDRNOTAVAIL ? "this machine does not have that address"
                        : error == EACCES        ? "ports below 1024 need root"
                                                 : "check the address";
  return Err(ErrorCode::kConflict, "cannot listen on %s: %s; %s", address.ToString().c_str(),
             std::strerror(error), way_out);
}

Address LocalAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  CHECK_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size), 0);
  return FromSockaddr(storage);
}

}  // namespace gabion::net
