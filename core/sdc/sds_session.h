// The client's connection to one SDS, and what it is owed there.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/link.h"
#include "core/wire/data.h"

namespace gabion::sdc {

struct SdsSession {
  SdsId sds;
  uint32_t index = 0;
  Link link;
  Incarnation incarnation{};  // of the process that sent the last hello reply
  uint32_t owed = 0;          // attempts sent on the present connection and not answered
  Instant silent_since{};     // last message from there, or since when it has owed something
  std::vector<wire::LowWaterItem> marks{};  // of the heartbeat being made; keeps its memory
  bool wants_sign = false;  // it has been silent for long: the next heartbeat goes out in any case
};

}  // namespace gabion::sdc
