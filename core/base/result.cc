#include "core/base/result.h"

#include <cstdarg>
#include <cstdio>

#include "core/base/check.h"

namespace gabion {

const char* ToString(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kExists:
      return "exists";
    case ErrorCode::kPermission:
      return "permission";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kLimit:
      return "limit";
    case ErrorCode::kNoSpace:
      return "no_space";
    case ErrorCode::kConflict:
      return "conflict";
    case ErrorCode::kFenced:
      return "fenced";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kIoError:
      return "io_error";
    case ErrorCode::kCorrupt:
      return "corrupt";
  }
  UNREACHABLE("an error code that has no name");
}

std::string ToString(const Error& error) {
  return std::string(ToString(error.code)) + ": " + error.message;
}

tl::unexpected<Error> Err(ErrorCode code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  va_list args_again;
  va_copy(args_again, args);
  const int size = std::vsnprintf(nullptr, 0, format, args);
  va_end(args);
  CHECK_GE(size, 0) << format;
  std::string message(static_cast<size_t>(size), '\0');
  std::vsnprintf(message.data(), message.size() + 1, format, args_again);
  va_end(args_again);
  return tl::unexpected<Error>(Error{.code = code, .message = std::move(message)});
}

}  // namespace gabion
