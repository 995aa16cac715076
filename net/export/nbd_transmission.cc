// The second part of a connection: commands on the chosen export.
#include <cerrno>
#include <cstring>

#include "core/base/check.h"
#include "core/wire/data.h"
#include "net/export/nbd_protocol.h"
#include "net/export/nbd_session.h"

namespace gabion::nbd {
namespace {

// Data is cut where the client role would cut it, so that each user request is one message and its
// payload travels without a copy.
constexpr uint32_t kPartBytes = wire::kDataBytesMax;
static_assert(wire::kChunkBytes % kPartBytes == 0);
static_assert(kPayloadBytesMax / kPartBytes + 1 < NbdSession::kPartsMax);

// The length of the part that begins at `offset`, of `rest` bytes in all.
uint32_t PartLength(uint64_t offset, uint32_t rest) {
  return std::min(rest, kPartBytes - static_cast<uint32_t>(offset % kPartBytes));
}

uint32_t ErrorOf(int error) {
  switch (error) {
    case 0:
      return kOk;
    case EPERM:
    case EROFS:
      return kErrPermission;
    case ENOMEM:
      return kErrMemory;
    case EINVAL:
      return kErrInvalid;
    case ENOSPC:
      return kErrNoSpace;
    case ESHUTDOWN:
      return kErrShutdown;
    default:
      return kErrIo;
  }
}

bool IsWrite(uint16_t type) {
  return type == kCmdWrite || type == kCmdTrim || type == kCmdWriteZeroes;
}

}  // namespace

bool NbdSession::CanAccept() const {
  const size_t active = commands_.size() - free_commands_.size();
  return issuing_ == kNoCommand && active + replies_unsent_ < commands_.size() &&
         (bytes_held_ == 0 || bytes_held_ < options_.bytes_max);
}

bool NbdSession::OnCommandHeader() {
  if (Buffered().size() < kCommandHeaderBytes) return false;
  BeReader reader(Buffered().first(kCommandHeaderBytes));
  const uint32_t magic = reader.U32();
  const uint16_t flags = reader.U16();
  const uint16_t type = reader.U16();
  const uint64_t cookie = reader.U64();
  const uint64_t offset = reader.U64();
  const uint32_t length = reader.U32();
  if (magic != kRequestMagic) {
    Fail("not the NBD protocol: a command without its magic number");
    return false;
  }
  if (type == kCmdWrite && length > kPayloadBytesMax) {
    Fail("a write of " + std::to_string(length) + " bytes, limit " +
         std::to_string(kPayloadBytesMax));
    return false;
  }
  if (type == kCmdDisconnect) {
    Consume(kCommandHeaderBytes);
    phase_ = Phase::kEnding;
    return false;
  }
  const bool needs_request = type != kCmdCache && type != kCmdWrite && type != kCmdRead;
  if (needs_request && options_.budget->available == 0) return false;  // asked again by Resume()
  Consume(kCommandHeaderBytes);

  const uint32_t slot = free_commands_.back();
  free_commands_.pop_back();
  Command& command = commands_[slot];
  CHECK(!command.active);
  // They keep their capacity.
  std::vector<Slice> data = std::move(command.data);
  std::vector<StatusExtent> extents = std::move(command.extents);
  command = Command{.cookie = cookie,
                    .offset = offset,
                    .length = length,
                    .type = type,
                    .active = true,
                    .one_extent = (flags & kReqOne) != 0,
                    .data = std::move(data),
                    .extents = std::move(extents)};
  command.error = CheckCommand(command, flags);
  OnCommand(slot);
  return true;
}

uint32_t NbdSession::CheckCommand(const Command& command, uint16_t flags) const {
  uint16_t allowed = kFua;
  switch (command.type) {
    case kCmdRead:
      allowed |= structured_ ? kDontFragment : 0;
      break;
    case kCmdWriteZeroes:
      allowed |= kNoHole;
      break;
    case kCmdBlockStatus:
      allowed |= kReqOne;
      break;
    case kCmdWrite:
    case kCmdTrim:
    case kCmdCache:
      break;
    case kCmdFlush:
      return (flags & ~allowed) == 0 && command.offset == 0 && command.length == 0 ? kOk
                                                                                   : kErrInvalid;
    default:
      return kErrInvalid;
  }
  if ((flags & ~allowed) != 0 || command.length == 0) return kErrInvalid;
  if (IsWrite(command.type) && read_only_) return kErrPermission;
  if (size_bytes_ == 0) return kErrIo;  // unmapped meanwhile
  if (command.offset > size_bytes_ || command.length > size_bytes_ - command.offset) {
    return IsWrite(command.type) ? kErrNoSpace : kErrInvalid;
  }
  if (command.offset % kBlockBytesMin != 0 || command.length % kBlockBytesMin != 0) {
    return kErrInvalid;
  }
  if (command.type == kCmdRead && command.length > kPayloadBytesMax) return kErrInvalid;
  if (command.type == kCmdBlockStatus && !meta_allocation_) return kErrInvalid;
  if (shutting_down_) return kErrShutdown;
  return kOk;
}

void NbdSession::OnCommand(uint32_t slot) {
  Command& command = commands_[slot];
  if (command.type == kCmdWrite) {
    // The payload follows in any case.
    Hold(command);
    receiving_ = slot;
    phase_ = Phase::kWritePayload;
    return;
  }
  if (command.error == kOk) {
    switch (command.type) {
      case kCmdRead:
        Hold(command);
        issuing_ = slot;
        IssueReads();
        return;
      case kCmdFlush:
        IssuePart(slot, UserOp::kFlush, 0, 0, {});
        break;
      case kCmdTrim:
        IssuePart(slot, UserOp::kTrim, command.offset, command.length, {});
        break;
      case kCmdWriteZeroes:
        IssuePart(slot, UserOp::kWriteZeroes, command.offset, command.length, {});
        break;
      case kCmdBlockStatus:
        AskStatus(slot);
        return;
      case kCmdCache:  // a hint; there is no cache
        break;
      default:
        UNREACHABLE("a command that was not checked");
    }
  }
  command.complete = true;
  FinishIfComplete(slot);
}

void NbdSession::Hold(Command& command) {
  command.held_bytes = command.length;
  bytes_held_ += command.length;
}

bool NbdSession::TakePayload() {
  Command& command = commands_[receiving_];
  CHECK(command.active && command.type == kCmdWrite);
  const uint32_t rest = command.length - command.taken_bytes;
  if (rest == 0) {
    phase_ = Phase::kCommandHeader;
    command.complete = true;
    FinishIfComplete(std::exchange(receiving_, kNoCommand));
    return true;
  }
  if (command.error != kOk) {
    part_ = Slice();
    // A part that was begun is part of what is thrown away.
    command.taken_bytes += std::exchange(part_filled_, 0);
    const auto size = static_cast<uint32_t>(
        std::min<size_t>(command.length - command.taken_bytes, Buffered().size()));
    Consume(size);
    command.taken_bytes += size;
    return command.taken_bytes == command.length;
  }
  const uint64_t offset = command.offset + command.taken_bytes;
  if (part_.empty()) {
    part_filled_ = 0;
    part_ = options_.pool->Allocate(PartLength(offset, rest), BufferUse::kClient);
    if (part_.empty()) return false;  // asked again by Resume()
  }
  const size_t size = std::min<size_t>(part_.size() - part_filled_, Buffered().size());
  if (size > 0) {
    part_.CopyFrom(part_filled_, Buffered().first(size));
    Consume(size);
    part_filled_ += static_cast<uint32_t>(size);
  }
  if (part_filled_ < part_.size() || options_.budget->available == 0) return false;
  const uint32_t length = part_.size();
  command.taken_bytes += length;
  part_filled_ = 0;
  IssuePart(receiving_, UserOp::kWrite, offset, length, std::exchange(part_, Slice()));
  return true;
}

void NbdSession::IssueReads() {
  if (issuing_ == kNoCommand) return;
  Command& command = commands_[issuing_];
  while (command.taken_bytes < command.length && command.error == kOk) {
    if (options_.budget->available == 0) return;
    const uint64_t offset = command.offset + command.taken_bytes;
    const uint32_t length = PartLength(offset, command.length - command.taken_bytes);
    command.taken_bytes += length;
    command.data.emplace_back();
    IssuePart(issuing_, UserOp::kRead, offset, length, {});
  }
  command.complete = true;
  FinishIfComplete(std::exchange(issuing_, kNoCommand));
}

void NbdSession::IssuePart(uint32_t slot, UserOp op, uint64_t offset, uint64_t length,
                           Slice payload) {
  Command& command = commands_[slot];
  CHECK_GT(options_.budget->available, 0u);
  --options_.budget->available;
  const uint32_t part = command.parts++;
  CHECK_LT(part, kPartsMax);
  ++command.parts_open;
  ++parts_open_;
  requests_.push_back({.tag = TagOf(slot * kPartsMax + part),
                       .op = op,
                       .volume = volume_,
                       .offset_bytes = offset,
                       .length_bytes = length,
                       .payload = std::move(payload)});
}

void NbdSession::OnPartReply(const UserReplyEffect& reply) {
  const auto low = static_cast<uint32_t>(reply.tag);
  const uint32_t slot = low / kPartsMax;
  const uint32_t part = low % kPartsMax;
  CHECK_LT(slot, commands_.size());
  Command& command = commands_[slot];
  CHECK(command.active && part < command.parts && command.parts_open > 0);
  --command.parts_open;
  --parts_open_;
  if (command.error == kOk) command.error = ErrorOf(reply.error);
  if (command.type == kCmdRead && reply.error == 0) command.data[part] = reply.payload;
  if (command.type == kCmdBlockStatus) OnStatusReply(slot, reply);
  FinishIfComplete(slot);
}

void NbdSession::FinishIfComplete(uint32_t slot) {
  Command& command = commands_[slot];
  if (!command.complete || command.parts_open > 0) return;
  if (disconnected_ || failed_) {
    bytes_held_ -= command.held_bytes;
  } else {
    SendReply(command);
  }
  command.data.clear();
  command.extents.clear();
  command.active = false;
  free_commands_.push_back(slot);
}

void NbdSession::SendReply(Command& command) {
  const bool ok = command.error == kOk;
  const bool is_read = command.type == kCmdRead;
  if (ok && command.type == kCmdBlockStatus) return SendStatus(command);
  // Reads must be structured once that was negotiated; for the rest the simple reply is shorter.
  const bool structured = structured_ && (is_read || !ok);
  BeWriter<64> head;
  if (!structured) {
    head.U32(kSimpleReplyMagic).U32(command.error).U64(command.cookie);
  } else if (!ok) {
    head.U32(kStructuredReplyMagic).U16(kChunkDone).U16(kChunkError).U64(command.cookie);
    head.U32(6).U32(command.error).U16(0);
  } else {
    head.U32(kStructuredReplyMagic).U16(kChunkDone).U16(kChunkOffsetData).U64(command.cookie);
    head.U32(8 + command.length).U64(command.offset);
  }
  OutPiece* last = &AddPiece(head.span());
  if (is_read && ok) {
    uint32_t sent = 0;
    for (Slice& data : command.data) {
      sent += data.size();
      if (!last->data.empty()) last = &AddPiece({});
      last->data = std::move(data);
    }
    CHECK_EQ(sent, command.length);
  }
  last->ends_reply = true;
  last->held_bytes = command.held_bytes;
  ++replies_unsent_;
}

}  // namespace gabion::nbd
