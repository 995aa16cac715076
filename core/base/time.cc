#include "core/base/time.h"

#include <cstdio>

namespace gabion {

namespace {

constexpr uint64_t kNanosPerSecond = 1'000'000'000;

struct Unit {
  uint64_t nanos;
  char name[3];
};
constexpr Unit kUnits[] = {{kNanosPerSecond, "s"}, {1'000'000, "ms"}, {1'000, "us"}, {1, "ns"}};

// The largest unit of which there is at least one.
Unit UnitOf(uint64_t nanos) {
  for (const Unit& unit : kUnits) {
    if (nanos >= unit.nanos) return unit;
  }
  return kUnits[0];
}

// Also right for the least duration, which has no positive counterpart.
uint64_t Magnitude(int64_t nanos) {
  return nanos < 0 ? uint64_t{0} - static_cast<uint64_t>(nanos) : static_cast<uint64_t>(nanos);
}

const char* SignOf(int64_t nanos) { return nanos < 0 ? "-" : ""; }

}  // namespace

std::string ToString(Duration d) {
  const uint64_t nanos = Magnitude(d.count());
  const Unit unit = UnitOf(nanos);
  char text[40];
  std::snprintf(text, sizeof(text), "%s%llu", SignOf(d.count()),
                static_cast<unsigned long long>(nanos / unit.nanos));
  std::string result = text;
  if (unit.nanos >= 1000) {
    std::snprintf(text, sizeof(text), ".%03llu",
                  static_cast<unsigned long long>(nanos % unit.nanos / (unit.nanos / 1000)));
    result += text;
    result.erase(result.find_last_not_of('0') + 1);
    if (result.back() == '.') result.pop_back();
  }
  return result + " " + unit.name;
}

std::string ToString(Instant t) {
  if (t == kNever) return "never";
  const int64_t count = t.time_since_epoch().count();
  const uint64_t nanos = Magnitude(count);
  char text[48];
  std::snprintf(text, sizeof(text), "%s%llu.%09llu s", SignOf(count),
                static_cast<unsigned long long>(nanos / kNanosPerSecond),
                static_cast<unsigned long long>(nanos % kNanosPerSecond));
  return text;
}

std::string ToString(WallTime t) {
  using std::chrono::days;
  const std::chrono::sys_time<Duration> system_time(t.time_since_epoch());
  const auto day = std::chrono::floor<days>(system_time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss<Duration> clock(system_time - day);
  char text[80];
  std::snprintf(
      text, sizeof(text), "%04d-%02u-%02u %02d:%02d:%02d.%03d", static_cast<int>(date.year()),
      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
      static_cast<int>(clock.seconds().count()), static_cast<int>(ToMillis(clock.subseconds())));
  return text;
}

}  // namespace gabion
