// Address <-> sockaddr, and bound TCP sockets.
#pragma once

#include <sys/socket.h>

#include "core/base/result.h"
#include "core/role/address.h"

namespace gabion::net {

socklen_t ToSockaddr(const Address& address, sockaddr_storage* out);
Address FromSockaddr(const sockaddr_storage& from);

// A non-blocking TCP socket of the address's family; -1 and errno on failure.
int MakeTcpSocket(const Address& address);
// A non-blocking socket bound to `address` (port 0: a free one), not listening yet. The error names
// the address, the reason and the way out.
Result<int> BindTcp(const Address& address);
Address LocalAddress(int fd);

}  // namespace gabion::net
