// What block status says, and how much it asks for.
#include <cerrno>

#include "net/export/nbd_test_client.h"

namespace gabion::nbd {
namespace {

constexpr uint32_t kHoleAndZero = kStateHole | kStateZero;
constexpr uint32_t kMiB = 1 << 20;

using Extents = std::vector<std::pair<uint32_t, uint32_t>>;  // length, state

Bytes StatusReply(const Extents& extents) {
  Bytes bytes;
  Append(&bytes, BeWriter<24>()
                     .U32(kStructuredReplyMagic)
                     .U16(kChunkDone)
                     .U16(kChunkBlockStatus)
                     .U64(77)
                     .U32(static_cast<uint32_t>(4 + 8 * extents.size()))
                     .U32(kAllocationContextId)
                     .span());
  for (const auto& [length, state] : extents) {
    Append(&bytes, BeWriter<8>().U32(length).U32(state).span());
  }
  return bytes;
}

Bytes ErrorReply(uint32_t error) {
  Bytes bytes;
  Append(&bytes, BeWriter<26>()
                     .U32(kStructuredReplyMagic)
                     .U16(kChunkDone)
                     .U16(kChunkError)
                     .U64(77)
                     .U32(6)
                     .U32(error)
                     .U16(0)
                     .span());
  return bytes;
}

class BlockStatus : public Nbd {
 protected:
  BlockStatus() { Go(true, true); }

  void Fill(uint64_t offset, uint64_t length) {
    std::fill_n(disk.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{1});
  }
  Bytes Ask(uint64_t offset, uint32_t length, uint16_t flags = 0) {
    FeedAll(Command(kCmdBlockStatus, offset, length, flags));
    AnswerAll();
    return Drain();
  }
};

TEST_F(BlockStatus, WhatHasNoDataIsAHoleThatReadsAsZeroes) {
  Fill(8192, 4096);
  EXPECT_EQ(Ask(0, kMiB),
            StatusReply({{8192, kHoleAndZero}, {4096, 0}, {kMiB - 12288, kHoleAndZero}}));
  EXPECT_EQ(Ask(3 * kMiB, 512), StatusReply({{512, kHoleAndZero}}));
  EXPECT_EQ(Ask(8192 + 512, 4096), StatusReply({{3584, 0}, {512, kHoleAndZero}}));
  EXPECT_EQ(Ask(8192 + 512, 1024), StatusReply({{1024, 0}}));
}

TEST_F(BlockStatus, OneExtentIsAnsweredWhenOneIsWanted) {
  Fill(2 * kMiB, kMiB);
  EXPECT_EQ(Ask(0, 8 * kMiB, kReqOne), StatusReply({{2 * kMiB, kHoleAndZero}}));
  EXPECT_EQ(Ask(2 * kMiB, 512 << 10, kReqOne), StatusReply({{512 << 10, 0}}));
}

TEST_F(BlockStatus, AsksOnlyForAsMuchAsTheAnswerNeeds) {
  disk.resize(size_t{300} * kMiB);
  session->OnNotice({.volume = VolumeId(5), .size_bytes = disk.size()});
  Fill(100 * kMiB, 4096);
  FeedAll(Command(kCmdBlockStatus, 0, 300 * kMiB, kReqOne));
  uint64_t asked = 0;
  std::vector<uint64_t> lengths;
  while (!requests.empty()) {
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].op, UserOp::kBlockStatus);
    EXPECT_EQ(requests[0].offset_bytes, asked);
    asked += requests[0].length_bytes;
    lengths.push_back(requests[0].length_bytes / kMiB);
    Answer();
  }
  EXPECT_EQ(lengths, (std::vector<uint64_t>{4, 12, 48, 192})) << "not the last 44 MiB";
  EXPECT_EQ(Drain(), StatusReply({{100 * kMiB, kHoleAndZero}}));
}

TEST_F(BlockStatus, ALongListIsCut) {
  for (uint64_t at = 0; at < disk.size(); at += 8192) Fill(at, 4096);
  Extents all;
  for (size_t i = 0; i < 1024; ++i) all.emplace_back(4096, i % 2 == 0 ? 0 : kHoleAndZero);
  EXPECT_EQ(Ask(0, 8 * kMiB), StatusReply(all));
}

TEST_F(BlockStatus, WithoutMemoryForTheListTheFirstExtentsAreSent) {
  for (uint64_t at = 0; at < kMiB; at += 8192) Fill(at, 4096);
  FeedAll(Command(kCmdBlockStatus, 0, kMiB));
  UserReplyEffect reply{.tag = requests[0].tag};
  reply.payload = Presence(0, kMiB);
  requests.clear();
  std::vector<Slice> hogs;
  for (uint32_t size = kMiB; size >= 512; size /= 2) {
    while (true) {
      Slice slice = pool.Allocate(size);
      if (slice.empty()) break;
      hogs.push_back(std::move(slice));
    }
  }
  session->OnReply(reply);
  EXPECT_EQ(Drain(),
            StatusReply({{4096, 0}, {4096, kHoleAndZero}, {4096, 0}, {4096, kHoleAndZero}}));
}

TEST_F(BlockStatus, AnErrorOfTheRoleIsTheCommands) {
  FeedAll(Command(kCmdBlockStatus, 0, 8 * kMiB));
  Answer();
  ASSERT_EQ(requests.size(), 1u) << "the second range";
  Answer(EIO);
  EXPECT_EQ(Drain(), ErrorReply(kErrIo));
}

TEST_F(BlockStatus, ADisconnectedClientIsAskedForNothingMore) {
  FeedAll(Command(kCmdBlockStatus, 0, 8 * kMiB));
  session->Disconnected();
  Answer();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].op, UserOp::kDetach);
}

TEST_F(Nbd, BlockStatusWithoutTheContextIsInvalid) {
  Go(true, false);
  FeedAll(Command(kCmdBlockStatus, 0, 1 << 20));
  EXPECT_EQ(Drain(), ErrorReply(kErrInvalid));
}

}  // namespace
}  // namespace gabion::nbd
