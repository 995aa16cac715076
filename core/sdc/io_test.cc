// Splitting, ids, checksums, joining: what the client does when nothing goes wrong, and the errors
// that it finds by itself.
#include <cerrno>

#include "core/base/mix.h"
#include "core/sdc/test_world.h"

namespace gabion::sdc {
namespace {

SliceId SliceOfChunk(uint32_t chunk) {
  return SliceId(TestWorld::kFirstSlice + (mix64(kVtree.value()) + chunk) % TestWorld::kSlices);
}

TEST(Io, AWriteGoesToThePrimaryOfItsChunkAndCompletes) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Write(3 * kMiB + 8192, 4096, 9);
  const ConnId sds = world.AcceptSds(kSds1);
  EXPECT_EQ(world.last_address, *Address::Parse("10.0.1.11:7100"));
  EXPECT_EQ(world.last_hello.sender, 77u);
  EXPECT_EQ(world.last_hello.target, kSds1.value());
  Slice payload;
  const auto request = world.Expect<wire::WriteRequest>(sds, &payload);
  EXPECT_EQ(request.target.volume, kVolume);
  EXPECT_EQ(request.target.vtree, kVtree);
  EXPECT_EQ(request.target.slice, SliceOfChunk(3));
  EXPECT_EQ(request.target.reign, Reign(3));
  EXPECT_EQ(request.target.chunk, 3u);
  EXPECT_EQ(request.target.offset_bytes, 8192u);
  EXPECT_EQ(request.target.length_bytes, 4096u);
  EXPECT_EQ(request.snap_number, SnapNumber(1));
  EXPECT_EQ(request.request, RequestId(1));
  EXPECT_EQ(request.low_water, RequestId(1));
  EXPECT_EQ(request.kind, wire::EntryKind::kWrite);
  EXPECT_TRUE(PieceCrcsMatch(8192, payload.span(), request.piece_crc));
  EXPECT_FALSE(world.Replied(tag));
  world.Answer(sds, request);
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(Io, AWriteIsSplitAtChunksAndAtTheLargestPayload) {
  TestWorld world;
  world.Ready();
  const uint32_t size = 600 << 10;
  Slice data = world.Data(size);
  const UserTag tag = world.Submit(UserOp::kWrite, kMiB - (300 << 10), size, data);
  const ConnId sds = world.AcceptSds(kSds1);
  const struct {
    uint32_t chunk, offset, length;
  } expected[] = {{0, 724 << 10, 256 << 10},
                  {0, 980 << 10, 44 << 10},
                  {1, 0, 256 << 10},
                  {1, 256 << 10, 44 << 10}};
  uint32_t done = 0;
  std::vector<wire::WriteRequest> requests;
  for (const auto& part : expected) {
    Slice payload;
    const auto request = world.Expect<wire::WriteRequest>(sds, &payload);
    EXPECT_EQ(request.target.chunk, part.chunk);
    EXPECT_EQ(request.target.offset_bytes, part.offset);
    EXPECT_EQ(request.target.length_bytes, part.length);
    EXPECT_EQ(request.target.slice, SliceOfChunk(part.chunk));
    EXPECT_EQ(payload.data(), data.data() + done) << "the payload is referred to, not copied";
    EXPECT_TRUE(PieceCrcsMatch(part.offset, payload.span(), request.piece_crc));
    done += part.length;
    requests.push_back(request);
  }
  EXPECT_TRUE(world.Quiet(sds));
  EXPECT_EQ(requests[0].request, RequestId(1));
  EXPECT_EQ(requests[1].request, RequestId(2));
  EXPECT_EQ(requests[2].request, RequestId(1)) << "ids are numbered per slice";
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_FALSE(world.Replied(tag));
    world.Answer(sds, requests[i]);
  }
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(Io, AnUnalignedWriteHasACrcForEachBlockItTouches) {
  TestWorld world;
  world.Ready();
  Slice data = world.Data(4096);
  world.Submit(UserOp::kWrite, 512, 4096, data);
  const ConnId sds = world.AcceptSds(kSds1);
  const auto request = world.Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(request.piece_crc[0], Crc32c(data.Sub(0, 3584).span()));
  EXPECT_EQ(request.piece_crc[1], Crc32c(data.Sub(3584, 512).span()));
  EXPECT_EQ(request.piece_crc[2], 0u);
}

TEST(Io, AReadOfOnePartPassesTheReceivedPayloadThrough) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Read(kMiB + 4096, 8192);
  const ConnId sds = world.AcceptSds(kSds1);
  const auto request = world.Expect<wire::ReadRequest>(sds);
  EXPECT_EQ(request.target.chunk, 1u);
  Slice data = world.Data(8192);
  world.Answer(sds, request, data);
  ASSERT_EQ(world.ErrorOf(tag), 0);
  EXPECT_EQ(world.replies[tag].payload.data(), data.data());
  EXPECT_EQ(world.replies[tag].payload.size(), 8192u);
}

TEST(Io, AReadOfSeveralPartsIsPutTogetherInPlaceWhateverTheOrderOfAnswers) {
  TestWorld world;
  world.Ready();
  const uint32_t size = 512 << 10;
  const UserTag tag = world.Read(kMiB - (100 << 10), size);
  const ConnId sds = world.AcceptSds(kSds1);
  std::vector<wire::ReadRequest> requests;
  while (!world.Quiet(sds)) requests.push_back(world.Expect<wire::ReadRequest>(sds));
  ASSERT_EQ(requests.size(), 3u);  // 100 KiB, 256 KiB, 156 KiB
  const Slice all = world.Data(size, 5);
  const uint32_t at[] = {0, 100 << 10, 356 << 10};
  for (size_t i : {2u, 0u, 1u}) {
    world.Answer(sds, requests[i], all.Sub(at[i], requests[i].target.length_bytes));
  }
  ASSERT_EQ(world.ErrorOf(tag), 0);
  const Slice& got = world.replies[tag].payload;
  ASSERT_EQ(got.size(), size);
  EXPECT_EQ(std::memcmp(got.data(), all.data(), size), 0);
}

TEST(Io, TrimAndZeroesAreSplitAtChunksOnlyAndCarryNoPayload) {
  TestWorld world;
  world.Ready();
  const UserTag trim = world.Submit(UserOp::kTrim, 0, 3 * kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  for (uint32_t chunk = 0; chunk < 3; ++chunk) {
    Slice payload;
    const auto request = world.Expect<wire::WriteRequest>(sds, &payload);
    EXPECT_EQ(request.kind, wire::EntryKind::kTrim);
    EXPECT_EQ(request.target.length_bytes, kMiB);
    EXPECT_TRUE(payload.empty());
    world.Answer(sds, request);
  }
  EXPECT_EQ(world.ErrorOf(trim), 0);
  const UserTag zero = world.Submit(UserOp::kWriteZeroes, 4096, 4096);
  const auto request = world.Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(request.kind, wire::EntryKind::kZero);
  world.Answer(sds, request);
  EXPECT_EQ(world.ErrorOf(zero), 0);
}

TEST(Io, AHugeTrimNeedsNoMoreThanTheTableOfParts) {
  TestWorld world({.pieces_max = 8});
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kTrim, 0, 64 * kMiB);
  const ConnId sds = world.AcceptSds(kSds1);
  int parts = 0;
  while (!world.Quiet(sds)) {
    EXPECT_LE(world.sent[sds].size(), 8u);
    world.Answer(sds, world.Expect<wire::WriteRequest>(sds));
    ++parts;
  }
  EXPECT_EQ(parts, 64);
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(Io, TheFirstErrorOfASplitRequestSticksAndComesWithTheLastPart) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Write(kMiB - 4096, 12288);
  const ConnId sds = world.AcceptSds(kSds1);
  const auto first = world.Expect<wire::WriteRequest>(sds);
  const auto second = world.Expect<wire::WriteRequest>(sds);
  world.Answer(sds, first, wire::Status::kNoSpace);
  EXPECT_FALSE(world.Replied(tag));
  world.Answer(sds, second);
  EXPECT_EQ(world.ErrorOf(tag), ENOSPC);
}

TEST(Io, LowWaterFollowsTheOldestUnsettledWrite) {
  TestWorld world;
  world.Ready();
  world.Write(0, 4096);
  const ConnId sds = world.AcceptSds(kSds1);
  const auto first = world.Expect<wire::WriteRequest>(sds);
  world.Write(4096, 4096);
  const auto second = world.Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(second.request, RequestId(2));
  world.Answer(sds, second);
  world.Write(8192, 4096);
  const auto third = world.Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(third.request, RequestId(3));
  EXPECT_EQ(third.low_water, RequestId(1));
  world.Answer(sds, first);
  world.Answer(sds, third);
  world.Write(8192, 4096);
  EXPECT_EQ(world.Expect<wire::WriteRequest>(sds).low_water, RequestId(4));
}

TEST(Io, NoMoreThanTheWindowOfIdsIsOutstandingInASlice) {
  TestWorld world({.requests_max = 2000});
  world.Ready();
  world.Write(0, 512);
  const ConnId sds = world.AcceptSds(kSds1);
  std::vector<wire::WriteRequest> sent = {world.Expect<wire::WriteRequest>(sds)};
  for (int i = 1; i < 1100; ++i) world.Write(0, 512);
  while (!world.Quiet(sds)) sent.push_back(world.Expect<wire::WriteRequest>(sds));
  EXPECT_EQ(sent.size(), wire::kRequestWindow);
  // Settling others opens nothing while the oldest is out: ids stay within the window above it.
  world.Answer(sds, sent[5]);
  EXPECT_TRUE(world.Quiet(sds));
  world.Answer(sds, sent[0]);
  const auto next = world.Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(next.request, RequestId(wire::kRequestWindow + 1));
  EXPECT_EQ(next.low_water, RequestId(2));
  EXPECT_TRUE(world.Quiet(sds));
}

TEST(Io, RequestsThatTheMapForbidsAreRefusedWithoutTrouble) {
  TestWorld world;
  world.Ready();
  EXPECT_EQ(world.ErrorOf(world.Read(64 * kMiB, 512)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Read(64 * kMiB - 512, 1024)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Read(100, 512)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Read(0, 100)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Read(0, 0)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Read(UINT64_MAX - 511, 1024)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kRead, 0, uint64_t{33} << 20)), EINVAL);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kWrite, 0, 1024, world.Data(512))), EINVAL);
  EXPECT_TRUE(world.dials.empty());
}

TEST(Io, WritesThroughAReadOnlyMappingAreRefused) {
  TestWorld world;
  world.Ready();
  proto::Management message = world.Increment();
  TestWorld::AddVolume(message.mutable_map_update(), 64 * kMiB, 1, true);
  world.DeliverManagement(message);
  EXPECT_EQ(world.ErrorOf(world.Write(0, 4096)), EROFS);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kTrim, 0, 4096)), EROFS);
  EXPECT_EQ(world.ErrorOf(world.Submit(UserOp::kWriteZeroes, 0, 4096)), EROFS);
  const UserTag read = world.Read(0, 4096);
  EXPECT_FALSE(world.Replied(read));
}

TEST(Io, MoreRequestsThanTheTableHoldsAreRefusedAsBusy) {
  TestWorld world({.requests_max = 2});
  world.Ready();
  world.Write(0, 512);
  world.Write(0, 512);
  EXPECT_EQ(world.ErrorOf(world.Write(0, 512)), EBUSY);
}

TEST(Io, AFlushCompletesAtOnceBesideAWriteInFlight) {
  TestWorld world;
  world.Ready();
  const UserTag write = world.Write(0, 512);
  const UserTag flush = world.Submit(UserOp::kFlush, 0, 0);
  EXPECT_EQ(world.ErrorOf(flush), 0);
  EXPECT_FALSE(world.Replied(write));
}

TEST(Io, RequestsBeforeTheFirstMapWaitForIt) {
  TestWorld world;
  const UserTag write = world.Write(0, 4096);
  world.Register();
  EXPECT_FALSE(world.Replied(write));
  world.DeliverManagement(world.FullMap());
  const ConnId sds = world.AcceptSds(kSds1);
  world.Answer(sds, world.Expect<wire::WriteRequest>(sds));
  EXPECT_EQ(world.ErrorOf(write), 0);
}

TEST(Io, AReadThatIsTooBigForThePoolNowWaitsForMemory) {
  TestWorld world;
  world.Ready();
  std::vector<Slice> hogs;
  while (true) {
    Slice slice = world.pool().Allocate(1 << 20);
    if (slice.empty()) break;
    hogs.push_back(std::move(slice));
  }
  world.Read(0, 2 * kMiB);
  EXPECT_TRUE(world.dials.empty());
  hogs.clear();
  world.Advance(std::chrono::milliseconds(20));
  EXPECT_EQ(world.dials.size(), 1u);
}

}  // namespace
}  // namespace gabion::sdc
