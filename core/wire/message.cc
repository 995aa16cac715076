#include "core/wire/message.h"

#include <array>

namespace gabion::wire {

namespace {

constexpr std::array<std::string_view, std::variant_size_v<Body>> kTypeNames = {
    "None",
    "Hello",
    "HelloReply",
    "Management",
    "WriteRequest",
    "WriteReply",
    "ReadRequest",
    "ReadReply",
    "SessionHeartbeat",
    "SessionHeartbeatReply",
    "Replicate",
    "ReplicateAck",
    "CommitPoints",
    "TailQuery",
    "TailReply",
    "FetchEntry",
    "FetchReply",
    "EpochStart",
    "EpochStartReply",
    "CopyExtent",
    "DropChunk",
    "CopyRequests",
    "JoinAck",
    "ChangedQuery",
    "ChangedReply",
    "PresenceRequest",
    "PresenceReply",
    "ExtentQuery",
    "ExtentReply",
    "CopyCursor",
    "CreditsRequest",
    "ScanFix",
    "ScanFixReply",
    "ScanHint",
};

}  // namespace

std::string_view TypeName(uint16_t type) {
  return type < kTypeNames.size() ? kTypeNames[type] : "Unknown";
}

std::string_view StatusName(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kWrongReign:
      return "wrong reign";
    case Status::kNotPrimary:
      return "not primary";
    case Status::kNoLease:
      return "no lease";
    case Status::kStaleSnapshot:
      return "stale snapshot number";
    case Status::kNotMapped:
      return "volume not mapped";
    case Status::kBadChecksum:
      return "bad checksum";
    case Status::kOutOfRange:
      return "out of range";
    case Status::kNoSpace:
      return "no space";
    case Status::kBusy:
      return "busy";
    case Status::kIoError:
      return "I/O error";
    case Status::kStaleRequest:
      return "stale request";
    case Status::kReadOnly:
      return "read-only";
    case Status::kWrongEpoch:
      return "wrong epoch";
    case Status::kAhead:
      return "ahead";
    case Status::kBehind:
      return "behind";
    case Status::kNeedsResync:
      return "needs resync";
    case Status::kUnavailable:
      return "unavailable";
    case Status::kMalformed:
      return "malformed";
    case Status::kWrongCluster:
      return "wrong cluster";
    case Status::kWrongPeer:
      return "wrong peer";
    case Status::kUnsupportedVersion:
      return "unsupported version";
    case Status::kStaleIncarnation:
      return "stale incarnation";
    case Status::kUnknownPeer:
      return "unknown peer";
  }
  return "unknown status";
}

}  // namespace gabion::wire
