// Where a peer listens: an IP address (IPv4 mapped into IPv6) and a TCP port.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gabion {

struct Address {
  std::array<uint8_t, 16> ip{};
  uint16_t port = 0;

  auto operator<=>(const Address&) const = default;
  bool valid() const { return port != 0; }
  // "127.0.0.1:7070", "[::1]:7070".
  std::string ToString() const;
  // Numbers only: no name resolution in core.
  static std::optional<Address> Parse(std::string_view text);
  static Address V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);
};

}  // namespace gabion
