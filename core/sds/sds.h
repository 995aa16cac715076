// The SDS role: lends devices, mirrors writes, serves reads, copies slices (docs/roles.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/role/role.h"

namespace gabion::sds {

struct Options {
  std::string name;  // as added by `gabion sds add`
  std::vector<Address> mdms;
  std::vector<Address> addresses;  // announced to others: where this SDS listens
  // Names the lock of the state directory that this process holds (R22, SdsRegister in
  // core/wire/management.proto). Empty: none.
  std::string state_lock = "lock";
  uint64_t entropy = 0;          // another one in each run of the program
  uint32_t requests_max = 1024;  // client requests in this process, waiting ones included
  uint32_t connections_max = 4096;
  Duration unreachable = std::chrono::milliseconds(500);  // peer silent: report MEMBER_NEEDED
  // A device that completes nothing for so long, with something to do, has failed.
  Duration device_timeout = std::chrono::seconds(30);
  uint64_t log_bytes = 0;                       // of devices that it formats; 0: the store decides
  uint64_t store_memory_bytes = 0;              // of each device; 0: the store decides
  uint64_t read_cache_bytes = 0;                // for all devices; 0: none
  uint64_t join_bytes_per_second = 200u << 20;  // throttle of a joining, per device
  // The scanner (S7): a pass of each device begins so often by itself; 0: never.
  Duration scan_interval = std::chrono::hours(7 * 24);
  // Of a pass; 0: as slow as the interval allows, but 256 KiB/s.
  uint64_t scan_bytes_per_second = 0;
  // How far passes are becomes durable so often at most.
  Duration scan_save_pause = std::chrono::minutes(1);
};

std::unique_ptr<Role> MakeSds(const Options& options, const RoleResources& resources);

}  // namespace gabion::sds
