// The scanner as administrators see it: orders, and what needs their attention.
#pragma once

#include <string>

#include "core/mdm/registrar.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

// `gabion device scan`: told to the device's SDS with the answer to its next heartbeat.
proto::AdminReply OrderScan(const View& view, const proto::DeviceScan& request,
                            Registrar* registrar);

// Empty, or what the scanner found on the device (as a status shows it) that was not made good, or
// should never happen.
std::string ScanNotice(const Repository& repository, const proto::Device& device);

}  // namespace gabion::mdm
