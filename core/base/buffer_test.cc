#include "core/base/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "core/base/random.h"

namespace gabion {
namespace {

constexpr uint32_t kKiB = 1024;
constexpr uint32_t kMiB = 1024 * kKiB;

bool IsAligned(const Slice& slice, uintptr_t alignment) {
  return reinterpret_cast<uintptr_t>(slice.data()) % alignment == 0;
}

void Fill(Slice& slice, std::byte value) { std::ranges::fill(slice.mutable_span(), value); }

bool IsAll(const Slice& slice, std::byte value) {
  return std::ranges::all_of(slice.span(), [=](std::byte byte) { return byte == value; });
}

TEST(BufferPool, GivesExactSizesAligned) {
  BufferPool pool({.bytes_max = 64 * kMiB});
  for (const uint32_t size :
       {1u, 511u, 512u, 513u, 4096u, 4097u, 12288u, kMiB, kMiB + 1, 5 * kMiB}) {
    Slice slice = pool.Allocate(size);
    ASSERT_EQ(slice.size(), size);
    EXPECT_TRUE(IsAligned(slice, size <= 512 ? 512 : 4096)) << size;
    Fill(slice, std::byte{0xab});
  }
}

TEST(BufferPool, CountsWholeBuffers) {
  BufferPool pool({.bytes_max = 64 * kMiB});
  const auto cost = [&](uint32_t size) {
    const Slice slice = pool.Allocate(size);
    return pool.stats().bytes_in_use;
  };
  EXPECT_EQ(cost(1), 512u);
  EXPECT_EQ(cost(513), 4u * kKiB);
  EXPECT_EQ(cost(5 * kKiB), 8u * kKiB);
  EXPECT_EQ(cost(513 * kKiB), 1u * kMiB);
  EXPECT_EQ(cost(kMiB + 1), 1u * kMiB + 4 * kKiB);
  EXPECT_EQ(pool.stats().bytes_in_use, 0u);
  EXPECT_EQ(pool.stats().bytes_in_use_peak, 1u * kMiB + 4 * kKiB);
}

TEST(BufferPool, TakesNothingFromTheHeapAfterWarmUp) {
  BufferPool pool({.bytes_max = 64 * kMiB});
  RandomStream random(1, 0, 0);
  std::vector<Slice> slices(32);
  const auto churn = [&](int turns) {
    for (int i = 0; i < turns; ++i) {
      const auto size = static_cast<uint32_t>(random.Range(1, 64 * kKiB));
      random.Pick(slices) = pool.Allocate(size);
    }
  };
  churn(10'000);
  const uint64_t warm = pool.stats().heap_allocations;
  churn(1'000);
  EXPECT_LE(pool.stats().heap_allocations, warm + 2) << "a rare mix may still need one more";
  slices.assign(32, Slice());
  EXPECT_EQ(pool.stats().bytes_in_use, 0u);
}

TEST(BufferPool, ReusesTheLastFreedBuffer) {
  BufferPool pool({.bytes_max = kMiB});
  const std::byte* first = pool.Allocate(4096).data();
  EXPECT_EQ(pool.stats().bytes_kept, 4096u);
  EXPECT_EQ(pool.Allocate(1000).data(), first);
  EXPECT_EQ(pool.stats().heap_allocations, 1u);
}

TEST(BufferPool, GivesEmptySlicesWhenTheBudgetIsExhausted) {
  BufferPool pool({.bytes_max = 8 * kKiB});
  Slice first = pool.Allocate(4096);
  const Slice second = pool.Allocate(4096);
  EXPECT_TRUE(pool.Allocate(1).empty());
  EXPECT_EQ(pool.stats().refusals, 1u);
  first = Slice();
  EXPECT_FALSE(pool.Allocate(1).empty());
  EXPECT_TRUE(pool.Allocate(UINT32_MAX).empty());
  EXPECT_TRUE(BufferPool({.bytes_max = 0}).Allocate(1).empty());
}

TEST(BufferPool, KeepsMemoryBackForThoseWhomOthersWaitFor) {
  BufferPool pool({.bytes_max = 32 * kKiB});
  std::vector<Slice> held;
  for (int i = 0; i < 5; ++i) held.push_back(pool.Allocate(4096, BufferUse::kClient));
  EXPECT_FALSE(held.back().empty());
  EXPECT_TRUE(pool.Allocate(4096, BufferUse::kClient).empty());
  for (int i = 0; i < 2; ++i) held.push_back(pool.Allocate(4096, BufferUse::kPeer));
  EXPECT_FALSE(held.back().empty());
  EXPECT_TRUE(pool.Allocate(4096, BufferUse::kPeer).empty());
  held.push_back(pool.Allocate(4096, BufferUse::kOwn));
  EXPECT_FALSE(held.back().empty());
  EXPECT_TRUE(pool.Allocate(4096, BufferUse::kOwn).empty());
}

TEST(BufferPool, KeptBuffersMakeRoomForOtherSizes) {
  BufferPool pool({.bytes_max = 16 * kKiB});
  {
    const Slice a = pool.Allocate(4096);
    const Slice b = pool.Allocate(8192);
  }
  EXPECT_EQ(pool.stats().bytes_kept, 12u * kKiB);
  const Slice large = pool.Allocate(16 * kKiB);
  EXPECT_FALSE(large.empty());
  EXPECT_EQ(pool.stats().bytes_kept, 0u);
}

TEST(BufferPool, DoesNotKeepLargeBuffers) {
  BufferPool pool({.bytes_max = 8 * kMiB});
  EXPECT_FALSE(pool.Allocate(2 * kMiB).empty());
  EXPECT_EQ(pool.stats().bytes_kept, 0u);
  EXPECT_FALSE(pool.Allocate(kMiB).empty());
  EXPECT_EQ(pool.stats().bytes_kept, 1u * kMiB);
  pool.Trim();
  EXPECT_EQ(pool.stats().bytes_kept, 0u);
}

TEST(BufferPool, CutsSmallBuffersFromSlabs) {
  BufferPool pool({.bytes_max = 64 * kMiB});
  std::vector<Slice> slices(1024);
  for (Slice& slice : slices) {
    slice = pool.Allocate(4096);
    ASSERT_TRUE(IsAligned(slice, 4096));
    Fill(slice, std::byte(&slice - slices.data()));
  }
  for (const Slice& slice : slices) ASSERT_TRUE(IsAll(slice, std::byte(&slice - slices.data())));
  EXPECT_LE(pool.stats().heap_allocations, 7u + 1024 / 64);
  EXPECT_LE(pool.stats().bytes_kept, 256u * kKiB);
}

TEST(BufferPool, SlabsGoBackWhole) {
  BufferPool pool({.bytes_max = 2 * kMiB});
  std::vector<Slice> slices(512);
  for (Slice& slice : slices) slice = pool.Allocate(4096);
  ASSERT_FALSE(slices.back().empty());
  Slice survivor = slices[300];
  slices.clear();
  EXPECT_EQ(pool.stats().bytes_kept, 2u * kMiB - 4096);
  pool.Trim();
  EXPECT_GT(pool.stats().bytes_kept, 0u) << "the survivor's neighbours";
  EXPECT_LE(pool.stats().bytes_kept, 256u * kKiB);
  EXPECT_FALSE(pool.Allocate(kMiB).empty()) << "and they are no reason to refuse";
  survivor = Slice();
  pool.Trim();
  EXPECT_EQ(pool.stats().bytes_kept, 0u);
}

TEST(BufferPool, CountsWhatIsCopied) {
  BufferPool pool({.bytes_max = kMiB});
  const Slice from = pool.Allocate(1000);
  Slice to = pool.Allocate(4096);
  to.CopyFrom(96, from.span());
  to.CopyFrom(4096, {});
  EXPECT_EQ(pool.stats().bytes_copied, 1000u);
}

TEST(BufferPool, FreshBuffersAreZeros) {
  BufferPool pool({.bytes_max = kMiB});
  EXPECT_TRUE(IsAll(pool.Allocate(64 * kKiB), std::byte{0}));
}

TEST(BufferPool, MayGoBeforeItsSlices) {
  auto pool = std::make_unique<BufferPool>(BufferPool::Options{.bytes_max = 8 * kMiB});
  Slice small = pool->Allocate(100);
  Slice large = pool->Allocate(2 * kMiB);
  { const Slice kept = pool->Allocate(4096); }
  Fill(small, std::byte{1});
  Fill(large, std::byte{2});
  Slice copy = small;
  pool.reset();
  EXPECT_TRUE(IsAll(small, std::byte{1}));
  large = Slice();
  small = Slice();
  EXPECT_TRUE(IsAll(copy, std::byte{1}));
}

TEST(BufferPool, ZeroesAreSharedAndFree) {
  BufferPool pool({.bytes_max = 0});
  Slice zeroes = pool.Zeroes(kMiB);
  EXPECT_EQ(zeroes.size(), kMiB);
  EXPECT_TRUE(IsAligned(zeroes, 4096));
  EXPECT_TRUE(IsAll(zeroes, std::byte{0}));
  EXPECT_EQ(pool.Zeroes(4096).data(), zeroes.data());
  EXPECT_FALSE(zeroes.unique());
  EXPECT_EQ(zeroes.Sub(4096, 4096).size(), 4096u);
  EXPECT_EQ(pool.stats().bytes_in_use, 0u);
  EXPECT_TRUE(pool.Zeroes(0).empty());
}

TEST(Slice, IsEmptyByDefault) {
  Slice slice;
  EXPECT_TRUE(slice.empty());
  EXPECT_TRUE(slice.span().empty());
  EXPECT_TRUE(slice.mutable_span().empty());
  EXPECT_FALSE(slice.unique());
  EXPECT_TRUE(slice.Sub(0, 0).empty());
}

TEST(Slice, CopiesShareAndMovesDoNot) {
  BufferPool pool({.bytes_max = kMiB});
  Slice first = pool.Allocate(4096);
  EXPECT_TRUE(first.unique());
  Slice copy = first;
  EXPECT_FALSE(first.unique());
  EXPECT_EQ(copy.data(), first.data());
  Slice moved = std::move(copy);
  EXPECT_TRUE(copy.empty());  // NOLINT(bugprone-use-after-move): documented
  first = Slice();
  EXPECT_TRUE(moved.unique());
  EXPECT_EQ(pool.stats().bytes_in_use, 4096u);
  moved = Slice();
  EXPECT_EQ(pool.stats().bytes_in_use, 0u);
}

TEST(Slice, AssignsToItself) {
  BufferPool pool({.bytes_max = kMiB});
  Slice slice = pool.Allocate(4096);
  const Slice& same = slice;
  slice = same;
  EXPECT_TRUE(slice.unique());
  EXPECT_EQ(slice.size(), 4096u);
}

TEST(Slice, SubSharesTheBuffer) {
  BufferPool pool({.bytes_max = kMiB});
  Slice whole = pool.Allocate(8192);
  Fill(whole, std::byte{0});
  whole.mutable_span()[4096] = std::byte{9};
  Slice half = whole.Sub(4096, 4096);
  EXPECT_EQ(half.span()[0], std::byte{9});
  EXPECT_FALSE(whole.unique());
  whole = Slice();
  const Slice tail = std::move(half).Sub(4000, 96);
  EXPECT_EQ(tail.size(), 96u);
  EXPECT_TRUE(tail.unique());
  EXPECT_EQ(pool.stats().bytes_in_use, 8192u) << "any part keeps the whole buffer";
}

TEST(SliceDeathTest, RefusesToWriteASharedBuffer) {
  BufferPool pool({.bytes_max = kMiB});
  Slice slice = pool.Allocate(4096);
  const Slice copy = slice;
  EXPECT_DEATH(slice.mutable_span(), "unshared");
  Slice zeroes = BufferPool::Zeroes(512);
  EXPECT_DEATH(zeroes.mutable_span(), "unshared");
}

TEST(SliceDeathTest, RefusesToCopyWhereItMayNot) {
  BufferPool pool({.bytes_max = kMiB});
  const Slice from = pool.Allocate(1000);
  Slice to = pool.Allocate(4096);
  EXPECT_DEATH(to.CopyFrom(3097, from.span()), "size");
  const Slice copy = to;
  EXPECT_DEATH(to.CopyFrom(0, from.span()), "unshared");
}

TEST(SliceDeathTest, RefusesToReachBeyondItsEnd) {
  BufferPool pool({.bytes_max = kMiB});
  const Slice slice = pool.Allocate(4096);
  EXPECT_DEATH(slice.Sub(4097, 0), "offset <= size_");
  EXPECT_DEATH(slice.Sub(4000, 97), "size <= size_ - offset");
  EXPECT_DEATH(slice.Sub(1, UINT32_MAX), "size <= size_ - offset");
  EXPECT_DEATH((void)BufferPool::Zeroes(kMiB + 1), "kZeroesSizeMax");
  EXPECT_DEATH((void)pool.Allocate(0), "size > 0");
}

}  // namespace
}  // namespace gabion
