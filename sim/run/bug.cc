#include "sim/run/bug.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/bug.h"

namespace {

// One name for the whole process, set before anything runs.
std::string active_bug;
bool reached = false;

}  // namespace

#ifdef GABION_BUGBANK

namespace gabion {

bool BugActive(std::string_view name) {
  if (name != active_bug) return false;
  reached = true;
  return true;
}

}  // namespace gabion

#endif

namespace gabion::sim {

void ActivateBug(const std::string& name) {
#ifndef GABION_BUGBANK
  if (!name.empty()) {
    std::fprintf(stderr, "gabion-sim: planted bugs are in gabion-sim-bugbank only\n");
    std::exit(2);
  }
#endif
  active_bug = name;
}

bool BugReached() { return reached; }

}  // namespace gabion::sim
