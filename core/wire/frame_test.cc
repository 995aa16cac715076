#include "core/wire/frame.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/base/random.h"

namespace gabion::wire {
namespace {

constexpr uint16_t kTypeCount = std::variant_size_v<Body>;

struct Frame {
  std::vector<std::byte> head;
  Slice payload;
};

Frame Encode(const Message& message) {
  Frame frame{std::vector<std::byte>(kHeadBytesMax), message.payload};
  frame.head.resize(EncodeHead(message, frame.head));
  return frame;
}

Result<Message> Decode(const Frame& frame) {
  const std::span<const std::byte> head(frame.head);
  const Result<FrameHeader> header = ParseHeader(head.first(kFrameHeaderBytes));
  if (!header) return tl::unexpected(header.error());
  if (header->body_bytes != head.size() - kFrameHeaderBytes ||
      header->payload_bytes != frame.payload.size()) {
    return Err(ErrorCode::kInvalidArgument, "the header does not describe this frame");
  }
  return DecodeFrame(*header, head.subspan(kFrameHeaderBytes), frame.payload);
}

// The header's own checksum, after a test has changed the header.
void Reseal(Frame& frame) {
  StoreLe(frame.head.data() + 28, Crc32c(std::span<const std::byte>(frame.head).first(28)));
}

template <class T>
std::vector<std::byte> BytesOf(const T& body) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), static_cast<const void*>(&body), sizeof(T));
  return bytes;
}

bool Same(const Message& a, const Message& b) {
  if (a.type() != b.type()) return false;
  const bool bodies = std::visit(
      [&b]<class T>(const T& body) { return BytesOf(body) == BytesOf(std::get<T>(b.body)); },
      a.body);
  return bodies && AsText(a.payload.span()) == AsText(b.payload.span());
}

// Makes a body of random bytes one that a peer may send; returns its payload size.
struct Legalise {
  RandomStream& random;

  template <class E>
  E Upto(E last, uint64_t first = 0) {
    return static_cast<E>(random.Range(first, static_cast<uint64_t>(last)));
  }
  uint64_t Of(IoTarget& target) {
    target.length_bytes = static_cast<uint32_t>(random.Range(1, 512)) * kSectorBytes;
    target.offset_bytes = static_cast<uint32_t>(random.Range(0, 2048 - 512)) * kSectorBytes;
    return target.length_bytes;
  }
  uint64_t Of(EntryHeader& entry) {
    entry.kind = Upto(EntryKind::kTrim, 1);
    entry.block_count = static_cast<uint16_t>(random.Range(1, kDataBlocksMax));
    entry.first_block = static_cast<uint16_t>(random.Range(0, kBlocksPerChunk - kDataBlocksMax));
    return entry.kind == EntryKind::kWrite ? uint64_t{entry.block_count} * kBlockBytes : 0;
  }
  template <class Item>
  uint64_t List(uint32_t& count) {
    count = static_cast<uint32_t>(random.Range(0, 40));
    return count * sizeof(Item);
  }

  template <class T>
  uint64_t operator()(T& body) {
    if constexpr (requires { body.role; }) body.role = Upto(PeerRole::kAdmin, 1);
    if constexpr (requires { body.status; }) body.status = Upto(Status::kUnknownPeer);
    return Payload(body);
  }

  template <class T>
  uint64_t Payload(T&) {
    return 0;
  }
  uint64_t Payload(ManagementBody&) { return random.Range(0, 5000); }
  uint64_t Payload(WriteRequest& m) {
    m.kind = Upto(EntryKind::kTrim, 1);
    const uint64_t length = Of(m.target);
    return m.kind == EntryKind::kWrite ? length : 0;
  }
  uint64_t Payload(ReadRequest& m) {
    Of(m.target);
    return 0;
  }
  uint64_t Payload(ReadReply& m) {
    m.length_bytes = static_cast<uint32_t>(random.Range(1, 512)) * kSectorBytes;
    return m.status == Status::kOk ? m.length_bytes : 0;
  }
  uint64_t Payload(ExtentQuery& m) {
    m.extent = static_cast<uint16_t>(random.Below(kExtentsPerChunk));
    m.with_content = Upto<uint8_t>(1);
    return 0;
  }
  uint64_t Payload(ExtentReply& m) {
    m.with_content = Upto<uint8_t>(1);
    if (m.status != Status::kOk) m.present = 0;
    m.damaged = static_cast<uint16_t>(m.damaged & m.present);
    return m.with_content != 0 ? uint64_t(std::popcount(m.good())) * kBlockBytes : 0;
  }
  uint64_t Payload(ScanFix& m) {
    m.extent = static_cast<uint16_t>(random.Below(kExtentsPerChunk));
    return uint64_t(std::popcount(m.present)) * kBlockBytes;
  }
  uint64_t Payload(SessionHeartbeat& m) { return List<LowWaterItem>(m.count); }
  uint64_t Payload(Replicate& m) { return Of(m.entry); }
  uint64_t Payload(CommitPoints& m) { return List<CommitItem>(m.count); }
  uint64_t Payload(TailReply& m) { return List<HistoryItem>(m.history_count); }
  uint64_t Payload(FetchReply& m) {
    const uint64_t payload = Of(m.entry);
    return m.status == Status::kOk ? payload : 0;
  }
  uint64_t Payload(ReplicateAck& m) {
    m.give_back = Upto<uint8_t>(1);
    return 0;
  }
  uint64_t Payload(EpochStart& m) {
    m.joining = Upto<uint8_t>(1);
    return List<HistoryItem>(m.history_count);
  }
  uint64_t Payload(CopyExtent& m) {
    m.extent = static_cast<uint16_t>(random.Below(kExtentsPerChunk));
    return uint64_t(std::popcount(m.present)) * kBlockBytes;
  }
  uint64_t Payload(CopyRequests& m) { return List<RequestRecord>(m.count); }
  uint64_t Payload(ChangedReply& m) { return List<ChangedChunk>(m.count); }
  uint64_t Payload(PresenceRequest& m) {
    m.chunk_count = static_cast<uint32_t>(random.Range(1, kPresenceChunksMax));
    m.target.offset_bytes = 0;
    m.target.length_bytes = kChunkBytes;
    return 0;
  }
  uint64_t Payload(PresenceReply& m) {
    m.chunk_count = static_cast<uint32_t>(random.Range(1, kPresenceChunksMax));
    return m.status == Status::kOk ? m.chunk_count * sizeof(ChunkPresence) : 0;
  }
};

template <size_t kIndex>
void Emplace(Body& body) {
  body.emplace<kIndex>();
}
template <size_t... kIndex>
void EmplaceByType(Body& body, uint16_t type, std::index_sequence<kIndex...>) {
  constexpr std::array<void (*)(Body&), sizeof...(kIndex)> kEmplace{&Emplace<kIndex>...};
  kEmplace[type](body);
}

// A random legal message of one type.
Message RandomMessage(uint16_t type, RandomStream& random, BufferPool& pool) {
  Message message;
  EmplaceByType(message.body, type, std::make_index_sequence<kTypeCount>());
  const uint64_t payload_bytes = std::visit(
      [&random](auto& body) {
        std::vector<std::byte> bytes(sizeof(body));
        const bool sparse = random.Chance(1, 2);
        for (std::byte& b : bytes) {
          if (!sparse || random.Chance(1, 4)) b = static_cast<std::byte>(random.Next());
        }
        std::memcpy(static_cast<void*>(&body), bytes.data(), bytes.size());
        return Legalise{random}(body);
      },
      message.body);
  if (payload_bytes > 0) {
    message.payload = pool.Allocate(static_cast<uint32_t>(payload_bytes));
    for (std::byte& b : message.payload.mutable_span()) b = static_cast<std::byte>(random.Next());
  }
  return message;
}

TEST(Frame, RefusesWhatCannotBeSaidOfAnExtent) {
  BufferPool pool({});
  const auto accepts = [](const Message& message) { return Decode(Encode(message)).has_value(); };
  ExtentReply reply;
  reply.present = 0x0013;
  reply.damaged = 0x0002;
  EXPECT_TRUE(accepts({reply, {}}));
  EXPECT_FALSE(accepts({reply, pool.Allocate(2 * kBlockBytes)}));
  reply.with_content = 1;  // and then the good blocks come with it
  EXPECT_TRUE(accepts({reply, pool.Allocate(2 * kBlockBytes)}));
  EXPECT_FALSE(accepts({reply, pool.Allocate(3 * kBlockBytes)}));
  EXPECT_FALSE(accepts({reply, {}}));
  reply.status = Status::kBusy;
  EXPECT_FALSE(accepts({reply, pool.Allocate(2 * kBlockBytes)}));
  reply = {};
  reply.present = 0x0003;
  reply.damaged = 0x0004;
  EXPECT_FALSE(accepts({reply, {}}));
  reply = {};
  reply.with_content = 2;
  EXPECT_FALSE(accepts({reply, {}}));
  ExtentQuery query;
  query.extent = kExtentsPerChunk - 1;
  query.with_content = 1;
  EXPECT_TRUE(accepts({query, {}}));
  query.with_content = 2;
  EXPECT_FALSE(accepts({query, {}}));
  query = {};
  query.extent = kExtentsPerChunk;
  EXPECT_FALSE(accepts({query, {}}));
  ScanFix fix;
  fix.present = 1;  // and nothing comes with it
  EXPECT_FALSE(accepts({fix, {}}));
}

TEST(Frame, EveryTypeComesBackAsItWasSentWithoutACopyOfThePayload) {
  BufferPool pool({});
  EXPECT_TRUE(rc::check([&](uint64_t seed) {
    RandomStream random(seed, 0, 0);
    for (uint16_t type = 1; type < kTypeCount; ++type) {
      const Message sent = RandomMessage(type, random, pool);
      const Frame frame = Encode(sent);
      RC_ASSERT(frame.head.size() <= kHeadBytesMax);
      const Result<Message> received = Decode(frame);
      if (!received) RC_FAIL(ToString(received.error()));
      RC_ASSERT(Same(sent, *received));
      RC_ASSERT(received->payload.data() == sent.payload.data());
    }
  }));
}

TEST(Frame, AnyChangedByteOfHeadOrListIsNoticed) {
  BufferPool pool({});
  EXPECT_TRUE(rc::check([&](uint64_t seed) {
    RandomStream random(seed, 0, 0);
    for (uint16_t type = 1; type < kTypeCount; ++type) {
      Message message = RandomMessage(type, random, pool);
      Frame frame = Encode(message);
      std::byte& changed = random.Pick(frame.head);
      const std::byte kept = changed;
      changed ^= static_cast<std::byte>(random.Range(1, 255));
      RC_ASSERT(!Decode(frame).has_value());
      changed = kept;
      // Blocks of data have their own checksums, which travel in the body.
      const bool checked = (LoadLe<uint32_t>(frame.head.data() + 16) & 1) != 0;
      if (!checked) continue;
      message.payload = Slice();
      const_cast<std::byte*>(frame.payload.data())[random.Below(frame.payload.size())] ^=
          static_cast<std::byte>(random.Range(1, 255));
      RC_ASSERT(!Decode(frame).has_value());
    }
  }));
}

// The bytes that docs/wire.md shows.
TEST(Frame, HasTheBytesOfTheFormatPage) {
  const Frame frame = Encode({SessionHeartbeatReply{.tag = 7}, {}});
  std::string hex;
  for (const std::byte b : frame.head) {
    char text[4];
    std::snprintf(text, sizeof(text), "%02x ", static_cast<unsigned>(b));
    hex += text;
  }
  EXPECT_EQ(hex,
            "47 41 42 31 02 00 09 00 08 00 00 00 00 00 00 00 "
            "00 00 00 00 00 00 00 00 8e b7 71 76 4e a6 bd 99 "
            "07 00 00 00 00 00 00 00 ");
}

TEST(Frame, TrailingZeroWordsAreNotSent) {
  WriteRequest request;
  request.kind = EntryKind::kZero;
  request.target.length_bytes = 4096;
  EXPECT_EQ(Encode({request, {}}).head.size(), kFrameHeaderBytes + 88);
  EXPECT_EQ(Encode({SessionHeartbeatReply{}, {}}).head.size(), kFrameHeaderBytes);
  EXPECT_TRUE(Decode(Encode({SessionHeartbeatReply{}, {}})).has_value());
}

// ---- What a peer must not send
// --------------------------------------------------------------------

class FrameRefusals : public testing::Test {
 protected:
  FrameRefusals() {
    Hello hello;
    hello.role = PeerRole::kSdc;
    frame_ = Encode({hello, {}});
  }

  template <class T>
  void Put(size_t offset, T value) {
    StoreLe(frame_.head.data() + offset, value);
    Reseal(frame_);
  }
  Error Refusal() {
    const Result<Message> message = Decode(frame_);
    return message ? Error{ErrorCode::kExists, "accepted"} : message.error();
  }

  Frame frame_;
};

TEST_F(FrameRefusals, GarbageInsteadOfAHeader) {
  Put(0, 0x20544547u);  // "GET "
  EXPECT_EQ(Refusal().message, "what it sent is not a Gabion frame");
}

TEST_F(FrameRefusals, AHeaderThatDoesNotMatchItsChecksum) {
  frame_.head[12] = std::byte{1};
  EXPECT_EQ(Refusal().code, ErrorCode::kCorrupt);
}

TEST_F(FrameRefusals, OtherVersions) {
  Put(4, static_cast<uint16_t>(kVersionMax + 1));
  EXPECT_EQ(Refusal().code, ErrorCode::kUnsupported);
  Put(4, uint16_t{0});
  EXPECT_EQ(Refusal().code, ErrorCode::kUnsupported);
}

TEST_F(FrameRefusals, UnknownTypes) {
  for (const uint16_t type : {uint16_t{0}, kTypeCount, uint16_t{65535}}) {
    Put(6, type);
    EXPECT_EQ(Refusal().code, ErrorCode::kUnsupported) << type;
  }
}

TEST_F(FrameRefusals, BodiesOfTheWrongSize) {
  Put(8, uint32_t{sizeof(Hello) + 8});
  EXPECT_EQ(Refusal().message, "a Hello of 128 bytes");
  Put(8, uint32_t{4});
  EXPECT_EQ(Refusal().message, "a Hello of 4 bytes");
  Put(8, UINT32_MAX);
  EXPECT_EQ(Refusal().code, ErrorCode::kCorrupt);
}

TEST_F(FrameRefusals, PayloadsOverTheLimitOfTheType) {
  Put(12, uint32_t{1});
  EXPECT_EQ(Refusal().code, ErrorCode::kLimit);
  Put(6, uint16_t{4});
  Put(12, kDataBytesMax + 1);
  EXPECT_EQ(Refusal().code, ErrorCode::kLimit);
  Put(6, uint16_t{3});
  Put(8, uint32_t{8});
  Put(12, kManagementBytesMax + 1);
  EXPECT_EQ(Refusal().code, ErrorCode::kLimit);
  EXPECT_NE(Refusal().message.find("16777216"), std::string::npos);
}

TEST_F(FrameRefusals, UnknownFlags) {
  Put(16, uint32_t{2});
  EXPECT_EQ(Refusal().code, ErrorCode::kUnsupported);
  Put(16, uint32_t{1});  // a checksum of no payload
  EXPECT_EQ(Refusal().code, ErrorCode::kUnsupported);
}

TEST_F(FrameRefusals, AnUnknownPeerRole) {
  for (const int role : {0, 5, 255}) {
    Hello hello;
    hello.role = static_cast<PeerRole>(role);
    frame_ = Encode({hello, {}});
    EXPECT_EQ(Refusal().message, "a Hello with a bad role");
  }
}

TEST_F(FrameRefusals, AddressesOutsideTheChunk) {
  const auto refusal_of = [this](uint32_t offset, uint32_t length) {
    ReadRequest read;
    read.target.offset_bytes = offset;
    read.target.length_bytes = length;
    frame_ = Encode({read, {}});
    return Refusal().code;
  };
  EXPECT_EQ(refusal_of(0, kDataBytesMax), ErrorCode::kExists);
  EXPECT_EQ(refusal_of(kChunkBytes - 512, 512), ErrorCode::kExists);
  EXPECT_EQ(refusal_of(0, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(1, 512), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(0, 513), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(0, kDataBytesMax + 512), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(kChunkBytes, 512), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(kChunkBytes - 512, 1024), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(UINT32_MAX - 511, 512), ErrorCode::kInvalidArgument);
}

TEST_F(FrameRefusals, EntriesThatContradictTheirPayload) {
  BufferPool pool({});
  const auto refusal_of = [&](EntryKind kind, uint16_t first, uint16_t count, uint32_t payload) {
    Replicate replicate;
    replicate.entry.kind = kind;
    replicate.entry.first_block = first;
    replicate.entry.block_count = count;
    frame_ = Encode({replicate, payload == 0 ? Slice() : pool.Allocate(payload)});
    return Refusal().code;
  };
  EXPECT_EQ(refusal_of(EntryKind::kWrite, 0, 2, 8192), ErrorCode::kExists);
  EXPECT_EQ(refusal_of(EntryKind::kTrim, 0, 256, 0), ErrorCode::kExists);
  EXPECT_EQ(refusal_of(EntryKind::kWrite, 0, 2, 4096), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(EntryKind::kWrite, 0, 2, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(EntryKind::kZero, 0, 1, 4096), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(EntryKind::kZero, 0, 0, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(EntryKind::kZero, 255, 2, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(EntryKind::kZero, 65535, 65535, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(static_cast<EntryKind>(0), 0, 1, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal_of(static_cast<EntryKind>(4), 0, 1, 0), ErrorCode::kInvalidArgument);
}

TEST_F(FrameRefusals, ListsThatContradictTheirCount) {
  BufferPool pool({});
  frame_ = Encode({CommitPoints{.count = 2}, pool.Allocate(2 * sizeof(CommitItem))});
  EXPECT_EQ(Refusal().message, "accepted");
  frame_ = Encode({CommitPoints{.count = 3}, pool.Allocate(2 * sizeof(CommitItem))});
  EXPECT_EQ(Refusal().code, ErrorCode::kInvalidArgument);
  // 2^32 / 16 * 16 wraps to zero in 32 bits.
  frame_ = Encode({SessionHeartbeat{.count = 1u << 28}, {}});
  EXPECT_EQ(Refusal().code, ErrorCode::kInvalidArgument);
  ReadReply reply;
  reply.length_bytes = 4096;
  frame_ = Encode({reply, {}});
  EXPECT_EQ(Refusal().code, ErrorCode::kInvalidArgument);
}

TEST_F(FrameRefusals, UnknownStatuses) {
  ReplicateAck ack;
  ack.status = static_cast<Status>(24);
  frame_ = Encode({ack, {}});
  EXPECT_EQ(Refusal().message, "a ReplicateAck with a bad status");
  ack.status = Status::kOk;
  ack.give_back = 2;
  frame_ = Encode({ack, {}});
  EXPECT_EQ(Refusal().message, "a ReplicateAck with a bad flag");
}

TEST(FrameDeathTest, OurOwnOversizedMessageIsABug) {
  BufferPool pool({});
  std::vector<std::byte> head(kHeadBytesMax);
  EXPECT_DEATH(EncodeHead({TailQuery{}, pool.Allocate(512)}, head), "TailQuery");
  EXPECT_DEATH(EncodeHead({{}, {}}, head), "an empty message");
}

}  // namespace
}  // namespace gabion::wire
