// What the client does about each answer of an SDS.
#pragma once

#include <cstdint>

#include "core/wire/data.h"

namespace gabion::sdc {

enum class Reaction : uint8_t {
  kDone,        // the part succeeded
  kRetry,       // refused for now: send again after a pause
  kAskMap,      // the map may be old: ask the MDM, send again when it changed or after a pause
  kConfirmMap,  // the SDS says that this client may not: believe it once the MDM says so too
  kRetrySome,   // as kRetry, but after kTriesMax answers like this the part fails with EIO
  kNoSpace,     // fail with ENOSPC
  kFail,        // fail with EIO
};

// Answers of one kind that may be a passing fault and may be for good. With the longest pause
// between them that is some seconds.
inline constexpr uint32_t kTriesMax = 16;

// Every answer but kDone means that this attempt was not admitted and never will be.
Reaction ReactionTo(wire::Status status);

}  // namespace gabion::sdc
