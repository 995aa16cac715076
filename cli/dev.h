// `gabion dev`: a whole cluster of real daemons in one folder of one machine.
#pragma once

#include "cli/invocation.h"

namespace gabion::cli {

// Each prints and returns the exit code.
int RunDevUp(const Common& common, const DevOptions& options);
int RunDevStatus(const Common& common, const DevOptions& options);
int RunDevDown(const DevOptions& options);
int RunDevStart(const DevOptions& options);
// `verb`: kDevStop ends daemons cleanly, kDevKill with SIGKILL.
int RunDevEnd(const DevOptions& options, Verb verb);

}  // namespace gabion::cli
