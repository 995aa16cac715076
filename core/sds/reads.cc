// Reads at the primary: under a shared range lock, so committed data only (R8); under the lease
// until the data has been read (R5).
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/checksum.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

using wire::Status;

void Primary::BeginRead(Context& ctx, SlotTag tag, Request& request) {
  store::Store* store = StoreOf(ctx);
  if (store == nullptr) {
    Refuse(ctx, tag, Status::kUnavailable);
    return;
  }
  Slice target = ctx.node.resources.pool->Allocate(
      uint32_t{request.block_count} * wire::kBlockBytes, BufferUse::kClient);
  if (target.empty()) {
    Refuse(ctx, tag, Status::kBusy);
    return;
  }
  request.phase = RequestPhase::kReading;
  request.admitted_at = ctx.node.config.version();
  ctx.node.outstanding.Add(request.admitted_at);
  ++reads_active_;
  ++ctx.node.counters.reads;
  const store::ChunkKey chunk{.vtree = request.target.vtree,
                              .version = ctx.node.VersionOf(request.target.volume),
                              .chunk = request.target.chunk};
  const store::Tag op = ctx.node.ops.Add({.kind = OpKind::kClientRead,
                                          .replica = key_,
                                          .instance = instance_,
                                          .epoch = config_.epoch,
                                          .a = tag.value(),
                                          .target = std::move(target)});
  store->Read(ctx.now, key_.slice, chunk, request.first_block, request.block_count,
              ctx.node.ops.At(op).target, op, ctx.node.Out(ctx));
}

void Primary::OnClientRead(Context& ctx, const Op& op, store::DoneStatus status) {
  const SlotTag tag(op.a);
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr || request->phase != RequestPhase::kReading) return;
  --reads_active_;
  ctx.node.outstanding.Remove(request->admitted_at);
  Unlock(ctx, &request->lock);
  ctx.node.MarkDirty(key_);
  if (status == store::DoneStatus::kCorrupt) return Repair(ctx, tag, *request);
  Status answer = Status::kOk;
  if (status != store::DoneStatus::kOk) {
    answer = Status::kUnavailable;  // the device is gone: another copy takes over, or it comes back
  } else if (!ctx.node.lease.Valid(ctx.now) && !PLANTED_BUG("R5-read-without-lease")) {
    answer = Status::kNoLease;
  } else if (request->target.reign != config_.reign && !PLANTED_BUG("reign-not-checked")) {
    answer = Status::kWrongReign;
  }
  if (answer != Status::kOk) {
    ctx.node.AnswerRead(ctx, tag, answer, config_.reign, Slice(), {});
  } else {
    const uint32_t skip = request->target.offset_bytes % wire::kBlockBytes;
    Slice data = op.target.Sub(skip, request->target.length_bytes);
    // One checksum per piece: the part of the data in each block touched.
    uint32_t at = 0;
    for (uint32_t piece = 0; at < data.size(); ++piece) {
      const uint32_t in_block = (skip + at) % wire::kBlockBytes;
      const uint32_t size = std::min(wire::kBlockBytes - in_block, data.size() - at);
      request->crc[piece] = Crc32c(data.span().subspan(at, size));
      at += size;
    }
    ctx.node.AnswerRead(ctx, tag, Status::kOk, config_.reign, std::move(data), request->crc);
  }
  ctx.node.requests.Erase(tag);
}

void Primary::Repair(Context& ctx, SlotTag tag, Request& request) {
  Unlock(ctx, &request.lock);
  request.phase = RequestPhase::kRepairing;
  request.read_damaged = false;
  request.merge_first = request.merge_last = Slice();
  const Repairs::Range range{.key = {.vtree = request.target.vtree,
                                     .version = ctx.node.VersionOf(request.target.volume),
                                     .chunk = request.target.chunk},
                             .first_block = request.first_block,
                             .block_count = request.block_count};
  ctx.node.MarkDirty(key_);
  if (!request.repaired &&
      repairs_.Start(ctx, *this, range, {Repairs::Waiter::Kind::kRequest, tag.value()})) {
    return;
  }
  ctx.Log(Severity::kError,
          absl::StrCat("slice ", ToString(key_.slice), ": blocks ", range.first_block, " to ",
                       range.first_block + range.block_count - 1, " of chunk ", range.key.chunk,
                       " of V-tree ", ToString(range.key.vtree), " are damaged on device ",
                       ToString(key_.device), ", and there is no other copy to read"));
  Refuse(ctx, tag, Status::kIoError);
}

void Primary::OnRepaired(Context& ctx, SlotTag tag, Repaired outcome) {
  Request* request = ctx.node.requests.Find(tag);
  if (request == nullptr || request->phase != RequestPhase::kRepairing) return;
  if (outcome == Repaired::kBad) {
    Refuse(ctx, tag, Status::kIoError);
    return;
  }
  if (outcome == Repaired::kGood) request->repaired = true;
  request->phase = RequestPhase::kQueued;
  queued_.push_back(tag);
  ctx.node.MarkDirty(key_);
}

}  // namespace gabion::sds
