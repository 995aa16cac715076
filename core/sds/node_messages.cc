// Messages between SDSs: checked against the configuration (R20), then given to the replica.
#include <utility>
#include <variant>

#include "core/base/bug.h"
#include "core/sds/entry_check.h"
#include "core/sds/node.h"
#include "core/sds/replica.h"

namespace gabion::sds {

using wire::Status;

Status Node::CheckPair(const wire::PairHeader& pair, ConnId conn, Secondary** secondary) {
  *secondary = nullptr;
  const Connection* connection = sessions.FindReady(conn);
  CHECK(connection != nullptr);
  Replica* replica = FindReplica({pair.slice, pair.replica_device});
  const SliceConfig* known = replica != nullptr ? &replica->config : config.FindSlice(pair.slice);
  if (known == nullptr || known->epoch < pair.epoch) return Status::kBehind;
  if (known->epoch > pair.epoch && !PLANTED_BUG("epoch-not-checked-at-secondary")) {
    return Status::kWrongEpoch;
  }
  if (replica == nullptr || replica->secondary == nullptr) return Status::kWrongEpoch;
  const Member& primary = known->primary;
  const bool same = pair.primary_incarnation == primary.incarnation &&
                    pair.replica_incarnation == self.incarnation &&
                    connection->id == primary.sds.value() &&
                    connection->incarnation == primary.incarnation;
  if (!same && !PLANTED_BUG("R20-stale-incarnation-accepted")) return Status::kWrongEpoch;
  if (devices.FindUp(pair.replica_device) == nullptr) return Status::kBehind;
  *secondary = replica->secondary.get();
  return Status::kOk;
}

void Node::OnPeerMessage(Context& ctx, ConnId conn, const wire::Message& message) {
  Secondary* secondary = nullptr;
  if (const auto* query = std::get_if<wire::TailQuery>(&message.body)) {
    const Status status = CheckPair(query->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnTailQuery(ctx, conn, *query);
    ctx.effects.Send(conn, wire::TailReply{.pair = query->pair, .status = status});
  } else if (const auto* fetch = std::get_if<wire::FetchEntry>(&message.body)) {
    const Status status = CheckPair(fetch->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnFetchEntry(ctx, conn, *fetch);
    ctx.effects.Send(conn, wire::FetchReply{.pair = fetch->pair, .status = status});
  } else if (const auto* start = std::get_if<wire::EpochStart>(&message.body)) {
    const Status status = CheckPair(start->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnEpochStart(ctx, conn, *start, message.payload);
    ctx.effects.Send(conn, wire::EpochStartReply{.pair = start->pair, .status = status});
  } else if (const auto* entry = std::get_if<wire::Replicate>(&message.body)) {
    const Status status = CheckPair(entry->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnReplicate(ctx, conn, *entry, message.payload);
    ctx.effects.Send(conn, wire::ReplicateAck{.pair = entry->pair, .status = status});
  } else if (std::holds_alternative<wire::CommitPoints>(message.body)) {
    const auto& points = std::get<wire::CommitPoints>(message.body);
    const auto take = [&](const wire::CommitItem& item) {
      if (CheckPair(item.pair, conn, &secondary) != Status::kOk) return;
      secondary->OnCommitPoint(ctx, item.commit_point);
    };
    if (!VisitList<wire::CommitItem>(message.payload, points.count, take)) {
      return sessions.Violation(ctx, conn, "commit points that make no sense");
    }
  } else if (const auto* copy = std::get_if<wire::CopyExtent>(&message.body)) {
    const Status status = CheckPair(copy->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnCopyExtent(ctx, conn, *copy, message.payload);
    ctx.effects.Send(conn, wire::JoinAck{.pair = copy->pair, .status = status});
  } else if (const auto* drop = std::get_if<wire::DropChunk>(&message.body)) {
    const Status status = CheckPair(drop->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnDropChunk(ctx, conn, *drop);
    ctx.effects.Send(conn, wire::JoinAck{.pair = drop->pair, .status = status});
  } else if (const auto* ids = std::get_if<wire::CopyRequests>(&message.body)) {
    const Status status = CheckPair(ids->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnCopyRequests(ctx, conn, *ids, message.payload);
    ctx.effects.Send(conn, wire::JoinAck{.pair = ids->pair, .status = status});
  } else if (const auto* cursor = std::get_if<wire::CopyCursor>(&message.body)) {
    const Status status = CheckPair(cursor->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnCopyCursor(ctx, conn, *cursor);
    ctx.effects.Send(conn, wire::JoinAck{.pair = cursor->pair, .status = status});
  } else if (const auto* extent = std::get_if<wire::ExtentQuery>(&message.body)) {
    const Status status = CheckPair(extent->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnExtentQuery(ctx, conn, *extent);
    ctx.effects.Send(conn, wire::ExtentReply{.pair = extent->pair,
                                             .number = extent->number,
                                             .status = status,
                                             .with_content = extent->with_content});
  } else if (const auto* fix = std::get_if<wire::ScanFix>(&message.body)) {
    const Status status = CheckPair(fix->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnScanFix(ctx, conn, *fix, message.payload);
    ctx.effects.Send(
        conn, wire::ScanFixReply{.pair = fix->pair, .number = fix->number, .status = status});
  } else if (const auto* wanted = std::get_if<wire::CreditsRequest>(&message.body)) {
    const Status status = CheckPair(wanted->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnCreditsRequest(ctx, conn, *wanted);
    ctx.effects.Send(conn, wire::ReplicateAck{.pair = wanted->pair, .status = status});
  } else if (const auto* changed = std::get_if<wire::ChangedQuery>(&message.body)) {
    const Status status = CheckPair(changed->pair, conn, &secondary);
    if (status == Status::kOk) return secondary->OnChangedQuery(ctx, conn, *changed);
    ctx.effects.Send(conn, wire::JoinAck{.pair = changed->pair, .status = status});
  } else {
    sessions.Violation(ctx, conn, "a message that no SDS sends to another");
  }
}

void Node::OnFollowerMessage(Context& ctx, SdsId peer, const wire::Message& message) {
  // The pair's epoch, incarnations and device are checked by the primary; that the answer comes
  // from that device's SDS is checked here.
  const auto primary_of = [&](const wire::PairHeader& pair) -> Primary* {
    Primary* primary = FindPrimary(pair.slice);
    if (primary == nullptr || !primary->IsFollowerOf(peer, pair.replica_device)) return nullptr;
    MarkDirty(primary->key());
    return primary;
  };
  if (const auto* tail = std::get_if<wire::TailReply>(&message.body)) {
    if (Primary* p = primary_of(tail->pair)) p->OnTailReply(ctx, *tail, message.payload);
  } else if (const auto* fetch = std::get_if<wire::FetchReply>(&message.body)) {
    if (Primary* p = primary_of(fetch->pair)) p->OnFetchReply(ctx, *fetch, message.payload);
  } else if (const auto* start = std::get_if<wire::EpochStartReply>(&message.body)) {
    if (Primary* p = primary_of(start->pair)) p->OnEpochStartReply(ctx, *start);
  } else if (const auto* ack = std::get_if<wire::ReplicateAck>(&message.body)) {
    if (Primary* p = primary_of(ack->pair)) p->OnReplicateAck(ctx, *ack);
  } else if (const auto* join = std::get_if<wire::JoinAck>(&message.body)) {
    if (Primary* p = primary_of(join->pair)) p->OnJoinAck(ctx, *join);
  } else if (const auto* changed = std::get_if<wire::ChangedReply>(&message.body)) {
    if (Primary* p = primary_of(changed->pair)) p->OnChangedReply(ctx, *changed, message.payload);
  } else if (const auto* extent = std::get_if<wire::ExtentReply>(&message.body)) {
    if (Primary* p = primary_of(extent->pair)) p->OnExtentReply(ctx, *extent, message.payload);
  } else if (const auto* fixed = std::get_if<wire::ScanFixReply>(&message.body)) {
    if (Primary* p = primary_of(fixed->pair)) p->OnScanFixReply(ctx, *fixed);
  } else if (const auto* hint = std::get_if<wire::ScanHint>(&message.body)) {
    if (Primary* p = primary_of(hint->pair)) p->OnScanHint(ctx, *hint);
  }
}

}  // namespace gabion::sds
