// Outcomes of runs as lines of text: many machines write files, and one adds them up.
#pragma once

#include <string>
#include <string_view>

#include "sim/run/pool.h"

namespace gabion::sim {

// One line, without its end: fields between tabs; of the message its first line.
std::string ToLine(const RunOutcome& outcome);
// False when the line is none of these. Fault classes that this program does not know are left out.
bool FromLine(std::string_view line, RunOutcome* outcome);

}  // namespace gabion::sim
