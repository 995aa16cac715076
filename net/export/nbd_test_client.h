// An NBD client that speaks bytes to an NbdSession, and a role behind it, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/wire/data.h"
#include "net/export/nbd_protocol.h"
#include "net/export/nbd_session.h"

namespace gabion::nbd {

using Bytes = std::vector<std::byte>;

inline void Append(Bytes* to, std::span<const std::byte> bytes) {
  to->insert(to->end(), bytes.begin(), bytes.end());
}
inline void Append(Bytes* to, std::string_view text) {
  Append(to, std::as_bytes(std::span(text.data(), text.size())));
}

// A client that speaks bytes, and a role that keeps 8 MiB in memory and answers when told to.
class Nbd : public testing::Test {
 protected:
  Nbd() { Connect(); }
  ~Nbd() override {
    if (session == nullptr) return;
    session->Disconnected();
    AnswerAll();
    EXPECT_TRUE(session->finished());
    EXPECT_EQ(budget.available, 64u) << "the budget was not given back";
  }

  void Connect(SessionOptions options = {}) {
    options.session = 9;
    options.pool = &pool;
    options.budget = &budget;
    session = std::make_unique<NbdSession>(options);
  }

  // The host's loop: feeds `bytes` in pieces of at most `step`; stops when the session takes no
  // more. Returns how many it took.
  size_t Feed(std::span<const std::byte> bytes, size_t step = SIZE_MAX) {
    size_t fed = 0;
    while (fed < bytes.size()) {
      const std::span<std::byte> into = session->ReceiveInto();
      if (into.empty()) break;
      const size_t size = std::min({into.size(), bytes.size() - fed, step});
      std::memcpy(into.data(), bytes.data() + fed, size);
      session->Received(size);
      session->CheckInvariants();
      fed += size;
    }
    session->TakeRequests(&requests);
    return fed;
  }
  void FeedAll(std::span<const std::byte> bytes, size_t step = SIZE_MAX) {
    EXPECT_EQ(Feed(bytes, step), bytes.size());
  }

  // Everything to be sent, taken in pieces of at most `step`.
  Bytes Drain(size_t step = SIZE_MAX) {
    Bytes all;
    while (true) {
      std::array<std::span<const std::byte>, 3> pieces;
      const size_t count = session->Output(pieces);
      if (count == 0) break;
      size_t taken = 0;
      for (size_t i = 0; i < count && taken < step; ++i) {
        const auto bytes = pieces[i].first(std::min(pieces[i].size(), step - taken));
        Append(&all, bytes);
        taken += bytes.size();
      }
      session->Sent(taken);
    }
    session->TakeRequests(&requests);
    return all;
  }

  // Answers the oldest request as a role with the volume "vol" would.
  void Answer(int error = 0) {
    ASSERT_FALSE(requests.empty());
    UserRequestEvent request = std::move(requests.front());
    requests.erase(requests.begin());
    EXPECT_EQ(request.tag >> 32, 9u);
    UserReplyEffect reply{.tag = request.tag, .error = error};
    switch (request.op) {
      case UserOp::kAttach:
        if (error != 0) break;
        if (request.name != "vol") {
          reply.error = ENODEV;
          break;
        }
        reply.volume = VolumeId(5);
        reply.size_bytes = disk.size();
        reply.read_only = read_only;
        ++attached;
        break;
      case UserOp::kDetach:
        EXPECT_EQ(request.volume, VolumeId(5));
        --attached;
        break;
      case UserOp::kList:
        reply.payload = MakeSlice("vol\nother\n");
        break;
      case UserOp::kRead:
        if (error != 0) break;
        reply.payload = pool.Allocate(static_cast<uint32_t>(request.length_bytes));
        std::memcpy(reply.payload.mutable_span().data(), disk.data() + request.offset_bytes,
                    request.length_bytes);
        break;
      case UserOp::kWrite:
        EXPECT_EQ(request.payload.size(), request.length_bytes);
        std::memcpy(disk.data() + request.offset_bytes, request.payload.data(),
                    request.length_bytes);
        break;
      case UserOp::kTrim:
      case UserOp::kWriteZeroes:
        std::memset(disk.data() + request.offset_bytes, 0, request.length_bytes);
        break;
      case UserOp::kFlush:
        break;
      case UserOp::kBlockStatus:
        if (error == 0) reply.payload = Presence(request.offset_bytes, request.length_bytes);
        break;
    }
    request.payload = Slice();
    session->OnReply(reply);
    session->CheckInvariants();
    session->TakeRequests(&requests);
  }
  void AnswerAll() {
    session->TakeRequests(&requests);
    while (!requests.empty()) Answer();
  }

  // Blocks that are all zeroes are holes.
  Slice Presence(uint64_t offset, uint64_t length) {
    const uint64_t first = offset / wire::kChunkBytes;
    const uint64_t count = (offset + length - 1) / wire::kChunkBytes - first + 1;
    std::vector<wire::ChunkPresence> chunks(count);
    for (uint64_t i = 0; i < count * wire::kBlocksPerChunk; ++i) {
      const std::byte* block = disk.data() + first * wire::kChunkBytes + i * wire::kBlockBytes;
      const bool data = std::any_of(block, block + wire::kBlockBytes,
                                    [](std::byte b) { return b != std::byte{0}; });
      const uint64_t bit = i % wire::kBlocksPerChunk;
      if (data) chunks[i / wire::kBlocksPerChunk].blocks[bit / 64] |= uint64_t{1} << (bit % 64);
    }
    Slice slice = pool.Allocate(static_cast<uint32_t>(count * sizeof(wire::ChunkPresence)));
    std::memcpy(slice.mutable_span().data(), chunks.data(), slice.size());
    return slice;
  }

  Slice MakeSlice(std::string_view text) {
    Slice slice = pool.Allocate(static_cast<uint32_t>(text.size()));
    std::memcpy(slice.mutable_span().data(), text.data(), text.size());
    return slice;
  }

  static Bytes Option(uint32_t option, const Bytes& body = {}) {
    Bytes bytes;
    Append(&bytes, BeWriter<16>()
                       .U64(kOptionMagic)
                       .U32(option)
                       .U32(static_cast<uint32_t>(body.size()))
                       .span());
    Append(&bytes, body);
    return bytes;
  }
  static Bytes ExportBody(std::string_view name) {
    Bytes body;
    Append(&body, BeWriter<4>().U32(static_cast<uint32_t>(name.size())).span());
    Append(&body, name);
    Append(&body, BeWriter<4>().U16(1).U16(kInfoBlockSize).span());
    return body;
  }
  static Bytes MetaBody(std::string_view name, std::vector<std::string_view> queries) {
    Bytes body;
    Append(&body, BeWriter<4>().U32(static_cast<uint32_t>(name.size())).span());
    Append(&body, name);
    Append(&body, BeWriter<4>().U32(static_cast<uint32_t>(queries.size())).span());
    for (std::string_view query : queries) {
      Append(&body, BeWriter<4>().U32(static_cast<uint32_t>(query.size())).span());
      Append(&body, query);
    }
    return body;
  }
  static Bytes Command(uint16_t type, uint64_t offset, uint32_t length, uint16_t flags = 0,
                       uint64_t cookie = 77) {
    Bytes bytes;
    Append(&bytes, BeWriter<28>()
                       .U32(kRequestMagic)
                       .U16(flags)
                       .U16(type)
                       .U64(cookie)
                       .U64(offset)
                       .U32(length)
                       .span());
    return bytes;
  }
  static Bytes OptionReply(uint32_t option, uint32_t type, const Bytes& body = {}) {
    Bytes bytes;
    Append(&bytes, BeWriter<20>()
                       .U64(kOptionReplyMagic)
                       .U32(option)
                       .U32(type)
                       .U32(static_cast<uint32_t>(body.size()))
                       .span());
    Append(&bytes, body);
    return bytes;
  }
  static Bytes SimpleReply(uint32_t error, uint64_t cookie = 77) {
    Bytes bytes;
    Append(&bytes, BeWriter<16>().U32(kSimpleReplyMagic).U32(error).U64(cookie).span());
    return bytes;
  }
  // Type of an option reply that is the next in `bytes`; takes it off.
  static uint32_t TakeOptionReply(Bytes* bytes, Bytes* body = nullptr) {
    if (bytes->size() < 20) return 0;
    BeReader reader(std::span<const std::byte>(*bytes).first(20));
    EXPECT_EQ(reader.U64(), kOptionReplyMagic);
    reader.U32();
    const uint32_t type = reader.U32();
    const uint32_t size = reader.U32();
    if (bytes->size() < 20 + size) return 0;
    if (body != nullptr) body->assign(bytes->begin() + 20, bytes->begin() + 20 + size);
    bytes->erase(bytes->begin(), bytes->begin() + 20 + size);
    return type;
  }

  void Greet(uint32_t flags = kFixedNewstyle | kNoZeroes) {
    Drain();
    FeedAll(BeWriter<4>().U32(flags).span());
  }
  void Go(bool structured = false, bool meta = false) {
    Greet();
    if (structured) FeedAll(Option(kOptStructuredReply));
    if (meta) FeedAll(Option(kOptSetMetaContext, MetaBody("vol", {kAllocationContext})));
    FeedAll(Option(kOptGo, ExportBody("vol")));
    Answer();
    Drain();
  }

  BufferPool pool{{.bytes_max = size_t{64} << 20}};
  RequestBudget budget{64};
  Bytes disk = Bytes(8 << 20);
  bool read_only = false;
  int attached = 0;
  std::unique_ptr<NbdSession> session;
  std::vector<UserRequestEvent> requests;
};

}  // namespace gabion::nbd
