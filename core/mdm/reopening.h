// R23: which slices of a restored repository may be served again, and by whom (docs/roles.md, "A
// restored repository"). Pure functions of what the manager knows at this instant.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

struct Reopening {
  bool possible = false;
  std::string why_not;  // for a person
  SliceState next;      // its first epoch of this generation
  // Older replicas, the newest first; nobody counts on them any more.
  std::vector<DeviceId> leftovers;
};

Reopening DecideReopening(const View& view, const SliceState& closed);

// All that can be reopened now, at most `max` slices. Empty: nothing.
proto::ReopenSlices DecideReopenings(const View& view, size_t max);

// A device that holds more than the repository knows of: it, too, is an older copy than what the
// devices have followed, and its generation must be raised (again). Else empty.
std::string WhyOutdated(const View& view);

// A device for a person: with its server and path.
std::string TitleOf(const View& view, DeviceId id);

}  // namespace gabion::mdm
