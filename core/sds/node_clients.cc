// Requests of clients: what can be refused at once is, the rest goes to the slice's primary.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/sds/entry_check.h"
#include "core/sds/node.h"
#include "core/sds/replica.h"

namespace gabion::sds {

using wire::Status;

namespace {

// Ranges that no correct client sends.
bool SaneTarget(const wire::IoTarget& target, uint32_t length_max) {
  if (target.length_bytes == 0 || target.length_bytes > length_max) return false;
  if (target.offset_bytes % wire::kSectorBytes != 0) return false;
  if (target.length_bytes % wire::kSectorBytes != 0) return false;
  return target.offset_bytes <= wire::kChunkBytes - target.length_bytes;
}

bool SaneWrite(const wire::WriteRequest& message, const Slice& payload) {
  if (!message.request.valid() || message.low_water > message.request) return false;
  if (message.request.value() - message.low_water.value() > wire::kRequestWindow) return false;
  switch (message.kind) {
    case wire::EntryKind::kWrite:
      return SaneTarget(message.target, wire::kDataBytesMax) &&
             payload.size() == message.target.length_bytes;
    case wire::EntryKind::kZero:
    case wire::EntryKind::kTrim:
      return SaneTarget(message.target, wire::kChunkBytes) && payload.empty();
  }
  return false;
}

void SetBlocks(Request* request) {
  const uint32_t first = request->target.offset_bytes / wire::kBlockBytes;
  const uint32_t last = (request->end_bytes() - 1) / wire::kBlockBytes;
  request->first_block = static_cast<uint16_t>(first);
  request->block_count = static_cast<uint16_t>(last - first + 1);
}

// One checksum per part of the payload that lies in one block.
bool PiecesMatch(const Request& request) {
  const std::span<const std::byte> bytes = request.data.span();
  size_t at = 0;
  for (size_t piece = 0; at < bytes.size(); ++piece) {
    const size_t in_block = (request.target.offset_bytes + at) % wire::kBlockBytes;
    const size_t size = std::min(wire::kBlockBytes - in_block, bytes.size() - at);
    if (Crc32c(bytes.subspan(at, size)) != request.crc[piece]) return false;
    at += size;
  }
  return true;
}

}  // namespace

VolumeVersion Node::VersionOf(VolumeId volume) const {
  const VolumeConfig* found = config.FindVolume(volume);
  return found == nullptr ? VolumeVersion() : found->version;
}

Status Node::CheckTarget(const Request& request, bool* hold) const {
  *hold = false;
  const wire::IoTarget& target = request.target;
  const std::optional<Incarnation> named = config.FindClient(request.client);
  if (!named.has_value() || *named != request.client_incarnation) return Status::kNotMapped;
  const std::optional<bool> read_only = config.FindMapping(target.volume, request.client);
  const VolumeConfig* volume = config.FindVolume(target.volume);
  if (!read_only.has_value() || volume == nullptr) return Status::kNotMapped;
  if (*read_only && request.is_write) return Status::kReadOnly;
  const PoolConfig* pool = config.FindPool(volume->pool);
  if (pool == nullptr || pool->slice_count == 0) return Status::kNotMapped;
  if (target.vtree != volume->vtree) return Status::kOutOfRange;
  const uint64_t end = uint64_t{target.chunk} * wire::kChunkBytes + request.end_bytes();
  if (end > volume->size_bytes) return Status::kOutOfRange;
  const uint64_t index =
      (mix64(target.vtree.value()) + target.chunk) & (uint64_t{pool->slice_count} - 1);
  if (target.slice.value() != pool->first_slice.value() + index) return Status::kOutOfRange;
  if (!request.is_write) return Status::kOk;
  if (request.snap_number < volume->snap_number) return Status::kStaleSnapshot;
  *hold = request.snap_number > volume->snap_number;
  return Status::kOk;
}

namespace {

// Takes the request in, or says why not.
Status Accept(Context& ctx, Request request, Reign* reign) {
  Node& node = ctx.node;
  *reign = Reign();
  if (node.stopping) return Status::kUnavailable;
  Primary* primary = node.FindPrimary(request.target.slice);
  if (primary == nullptr) return Status::kNotPrimary;
  *reign = primary->reign();
  if (primary->phase() == Primary::Phase::kNeedsResync ||
      primary->phase() == Primary::Phase::kStopped) {
    return Status::kUnavailable;
  }
  // A client that knows more than this SDS comes again when the configuration is here.
  if (request.target.reign > *reign) return Status::kUnavailable;
  if (request.block_count > wire::kDataBlocksMax &&
      (request.partial() || request.kind == wire::EntryKind::kWrite || !request.is_write)) {
    return Status::kOutOfRange;
  }
  bool hold = false;
  const Status status = primary->CheckRequest(ctx, request, &hold);
  if (status != Status::kOk) return status;
  if (request.is_write && !PiecesMatch(request)) return Status::kBadChecksum;
  request.replica = primary->key();
  const std::optional<SlotTag> tag = node.requests.Insert(std::move(request));
  if (!tag.has_value()) return Status::kBusy;
  primary->OnRequest(ctx, *tag);
  node.MarkDirty(primary->key());
  return Status::kOk;
}

}  // namespace

void Node::OnWriteRequest(Context& ctx, ConnId conn, const wire::WriteRequest& message,
                          const Slice& payload) {
  const Connection* connection = sessions.FindReady(conn);
  if (connection == nullptr || connection->role != wire::PeerRole::kSdc ||
      !SaneWrite(message, payload)) {
    sessions.Violation(ctx, conn, "a write that makes no sense");
    return;
  }
  Request request{.is_write = true,
                  .conn = conn,
                  .client = SdcId(connection->id),
                  .client_incarnation = connection->incarnation,
                  .target = message.target,
                  .tag = message.tag,
                  .snap_number = message.snap_number,
                  .request = message.request,
                  .low_water = message.low_water,
                  .kind = message.kind,
                  .data = payload,
                  .crc = message.piece_crc};
  SetBlocks(&request);
  Reign reign;
  const Status status = Accept(ctx, std::move(request), &reign);
  if (status == Status::kOk) return;
  ++counters.refused;
  ctx.effects.Send(conn, wire::WriteReply{.tag = message.tag,
                                          .slice = message.target.slice,
                                          .request = message.request,
                                          .reign = reign,
                                          .status = status});
}

void Node::OnReadRequest(Context& ctx, ConnId conn, const wire::ReadRequest& message) {
  const Connection* connection = sessions.FindReady(conn);
  if (connection == nullptr || connection->role != wire::PeerRole::kSdc ||
      !SaneTarget(message.target, wire::kDataBytesMax)) {
    sessions.Violation(ctx, conn, "a read that makes no sense");
    return;
  }
  Request request{.is_write = false,
                  .conn = conn,
                  .client = SdcId(connection->id),
                  .client_incarnation = connection->incarnation,
                  .target = message.target,
                  .tag = message.tag};
  SetBlocks(&request);
  Reign reign;
  const Status status = Accept(ctx, std::move(request), &reign);
  if (status == Status::kOk) return;
  ++counters.refused;
  ctx.effects.Send(
      conn,
      wire::ReadReply{
          .tag = message.tag, .slice = message.target.slice, .reign = reign, .status = status});
}

void Node::OnSessionHeartbeat(Context& ctx, ConnId conn, const wire::SessionHeartbeat& message,
                              const Slice& payload) {
  const Connection* connection = sessions.FindReady(conn);
  const auto take = [&](const wire::LowWaterItem& item) {
    Primary* primary = FindPrimary(item.slice);
    if (primary == nullptr || !primary->serving()) return;
    Device* device = devices.FindUp(primary->key().device);
    if (device == nullptr) return;
    device->store->SetLowWater(item.slice, SdcId(connection->id), connection->incarnation,
                               item.low_water);
  };
  if (connection == nullptr || connection->role != wire::PeerRole::kSdc ||
      !VisitList<wire::LowWaterItem>(payload, message.count, take)) {
    sessions.Violation(ctx, conn, "a session heartbeat that makes no sense");
    return;
  }
  ctx.effects.Send(conn, wire::SessionHeartbeatReply{.tag = message.tag});
}

void Node::AnswerWrite(Context& ctx, SlotTag tag, Status status, Reign reign) {
  const Request* request = requests.Find(tag);
  CHECK(request != nullptr);
  if (status != Status::kOk) ++counters.refused;
  if (!request->conn.valid() || !sessions.IsReady(request->conn)) return;
  ctx.effects.Send(request->conn, wire::WriteReply{.tag = request->tag,
                                                   .slice = request->target.slice,
                                                   .request = request->request,
                                                   .reign = reign,
                                                   .status = status});
}

void Node::AnswerRead(Context& ctx, SlotTag tag, Status status, Reign reign, Slice data,
                      std::span<const uint32_t> piece_crc) {
  const Request* request = requests.Find(tag);
  CHECK(request != nullptr);
  if (status != Status::kOk) ++counters.refused;
  if (!request->conn.valid() || !sessions.IsReady(request->conn)) return;
  wire::ReadReply reply{.tag = request->tag,
                        .slice = request->target.slice,
                        .reign = reign,
                        .length_bytes = data.size(),
                        .status = status};
  std::copy(piece_crc.begin(), piece_crc.end(), reply.piece_crc.begin());
  ctx.effects.Send(request->conn, reply, std::move(data));
}

void Node::DiscardRequestsOf(Context& ctx, ConnId conn) {
  requests.ForEach([&](SlotTag tag, Request& request) {
    if (request.conn != conn) return;
    request.conn = ConnId();
    if (request.admitted()) return;  // found by its id, answered when it commits
    if (Replica* replica = FindReplica(request.replica);
        replica != nullptr && replica->primary != nullptr) {
      replica->primary->ForgetRequest(ctx, tag, request);
    }
    requests.Erase(tag);
  });
}

void Node::RefuseUnadmitted(Context& ctx, Status status) {
  requests.ForEach([&](SlotTag tag, Request& request) {
    if (request.admitted()) return;
    Replica* replica = FindReplica(request.replica);
    CHECK(replica != nullptr && replica->primary != nullptr);
    replica->primary->Refuse(ctx, tag, status);
  });
}

bool Node::HasAdmittedBelow(SdcId client, Incarnation incarnation) {
  bool found = false;
  requests.ForEach([&](SlotTag, Request& request) {
    found = found || (request.admitted() && request.client == client &&
                      request.client_incarnation < incarnation);
  });
  return found;
}

void Node::DropClientIds(Context& ctx, SdcId client, Incarnation below) {
  for (const auto& [id, known] : devices.devices()) {
    if (Device* device = devices.FindUp(id)) {
      device->store->DropClient(ctx.now, client, below, Out(ctx));
    }
  }
}

}  // namespace gabion::sds
