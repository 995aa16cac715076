// Questions for block status: whom they go to, and how the answers meet.
#include <cerrno>

#include "core/base/mix.h"
#include "core/sdc/test_world.h"

namespace gabion::sdc {
namespace {

using wire::ChunkPresence;

// What every chunk of the volume answers in these tests.
ChunkPresence OfChunk(uint32_t chunk) { return {{chunk + 1, ~uint64_t{chunk}, 0, chunk}}; }

Slice AnswerFor(TestWorld& world, const wire::PresenceRequest& request) {
  Slice payload =
      world.pool().Allocate(static_cast<uint32_t>(request.chunk_count * sizeof(ChunkPresence)));
  for (uint32_t i = 0; i < request.chunk_count; ++i) {
    const ChunkPresence chunk = OfChunk(request.target.chunk + i * request.chunk_stride);
    std::memcpy(payload.mutable_span().data() + i * sizeof(chunk), &chunk, sizeof(chunk));
  }
  return payload;
}

wire::PresenceReply Reply(const wire::PresenceRequest& request,
                          wire::Status status = wire::Status::kOk) {
  return {.tag = request.tag,
          .slice = request.target.slice,
          .reign = request.target.reign,
          .chunk_count = request.chunk_count,
          .status = status};
}

void ExpectChunks(const Slice& payload, uint32_t first, uint32_t count) {
  ASSERT_EQ(payload.size(), count * sizeof(ChunkPresence));
  for (uint32_t i = 0; i < count; ++i) {
    ChunkPresence chunk;
    std::memcpy(&chunk, payload.data() + i * sizeof(chunk), sizeof(chunk));
    EXPECT_EQ(chunk, OfChunk(first + i)) << "chunk " << first + i;
  }
}

TEST(BlockStatus, EachSliceIsAskedOnceForAllItsChunks) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kBlockStatus, 0, 64 * kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  for (uint32_t i = 0; i < TestWorld::kSlices; ++i) {
    EXPECT_FALSE(world.Replied(tag));
    const auto request = world.Expect<wire::PresenceRequest>(sds);
    EXPECT_EQ(request.target.chunk, i);
    EXPECT_EQ(request.target.slice.value(),
              TestWorld::kFirstSlice + (mix64(kVtree.value()) + i) % TestWorld::kSlices);
    EXPECT_EQ(request.target.length_bytes, wire::kChunkBytes);
    EXPECT_EQ(request.chunk_count, 16u);
    EXPECT_EQ(request.chunk_stride, TestWorld::kSlices);
    world.Deliver(sds, Reply(request), AnswerFor(world, request));
  }
  EXPECT_EQ(world.ErrorOf(tag), 0);
  ExpectChunks(world.replies[tag].payload, 0, 64);
}

TEST(BlockStatus, ARangeIsAnsweredInWholeChunks) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kBlockStatus, 5 * kMiB + 4096, 5 * kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  const uint32_t counts[] = {2, 2, 1, 1};  // chunks 5 and 9, 6 and 10, 7, 8
  for (uint32_t i = 0; i < 4; ++i) {
    const auto request = world.Expect<wire::PresenceRequest>(sds);
    EXPECT_EQ(request.target.chunk, 5 + i);
    EXPECT_EQ(request.chunk_count, counts[i]);
    world.Deliver(sds, Reply(request), AnswerFor(world, request));
  }
  EXPECT_EQ(world.ErrorOf(tag), 0);
  ExpectChunks(world.replies[tag].payload, 5, 6);
}

TEST(BlockStatus, ALongRangeIsAskedInSeveralMessages) {
  TestWorld world;
  world.Ready();
  proto::Management grown = world.Increment();
  TestWorld::AddVolume(grown.mutable_map_update(), 3000 * kMiB);
  world.DeliverManagement(grown);
  const UserTag tag = world.Submit(UserOp::kBlockStatus, 7 * kMiB, 2001 * kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  while (!world.Quiet(sds)) {
    const auto request = world.Expect<wire::PresenceRequest>(sds);
    EXPECT_LE(request.chunk_count, wire::kPresenceChunksMax);
    world.Deliver(sds, Reply(request), AnswerFor(world, request));
  }
  EXPECT_EQ(world.ErrorOf(tag), 0);
  ExpectChunks(world.replies[tag].payload, 7, 2001);
}

TEST(BlockStatus, ARefusedQuestionIsAskedAgain) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kBlockStatus, 0, kMiB);
  const ConnId sds1 = world.AcceptSds(kSds1);
  const auto first = world.Expect<wire::PresenceRequest>(sds1);
  world.Deliver(sds1, Reply(first, wire::Status::kNotPrimary));
  EXPECT_FALSE(world.Replied(tag));
  world.MoveAll(4, kSds2);
  const ConnId sds2 = world.AcceptSds(kSds2);
  const auto second = world.Expect<wire::PresenceRequest>(sds2);
  EXPECT_EQ(second.target.reign, Reign(4));
  EXPECT_NE(second.tag, first.tag);
  world.Deliver(sds2, Reply(second), AnswerFor(world, second));
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(BlockStatus, AnAnswerOfTheWrongSizeEndsTheConnection) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kBlockStatus, 0, kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  const auto request = world.Expect<wire::PresenceRequest>(sds);
  world.Deliver(sds, Reply(request), world.Data(31));
  EXPECT_TRUE(world.Closed(sds));
  EXPECT_FALSE(world.Replied(tag));
  // A read's answer does not fit either.
  world.Disconnect(sds);
  world.Advance(std::chrono::seconds(1));
  const ConnId again = world.AcceptSds(kSds1);
  const auto repeated = world.Expect<wire::PresenceRequest>(again);
  wire::ReadReply read;
  read.tag = repeated.tag;
  read.slice = repeated.target.slice;
  read.length_bytes = wire::kChunkBytes;
  world.Deliver(again, read, world.Data(wire::kChunkBytes));
  EXPECT_TRUE(world.Closed(again));
  EXPECT_FALSE(world.Replied(tag));
}

TEST(BlockStatus, BadRangesAreRefused) {
  TestWorld world;
  world.Ready();
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, 0, 0)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, 100, 512)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, 63 * kMiB, 2 * kMiB)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, 0, uint64_t{5} << 30)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, UINT64_MAX - 511, 512)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kBlockStatus, UINT64_MAX - 1023, 512)), EINVAL);
  EXPECT_TRUE(world.dials.empty());
}

}  // namespace
}  // namespace gabion::sdc
