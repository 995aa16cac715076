#include "core/role/address.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace gabion {

namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool IsV4(const std::array<uint8_t, 16>& ip) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), ip.begin());
}

// The whole of `text` as a number in `base`, at most `digits_max` digits and at most `max`.
std::optional<uint32_t> ParseNumber(std::string_view text, int base, size_t digits_max,
                                    uint32_t max) {
  if (text.empty() || text.size() > digits_max) return std::nullopt;
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

bool ParseV4(std::string_view text, uint8_t* to) {
  for (int i = 0; i < 4; ++i) {
    const size_t dot = i < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos) return false;
    const std::optional<uint32_t> part = ParseNumber(text.substr(0, dot), 10, 3, 255);
    if (!part) return false;
    to[i] = static_cast<uint8_t>(*part);
    text.remove_prefix(i < 3 ? dot + 1 : dot);
  }
  return true;
}

// Groups separated by colons, at most one "::", and an IPv4 tail as in "::ffff:1.2.3.4".
bool ParseV6(std::string_view text, std::array<uint8_t, 16>& ip) {
  std::array<uint8_t, 16> bytes{};
  size_t count = 0;           // bytes parsed
  std::optional<size_t> gap;  // where "::" stands
  if (text.starts_with("::")) {
    gap = 0;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    const size_t colon = std::min(text.find(':'), text.size());
    const std::string_view group = text.substr(0, colon);
    if (group.find('.') != std::string_view::npos) {
      if (colon != text.size() || count > 12 || !ParseV4(group, &bytes[count])) return false;
      count += 4;
      text = {};
      break;
    }
    const std::optional<uint32_t> value = ParseNumber(group, 16, 4, 0xffff);
    if (!value || count > 14) return false;
    bytes[count++] = static_cast<uint8_t>(*value >> 8);
    bytes[count++] = static_cast<uint8_t>(*value);
    text.remove_prefix(colon);
    if (text.empty()) break;
    text.remove_prefix(1);
    if (text.starts_with(":")) {
      if (gap) return false;
      gap = count;
      text.remove_prefix(1);
    } else if (text.empty()) {
      return false;  // a single colon at the end
    }
  }
  if (gap ? count > 14 : count != 16) return false;
  ip = {};
  const size_t head = gap.value_or(count);
  std::copy_n(bytes.begin(), head, ip.begin());
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(head), count - head,
              ip.end() - static_cast<ptrdiff_t>(count - head));
  return true;
}

}  // namespace

std::string Address::ToString() const {
  char text[64];
  if (IsV4(ip)) {
    std::snprintf(text, sizeof(text), "%u.%u.%u.%u:%u", ip[12], ip[13], ip[14], ip[15], port);
    return text;
  }
  const auto group = [this](int i) {
    return static_cast<unsigned>(ip[2 * i] << 8 | ip[2 * i + 1]);
  };
  // RFC 5952: the longest run of two or more zero groups, the first of equals, becomes "::".
  int gap_begin = -1;
  int gap_size = 1;
  for (int i = 0; i < 8; ++i) {
    int size = 0;
    while (i + size < 8 && group(i + size) == 0) ++size;
    if (size > gap_size) {
      gap_begin = i;
      gap_size = size;
    }
  }
  std::string result = "[";
  for (int i = 0; i < 8; ++i) {
    if (i == gap_begin) {
      result += "::";
      i += gap_size - 1;
      continue;
    }
    if (i > 0 && result.back() != ':') result += ':';
    std::snprintf(text, sizeof(text), "%x", group(i));
    result += text;
  }
  return result + "]:" + std::to_string(port);
}

std::optional<Address> Address::Parse(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> port = ParseNumber(text.substr(colon + 1), 10, 5, 65535);
  if (!port || *port == 0) return std::nullopt;
  const std::string_view host = text.substr(0, colon);
  Address address;
  address.port = static_cast<uint16_t>(*port);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    if (!ParseV6(host.substr(1, host.size() - 2), address.ip)) return std::nullopt;
    return address;
  }
  std::array<uint8_t, 4> v4{};
  if (!ParseV4(host, v4.data())) return std::nullopt;
  return V4(v4[0], v4[1], v4[2], v4[3], address.port);
}

Address Address::V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port) {
  Address address;
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.ip.begin());
  address.ip[12] = a;
  address.ip[13] = b;
  address.ip[14] = c;
  address.ip[15] = d;
  address.port = port;
  return address;
}

}  // namespace gabion
