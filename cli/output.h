// Answers of the MDM as text for people and as JSON for programs.
#pragma once

#include <string>

#include "cli/invocation.h"
#include "core/wire/management.pb.h"

namespace gabion::cli {

// Protobuf's JSON with the field names of management.proto; 64-bit numbers are strings there.
std::string ToJson(const google::protobuf::Message& message);

// Only what `list` of this kind shows.
proto::ClusterStatus Filter(const proto::ClusterStatus& status, Kind kind);

// "No volumes.\n" when there are none.
std::string ListText(const proto::ClusterStatus& status, Kind kind);
std::string StatusText(const proto::ClusterStatus& status);
// One device with what its scanner says; empty: there is none with this id.
std::string DeviceText(const proto::ClusterStatus& status, const std::string& id);

// "192 slices: all mirrored", "192 slices: 100 mirrored, 92 with one copy (4 being copied) ...".
std::string SliceSummary(const proto::ClusterStatus& status);

// What a command has done: "Volume v1 created: 10 GiB in pool p1."
std::string DoneText(const proto::AdminRequest& request, const proto::AdminReply& reply);

}  // namespace gabion::cli
