#include "core/base/fifo.h"

#include <gtest/gtest.h>

#include <deque>

#include "core/base/random.h"

namespace gabion {
namespace {

TEST(Fifo, BehavesLikeADeque) {
  RandomStream random(1, 0, 0);
  Fifo<int> fifo;
  std::deque<int> model;
  for (int i = 0; i < 20'000; ++i) {
    if (model.empty() || random.Chance(11, 20)) {
      fifo.push_back(i);
      model.push_back(i);
    } else {
      ASSERT_EQ(fifo.pop_front(), model.front());
      model.pop_front();
    }
    if (random.Chance(1, 100)) {
      fifo.EraseIf([](int value) { return value % 3 == 0; });
      std::erase_if(model, [](int value) { return value % 3 == 0; });
    }
    ASSERT_EQ(fifo.size(), model.size());
    if (model.empty()) continue;
    ASSERT_EQ(fifo.front(), model.front());
    ASSERT_EQ(fifo.back(), model.back());
    const size_t at = random.Below(model.size());
    ASSERT_EQ(fifo[at], model[at]);
  }
  fifo.clear();
  EXPECT_TRUE(fifo.empty());
}

}  // namespace
}  // namespace gabion
