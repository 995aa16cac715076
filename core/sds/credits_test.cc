// What the device of a follower promises, and to whom (R24).
#include "core/sds/credits.h"

#include <gtest/gtest.h>

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kMax = 512 << 10;  // of a log of 4 MiB
constexpr CreditRoom kPlenty{.extents = 1000, .log_bytes = kMax, .log_bytes_max = kMax};
constexpr SliceId kSlice{7};
constexpr Instant kStart{std::chrono::seconds(5)};

// An entry of one block in one extent.
CreditsUsed Entry(const Promise& promise) {
  return {.extents_used = promise.extents_used + 1,
          .log_used = promise.log_used + 12288,
          .extents_max = 1,
          .log_bytes = 12288};
}

TEST(Credits, EverybodyHasAShareWhoeverCameFirst) {
  DeviceCredits credits;
  std::vector<Promise> promises(40);
  for (size_t i = 0; i < promises.size(); ++i) credits.Join();
  for (Promise& promise : promises) credits.TopUp(&promise, kPlenty);
  for (const Promise& promise : promises) EXPECT_GE(promise.log_left(), kMax / 2 / 40);
  EXPECT_LE(credits.log_promised(), kMax);
  // Nobody is given more than there is, however often they ask.
  for (int round = 0; round < 50; ++round) {
    for (Promise& promise : promises) credits.TopUp(&promise, kPlenty);
  }
  EXPECT_LE(credits.log_promised(), kMax);
  EXPECT_LE(credits.extents_promised(), 1000u);
}

TEST(Credits, WhatIsUsedMakesPlaceForTheNextPromise) {
  DeviceCredits credits;
  credits.Join();
  Promise promise;
  for (int i = 0; i < 1000; ++i) {
    credits.TopUp(&promise, kPlenty);
    const CreditsUsed used = Entry(promise);
    ASSERT_EQ(DeviceCredits::Judge(promise, used), DeviceCredits::Cover::kCovered);
    credits.Use(&promise, used);
    EXPECT_EQ(credits.log_promised(), promise.log_left());
    EXPECT_EQ(credits.extents_promised(), promise.extents_left());
  }
}

TEST(Credits, TheStoreKnowsAtOnceWhatIsPromised) {
  BufferPool pool({});
  store::Store store({.pool = &pool});
  DeviceCredits credits;
  credits.Join();
  Promise promise;
  credits.TopUp(&promise, kPlenty);
  credits.SetStore(&store);
  EXPECT_EQ(store.extents_promised(), promise.extents_left());
  EXPECT_GT(store.extents_promised(), 0u);
  credits.Use(&promise, Entry(promise));
  EXPECT_EQ(store.extents_promised(), promise.extents_left());
  credits.TopUp(&promise, kPlenty);
  EXPECT_EQ(store.extents_promised(), promise.extents_left());
  credits.Leave(kSlice, 1, &promise);
  EXPECT_EQ(store.extents_promised(), 0u);
}

TEST(Credits, NobodyTakesWhatWasNotPromised) {
  DeviceCredits credits;
  credits.Join();
  Promise promise;
  using Cover = DeviceCredits::Cover;
  EXPECT_EQ(DeviceCredits::Judge(promise, {.log_bytes = 12288}), Cover::kUncovered);
  EXPECT_EQ(DeviceCredits::Judge(promise, Entry(promise)), Cover::kImplausible);
  credits.TopUp(&promise, kPlenty);
  credits.Use(&promise, Entry(promise));
  const auto judge = [&](auto change) {
    CreditsUsed used = Entry(promise);
    change(used);
    return DeviceCredits::Judge(promise, used);
  };
  EXPECT_EQ(judge([](CreditsUsed&) {}), Cover::kCovered);
  for (const uint64_t value : {UINT64_MAX, UINT64_MAX - 3, promise.log_limit + 1, uint64_t{0}}) {
    EXPECT_EQ(judge([&](CreditsUsed& used) { used.log_used = value; }), Cover::kImplausible);
    EXPECT_EQ(judge([&](CreditsUsed& used) { used.extents_used = value; }), Cover::kImplausible);
  }
  EXPECT_EQ(judge([](CreditsUsed& used) { ++used.extents_used; }), Cover::kImplausible);
  EXPECT_EQ(judge([](CreditsUsed& used) { --used.log_used; }), Cover::kImplausible);
  EXPECT_EQ(judge([&](CreditsUsed& used) { used.log_used = promise.log_used; }),
            Cover::kImplausible);
  // Given back, without the follower having heard of it.
  EXPECT_EQ(judge([](CreditsUsed& used) { used.log_used += 4096; }), Cover::kCovered);
  for (const uint64_t value : {UINT64_MAX, promise.log_limit + 1, uint64_t{0}}) {
    EXPECT_FALSE(credits.GiveBack(&promise, value));
  }
}

TEST(Credits, WhoWaitsIsServedInOrderAndBeforeTheOthers) {
  DeviceCredits credits;
  std::vector<Promise> promises(4);
  for (size_t i = 0; i < promises.size(); ++i) credits.Join();
  for (Promise& promise : promises) credits.TopUp(&promise, kPlenty);
  const auto ask = [&](size_t i, uint64_t bytes, int ms) {
    return credits.Ask(i + 1, &promises[i], bytes, kStart + milliseconds(ms), kPlenty);
  };
  ASSERT_TRUE(credits.GiveBack(&promises[0], promises[0].log_limit));
  ASSERT_TRUE(credits.GiveBack(&promises[1], promises[1].log_limit));
  EXPECT_TRUE(ask(2, 200'000, 0));
  EXPECT_TRUE(ask(3, 200'000, 0));
  const uint64_t held = promises[2].log_left() + promises[3].log_left();
  EXPECT_FALSE(ask(0, kLogCreditsMin, 0));
  // Less would be there; but it came later.
  EXPECT_FALSE(ask(1, kMax - held, 1));
  credits.TopUp(&promises[1], kPlenty);
  EXPECT_EQ(promises[1].log_left(), 0u);
  ASSERT_TRUE(credits.GiveBack(&promises[2], promises[2].log_limit));
  ASSERT_TRUE(credits.GiveBack(&promises[3], promises[3].log_limit));
  EXPECT_TRUE(ask(1, 4096, 10)) << "enough for both";
  EXPECT_TRUE(ask(0, kLogCreditsMin, 10));
  EXPECT_EQ(promises[0].log_left(), kLogCreditsMin);
  // Nobody waits any more.
  credits.TopUp(&promises[3], kPlenty);
  EXPECT_GT(promises[3].log_left(), 0u);
}

TEST(Credits, WhoStopsAskingWaitsNoLonger) {
  DeviceCredits credits;
  std::vector<Promise> promises(2);
  for (size_t i = 0; i < promises.size(); ++i) credits.Join();
  const CreditRoom little{.extents = 10, .log_bytes = 100'000, .log_bytes_max = kMax};
  EXPECT_FALSE(credits.Ask(1, &promises[0], kLogCreditsMin, kStart, little));
  EXPECT_FALSE(credits.Ask(2, &promises[1], 50'000, kStart + milliseconds(50), little));
  EXPECT_TRUE(credits.Ask(2, &promises[1], 50'000, kStart + milliseconds(101), little));
}

TEST(Credits, WhatAnEndedEpochLeftStaysSetAsideUntilItIsSettled) {
  DeviceCredits credits;
  credits.Join();
  Promise promise;
  credits.TopUp(&promise, kPlenty);
  const uint64_t left = promise.log_left();
  ASSERT_GT(left, 0u);
  credits.Leave(kSlice, 1, &promise);
  EXPECT_EQ(credits.log_debts(), left);
  EXPECT_EQ(credits.log_promised(), left);
  EXPECT_EQ(credits.extents_promised(), 0u);
  EXPECT_EQ(credits.followers(), 0u);
  credits.Settle(SliceId(8));
  EXPECT_EQ(credits.log_promised(), left);
  credits.Settle(kSlice);
  credits.Settle(kSlice);
  EXPECT_EQ(credits.log_promised(), 0u);
  EXPECT_EQ(credits.log_debts(), 0u);
}

TEST(Credits, ARecallIsNotRepeatedAtOnce) {
  DeviceCredits credits;
  EXPECT_TRUE(credits.MayRecall(kStart));
  EXPECT_FALSE(credits.MayRecall(kStart + milliseconds(9)));
  EXPECT_TRUE(credits.MayRecall(kStart + milliseconds(10)));
}

}  // namespace
}  // namespace gabion::sds
