// Planted bugs: PLANTED_BUG("R7-ack-before-secondary") stands at the one line where a rule is
// enforced and is false, at compile time, in everything but the bug-bank binary. There the
// simulator decides by name which one is active, and shows that random simulation finds it
// (docs/simulation.md).
#pragma once

#include <string_view>

namespace gabion {

#ifdef GABION_BUGBANK
bool BugActive(std::string_view name);  // defined in sim/bugbank
#define PLANTED_BUG(name) (::gabion::BugActive(name))
#else
#define PLANTED_BUG(name) (false)
#endif

}  // namespace gabion
