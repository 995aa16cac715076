// What an administrator may say to a repository that was restored from an older copy (R23), and
// what it says to him.
#pragma once

#include <string>
#include <vector>

#include "core/mdm/admin.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

AdminDecision DecideRestored(const View& view, const proto::MdmRestored& request);

// R13 for a slice that is closed.
AdminDecision DecideForceOfClosed(const View& view, const SliceState& closed,
                                  const proto::SliceForce& request);

// Empty, or why nothing can be removed now.
std::string WhyNothingGoes(const Repository& repository);

// What somebody should look at, each with the way out.
std::vector<std::string> RestoreNotices(const View& view);

}  // namespace gabion::mdm
