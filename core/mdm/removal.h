// Devices and SDSs that are to go: what is accepted, what is refused and why, and what keeps one
// that was accepted from coming about.
#pragma once

#include <cstdint>
#include <string>

#include "core/mdm/admin.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

AdminDecision DecideRemoval(const View& view, const proto::SdsRemove& request);
AdminDecision DecideRemoval(const View& view, const proto::DeviceRemove& request);

// Empty, or why a device that is being removed cannot be emptied as things are, and the way out.
std::string WhyNotEmptied(const View& view, DeviceId id);

// What follows from a committed command, for people; empty when it is done.
std::string NoteOf(const Repository& repository, const proto::AdminRequest& request, uint64_t id);

}  // namespace gabion::mdm
