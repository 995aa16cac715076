// Which blocks have data: a read without the data. It makes the checks of a read (reign, lease,
// mapping, range) and is answered in the same step, so nothing has to be checked again after a
// wait. What is under an exclusive lock is not decided yet (R8) and counts as data: a clear bit
// promises zeroes.
#include <array>
#include <cstring>
#include <utility>

#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

using wire::Status;

Status Primary::Presence(Context& ctx, const Request& client, uint32_t stride,
                         std::span<wire::ChunkPresence> into) const {
  // A client that knows more than this SDS comes again when the configuration is here.
  if (client.target.reign > config_.reign || !MayAdmit(ctx)) return Status::kUnavailable;
  Request request = client;
  bool hold = false;
  for (size_t i = 0; i < into.size(); ++i, request.target.chunk += stride) {
    if (const Status status = CheckRequest(ctx, request, &hold); status != Status::kOk) {
      return status;
    }
    if (request.target.chunk > UINT32_MAX - stride && i + 1 < into.size()) {
      return Status::kOutOfRange;
    }
  }
  const store::Store* store = StoreOf(ctx);
  if (store == nullptr) return Status::kUnavailable;
  store::ChunkKey key{.vtree = client.target.vtree,
                      .version = ctx.node.VersionOf(client.target.volume),
                      .chunk = client.target.chunk};
  for (wire::ChunkPresence& chunk : into) {
    for (uint32_t word = 0; word < chunk.blocks.size(); ++word) {
      chunk.blocks[word] = store->Present(key_.slice, key, word * 64, 64);
    }
    locks_.AddExclusive(key.vtree, key.chunk, &chunk);
    key.chunk += stride;
  }
  return Status::kOk;
}

void Node::OnPresenceRequest(Context& ctx, ConnId conn, const wire::PresenceRequest& message) {
  const Connection* connection = sessions.FindReady(conn);
  if (connection == nullptr || connection->role != wire::PeerRole::kSdc ||
      message.chunk_count == 0 || message.chunk_count > wire::kPresenceChunksMax ||
      message.target.offset_bytes != 0 || message.target.length_bytes != wire::kChunkBytes) {
    sessions.Violation(ctx, conn, "a question for presence that makes no sense");
    return;
  }
  const Request client{.conn = conn,
                       .client = SdcId(connection->id),
                       .client_incarnation = connection->incarnation,
                       .target = message.target};
  wire::PresenceReply reply{.tag = message.tag, .slice = message.target.slice};
  std::array<wire::ChunkPresence, wire::kPresenceChunksMax> chunks;
  const std::span<wire::ChunkPresence> asked = std::span(chunks).first(message.chunk_count);
  Slice payload;
  const Primary* primary = FindPrimary(message.target.slice);
  if (stopping) {
    reply.status = Status::kUnavailable;
  } else if (primary == nullptr) {
    reply.status = Status::kNotPrimary;
  } else {
    reply.reign = primary->reign();
    reply.status = primary->Presence(ctx, client, message.chunk_stride, asked);
  }
  if (reply.status == Status::kOk) {
    const auto bytes = std::as_bytes(asked);
    payload = resources.pool->Allocate(static_cast<uint32_t>(bytes.size()), BufferUse::kClient);
    if (payload.empty()) {
      reply.status = Status::kBusy;
    } else {
      std::memcpy(payload.mutable_span().data(), bytes.data(), bytes.size());
      reply.chunk_count = message.chunk_count;
    }
  }
  if (reply.status != Status::kOk) ++counters.refused;
  ctx.effects.Send(conn, reply, std::move(payload));
}

}  // namespace gabion::sds
