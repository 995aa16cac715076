// The scanner as administrators see it: orders, and what needs their attention.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

class Registrar;

// What was asked of the scanners of devices, and what they found when they last came to an end.
// Volatile; the second as long as this manager runs, also when the SDS has forgotten it.
class ScanOrders {
 public:
  // What the SDS of the device says of its scanner.
  void OnReport(DeviceId device, const proto::ScanStatus& scan);
  void Forget(DeviceId device);

  // A pass is to begin now, or (`cancel`) the running one to end. `carried_out`: the order that the
  // SDS says it carried out last, whichever manager asked for it.
  void Add(DeviceId device, uint64_t carried_out, uint64_t bytes_per_second, bool cancel);
  // Told with every answer to a heartbeat until the SDS says that it was done.
  void Tell(DeviceId device, proto::SdsGrant* grant) const;

  // Null: none is known to have been finished.
  const proto::ScanPass* LastOf(DeviceId device) const;

 private:
  absl::btree_map<DeviceId, proto::ScanOrder> orders_;
  absl::btree_map<DeviceId, proto::ScanPass> last_;
};

// `gabion device scan`: told to the device's SDS with the answer to its next heartbeat.
proto::AdminReply OrderScan(const View& view, const proto::DeviceScan& request,
                            Registrar* registrar);

// Empty, or what the scanner found on the device (as a status shows it) that was not made good, or
// should never happen.
std::string ScanNotice(const Repository& repository, const proto::Device& device);

}  // namespace gabion::mdm
