// Parts: sending them, and what each answer leads to.
#include <cerrno>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/sdc/io.h"
#include "core/sdc/piece_crc.h"

namespace gabion::sdc {
namespace {

constexpr Duration kPauseMin = std::chrono::milliseconds(20);
constexpr Duration kPauseMax = std::chrono::milliseconds(200);

}  // namespace

void Io::TrySend(Context& context, SlotTag tag) {
  Part* part = parts_.Find(tag);
  CHECK(part != nullptr);
  CHECK(!part->attempt_out());
  wire::WriteRequest& message = part->message;
  wire::IoTarget& target = message.target;
  if (part->state == PartState::kAwaitingId) {
    CHECK_GT(slices_[target.slice].awaiting_id, 0u);
    --slices_[target.slice].awaiting_id;
  }
  part->state = PartState::kAwaitingRoute;
  if (part->fails()) return Settle(context, tag, part->doom);
  const MapCache& map = context.mdm.map();
  const VolumeInfo* volume = map.FindVolume(target.volume);
  if (volume == nullptr) return Settle(context, tag, EIO);
  if (!target.slice.valid()) target.slice = map.SliceOf(*volume, target.chunk).value_or(SliceId());
  const Route route = map.RouteOf(target.slice);
  if (!route.sds.valid()) return;

  if (!part->is_read) {
    RequestIds& ids = slices_[target.slice].ids;
    if (PLANTED_BUG("R10-new-id-on-retry") && message.request.valid() && part->attempts > 0 &&
        ids.CanAssign()) {
      ids.Settle(message.request);
      message.request = RequestId();
    }
    if (!message.request.valid()) {
      if (!ids.CanAssign()) {
        part->state = PartState::kAwaitingId;
        ++slices_[target.slice].awaiting_id;
        return;
      }
      message.request = ids.Assign();
    }
  }
  SdsSession* session = SessionOf(context, route.sds);
  if (session == nullptr) return;
  part->session = session->index;
  if (!session->link.up()) {
    part->state = PartState::kAwaitingLink;
    return;
  }
  Send(context, tag, *session, *volume, route);
}

void Io::Send(Context& context, SlotTag tag, SdsSession& session, const VolumeInfo& volume,
              Route route) {
  // Each attempt has a tag of its own, so that late answers to earlier ones miss.
  if (parts_.Find(tag)->attempts > 0) {
    ++counters_.retries;
    std::optional<Part> taken = parts_.Take(tag);
    CHECK(taken.has_value());
    const std::optional<SlotTag> renewed = parts_.Insert(std::move(*taken));
    CHECK(renewed.has_value());
    tag = *renewed;
  }
  Part& part = *parts_.Find(tag);
  ++counters_.attempts;
  ++part.attempts;
  part.state = PartState::kSent;
  part.reign = route.reign;
  part.snap_number = volume.snap_number;
  if (session.owed++ == 0) session.silent_since = context.now.boot;

  wire::WriteRequest& message = part.message;
  message.target.reign = route.reign;
  message.tag = tag.value();
  if (part.chunk_count > 0) {
    context.effects.Send(
        session.link.conn(),
        wire::PresenceRequest{.target = message.target,
                              .tag = message.tag,
                              .chunk_count = part.chunk_count,
                              .chunk_stride = requests_.Find(part.request)->stride});
    return;
  }
  if (part.is_read) {
    context.effects.Send(session.link.conn(),
                         wire::ReadRequest{.target = message.target, .tag = message.tag});
    return;
  }
  SliceState& slice = slices_[message.target.slice];
  message.snap_number = volume.snap_number;
  message.low_water = slice.low_water_told = slice.ids.low_water();
  context.effects.Send(session.link.conn(), message, part.payload);
}

void Io::OnWriteReply(Context& context, SdsSession& session, const wire::WriteReply& reply) {
  const SlotTag tag(reply.tag);
  Part* part = parts_.Find(tag);
  // Of an attempt that is no longer waited for.
  if (part == nullptr || part->state != PartState::kSent) return;
  if (part->session != session.index || part->is_read ||
      reply.slice != part->message.target.slice || reply.request != part->message.request) {
    ++counters_.malformed;
    return GiveUp(context, session, "an answer does not fit its request");
  }
  RetireAttempt(*part);
  if (reply.status == wire::Status::kOk) return Settle(context, tag, 0);
  OnRefusal(context, tag, reply.status);
}

void Io::OnReadReply(Context& context, SdsSession& session, const wire::ReadReply& reply,
                     const Slice& payload) {
  const SlotTag tag(reply.tag);
  Part* part = parts_.Find(tag);
  if (part == nullptr || part->state != PartState::kSent) return;
  const wire::IoTarget& target = part->message.target;
  const bool ok = reply.status == wire::Status::kOk;
  if (part->session != session.index || !part->is_read || part->chunk_count > 0 ||
      reply.slice != target.slice || (ok && payload.size() != target.length_bytes)) {
    ++counters_.malformed;
    return GiveUp(context, session, "an answer does not fit its request");
  }
  RetireAttempt(*part);
  if (!ok) return OnRefusal(context, tag, reply.status);
  if (!PieceCrcsMatch(target.offset_bytes, payload.span(), reply.piece_crc)) {
    ++counters_.bad_checksums;
    return OnRefusal(context, tag, wire::Status::kBadChecksum);
  }
  Settle(context, tag, 0, payload);
}

void Io::OnPresenceReply(Context& context, SdsSession& session, const wire::PresenceReply& reply,
                         const Slice& payload) {
  const SlotTag tag(reply.tag);
  Part* part = parts_.Find(tag);
  if (part == nullptr || part->state != PartState::kSent) return;
  const bool ok = reply.status == wire::Status::kOk;
  const uint64_t wanted = part->chunk_count * sizeof(wire::ChunkPresence);
  if (part->session != session.index || part->chunk_count == 0 ||
      reply.slice != part->message.target.slice || (ok && payload.size() != wanted)) {
    ++counters_.malformed;
    return GiveUp(context, session, "an answer does not fit its request");
  }
  RetireAttempt(*part);
  if (!ok) return OnRefusal(context, tag, reply.status);
  Settle(context, tag, 0, payload);
}

void Io::OnRefusal(Context& context, SlotTag tag, wire::Status status) {
  Part& part = *parts_.Find(tag);
  CHECK(!part.attempt_out());
  part.refusal = status;
  if (part.fails()) return Settle(context, tag, part.doom);
  switch (ReactionTo(status)) {
    case Reaction::kDone:
      UNREACHABLE("not a refusal");
    case Reaction::kRetry:
      return Pause(context, part);
    case Reaction::kAskMap:
      if (MapIsNewer(part, context.mdm.map())) return TrySend(context, tag);
      (void)context.mdm.Ask(context.now, context.effects);
      return Pause(context, part);
    case Reaction::kConfirmMap:
      part.confirm_number = context.mdm.Ask(context.now, context.effects);
      part.state = PartState::kAwaitingConfirm;
      return;
    case Reaction::kRetrySome:
      if (++part.tries < kTriesMax) {
        (void)context.mdm.Ask(context.now, context.effects);
        return Pause(context, part);
      }
      break;
    case Reaction::kNoSpace:
      return Settle(context, tag, ENOSPC);
    case Reaction::kFail:
      break;
  }
  const wire::IoTarget& target = part.message.target;
  context.effects.Log(Severity::kError, std::string(part.is_read ? "read" : "write") +
                                            " failed on volume " + ToString(target.volume) +
                                            ", chunk " + std::to_string(target.chunk) + ", bytes " +
                                            std::to_string(target.offset_bytes) + "+" +
                                            std::to_string(target.length_bytes) + ": SDS " +
                                            ToString(sessions_[part.session].sds) + " says " +
                                            std::string(wire::StatusName(status)));
  Settle(context, tag, EIO);
}

void Io::OnConfirmed(Context& context) {
  const std::vector<SlotTag> waiting = Collect([&](const Part& part) {
    return part.state == PartState::kAwaitingConfirm &&
           part.confirm_number <= context.mdm.confirmed();
  });
  for (SlotTag tag : waiting) {
    Part* part = parts_.Find(tag);
    if (part == nullptr) continue;
    const VolumeInfo* volume = context.mdm.map().FindVolume(part->message.target.volume);
    if (volume == nullptr) {
      Settle(context, tag, EIO);
    } else if (part->refusal == wire::Status::kReadOnly && volume->read_only) {
      Settle(context, tag, EROFS);
    } else {
      Pause(context, *part);  // the SDS has not heard of the mapping yet
    }
  }
  Pump(context);
}

void Io::OnMapChanged(Context& context) {
  const MapCache& map = context.mdm.map();
  for (SdsSession& session : sessions_) {
    const std::vector<Address>* addresses = map.AddressesOf(session.sds);
    // An SDS with other addresses runs elsewhere now; what still answers at the old ones is not it,
    // be it before its hello reply (seed 313000437).
    const bool moved = addresses != nullptr && !addresses->empty() && session.link.conn().valid() &&
                       session.link.peer().addresses != *addresses;
    Link::Change change = addresses == nullptr ? session.link.Stop(context.effects)
                                               : session.link.Start(context.now,
                                                                    {.role = wire::PeerRole::kSds,
                                                                     .id = session.sds.value(),
                                                                     .incarnation = {},
                                                                     .addresses = *addresses},
                                                                    context.effects);
    if (moved && change == Link::Change::kNone) {
      change = session.link.Reconnect(context.now, context.effects);
    }
    OnLinkChange(context, session, change);
  }
  for (SlotTag tag : Collect([](const Part&) { return true; })) {
    Part* part = parts_.Find(tag);
    if (part == nullptr) continue;
    const wire::IoTarget& target = part->message.target;
    switch (part->state) {
      case PartState::kSent:
      case PartState::kUnconfirmed:
        // A newer reign means that no attempt under the old one can be admitted (R12).
        if (map.RouteOf(target.slice).reign > part->reign) {
          RetireAttempt(*part);
          part->uncertain = !part->is_read;
          TrySend(context, tag);
        } else if (map.FindVolume(target.volume) == nullptr) {
          Doom(context, tag, EIO);
        }
        break;
      case PartState::kAwaitingRoute:
      case PartState::kAwaitingId:
      case PartState::kAwaitingLink:
        TrySend(context, tag);
        break;
      case PartState::kAwaitingPause:
        if (MapIsNewer(*part, map)) TrySend(context, tag);
        break;
      case PartState::kAwaitingConfirm:
        break;
    }
  }
  Pump(context);
}

bool Io::MapIsNewer(const Part& part, const MapCache& map) const {
  const VolumeInfo* volume = map.FindVolume(part.message.target.volume);
  return volume == nullptr || volume->snap_number > part.snap_number ||
         map.RouteOf(part.message.target.slice).reign > part.reign;
}

void Io::RetireAttempt(Part& part) {
  CHECK(part.attempt_out());
  if (part.state == PartState::kSent) {
    CHECK_GT(sessions_[part.session].owed, 0u);
    --sessions_[part.session].owed;
  }
  part.state = PartState::kAwaitingRoute;
}

void Io::Pause(Context& context, Part& part) {
  part.pause = std::clamp(part.pause * 2, kPauseMin, kPauseMax);
  part.resume_at = SaturatingAdd(context.now.boot, part.pause);
  part.state = PartState::kAwaitingPause;
  ArmPauseTimer(context, part.resume_at);
}

void Io::ArmPauseTimer(Context& context, Instant when) {
  if (when >= pause_timer_at_) return;
  pause_timer_at_ = when;
  context.effects.SetTimer(options_.pause_timer, when);
}

void Io::OnPauseTimer(Context& context) {
  if (context.now.boot < pause_timer_at_) return;  // replaced while it was on its way
  pause_timer_at_ = kNever;
  const std::vector<SlotTag> due = Collect([&](const Part& part) {
    return part.state == PartState::kAwaitingPause && part.resume_at <= context.now.boot;
  });
  for (SlotTag tag : due) {
    if (parts_.Find(tag) != nullptr) TrySend(context, tag);
  }
  parts_.ForEach([&](SlotTag, const Part& part) {
    if (part.state == PartState::kAwaitingPause) ArmPauseTimer(context, part.resume_at);
  });
  Pump(context);
}

}  // namespace gabion::sdc
