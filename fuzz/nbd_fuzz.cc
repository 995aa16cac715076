// What an NBD client may send, cut anywhere, between a role that answers in any order or fails. The
// input is a script: an operation byte, then its operands. Whatever happens the session ends with
// every request answered, the budget given back, and no volume attached.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/base/check.h"
#include "core/wire/data.h"
#include "net/export/nbd_session.h"

namespace {

using gabion::BufferPool;
using gabion::Slice;
using gabion::UserOp;
using gabion::UserReplyEffect;
using gabion::UserRequestEvent;
using gabion::VolumeId;
using gabion::nbd::NbdSession;
using gabion::nbd::RequestBudget;

constexpr uint64_t kVolumeBytes = 4 << 20;
constexpr uint32_t kBudget = 8;

class Script {
 public:
  explicit Script(std::span<const std::byte> bytes) : rest_(bytes) {}

  void Run() {
    while (!rest_.empty() && !session_.wants_close()) {
      switch (Byte() % 8) {
        case 0:
        case 1:
          Feed(Take(Byte()));
          break;
        case 2:
          Feed(Command());
          break;
        case 3:
          FeedZeroes(Byte() * 4096u);
          break;
        case 4:
          Answer(Byte());
          break;
        case 5:
          Drain(1 + Byte() * 1024u);
          break;
        case 6:
          session_.OnNotice({.volume = VolumeId(5), .size_bytes = Byte() * 65536u});
          break;
        case 7:
          if (Byte() == 7) session_.Shutdown();
          session_.Resume();
          break;
      }
      session_.CheckInvariants();
    }
    session_.Disconnected();
    session_.CheckInvariants();
    session_.TakeRequests(&requests_);
    while (!requests_.empty()) Answer(0);
    CHECK(session_.finished());
    CHECK_EQ(budget_.available, kBudget);
    CHECK_EQ(attached_, 0);
  }

 private:
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto value = std::to_integer<uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    return value;
  }

  std::span<const std::byte> Take(size_t size) {
    const auto bytes = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }

  // A command header that is well formed but for its values.
  std::span<const std::byte> Command() {
    const std::array<uint8_t, 4> magic = {0x25, 0x60, 0x95, 0x13};
    for (size_t i = 0; i < magic.size(); ++i) command_[i] = static_cast<std::byte>(magic[i]);
    command_[5] = static_cast<std::byte>(Byte());         // flags
    command_[7] = static_cast<std::byte>(Byte() % 10);    // type
    command_[21] = static_cast<std::byte>(Byte() % 128);  // offset
    command_[22] = static_cast<std::byte>(Byte());
    command_[25] = static_cast<std::byte>(Byte() % 64);  // length
    command_[26] = static_cast<std::byte>(Byte());
    return command_;
  }

  void Feed(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::span<std::byte> into = session_.ReceiveInto();
      if (into.empty()) break;
      const size_t size = std::min(into.size(), bytes.size());
      std::memcpy(into.data(), bytes.data(), size);
      session_.Received(size);
      bytes = bytes.subspan(size);
    }
    session_.TakeRequests(&requests_);
  }

  void FeedZeroes(size_t size) {
    static constexpr std::array<std::byte, 4096> kZeroes{};
    for (; size > 0; size -= kZeroes.size()) Feed(kZeroes);
  }

  void Answer(uint8_t choice) {
    if (requests_.empty()) return;
    const auto chosen = requests_.begin() + (choice >> 4) % requests_.size();
    UserRequestEvent request = std::move(*chosen);
    requests_.erase(chosen);
    UserReplyEffect reply{.tag = request.tag};
    // Detaching cannot fail.
    if ((choice & 15) == 15 && request.op != UserOp::kDetach) {
      reply.error = EIO;
    } else if (request.op == UserOp::kAttach) {
      reply.volume = VolumeId(5);
      reply.size_bytes = kVolumeBytes;
      reply.read_only = (choice & 15) == 14;
      ++attached_;
    } else if (request.op == UserOp::kDetach) {
      CHECK(request.volume == VolumeId(5));
      --attached_;
    } else if (request.op == UserOp::kRead) {
      CHECK_GT(request.length_bytes, 0u);
      reply.payload = pool_.Allocate(static_cast<uint32_t>(request.length_bytes));
      if (reply.payload.empty()) reply.error = ENOMEM;
    } else if (request.op == UserOp::kWrite) {
      CHECK_EQ(request.payload.size(), request.length_bytes);
    } else if (request.op == UserOp::kBlockStatus) {
      CHECK_GT(request.length_bytes, 0u);
      const uint64_t last =
          (request.offset_bytes + request.length_bytes - 1) / gabion::wire::kChunkBytes;
      const uint64_t chunks = last - request.offset_bytes / gabion::wire::kChunkBytes + 1;
      const uint64_t size = chunks * sizeof(gabion::wire::ChunkPresence);
      reply.payload = pool_.Allocate(static_cast<uint32_t>(size));
      if (reply.payload.empty()) {
        reply.error = ENOMEM;
      } else {
        std::ranges::fill(reply.payload.mutable_span(), std::byte{choice});
      }
    } else if (request.op == UserOp::kList) {
      reply.payload = pool_.Allocate(choice + 1u);
      std::ranges::fill(reply.payload.mutable_span(), std::byte{choice});
    }
    if (request.op != UserOp::kAttach) CHECK(request.name.empty());
    request.payload = Slice();
    session_.OnReply(reply);
    session_.TakeRequests(&requests_);
  }

  void Drain(size_t size) {
    std::array<std::span<const std::byte>, 4> pieces;
    const size_t count = session_.Output(pieces);
    size_t sent = 0;
    for (size_t i = 0; i < count && sent < size; ++i) {
      sent += std::min(pieces[i].size(), size - sent);
    }
    session_.Sent(sent);
    session_.TakeRequests(&requests_);
  }

  std::span<const std::byte> rest_;
  BufferPool pool_{{.bytes_max = 2 << 20}};
  RequestBudget budget_{kBudget};
  NbdSession session_{{.session = 1,
                       .pool = &pool_,
                       .budget = &budget_,
                       .default_export = "volume",
                       .commands_max = 4,
                       .bytes_max = 1 << 20}};
  std::vector<UserRequestEvent> requests_;
  int attached_ = 0;
  std::array<std::byte, 28> command_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script(std::as_bytes(std::span(data, size))).Run();
  return 0;
}
