// NBD_CMD_BLOCK_STATUS in the context base:allocation: what has no data is a hole that reads as
// zeroes.
#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "core/wire/data.h"
#include "net/export/nbd_protocol.h"
#include "net/export/nbd_session.h"

namespace gabion::nbd {
namespace {

// A client may ask for 4 GiB and have use for the first extent only. So a small range is asked for
// first, and then as much as three times what is known, as long as the answer wants more.
constexpr uint32_t kFirstBytes = 4 << 20;
// Of one reply. A shorter answer than was asked for is right: the client asks on from its end.
constexpr size_t kExtentsMax = 1024;
constexpr size_t kInlineExtentsMax = 4;

}  // namespace

void NbdSession::AskStatus(uint32_t slot) {
  Command& command = commands_[slot];
  const uint64_t wanted = std::max<uint64_t>(kFirstBytes, uint64_t{command.taken_bytes} * 3);
  const auto length =
      static_cast<uint32_t>(std::min<uint64_t>(wanted, command.length - command.taken_bytes));
  CHECK_GT(length, 0u);
  const uint64_t offset = command.offset + command.taken_bytes;
  command.taken_bytes += length;
  IssuePart(slot, UserOp::kBlockStatus, offset, length, {});
}

void NbdSession::OnStatusReply(uint32_t slot, const UserReplyEffect& reply) {
  Command& command = commands_[slot];
  command.complete = true;
  if (command.error != kOk) return;
  // The range that was asked for last begins where the extents end.
  uint64_t known = 0;
  for (const StatusExtent& extent : command.extents) known += extent.length;
  uint64_t at = command.offset + known;
  const uint64_t end = command.offset + command.taken_bytes;
  const uint64_t first_chunk = at / wire::kChunkBytes;
  const uint64_t chunks = (end - 1) / wire::kChunkBytes - first_chunk + 1;
  CHECK_EQ(reply.payload.size(), chunks * sizeof(wire::ChunkPresence));
  wire::ChunkPresence chunk;
  uint64_t loaded = UINT64_MAX;
  while (at < end) {
    if (const uint64_t index = at / wire::kChunkBytes - first_chunk; index != loaded) {
      std::memcpy(&chunk, reply.payload.data() + index * sizeof(chunk), sizeof(chunk));
      loaded = index;
    }
    const uint64_t next = std::min(end, at - at % wire::kBlockBytes + wire::kBlockBytes);
    const auto block = static_cast<uint32_t>(at % wire::kChunkBytes / wire::kBlockBytes);
    if (!AddExtent(command, static_cast<uint32_t>(next - at), !chunk.Has(block))) return;
    at = next;
  }
  if (command.taken_bytes == command.length || disconnected_ || failed_) return;
  command.complete = false;
  AskStatus(slot);  // with the place in the budget that this answer gave back
}

bool NbdSession::AddExtent(Command& command, uint32_t length, bool hole) const {
  std::vector<StatusExtent>& extents = command.extents;
  if (!extents.empty() && extents.back().hole == hole) {
    extents.back().length += length;
    return true;
  }
  if (extents.size() == (command.one_extent ? 1 : kExtentsMax)) return false;
  extents.push_back({.length = length, .hole = hole});
  return true;
}

void NbdSession::SendStatus(Command& command) {
  const std::vector<StatusExtent>& extents = command.extents;
  size_t count = extents.size();
  CHECK_GT(count, 0u);
  Slice list;
  if (count > kInlineExtentsMax) {
    list = options_.pool->Allocate(static_cast<uint32_t>(count * 8), BufferUse::kClient);
    if (list.empty()) count = kInlineExtentsMax;
  }
  BeWriter<64> head;
  head.U32(kStructuredReplyMagic).U16(kChunkDone).U16(kChunkBlockStatus).U64(command.cookie);
  head.U32(static_cast<uint32_t>(4 + count * 8)).U32(kAllocationContextId);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t state = extents[i].hole ? kStateHole | kStateZero : 0;
    if (list.empty()) {
      head.U32(extents[i].length).U32(state);
    } else {
      const auto item = BeWriter<8>().U32(extents[i].length).U32(state);
      std::memcpy(list.mutable_span().data() + i * 8, item.span().data(), 8);
    }
  }
  OutPiece& piece = AddPiece(head.span());
  piece.data = std::move(list);
  piece.ends_reply = true;
  ++replies_unsent_;
}

}  // namespace gabion::nbd
