// The administrator's commands: a request and the present state in; a refusal, or the command to
// commit, out. Pure: nothing is changed here. Every refusal names the object, the reason, and the
// way out.
//
// Idempotence: a command that was carried out is remembered by its request id, and asked again it
// gives the first answer. A refused one has changed nothing, and asked again it is judged anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

// Sizes of volumes are multiples of this.
inline constexpr uint64_t kVolumeUnitBytes = uint64_t{1} << 20;
inline constexpr uint64_t kVolumeBytesMax = uint64_t{1} << 50;
// A thin volume may promise this many times what its pool can hold mirrored.
inline constexpr uint64_t kOverprovisioningMax = 5;

// What the answer to a committed command waits for.
enum class Await : uint8_t {
  kNothing,
  kDevice,         // the SDS has formatted it, or failed
  kAccessApplied,  // every SDS of the volume's pool knows the new right
  kAccessDrained,  // every SDS of the pool has applied and drained the fence, or is out of lease
};

struct AdminDecision {
  std::optional<proto::AdminReply> reply;  // set: refused, nothing to do, or done before
  proto::Command command;                  // else
};

AdminDecision DecideAdmin(const View& view, const proto::AdminRequest& request);
Await AwaitOf(const proto::AdminRequest& request);

// 1..63 of [A-Za-z0-9._-], not all digits (which would read as an id).
bool IsValidName(std::string_view name);

}  // namespace gabion::mdm
