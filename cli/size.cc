#include "cli/size.h"

#include <array>
#include <charconv>
#include <cstdio>

namespace gabion::cli {

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// The largest volume that chunk numbers of 32 bits can address.
constexpr uint64_t kSizeMax = kMiB << 32;

unsigned ShiftOf(std::string_view unit) {
  if (unit == "M" || unit == "MiB") return 20;
  if (unit == "G" || unit == "GiB") return 30;
  if (unit == "T" || unit == "TiB") return 40;
  return 0;
}

}  // namespace

Result<uint64_t> ParseSize(std::string_view text) {
  const auto refuse = [text](const char* why) {
    return Err(ErrorCode::kInvalidArgument, "size '%.*s': %s", static_cast<int>(text.size()),
               text.data(), why);
  };
  constexpr const char* kWanted = "wants a number and a unit, such as 512M, 10G or 1.5T";
  // Digits first: from_chars would take "inf" and a sign.
  if (text.empty() || text[0] < '0' || text[0] > '9') return refuse(kWanted);
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc()) return refuse(kWanted);
  const unsigned shift = ShiftOf(text.substr(static_cast<size_t>(end - text.data())));
  if (shift == 0) return refuse(kWanted);
  const double bytes = number * static_cast<double>(uint64_t{1} << shift);
  if (bytes > static_cast<double>(kSizeMax)) return refuse("is too large; the limit is 4096 TiB");
  const auto exact = static_cast<uint64_t>(bytes);
  if (exact == 0 || exact % kMiB != 0 || static_cast<double>(exact) != bytes) {
    return refuse("must be a whole number of MiB, and not zero");
  }
  return exact;
}

std::string FormatSize(uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 and more would print as four digits.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g %s", value, kUnits[unit]);
  return text;
}

}  // namespace gabion::cli
