#include "core/sdc/reaction.h"

namespace gabion::sdc {

Reaction ReactionTo(wire::Status status) {
  switch (status) {
    case wire::Status::kOk:
      return Reaction::kDone;
    case wire::Status::kWrongReign:
    case wire::Status::kNotPrimary:
    case wire::Status::kStaleSnapshot:
      return Reaction::kAskMap;
    case wire::Status::kNoLease:
    case wire::Status::kBusy:
    case wire::Status::kUnavailable:
    case wire::Status::kNeedsResync:
      return Reaction::kRetry;
    case wire::Status::kNotMapped:
    case wire::Status::kReadOnly:
      return Reaction::kConfirmMap;
    // A volume that has just grown here may still be smaller there.
    case wire::Status::kOutOfRange:
    case wire::Status::kBadChecksum:
      return Reaction::kRetrySome;
    case wire::Status::kNoSpace:
      return Reaction::kNoSpace;
    case wire::Status::kIoError:
    case wire::Status::kStaleRequest:
    case wire::Status::kMalformed:
      return Reaction::kFail;
    // The rest belongs to hellos and to SDSs among themselves.
    case wire::Status::kWrongEpoch:
    case wire::Status::kAhead:
    case wire::Status::kBehind:
    case wire::Status::kWrongCluster:
    case wire::Status::kWrongPeer:
    case wire::Status::kUnsupportedVersion:
    case wire::Status::kStaleIncarnation:
    case wire::Status::kUnknownPeer:
      return Reaction::kFail;
  }
  return Reaction::kFail;  // a number that this version does not know
}

}  // namespace gabion::sdc
