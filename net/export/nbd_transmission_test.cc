// Commands on a chosen export, limits, and the end of a session.
#include <cerrno>
#include <optional>

#include "core/base/random.h"
#include "net/export/nbd_test_client.h"

namespace gabion::nbd {
namespace {

TEST_F(Nbd, ReadsReturnTheVolumesBytesByReference) {
  Go();
  for (size_t i = 0; i < disk.size(); i += 7) disk[i] = static_cast<std::byte>(i >> 3);
  FeedAll(Command(kCmdRead, 4096, 8192));
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].op, UserOp::kRead);
  EXPECT_EQ(requests[0].volume, VolumeId(5));
  Answer();
  Bytes expected = SimpleReply(kOk);
  Append(&expected, std::span(disk).subspan(4096, 8192));
  EXPECT_EQ(Drain(1000), expected);
}

TEST_F(Nbd, LargeReadsAreAskedInPartsAndAnsweredInOrder) {
  Go(true);
  for (size_t i = 0; i < disk.size(); i += 5) disk[i] = static_cast<std::byte>(i >> 2);
  const uint32_t length = 1 << 20;
  FeedAll(Command(kCmdRead, 4096, length, kDontFragment));
  ASSERT_EQ(requests.size(), 5u);
  EXPECT_EQ(requests[0].length_bytes, (256u << 10) - 4096);
  std::rotate(requests.begin(), requests.begin() + 2, requests.end());
  AnswerAll();
  Bytes expected;
  Append(&expected, BeWriter<28>()
                        .U32(kStructuredReplyMagic)
                        .U16(kChunkDone)
                        .U16(kChunkOffsetData)
                        .U64(77)
                        .U32(length + 8)
                        .U64(4096)
                        .span());
  Append(&expected, std::span(disk).subspan(4096, length));
  EXPECT_EQ(Drain(), expected);
}

TEST_F(Nbd, WritesLandInPoolBuffersWithoutAnIntermediateCopy) {
  Go();
  const uint32_t length = 512 << 10;
  Bytes data(length);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 11 >> 3);
  FeedAll(Command(kCmdWrite, 1 << 20, length, kFua));
  // The session now wants the payload itself, straight into its place.
  std::span<std::byte> into = session->ReceiveInto();
  EXPECT_EQ(into.size(), 256u << 10);
  FeedAll(data);
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].payload.data(), into.data());
  AnswerAll();
  EXPECT_EQ(Drain(), SimpleReply(kOk));
  EXPECT_EQ(std::memcmp(disk.data() + (1 << 20), data.data(), length), 0);
}

TEST_F(Nbd, APipelineOfWritesArrivesWholeHoweverItIsCut) {
  for (size_t step : {1u, 27u, 4096u, 100000u}) {
    budget.available = 64;
    Connect();
    Go();
    Bytes stream;
    Bytes expected(disk.size());
    std::memset(disk.data(), 0, disk.size());
    uint64_t offset = 0;
    for (uint32_t length : {512u, 4096u, 512u * 3, 20480u}) {
      Append(&stream, Command(kCmdWrite, offset, length, 0, length));
      for (uint32_t i = 0; i < length; ++i) {
        expected[offset + i] = static_cast<std::byte>(length / 512 + i);
        stream.push_back(expected[offset + i]);
      }
      offset += length;
    }
    FeedAll(stream, step);
    AnswerAll();
    Bytes replies;
    for (uint64_t cookie : {512u, 4096u, 512u * 3, 20480u}) {
      Append(&replies, SimpleReply(kOk, cookie));
    }
    EXPECT_EQ(Drain(), replies);
    EXPECT_EQ(disk, expected) << step;
    session->Disconnected();
    AnswerAll();
    EXPECT_TRUE(session->finished());
  }
}

TEST_F(Nbd, FlushTrimZeroesAndCacheAreAnswered) {
  Go();
  const struct {
    uint16_t type, flags;
    uint32_t length;
    std::optional<UserOp> op;
  } cases[] = {{kCmdFlush, 0, 0, UserOp::kFlush},
               {kCmdTrim, kFua, 4 << 20, UserOp::kTrim},
               {kCmdWriteZeroes, kNoHole | kFua, 7 << 20, UserOp::kWriteZeroes},
               {kCmdCache, 0, 4096, std::nullopt}};
  for (const auto& c : cases) {
    FeedAll(Command(c.type, 0, c.length, c.flags));
    if (c.op.has_value()) {
      ASSERT_EQ(requests.size(), 1u);
      EXPECT_EQ(requests[0].op, *c.op);
      EXPECT_EQ(requests[0].length_bytes, c.length);
      Answer();
    }
    EXPECT_EQ(Drain(), SimpleReply(kOk)) << c.type;
  }
}

TEST_F(Nbd, BadRangesAreRefusedAndThePayloadIsPassedOver) {
  Go();
  const uint64_t size = 64 << 20;
  session->OnNotice({.volume = VolumeId(5), .size_bytes = size});
  const struct {
    uint16_t type;
    uint64_t offset;
    uint32_t length;
    uint16_t flags;
    uint32_t error;
  } cases[] = {{kCmdRead, size, 512, 0, kErrInvalid},
               {kCmdRead, UINT64_MAX - 511, 1024, 0, kErrInvalid},
               {kCmdRead, 0, 33 << 20, 0, kErrInvalid},
               {kCmdRead, 1, 512, 0, kErrInvalid},
               {kCmdRead, 0, 0, 0, kErrInvalid},
               {kCmdRead, 0, 512, kDontFragment, kErrInvalid},
               {kCmdRead, 0, 512, 0x8000, kErrInvalid},
               {kCmdWrite, size - 512, 1024, 0, kErrNoSpace},
               {kCmdWrite, 0, 100, 0, kErrInvalid},
               {kCmdWrite, 0, 0, 0, kErrInvalid},
               {kCmdTrim, size, 512, 0, kErrNoSpace},
               {kCmdWriteZeroes, 0, 511, 0, kErrInvalid},
               {kCmdFlush, 0, 512, 0, kErrInvalid},
               {kCmdBlockStatus, 0, 512, 0, kErrInvalid},
               {8, 0, 512, 0, kErrInvalid},
               {999, 0, 512, 0, kErrInvalid}};
  for (const auto& c : cases) {
    Bytes bytes = Command(c.type, c.offset, c.length, c.flags);
    if (c.type == kCmdWrite) bytes.resize(bytes.size() + c.length);
    FeedAll(bytes);
    EXPECT_TRUE(requests.empty());
    EXPECT_EQ(Drain(), SimpleReply(c.error)) << c.type << " " << c.offset << " " << c.length;
  }
  FeedAll(Command(kCmdRead, 0, 512));
  EXPECT_EQ(requests.size(), 1u) << "the stream is still in step";
}

TEST_F(Nbd, ErrorsOfTheRoleAreTranslatedAndTheFirstOneCounts) {
  Go();
  const std::pair<int, uint32_t> cases[] = {
      {EIO, kErrIo},   {ENOSPC, kErrNoSpace}, {EROFS, kErrPermission}, {ENODEV, kErrIo},
      {EBUSY, kErrIo}, {EINVAL, kErrInvalid}, {ENOMEM, kErrMemory},    {ESHUTDOWN, kErrShutdown}};
  for (const auto& [error, expected] : cases) {
    FeedAll(Command(kCmdRead, 0, 512 << 10));
    ASSERT_EQ(requests.size(), 2u);
    Answer(error);
    Answer(0);
    EXPECT_EQ(Drain(), SimpleReply(expected)) << error;
  }
}

TEST_F(Nbd, ReadOnlyExportsRefuseWrites) {
  read_only = true;
  Go();
  Bytes bytes = Command(kCmdWrite, 0, 512);
  bytes.resize(bytes.size() + 512);
  FeedAll(bytes);
  EXPECT_EQ(Drain(), SimpleReply(kErrPermission));
  FeedAll(Command(kCmdTrim, 0, 512));
  EXPECT_EQ(Drain(), SimpleReply(kErrPermission));
}

TEST_F(Nbd, ReadOnlyIsTold) {
  read_only = true;
  Greet();
  FeedAll(Option(kOptGo, ExportBody("vol")));
  Answer();
  Bytes out = Drain();
  Bytes body;
  TakeOptionReply(&out, &body);
  EXPECT_EQ(LoadBe<uint16_t>(body.data() + 10),
            kHasFlags | kReadOnly | kSendFlush | kSendFua | kCanMultiConn | kSendCache);
}

TEST_F(Nbd, GarbageClosesWithAReason) {
  const Bytes cases[] = {
      Option(kOptList), Bytes(16, std::byte{0x41}), [] {
        Bytes bytes;
        Append(&bytes, BeWriter<16>().U64(kOptionMagic).U32(kOptGo).U32(UINT32_MAX).span());
        return bytes;
      }()};
  for (size_t i = 0; i < std::size(cases); ++i) {
    Connect();
    Greet(i == 0 ? 0 : uint32_t{kFixedNewstyle});
    Feed(cases[i]);
    EXPECT_TRUE(session->wants_close());
    EXPECT_FALSE(session->error().empty());
    EXPECT_TRUE(session->ReceiveInto().empty());
  }
  Connect();
  Greet(0x80);
  EXPECT_TRUE(session->wants_close());
}

TEST_F(Nbd, GarbageAfterTheNegotiationClosesAndGivesTheVolumeBack) {
  Go();
  FeedAll(Command(kCmdRead, 0, 512));
  Feed(Bytes(28, std::byte{0x42}));
  EXPECT_TRUE(session->wants_close());
  session->Disconnected();
  EXPECT_FALSE(session->finished());
  AnswerAll();
  EXPECT_TRUE(session->finished());
  EXPECT_EQ(attached, 0);
}

TEST_F(Nbd, AWriteBeyondTheLargestPayloadCloses) {
  Go();
  Feed(Command(kCmdWrite, 0, (32 << 20) + 512));
  EXPECT_TRUE(session->wants_close());
}

TEST_F(Nbd, DisconnectFinishesWhatIsInFlight) {
  Go();
  FeedAll(Command(kCmdFlush, 0, 0));
  FeedAll(Command(kCmdDisconnect, 0, 0));
  EXPECT_FALSE(session->wants_close());
  Answer();
  EXPECT_FALSE(session->wants_close());
  EXPECT_EQ(Drain(), SimpleReply(kOk));
  EXPECT_TRUE(session->wants_close());
  EXPECT_TRUE(session->error().empty());
}

TEST_F(Nbd, ALostConnectionWaitsForTheRoleInEveryPhase) {
  // While attaching.
  Greet();
  FeedAll(Option(kOptGo, ExportBody("vol")));
  session->Disconnected();
  EXPECT_FALSE(session->finished());
  AnswerAll();
  EXPECT_TRUE(session->finished());
  EXPECT_EQ(attached, 0);
  // In the middle of a payload, a part of it under way.
  Connect();
  Go();
  FeedAll(Command(kCmdWrite, 0, 1 << 20));
  FeedAll(Bytes(300 << 10));
  ASSERT_EQ(requests.size(), 1u);
  session->Disconnected();
  session->Disconnected();
  session->CheckInvariants();
  EXPECT_FALSE(session->finished());
  AnswerAll();
  EXPECT_TRUE(session->finished());
  EXPECT_EQ(attached, 0);
  // In the middle of a read that waits for the budget.
  Connect();
  Go();
  budget.available = 1;
  FeedAll(Command(kCmdRead, 0, 1 << 20));
  ASSERT_EQ(requests.size(), 1u);
  session->Disconnected();
  AnswerAll();
  EXPECT_TRUE(session->finished());
  budget.available = 64;
}

TEST_F(Nbd, CommandsBeyondTheLimitWaitUntilAnswersAreSent) {
  Connect({.commands_max = 2});
  Go();
  Bytes stream;
  for (int i = 0; i < 4; ++i) Append(&stream, Command(kCmdFlush, 0, 0));
  FeedAll(stream);
  EXPECT_EQ(requests.size(), 2u);
  EXPECT_TRUE(session->ReceiveInto().empty());
  Answer();
  EXPECT_EQ(requests.size(), 1u) << "an answer that was not sent still counts";
  Drain();
  EXPECT_EQ(requests.size(), 2u);
  AnswerAll();
  Drain();
  AnswerAll();
  Drain();
  EXPECT_FALSE(session->ReceiveInto().empty());
}

TEST_F(Nbd, TheBudgetHoldsBackAndResumeGoesOn) {
  Go();
  budget.available = 2;
  FeedAll(Command(kCmdRead, 0, 1 << 20));
  EXPECT_EQ(requests.size(), 2u);
  EXPECT_TRUE(session->ReceiveInto().empty());
  budget.available += 2;
  session->Resume();
  session->TakeRequests(&requests);
  EXPECT_EQ(requests.size(), 4u);
  AnswerAll();
  EXPECT_EQ(Drain().size(), 16u + (1 << 20));
  EXPECT_EQ(budget.available, 4u);
  budget.available = 64;
}

TEST_F(Nbd, WritesWaitForMemoryAndResumeGoesOn) {
  Go();
  std::vector<Slice> hogs;
  for (uint32_t size : {1u << 20, 4096u, 512u}) {
    while (true) {
      Slice hog = pool.Allocate(size);
      if (hog.empty()) break;
      hogs.push_back(std::move(hog));
    }
  }
  FeedAll(Command(kCmdWrite, 0, 4096));
  EXPECT_TRUE(session->ReceiveInto().empty());
  hogs.clear();
  session->Resume();
  FeedAll(Bytes(4096));
  EXPECT_EQ(requests.size(), 1u);
}

TEST_F(Nbd, ABusySessionHoldsNoMoreDataThanItsLimit) {
  Connect({.bytes_max = 1 << 20});
  Go();
  Bytes stream;
  for (int i = 0; i < 3; ++i) Append(&stream, Command(kCmdRead, 0, 1 << 20));
  FeedAll(stream);
  EXPECT_EQ(requests.size(), 4u) << "one command";
  AnswerAll();
  EXPECT_EQ(requests.size(), 0u);
  Drain();
  EXPECT_EQ(requests.size(), 4u);
}

TEST_F(Nbd, GrowthMovesTheBound) {
  Go();
  FeedAll(Command(kCmdRead, disk.size(), 512));
  EXPECT_EQ(Drain(), SimpleReply(kErrInvalid));
  session->OnNotice({.volume = VolumeId(5), .size_bytes = disk.size() + 4096});
  FeedAll(Command(kCmdRead, disk.size(), 512));
  EXPECT_EQ(requests.size(), 1u);
  disk.resize(disk.size() + 4096);
  AnswerAll();
  Drain();
  session->OnNotice({.volume = VolumeId(6), .size_bytes = 0});
  session->OnNotice({.volume = VolumeId(5), .size_bytes = 0});
  FeedAll(Command(kCmdRead, 0, 512));
  EXPECT_EQ(Drain(), SimpleReply(kErrIo));
}

TEST_F(Nbd, ShutdownAnswersWhatIsInFlightAndCloses) {
  Go();
  FeedAll(Command(kCmdRead, 0, 512));
  session->Shutdown();
  FeedAll(Command(kCmdRead, 0, 512));
  EXPECT_EQ(Drain(), SimpleReply(kErrShutdown));
  EXPECT_FALSE(session->wants_close());
  AnswerAll();
  EXPECT_FALSE(session->wants_close());
  Drain();
  EXPECT_TRUE(session->wants_close());
}

TEST_F(Nbd, RandomBytesNeverDoHarm) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RandomStream random(seed, 0, 0);
    Connect({.commands_max = 4});
    if (random.Chance(3, 4)) {
      Go(random.Chance(1, 2), true);
    } else {
      Greet();
    }
    for (int i = 0; i < 200 && !session->wants_close(); ++i) {
      Bytes bytes;
      if (random.Chance(3, 4)) {
        bytes = Command(static_cast<uint16_t>(random.Below(9)), random.Below(disk.size()) & ~511u,
                        static_cast<uint32_t>(random.Below(1 << 20)) & ~511u,
                        static_cast<uint16_t>(random.Below(32)));
      } else {
        bytes.resize(random.Below(4000));
        for (std::byte& b : bytes) b = static_cast<std::byte>(random.Next());
      }
      Feed(bytes);
      if (random.Chance(1, 2) && !requests.empty()) Answer(random.Chance(1, 4) ? EIO : 0);
      if (random.Chance(1, 2)) Drain(1 + random.Below(100000));
    }
    session->Disconnected();
    AnswerAll();
    ASSERT_TRUE(session->finished());
    ASSERT_EQ(budget.available, 64u);
    ASSERT_EQ(attached, 0);
  }
}

}  // namespace
}  // namespace gabion::nbd
