// A replica that the primary asks for the content of an extent, or gives one: read repair of the
// primary's copy, and the scanner's comparison (docs/roles.md, "Damaged blocks", "The scanner").
// The primary holds the range, so nothing of it changes here meanwhile.
#include <algorithm>
#include <optional>
#include <utility>

#include "core/sds/node.h"
#include "core/sds/secondary.h"

namespace gabion::sds {

using wire::Status;

namespace {

store::ChunkKey KeyOf(VtreeId vtree, VolumeVersion version, uint32_t chunk) {
  return {.vtree = vtree, .version = version, .chunk = chunk};
}

}  // namespace

// Whether this side has everything up to `after`, and counts as a copy.
Status Secondary::CheckServe(uint16_t extent, EntryId after) const {
  if (joining_ || extent >= wire::kExtentsPerChunk) return Status::kWrongEpoch;
  if (phase_ != Phase::kFollowing || after.epoch != config_.epoch ||
      after.seq.value() > received_) {
    return Status::kBehind;
  }
  return Status::kOk;
}

Status Secondary::BeginServe(Context& ctx, Serve serve, const store::ChunkKey& key,
                             uint16_t extent) {
  // What was asked over a connection that is gone is asked again.
  std::erase_if(serves_,
                [&](const Serve& other) { return !ctx.node.sessions.IsReady(other.conn); });
  if (serves_.size() >= kServesMax) return Status::kBusy;
  switch (serve.read.Begin(ctx, *StoreOf(ctx),
                           {.kind = OpKind::kServeRead,
                            .replica = key_,
                            .instance = instance_,
                            .epoch = config_.epoch,
                            .number = next_serve_++},
                           key, extent)) {
    case ExtentRead::Step::kDone:
      FinishServe(ctx, serve);
      return Status::kOk;
    case ExtentRead::Step::kRunning:
      serves_.push_back(std::move(serve));
      return Status::kOk;
    case ExtentRead::Step::kNoMemory:
    case ExtentRead::Step::kFailed:
      break;
  }
  return Status::kBusy;
}

void Secondary::OnExtentQuery(Context& ctx, ConnId conn, const wire::ExtentQuery& query) {
  if (StoreOf(ctx) == nullptr) return;
  Status status = CheckServe(query.extent, query.after);
  if (status == Status::kOk) {
    status = BeginServe(
        ctx, {.conn = conn, .number = query.number, .with_content = query.with_content != 0},
        KeyOf(query.vtree, query.version, query.chunk), query.extent);
  }
  if (status == Status::kOk) return;
  ctx.effects.Send(conn, wire::ExtentReply{.pair = Pair(),
                                           .number = query.number,
                                           .status = status,
                                           .with_content = query.with_content});
}

void Secondary::OnServeRead(Context& ctx, const Op& op, store::DoneStatus status) {
  const auto at = std::find_if(serves_.begin(), serves_.end(),
                               [&](const Serve& serve) { return serve.read.number() == op.a; });
  store::Store* store = StoreOf(ctx);
  if (at == serves_.end() || store == nullptr) return;
  if (at->read.OnDone(ctx, *store, status) == ExtentRead::Step::kRunning) return;
  const Serve serve = std::move(*at);
  serves_.erase(at);
  if (status != store::DoneStatus::kFailed) FinishServe(ctx, serve);
}

void Secondary::FinishServe(Context& ctx, const Serve& serve) {
  if (!ctx.node.sessions.IsReady(serve.conn)) return;
  wire::ExtentReply reply{.pair = Pair(),
                          .number = serve.number,
                          .present = serve.read.present(),
                          .damaged = serve.read.damaged(),
                          .with_content = serve.with_content};
  if (!serve.with_content) {
    reply.block_crc = serve.read.Crcs();
    ctx.effects.Send(serve.conn, reply);
    return;
  }
  std::optional<Slice> packed =
      PackExtent(*ctx.node.resources.pool, serve.read.data(), reply.good(), &reply.block_crc);
  if (!packed.has_value()) {
    reply = {.pair = Pair(), .number = serve.number, .status = Status::kBusy, .with_content = 1};
    packed.emplace();
  }
  ctx.effects.Send(serve.conn, reply, std::move(*packed));
}

// Blocks of this copy are damaged, or differ from what clients read.
void Secondary::OnScanFix(Context& ctx, ConnId conn, const wire::ScanFix& fix,
                          const Slice& payload) {
  Device* device = ctx.node.devices.FindUp(key_.device);
  if (device == nullptr) return;
  store::Store& store = *device->store;
  const store::ChunkKey key = KeyOf(fix.vtree, fix.version, fix.chunk);
  Status status = CheckServe(fix.extent, fix.after);
  if (status == Status::kOk && store.Find(key_.slice)->needs_resync) status = Status::kWrongEpoch;
  if (status == Status::kOk) {
    if (!fix.vtree.valid() || fix.modified_epoch > config_.epoch ||
        !ValidExtent(payload, fix.present, fix.block_crc)) {
      ctx.node.sessions.Violation(ctx, conn, "a repair that makes no sense");
      return;
    }
    const std::optional<store::ChunkSummary> own = FindChunk(store, key_.slice, key, Epoch());
    const bool has_extent = own.has_value() && (own->extents >> fix.extent & 1) != 0;
    if (LogRoomForClients(*device) < payload.size() + store::kAppendOverheadBytes) {
      status = Status::kBusy;
    } else if (!has_extent && fix.present != 0 && UnpromisedExtents(*device) == 0) {
      status = Status::kNoSpace;
    } else {
      const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kScanFix,
                                               .replica = key_,
                                               .instance = instance_,
                                               .epoch = config_.epoch,
                                               .a = conn.value(),
                                               .b = fix.number});
      const Epoch modified =
          own.has_value() ? std::max(own->modified_epoch, fix.modified_epoch) : fix.modified_epoch;
      store.AppendCopy(ctx.now, key_.slice, key, fix.extent, fix.present, modified, fix.after,
                       payload, PackedCrcs(fix.block_crc, fix.present), tag, ctx.node.Out(ctx));
      return;
    }
  }
  ctx.effects.Send(conn,
                   wire::ScanFixReply{.pair = Pair(), .number = fix.number, .status = status});
}

void Secondary::OnFixDurable(Context& ctx, const Op& op) {
  const ConnId conn(op.a);
  if (!ctx.node.sessions.IsReady(conn)) return;
  ctx.effects.Send(conn, wire::ScanFixReply{.pair = Pair(), .number = op.b});
}

bool Secondary::SendScanHint(Context& ctx, const store::ChunkKey& key, uint16_t extents,
                             uint16_t damaged) {
  if (joining_ || phase_ != Phase::kFollowing || !ctx.node.sessions.IsReady(conn_)) return false;
  ctx.effects.Send(conn_, wire::ScanHint{.pair = Pair(),
                                         .vtree = key.vtree,
                                         .version = key.version,
                                         .chunk = key.chunk,
                                         .extents = extents,
                                         .damaged = damaged});
  return true;
}

}  // namespace gabion::sds
