// The grammar of `gabion`. The only user of CLI11, which throws: nothing of it shows here.
#pragma once

#include <optional>

#include "cli/invocation.h"

namespace gabion::cli {

// Nullopt: help was printed, or the arguments are wrong and the reason was; `exit_code` says which.
std::optional<Invocation> ParseCommandLine(int argc, const char* const* argv, int* exit_code);

}  // namespace gabion::cli
