// One message as roles see it: a typed body and an optional payload. Hosts turn it into a frame and
// back (core/wire/frame.h); the simulator passes it as it is, and through the codec in a share of
// runs.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>

#include "core/base/buffer.h"
#include "core/wire/data.h"

namespace gabion::wire {

// A Protobuf message of core/wire/management.proto (`Management`), serialized into the payload.
struct ManagementBody {
  uint64_t tag = 0;  // pairs a reply with its request; 0 for one-way messages
};

// Order is the type number on the wire: append only, never reuse, unless no version is spoken any
// more in which it was another one.
using Body =
    std::variant<std::monostate, Hello, HelloReply, ManagementBody,  // 0-3
                 WriteRequest, WriteReply, ReadRequest, ReadReply,   // 4-7
                 SessionHeartbeat, SessionHeartbeatReply,            // 8-9
                 Replicate, ReplicateAck, CommitPoints,              // 10-12
                 TailQuery, TailReply, FetchEntry, FetchReply, EpochStart,
                 EpochStartReply,                                                           // 13-18
                 CopyExtent, DropChunk, CopyRequests, JoinAck, ChangedQuery, ChangedReply,  // 19-24
                 PresenceRequest, PresenceReply,                                            // 25-26
                 ExtentQuery, ExtentReply, CopyCursor,                                      // 27-29
                 CreditsRequest,                                                            // 30
                 ScanFix, ScanFixReply, ScanHint>;                                          // 31-33

struct Message {
  Body body;
  Slice payload;

  uint16_t type() const { return static_cast<uint16_t>(body.index()); }
};

// "Replicate", "TailQuery" ...; for logs and traces.
std::string_view TypeName(uint16_t type);
std::string_view StatusName(Status status);

}  // namespace gabion::wire
