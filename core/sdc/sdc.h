// The SDC role: turns block I/O on volumes (UserRequestEvent) into I/O on slices.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/address.h"
#include "core/role/role.h"

namespace gabion::sdc {

struct Options {
  std::string name{};  // as added by `gabion sdc add`
  std::vector<Address> mdms{};
  Duration io_timeout{0};  // 0: never; else EIO, after R10 has fenced the attempt
  // A connection that owes an answer and has been silent for this long is given up and dialled
  // anew.
  Duration connection_timeout = std::chrono::milliseconds(1500);
  uint32_t requests_max = 1024;  // user requests in flight
  uint32_t pieces_max = 4096;    // their parts
};

std::unique_ptr<Role> MakeSdc(const Options& options, const RoleResources& resources);

}  // namespace gabion::sdc
