// The budget of docs/store.md, on a device that holds as many fragments as it can.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/store/layout.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

constexpr SliceId kSlice{1};

class StoreMemoryTest : public testing::Test {
 protected:
  void Start(const TestStore::Options& options) {
    test_ = std::make_unique<TestStore>(options);
    ASSERT_TRUE(test_->Format()) << test_->store().error();
    ASSERT_EQ(test_->Await(test_->Start(kSlice, {.epoch = Epoch(1), .issuer = 9})),
              DoneStatus::kOk);
  }

  // One block somewhere in a chunk, committed.
  void Write(uint32_t chunk, uint32_t block) {
    while (test_->store().append_room() < kBlockBytes + kAppendOverheadBytes) {
      if (!test_->StepDisk()) test_->FireTimer();
    }
    const EntryId id = Entry(1, ++seq_);
    ASSERT_EQ(test_->Await(test_->Append(kSlice, test_->Write(id, chunk, block, 1), 1000 + seq_)),
              DoneStatus::kOk);
    content_[{chunk, block}] = 1000 + seq_;
    test_->Commit(kSlice, id);
  }

  std::unique_ptr<TestStore> test_;
  std::map<std::pair<uint32_t, uint32_t>, uint64_t> content_;
  uint64_t seq_ = 0;
};

TEST_F(StoreMemoryTest, ABudgetIsKeptWhateverTheFragmentation) {
  constexpr uint64_t kBudget = 1300 << 10;
  constexpr uint32_t kWrites = 6000;
  Start({.device_bytes = 1 << 30, .log_bytes = 32 << 20, .memory_bytes = kBudget});
  RandomStream random(3, 0, 0);
  uint64_t pages_most = 0;
  uint64_t log_most = 0;
  for (uint32_t i = 0; i < kWrites; ++i) {
    // Each in a chunk of its own, and some once more.
    const auto chunk = static_cast<uint32_t>(random.Below(4000) * 7);
    Write(chunk, static_cast<uint32_t>(chunk % kBlocksPerChunk));
    const Memory memory = test_->store().memory();
    EXPECT_EQ(memory.budget_bytes, kBudget);
    ASSERT_LE(memory.used_bytes(), kBudget) << "after " << i << " writes";
    pages_most = std::max(pages_most, memory.pages);
    log_most = std::max(log_most, memory.log_bytes);
  }
  test_->Quiesce();
  test_->store().CheckInvariants(true);
  const Memory memory = test_->store().memory();
  EXPECT_GE(pages_most, memory.pages_max / 2);
  EXPECT_GE(log_most, memory.log_bytes_max / 4);
  EXPECT_LT(memory.pages_max, content_.size() / kHomesPerPage) << "some pages have no room";
  const Counters before = test_->store().counters();
  for (const auto& [where, stamp] : content_) {
    ASSERT_EQ(test_->Read(kSlice, TestKey(where.first), where.second, 1),
              std::vector<uint64_t>{stamp});
    ASSERT_LE(test_->store().memory().used_bytes(), kBudget);
  }
  const Counters after = test_->store().counters();
  EXPECT_GT(after.page_misses, before.page_misses);
  EXPECT_EQ(after.checksum_errors, 0u);
  EXPECT_EQ(after.page_hits + after.page_misses - before.page_hits - before.page_misses,
            content_.size());
  test_->NewProcess();
  ASSERT_TRUE(test_->Open()) << test_->store().error();
  EXPECT_EQ(test_->store().memory().pages, 0u) << "opening reads no page";
  EXPECT_LE(test_->store().memory().directory_bytes, content_.size() * 14 + 300 * 8);
}

// Entries that cannot be destaged yet fill the index; then there is no room for more, until they
// are committed.
TEST_F(StoreMemoryTest, TheIndexOfTheLogHasItsShare) {
  Start({.device_bytes = 1 << 30, .log_bytes = 64 << 20, .memory_bytes = 1 << 20});
  const uint64_t share = test_->store().memory().log_bytes_max;
  constexpr uint64_t kEach = kBlockBytes + kAppendOverheadBytes;
  const uint64_t room = test_->store().append_room();
  uint64_t entries = 0;
  for (; test_->store().append_room() >= kEach; ++entries) {
    ASSERT_LT(entries, 20'000u);
    EXPECT_TRUE(entries == 0 || test_->store().append_room() <= share * 32);
    const EntryId id = Entry(1, entries + 1);
    const auto chunk = static_cast<uint32_t>(entries * 3);
    ASSERT_EQ(test_->Await(test_->Append(kSlice, test_->Write(id, chunk, 0, 1), 5)),
              DoneStatus::kOk);
  }
  EXPECT_GE(entries, 1000u);
  EXPECT_LT(test_->store().capacity().log_used_bytes, test_->store().capacity().log_bytes / 2)
      << "it is not the log that is full";
  EXPECT_LE(test_->store().memory().log_bytes, share + share / 2);
  test_->Commit(kSlice, Entry(1, entries));
  test_->Quiesce();
  EXPECT_GE(test_->store().append_room(), room / 2);
}

TEST(StoreMemory, TheDefaultFollowsTheSizeOfTheDevice) {
  EXPECT_EQ(DefaultMemoryBytes(uint64_t{1} << 40), (16u + 256u) << 20);
  EXPECT_EQ(DefaultMemoryBytes(uint64_t{64} << 30), 32u << 20);
}

}  // namespace
}  // namespace gabion::store
