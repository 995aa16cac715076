// One NBD connection, server side, as a pure state machine: bytes in, bytes and user requests out.
// No socket, no clock. Protocol: doc/proto.md of the NetworkBlockDevice project (fixed newstyle,
// structured replies, base:allocation). Exports are the volumes mapped to this SDC, by name.
//
// How a host drives it (one thread; the role is the SDC role):
//
//   NbdSession session({.session = ++last_session, .pool = &pool, .budget = &budget, ...});
//
//   readable:   while (true) {
//                 std::span<std::byte> into = session.ReceiveInto();
//                 if (into.empty()) break;               // not now: stop polling for input, see
//                 below ssize_t n = recv(fd, into.data(), into.size(), 0); if (n <= 0) break; // 0
//                 or a real error: session.Disconnected() session.Received(n);
//               }
//   then, after every call that is not const (sending included: it makes room for commands
//   received):
//     requests: session.TakeRequests(&events); each event goes to role.Step(). Their tags are
//               (session << 32) + n, and each gets exactly one UserReplyEffect.
//     output:   count = session.Output(pieces) -> writev(pieces) -> session.Sent(n); empty: all
//     sent.
//               The bytes stay valid until Sent() has counted them off, or the session is
//               destroyed.
//     close:    if (session.wants_close()) { close(fd); session.Disconnected(); }
//     end:      if (session.finished()) destroy it. Until then keep it, though the socket is gone:
//               the role still answers its requests.
//   UserReplyEffect:  find the session by tag >> 32, session.OnReply(reply).
//   UserNoticeEffect: every session, session.OnNotice(notice).
//   After replies or memory came back (end of each loop turn): for sessions whose ReceiveInto() was
//   empty, session.Resume() and ask again.
//   Clean shutdown: session.Shutdown() refuses new requests and wants_close() once the rest is
//   answered.
//
// The payload of a write lands in pool buffers of its own, one per user request; the payload of a
// read is sent by reference to the slices that the role answered with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::nbd {

// User requests that all sessions of one role may still send; at most the role's requests_max in
// all.
struct RequestBudget {
  uint32_t available = 0;
};

struct SessionOptions {
  uint32_t session = 0;  // unique in the process for ever; the high half of all tags
  BufferPool* pool = nullptr;
  RequestBudget* budget = nullptr;          // shared between the sessions of one role
  std::string default_export{};             // what the empty export name means; empty: nothing
  bool read_only = false;                   // serve every volume read-only
  uint32_t commands_max = 128;              // commands accepted and not yet answered
  uint64_t bytes_max = uint64_t{64} << 20;  // their data; one command is always accepted
};

class NbdSession {
 public:
  static constexpr uint32_t kPartsMax = 256;         // user requests of one command
  static constexpr uint32_t kCommandsMax = 1 << 16;  // in one session

  explicit NbdSession(const SessionOptions& options);
  NbdSession(const NbdSession&) = delete;
  NbdSession& operator=(const NbdSession&) = delete;
  ~NbdSession();

  // Where the next received bytes belong, up to the next call. Empty: the session takes none now.
  std::span<std::byte> ReceiveInto();
  // The first `size` bytes of the last ReceiveInto() have been filled.
  void Received(size_t size);
  // Tries again what waited for the budget or for memory.
  void Resume();

  // Appends the requests that are due.
  void TakeRequests(std::vector<UserRequestEvent>* requests);
  void OnReply(const UserReplyEffect& reply);
  void OnNotice(const UserNoticeEffect& notice);

  // Fills `pieces` from the front with what is to be sent, in order; returns how many it filled.
  size_t Output(std::span<std::span<const std::byte>> pieces) const;
  void Sent(size_t size);

  void Shutdown();
  // The socket is gone: nothing is received or sent any more. May be called twice.
  void Disconnected();

  bool wants_close() const;
  bool finished() const;
  // Why the session ended, for the log; empty while it runs and after an orderly end.
  const std::string& error() const { return error_; }
  const std::string& export_name() const { return export_name_; }

  void CheckInvariants() const;

 private:
  //  kClientFlags -> kOptionHeader <-> kOptionBody -> kAwaitingRole (attach, list)
  //                        ^------------------------------'   |
  //                                                           v
  //  kEnding <------------------------------ kCommandHeader <-> kWritePayload
  enum class Phase : uint8_t {
    kClientFlags,
    kOptionHeader,
    kOptionBody,
    kAwaitingRole,
    kCommandHeader,
    kWritePayload,
    kEnding,  // nothing more is taken; what is in flight is answered
  };

  struct StatusExtent {
    uint32_t length = 0;
    bool hole = false;
  };

  struct Command {
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
    uint16_t type = 0;
    uint32_t error = 0;  // NBD's number; the first one stays
    // Of the payload received, or of the read or block status asked for.
    uint32_t taken_bytes = 0;
    uint32_t held_bytes = 0;  // of data, counted in bytes_held_ until the reply is sent
    uint32_t parts = 0;       // user requests made
    uint32_t parts_open = 0;  // of them unanswered
    bool complete = false;    // no further part will be made
    bool active = false;
    bool one_extent = false;  // all that a block status wants
    std::vector<Slice> data;  // of a read, by part
    std::vector<StatusExtent> extents;
  };

  // A stretch of output: a header by value, then data by reference.
  struct OutPiece {
    std::array<std::byte, 64> head;
    uint8_t head_size = 0;
    bool ends_reply = false;
    uint32_t held_bytes = 0;  // given back when sent
    Slice data;
    size_t size() const { return head_size + size_t{data.size()}; }
  };

  // nbd_negotiation.cc
  void SendGreeting();
  bool OnClientFlags();
  bool OnOptionHeader();
  bool OnOptionBody();
  void OnOption(std::span<const std::byte> body);
  void OnExportOption(std::span<const std::byte> body);
  void OnMetaContextOption(std::span<const std::byte> body);
  void Attach(std::string_view name);
  void OnAttached(const UserReplyEffect& reply);
  void OnListed(const UserReplyEffect& reply);
  void ReplyToOption(uint32_t type, std::span<const std::byte> head = {},
                     std::string_view text = {});
  void SendExportInfo();
  uint16_t TransmissionFlags() const;

  // nbd_transmission.cc
  bool CanAccept() const;
  bool OnCommandHeader();
  void OnCommand(uint32_t slot);
  uint32_t CheckCommand(const Command& command, uint16_t flags) const;
  void Hold(Command& command);
  bool TakePayload();
  void IssueReads();
  void IssuePart(uint32_t slot, UserOp op, uint64_t offset, uint64_t length, Slice payload);
  void OnPartReply(const UserReplyEffect& reply);
  void FinishIfComplete(uint32_t slot);
  void SendReply(Command& command);

  // nbd_block_status.cc
  void AskStatus(uint32_t slot);
  void OnStatusReply(uint32_t slot, const UserReplyEffect& reply);
  // False: the command has all the extents that its reply will hold.
  bool AddExtent(Command& command, uint32_t length, bool hole) const;
  void SendStatus(Command& command);

  // nbd_session.cc
  void Advance();
  void IssueControl(UserOp op, uint32_t low_tag, std::string name);
  void DetachIfIdle();
  void Detach(VolumeId volume);
  void Fail(std::string reason);
  void Send(std::span<const std::byte> bytes);
  OutPiece& AddPiece(std::span<const std::byte> head);
  std::span<const std::byte> Buffered() const;
  void Consume(size_t size) { input_begin_ += size; }
  uint64_t TagOf(uint32_t low) const { return (uint64_t{options_.session} << 32) | low; }

  SessionOptions options_;
  Phase phase_ = Phase::kClientFlags;
  bool disconnected_ = false;
  bool failed_ = false;
  bool shutting_down_ = false;
  std::string error_;

  // Received and not yet taken: [input_begin_, input_end_).
  std::vector<std::byte> input_;
  size_t input_begin_ = 0;
  size_t input_end_ = 0;
  bool receiving_part_ = false;  // the last ReceiveInto() pointed into part_

  std::vector<OutPiece> output_;
  size_t output_begin_ = 0;   // pieces before it are sent
  size_t output_offset_ = 0;  // of output_[output_begin_]
  std::vector<UserRequestEvent> requests_;

  // Negotiation.
  uint32_t options_seen_ = 0;
  uint32_t option_ = 0;
  uint32_t option_size_ = 0;
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool structured_ = false;
  bool meta_allocation_ = false;
  std::string meta_export_;
  bool control_open_ = false;  // an attach or a list is unanswered
  uint32_t detaches_open_ = 0;

  // Transmission.
  std::string export_name_;
  VolumeId volume_;
  uint64_t size_bytes_ = 0;
  bool read_only_ = false;
  bool attached_ = false;
  std::vector<Command> commands_;
  std::vector<uint32_t> free_commands_;
  uint32_t parts_open_ = 0;  // of all commands
  uint32_t replies_unsent_ = 0;
  uint64_t bytes_held_ = 0;
  uint32_t receiving_ = kNoCommand;  // the write whose payload is being received
  uint32_t issuing_ = kNoCommand;    // the read of which parts are still to be asked for
  Slice part_;                       // being filled
  uint32_t part_filled_ = 0;

  static constexpr uint32_t kNoCommand = UINT32_MAX;
  // Low halves of tags; those of parts are below.
  static constexpr uint32_t kAttachTag = UINT32_MAX;
  static constexpr uint32_t kListTag = UINT32_MAX - 1;
  static constexpr uint32_t kDetachTag = UINT32_MAX - 2;
  static_assert(uint64_t{kPartsMax} * kCommandsMax < kDetachTag);
};

}  // namespace gabion::nbd
