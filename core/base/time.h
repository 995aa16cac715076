// Time types. Nothing here reads a clock: a host puts the present into `Now`.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace gabion {

// Signed, 64-bit, nanoseconds: +-292 years.
using Duration = std::chrono::nanoseconds;

// The node's CLOCK_BOOTTIME: runs on while the machine is suspended, never jumps. Two nodes'
// instants cannot be compared.
struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock, Duration>;
  static constexpr bool is_steady = true;
};
using Instant = BootClock::time_point;

// Nanoseconds since 1970 UTC. May jump both ways; it never extends a right.
struct WallClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<WallClock, Duration>;
  static constexpr bool is_steady = false;
};
using WallTime = WallClock::time_point;

// What a host tells a role about the present at each step.
struct Now {
  Instant boot;
  WallTime wall;

  friend constexpr bool operator==(const Now&, const Now&) = default;
};

// Later than every instant that occurs: the time of a timer that is not set.
inline constexpr Instant kNever = Instant::max();

// Rounds towards zero.
constexpr int64_t ToMillis(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}
constexpr int64_t ToMicros(Duration d) {
  return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
}

// `start + delay`, or kNever when that lies beyond it. Neither is negative.
constexpr Instant SaturatingAdd(Instant start, Duration delay) {
  return delay > kNever - start ? kNever : start + delay;
}

// Truncated to three decimals: "1.234 s", "12.3 ms", "250 us", "7 ns", "-1.5 s", "0 s".
std::string ToString(Duration d);

// Seconds since boot with all digits: "12.345678901 s"; "never" for kNever.
std::string ToString(Instant t);

// UTC with milliseconds: "2024-02-29 23:59:59.123".
std::string ToString(WallTime t);

}  // namespace gabion
