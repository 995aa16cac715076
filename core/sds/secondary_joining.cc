// A replica that is joining (T): the start of its epoch, and the stream of copies (R19).
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/bug.h"
#include "core/sds/entry_check.h"
#include "core/sds/extent_data.h"
#include "core/sds/lineage.h"
#include "core/sds/node.h"
#include "core/sds/secondary.h"

namespace gabion::sds {

using wire::Status;

void Secondary::StartJoining(Context& ctx, const wire::EpochStart& start,
                             std::span<const wire::HistoryItem> history) {
  store::Store* store = StoreOf(ctx);
  EntryId end;
  if (const store::SliceFacts* facts = store->Find(key_.slice)) {
    const Epoch in_sync = facts->needs_resync ? Epoch() : facts->in_sync_epoch;
    const JoinBase base = FindJoinBase(LineageOf(*facts), in_sync, history);
    // What an earlier joining brought stays, when the source goes on from there.
    const wire::JoinCursor cursor = facts->needs_resync ? wire::JoinCursor() : facts->cursor;
    end = FindResumeEnd(cursor, history).value_or(base.end);
    // What is taken as common from now on: not more, whatever history this joining leaves behind.
    if (base.epoch < facts->in_sync_epoch) {
      const store::Tag mark = ctx.node.ops.Add({.kind = OpKind::kMark, .replica = key_});
      store->SetInSync(ctx.now, key_.slice, base.epoch, base.issuer, mark, ctx.node.Out(ctx));
    }
    if (!PLANTED_BUG("R14-no-void")) {
      const store::Tag mark = ctx.node.ops.Add({.kind = OpKind::kMark, .replica = key_});
      store->VoidAbove(ctx.now, key_.slice, end, mark, ctx.node.Out(ctx));
    }
  }
  phase_ = Phase::kStarting;
  received_ = start.start.value();
  committed_ = received_;
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kFollowStart,
                                           .replica = key_,
                                           .instance = instance_,
                                           .epoch = config_.epoch,
                                           .a = received_});
  store->StartEpoch(ctx.now, key_.slice,
                    {.epoch = config_.epoch,
                     .issuer = start.issuer,
                     .end = end,
                     .in_sync = false,
                     .history = history,
                     .renames = {},
                     .start = start.start,
                     .members = MembersOf(config_)},
                    tag, ctx.node.Out(ctx));
}

bool Secondary::TakeStream(Context& ctx, ConnId conn, uint64_t stream, uint64_t payload_bytes) {
  conn_ = conn;
  if (phase_ == Phase::kFollowing && joining_ && stream == stream_received_ + 1) {
    if (LogRoomForClients(*ctx.node.devices.FindUp(key_.device)) >=
        payload_bytes + store::kAppendOverheadBytes) {
      return true;
    }
    ctx.effects.Send(
        conn, wire::JoinAck{.pair = Pair(), .stream = stream_durable_, .status = Status::kBusy});
    return false;
  }
  if (phase_ == Phase::kFollowing && stream <= stream_received_) {
    join_ack_owed_ = true;  // it came again after a reconnect
    ctx.node.MarkDirty(key_);
    return false;
  }
  ctx.effects.Send(
      conn, wire::JoinAck{.pair = Pair(), .stream = stream_durable_, .status = Status::kBehind});
  return false;
}

store::Tag Secondary::StreamOp(Context& ctx) {
  ++stream_received_;
  return ctx.node.ops.Add({.kind = OpKind::kJoinAppend,
                           .replica = key_,
                           .instance = instance_,
                           .epoch = config_.epoch,
                           .a = stream_received_});
}

// The last entry appended here that the copy contains.
EntryId Secondary::AfterOf(EntryId after) const {
  return {config_.epoch, Seq(std::min(after.seq.value(), received_))};
}

bool Secondary::IsFull(Context& ctx, ConnId conn, uint64_t extents) {
  // What is promised to primaries is not for copies.
  if (UnpromisedExtents(*ctx.node.devices.FindUp(key_.device)) >= extents) return false;
  ctx.effects.Send(
      conn, wire::JoinAck{.pair = Pair(), .stream = stream_durable_, .status = Status::kNoSpace});
  return true;
}

void Secondary::OnCopyExtent(Context& ctx, ConnId conn, const wire::CopyExtent& copy,
                             const Slice& payload) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || !TakeStream(ctx, conn, copy.stream, payload.size())) return;
  if (copy.extent >= wire::kExtentsPerChunk || !copy.vtree.valid() ||
      copy.modified_epoch > config_.epoch || !ValidExtent(payload, copy.present, copy.block_crc)) {
    ctx.node.sessions.Violation(ctx, conn, "a copy that makes no sense");
    return;
  }
  if (IsFull(ctx, conn, copy.present == 0 ? 0 : 1)) return;
  const store::ChunkKey chunk{.vtree = copy.vtree, .version = copy.version, .chunk = copy.chunk};
  const store::Tag tag = StreamOp(ctx);
  store->AppendCopy(ctx.now, key_.slice, chunk, copy.extent, copy.present, copy.modified_epoch,
                    AfterOf(copy.after), payload, PackedCrcs(copy.block_crc, copy.present), tag,
                    ctx.node.Out(ctx));
}

void Secondary::OnDropChunk(Context& ctx, ConnId conn, const wire::DropChunk& drop) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || !TakeStream(ctx, conn, drop.stream, 0)) return;
  const store::ChunkKey chunk{.vtree = drop.vtree, .version = drop.version, .chunk = drop.chunk};
  const store::Tag tag = StreamOp(ctx);
  store->AppendDrop(ctx.now, key_.slice, chunk, AfterOf(drop.after), tag, ctx.node.Out(ctx));
}

void Secondary::OnCopyRequests(Context& ctx, ConnId conn, const wire::CopyRequests& ids,
                               const Slice& payload) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || !TakeStream(ctx, conn, ids.stream, payload.size())) return;
  std::vector<wire::RequestRecord> records;
  if (!ParseList(payload, ids.count, &records)) {
    ctx.node.sessions.Violation(ctx, conn, "request ids that make no sense");
    return;
  }
  const store::Tag tag = StreamOp(ctx);
  store->AppendRequests(ctx.now, key_.slice, records, tag, ctx.node.Out(ctx));
}

void Secondary::OnCopyCursor(Context& ctx, ConnId conn, const wire::CopyCursor& cursor) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || !TakeStream(ctx, conn, cursor.stream, 0)) return;
  const store::Tag tag = StreamOp(ctx);
  store->SetCursor(ctx.now, key_.slice,
                   {.epoch = config_.epoch,
                    .issuer = config_.issuer,
                    .after = AfterOf(cursor.after).seq,
                    .vtree = cursor.vtree,
                    .version = cursor.version,
                    .chunk = cursor.chunk},
                   tag, ctx.node.Out(ctx));
}

void Secondary::OnChangedQuery(Context& ctx, ConnId conn, const wire::ChangedQuery& query) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr || phase_ != Phase::kFollowing) return;
  constexpr size_t kPageChunks = 1024;
  std::optional<store::ChunkKey> after;
  if (query.from_start == 0) {
    after = {
        .vtree = query.after_vtree, .version = query.after_version, .chunk = query.after_chunk};
  }
  std::vector<wire::ChangedChunk> chunks;
  const std::vector<store::ChunkSummary> found =
      store->List(key_.slice, after, query.after_epoch, kPageChunks);
  for (const store::ChunkSummary& chunk : found) {
    chunks.push_back({.vtree = chunk.key.vtree,
                      .version = chunk.key.version,
                      .chunk = chunk.key.chunk,
                      .extents = chunk.extents,
                      .changed = chunk.changed});
  }
  Slice payload = MakeList(*ctx.node.resources.pool, std::span<const wire::ChangedChunk>(chunks));
  if (payload.empty() && !chunks.empty()) {
    ctx.effects.Send(
        conn, wire::JoinAck{.pair = Pair(), .stream = stream_durable_, .status = Status::kBusy});
    return;
  }
  ctx.effects.Send(conn,
                   wire::ChangedReply{.pair = Pair(),
                                      .count = static_cast<uint32_t>(chunks.size()),
                                      .more = chunks.size() == kPageChunks ? 1u : 0u},
                   std::move(payload));
}

}  // namespace gabion::sds
