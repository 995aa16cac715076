// Space on both sides (R24).
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Report = proto::SliceReport;

constexpr uint32_t kExtent = 64 << 10;
constexpr uint32_t kChunk = 1 << 20;

// One side has few extents. `full`: which.
void FillAndEmpty(size_t full) {
  std::vector<uint64_t> sizes(2, 96 << 20);
  sizes[full] = 16 << 20;
  TestCluster cluster(sizes);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  uint32_t written = 0;
  for (; written < 128; ++written) {
    const uint64_t tag = cluster.WriteExtent(client, written, 1);
    if (cluster.StatusOf(tag) != Status::kOk) {
      EXPECT_EQ(cluster.StatusOf(tag), Status::kNoSpace);
      break;
    }
  }
  EXPECT_GE(written, 20u);
  EXPECT_LT(written, 62u) << "more than the device has";
  // The replica was never asked for what it has not, and nobody wants it out.
  EXPECT_FALSE(cluster.LogHas("refuses")) << cluster.Dump();
  cluster.Run(milliseconds(2000));
  EXPECT_FALSE(cluster.Reported(0, Report::MEMBER_NEEDED));
  // What is there can be overwritten and read.
  EXPECT_EQ(cluster.StatusOf(cluster.WriteExtent(client, 3, 2)), Status::kOk);
  EXPECT_EQ(
      cluster.StampOf(cluster.Read(client, {.offset_bytes = 3 * kExtent, .length_bytes = kExtent})),
      2);
  EXPECT_EQ(cluster.StatusOf(cluster.WriteExtent(client, written, 3)), Status::kNoSpace);
  const uint64_t trim =
      cluster.Write(client, 0, {.length_bytes = kChunk, .kind = wire::EntryKind::kTrim});
  EXPECT_EQ(cluster.StatusOf(trim), Status::kOk);
  cluster.Run(milliseconds(5000));
  for (uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(cluster.StatusOf(cluster.WriteExtent(client, written + i, 4)), Status::kOk)
        << i << "\n"
        << cluster.Dump();
  }
  EXPECT_FALSE(cluster.LogHas("refuses"));
}

TEST(Space, AFullSecondaryIsOutOfSpaceAtTheClientAndFreesAfterTrim) { FillAndEmpty(1); }

TEST(Space, AFullPrimaryIsOutOfSpaceAtTheClientAndFreesAfterTrim) { FillAndEmpty(0); }

TEST(Space, AFullJoiningMemberIsGivenUpAndWritesGoOn) {
  TestCluster cluster(std::vector<uint64_t>{96 << 20, 16 << 20});
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint32_t i = 0; i < 40; ++i) {
    ASSERT_EQ(cluster.StatusOf(cluster.WriteExtent(client, i, 1)), Status::kOk);
  }
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  std::vector<uint64_t> writes;
  for (uint32_t i = 40; i < 100; ++i) writes.push_back(cluster.WriteExtent(client, i, 2));
  cluster.Run(milliseconds(3000));
  EXPECT_TRUE(cluster.Reported(0, Report::JOIN_FAILED)) << cluster.Dump();
  for (const uint64_t write : writes) EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
}

}  // namespace
}  // namespace gabion::sds
