// Errors of the world (I/O, time-outs, lost peers, wrong requests) as values. Our own bugs are
// CHECKs.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace gabion {

// A caller switches over all of them without `default`.
enum class ErrorCode : uint8_t {
  kInvalidArgument = 1,  // the request is wrong whatever the state
  kNotFound,
  kExists,
  kPermission,   // who asks may not
  kUnsupported,  // an unknown version or feature
  kLimit,        // a configured limit is reached
  kNoSpace,      // no room on the devices
  kConflict,     // the state does not allow it now; a retry after a change may
  kFenced,       // the right to ask was taken away: stale epoch, reign, incarnation, mapping
  kUnavailable,  // nobody can serve it now; a retry may
  kTimeout,      // no answer; it may have happened
  kIoError,      // a device or the system failed
  kCorrupt,      // bytes that do not match their checksum or format
};

// A fixed name in snake case: "not_found". Printed, logged and sent to people; stable.
const char* ToString(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;  // for people; never parsed

  friend bool operator==(const Error&, const Error&) = default;
};

// "not_found: no volume 7".
std::string ToString(const Error& error);

// A value or an Error. A class rather than an alias, because only a class can be [[nodiscard]].
// value() on an error, or error() on a value, is our bug: test first.
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Base base) : Base(std::move(base)) {}  // NOLINT: what map() and and_then() return
};

// `return Err(ErrorCode::kNotFound, "no volume %s", name.c_str());` in a function that returns a
// Result.
[[gnu::format(printf, 2, 3)]] tl::unexpected<Error> Err(ErrorCode code, const char* format, ...);

}  // namespace gabion
