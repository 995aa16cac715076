// `gabion store`: looks at a device while no daemon uses it, and writes nothing.
#pragma once

#include "cli/invocation.h"

namespace gabion::cli {

// Prints what it finds; the exit code says how bad it is.
int RunStoreCheck(const StoreOptions& options);
int RunStoreDump(const StoreOptions& options);

}  // namespace gabion::cli
