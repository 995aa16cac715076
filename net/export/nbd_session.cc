#include "net/export/nbd_session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "net/export/nbd_protocol.h"

namespace gabion::nbd {
namespace {

// Small commands are received in bulk; a large payload bypasses all but what came with its header.
constexpr size_t kInputBytes = 16 << 10;
static_assert(kOptionHeaderBytes + kOptionBytesMax <= kInputBytes,
              "a whole option fits the buffer");
// A listing may be long; nothing more is taken until some of it is sent.
constexpr size_t kOutputPiecesMax = 4096;
constexpr size_t kSentPiecesMax = 256;

}  // namespace

NbdSession::NbdSession(const SessionOptions& options)
    : options_(options), input_(kInputBytes), commands_(options.commands_max) {
  CHECK(options.pool != nullptr);
  CHECK(options.budget != nullptr);
  CHECK_GT(options.commands_max, 0u);
  CHECK_LE(options.commands_max, kCommandsMax);
  for (uint32_t i = options.commands_max; i-- > 0;) free_commands_.push_back(i);
  SendGreeting();
}

NbdSession::~NbdSession() = default;

std::span<std::byte> NbdSession::ReceiveInto() {
  receiving_part_ = false;
  if (disconnected_ || failed_) return {};
  switch (phase_) {
    case Phase::kAwaitingRole:
    case Phase::kEnding:
      return {};
    case Phase::kClientFlags:
    case Phase::kOptionHeader:
    case Phase::kOptionBody:
      if (output_.size() - output_begin_ > kOutputPiecesMax) return {};
      break;
    case Phase::kCommandHeader:
      if (!CanAccept()) return {};
      break;
    case Phase::kWritePayload: {
      const Command& command = commands_[receiving_];
      if (command.error != kOk) break;
      // The buffer is empty, or the payload in it waits for memory or for the budget.
      if (part_.empty() || part_filled_ == part_.size()) return {};
      receiving_part_ = true;
      return part_.mutable_span().subspan(part_filled_);
    }
  }
  if (input_begin_ > 0) {
    std::memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
    input_end_ -= std::exchange(input_begin_, 0);
  }
  return std::span(input_).subspan(input_end_);
}

void NbdSession::Received(size_t size) {
  if (disconnected_ || failed_) return;
  if (receiving_part_) {
    CHECK_LE(size, part_.size() - part_filled_);
    part_filled_ += static_cast<uint32_t>(size);
  } else {
    CHECK_LE(size, input_.size() - input_end_);
    input_end_ += size;
  }
  receiving_part_ = false;
  Advance();
}

void NbdSession::Resume() { Advance(); }

void NbdSession::Advance() {
  bool moved = true;
  while (moved && !disconnected_ && !failed_) {
    switch (phase_) {
      case Phase::kClientFlags:
        moved = OnClientFlags();
        break;
      case Phase::kOptionHeader:
        moved = OnOptionHeader();
        break;
      case Phase::kOptionBody:
        moved = OnOptionBody();
        break;
      case Phase::kCommandHeader:
        IssueReads();
        moved = CanAccept() && OnCommandHeader();
        break;
      case Phase::kWritePayload:
        moved = TakePayload();
        break;
      case Phase::kAwaitingRole:
        moved = false;
        break;
      case Phase::kEnding:
        IssueReads();
        moved = false;
        break;
    }
  }
  DetachIfIdle();
}

void NbdSession::TakeRequests(std::vector<UserRequestEvent>* requests) {
  std::move(requests_.begin(), requests_.end(), std::back_inserter(*requests));
  requests_.clear();
}

void NbdSession::OnReply(const UserReplyEffect& reply) {
  CHECK_EQ(reply.tag >> 32, options_.session);
  switch (static_cast<uint32_t>(reply.tag)) {
    case kDetachTag:
      CHECK_GT(detaches_open_, 0u);
      --detaches_open_;
      return;
    case kAttachTag:
    case kListTag:
      CHECK(std::exchange(control_open_, false));
      ++options_.budget->available;
      if (static_cast<uint32_t>(reply.tag) == kAttachTag) {
        OnAttached(reply);
      } else {
        OnListed(reply);
      }
      break;
    default:
      ++options_.budget->available;
      OnPartReply(reply);
  }
  Advance();
}

void NbdSession::OnNotice(const UserNoticeEffect& notice) {
  if (attached_ && notice.volume == volume_) size_bytes_ = notice.size_bytes;
}

size_t NbdSession::Output(std::span<std::span<const std::byte>> pieces) const {
  size_t count = 0;
  size_t skip = output_offset_;
  for (size_t i = output_begin_; i < output_.size(); ++i) {
    const OutPiece& piece = output_[i];
    for (const std::span<const std::byte> bytes :
         {std::span<const std::byte>(piece.head).first(piece.head_size), piece.data.span()}) {
      const size_t skipped = std::min(skip, bytes.size());
      skip -= skipped;
      if (skipped == bytes.size()) continue;
      if (count == pieces.size()) return count;
      pieces[count++] = bytes.subspan(skipped);
    }
  }
  return count;
}

void NbdSession::Sent(size_t size) {
  if (disconnected_) return;
  output_offset_ += size;
  while (output_begin_ < output_.size()) {
    OutPiece& piece = output_[output_begin_];
    if (output_offset_ < piece.size()) break;
    output_offset_ -= piece.size();
    CHECK_GE(bytes_held_, piece.held_bytes);
    bytes_held_ -= piece.held_bytes;
    if (piece.ends_reply) {
      CHECK_GT(replies_unsent_, 0u);
      --replies_unsent_;
    }
    piece.data = Slice();
    ++output_begin_;
  }
  CHECK(output_begin_ < output_.size() || output_offset_ == 0) << "sent more than there was";
  // Also a queue that never drains gives up what is sent.
  if (output_begin_ == output_.size() || output_begin_ >= kSentPiecesMax) {
    output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(output_begin_));
    output_begin_ = 0;
  }
  Advance();
}

void NbdSession::Shutdown() {
  shutting_down_ = true;
  if (phase_ != Phase::kCommandHeader && phase_ != Phase::kWritePayload) phase_ = Phase::kEnding;
  DetachIfIdle();
}

void NbdSession::Disconnected() {
  if (std::exchange(disconnected_, true)) return;
  output_.clear();
  output_begin_ = output_offset_ = 0;
  replies_unsent_ = 0;
  part_ = Slice();
  // What was only half received or half asked for ends with the parts that are under way.
  for (uint32_t* slot : {&receiving_, &issuing_}) {
    if (*slot == kNoCommand) continue;
    Command& command = commands_[*slot];
    command.error = kErrIo;
    command.complete = true;
    FinishIfComplete(std::exchange(*slot, kNoCommand));
  }
  phase_ = Phase::kEnding;
  DetachIfIdle();
}

bool NbdSession::wants_close() const {
  if (disconnected_) return false;
  if (failed_) return true;
  const bool ending =
      phase_ == Phase::kEnding || (shutting_down_ && phase_ == Phase::kCommandHeader);
  return ending && free_commands_.size() == commands_.size() && output_begin_ == output_.size();
}

bool NbdSession::finished() const {
  return disconnected_ && free_commands_.size() == commands_.size() && !control_open_ &&
         !attached_ && detaches_open_ == 0;
}

void NbdSession::IssueControl(UserOp op, uint32_t low_tag, std::string name) {
  requests_.push_back({.tag = TagOf(low_tag), .op = op, .volume = {}, .name = std::move(name)});
}

void NbdSession::DetachIfIdle() {
  if (!attached_ || !disconnected_ || parts_open_ > 0) return;
  attached_ = false;
  Detach(volume_);
}

void NbdSession::Detach(VolumeId volume) {
  ++detaches_open_;
  requests_.push_back({.tag = TagOf(kDetachTag), .op = UserOp::kDetach, .volume = volume});
}

void NbdSession::Fail(std::string reason) {
  if (std::exchange(failed_, true)) return;
  error_ = std::move(reason);
}

void NbdSession::Send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), sizeof(OutPiece::head));
    AddPiece(bytes.first(size));
    bytes = bytes.subspan(size);
  }
}

NbdSession::OutPiece& NbdSession::AddPiece(std::span<const std::byte> head) {
  OutPiece& piece = output_.emplace_back();
  CHECK_LE(head.size(), piece.head.size());
  std::copy(head.begin(), head.end(), piece.head.begin());
  piece.head_size = static_cast<uint8_t>(head.size());
  return piece;
}

std::span<const std::byte> NbdSession::Buffered() const {
  return std::span(input_).subspan(input_begin_, input_end_ - input_begin_);
}

void NbdSession::CheckInvariants() const {
  CHECK_LE(input_begin_, input_end_);
  CHECK_LE(input_end_, input_.size());
  uint32_t active = 0;
  uint32_t parts = 0;
  for (const Command& command : commands_) {
    if (!command.active) continue;
    ++active;
    parts += command.parts_open;
    CHECK(command.parts_open > 0 || !command.complete);
    CHECK_LE(command.parts_open, command.parts);
  }
  CHECK_EQ(active + free_commands_.size(), commands_.size());
  CHECK_EQ(parts, parts_open_);
  CHECK(receiving_ == kNoCommand || commands_[receiving_].active);
  CHECK(issuing_ == kNoCommand || commands_[issuing_].active);
  CHECK_EQ(receiving_ != kNoCommand, phase_ == Phase::kWritePayload);
}

}  // namespace gabion::nbd
