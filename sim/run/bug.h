// Which planted bug is active in this process (core/base/bug.h). Only the bug bank has any.
#pragma once

#include <string>

namespace gabion::sim {

// Empty: none. Programs without the bug bank know no other name, and stop.
void ActivateBug(const std::string& name);

// Whether the active bug's place was reached in this process.
bool BugReached();

}  // namespace gabion::sim
