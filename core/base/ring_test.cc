#include "core/base/ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>

#include "core/base/random.h"

namespace gabion {
namespace {

TEST(Ring, IsFirstInFirstOut) {
  Ring<int> ring(3);
  EXPECT_TRUE(ring.push_back(1));
  EXPECT_TRUE(ring.push_back(2));
  EXPECT_EQ(ring.pop_front(), 1);
  EXPECT_EQ(ring.front(), 2);
  EXPECT_EQ(ring.back(), 2);
  EXPECT_EQ(ring.size(), 1u);
}

TEST(Ring, RefusesWhenFull) {
  Ring<int> ring(1);
  EXPECT_TRUE(ring.push_back(1));
  EXPECT_TRUE(ring.full());
  EXPECT_FALSE(ring.push_back(2));
  EXPECT_EQ(ring.front(), 1);
  EXPECT_FALSE(Ring<int>(0).push_back(1));
}

TEST(Ring, EqualsADequeOverManyTurns) {
  RandomStream random(1, 0, 0);
  Ring<uint64_t> ring(5);
  std::deque<uint64_t> model;
  for (uint64_t i = 0; i < 10'000; ++i) {
    if (random.Chance(1, 2)) {
      EXPECT_EQ(ring.push_back(i), model.size() < 5);
      if (model.size() < 5) model.push_back(i);
    } else if (!model.empty()) {
      EXPECT_EQ(ring.pop_front(), model.front());
      model.pop_front();
    }
    ASSERT_EQ(ring.size(), model.size());
    for (size_t k = 0; k < model.size(); ++k) ASSERT_EQ(ring[k], model[k]);
  }
}

TEST(Ring, LetsGoOfWhatItPops) {
  const auto held = std::make_shared<int>(1);
  Ring<std::shared_ptr<int>> ring(2);
  ASSERT_TRUE(ring.push_back(held));
  ring.pop_front();
  EXPECT_EQ(held.use_count(), 1);
  ASSERT_TRUE(ring.push_back(held));
  ring.clear();
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Ring, ACopyChangesAlone) {
  Ring<int> ring(2);
  ASSERT_TRUE(ring.push_back(1));
  Ring<int> copy = ring;
  copy[0] = 2;
  EXPECT_EQ(ring[0], 1);
}

TEST(Ring, HoldsWhatCanOnlyMove) {
  Ring<std::unique_ptr<int>> ring(1);
  ASSERT_TRUE(ring.push_back(std::make_unique<int>(4)));
  EXPECT_EQ(*ring.pop_front(), 4);
}

TEST(RingDeathTest, RefusesIndexesOutside) {
  Ring<int> ring(2);
  EXPECT_DEATH(ring.pop_front(), "empty");
  EXPECT_DEATH(ring.front(), "index < size_");
  EXPECT_DEATH(ring.back(), "index < size_");
}

}  // namespace
}  // namespace gabion
