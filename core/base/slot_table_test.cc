#include "core/base/slot_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace gabion {
namespace {

std::vector<int> Visited(const SlotTable<int>& table) {
  std::vector<int> values;
  table.ForEach([&](SlotTag, const int& value) { values.push_back(value); });
  return values;
}

TEST(SlotTable, FindsWhatWasInserted) {
  SlotTable<int> table(2);
  const SlotTag tag = *table.Insert(7);
  EXPECT_TRUE(tag.valid());
  EXPECT_EQ(*table.Find(tag), 7);
  EXPECT_EQ(table.size(), 1u);
}

TEST(SlotTable, RefusesWhenFull) {
  SlotTable<int> table(2);
  ASSERT_TRUE(table.Insert(1).has_value());
  ASSERT_TRUE(table.Insert(2).has_value());
  EXPECT_TRUE(table.full());
  EXPECT_FALSE(table.Insert(3).has_value());
  EXPECT_FALSE(SlotTable<int>(0).Insert(1).has_value());
}

TEST(SlotTable, LateTagsMissAfterTheirSlotIsReused) {
  SlotTable<int> table(1);
  const SlotTag late = *table.Insert(1);
  EXPECT_TRUE(table.Erase(late));
  EXPECT_EQ(table.Find(late), nullptr);
  const SlotTag current = *table.Insert(2);
  EXPECT_NE(late, current);
  EXPECT_EQ(table.Find(late), nullptr);
  EXPECT_FALSE(table.Erase(late));
  EXPECT_FALSE(table.Take(late).has_value());
  EXPECT_EQ(*table.Find(current), 2);
}

TEST(SlotTable, TagsFromOutsideMiss) {
  SlotTable<int> table(4);
  ASSERT_TRUE(table.Insert(1).has_value());
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{4}, UINT64_MAX}) {
    EXPECT_EQ(table.Find(SlotTag(value)), nullptr) << value;
    EXPECT_FALSE(table.Erase(SlotTag(value))) << value;
  }
}

TEST(SlotTable, TakeReturnsTheEntry) {
  SlotTable<std::unique_ptr<int>> table(1);
  const SlotTag tag = *table.Insert(std::make_unique<int>(5));
  EXPECT_EQ(**table.Take(tag), 5);
  EXPECT_TRUE(table.empty());
}

TEST(SlotTable, LetsGoOfErasedEntriesAtOnce) {
  const auto held = std::make_shared<int>(1);
  SlotTable<std::shared_ptr<int>> table(1);
  const SlotTag tag = *table.Insert(held);
  EXPECT_EQ(held.use_count(), 2);
  table.Erase(tag);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(SlotTable, VisitsInSlotOrderAcrossWords) {
  SlotTable<int> table(200);
  std::vector<SlotTag> tags;
  std::vector<int> expected;
  for (int i = 0; i < 200; ++i) tags.push_back(*table.Insert(i));
  for (int i = 0; i < 200; ++i) {
    if (i == 0 || i == 63 || i == 64 || i == 199) {
      expected.push_back(i);
    } else {
      table.Erase(tags[static_cast<size_t>(i)]);
    }
  }
  EXPECT_EQ(Visited(table), expected);
}

TEST(SlotTable, AVisitMayEraseItsEntry) {
  SlotTable<int> table(10);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(table.Insert(i).has_value());
  table.ForEach([&](SlotTag tag, int& value) {
    if (value % 3 != 0) table.Erase(tag);
  });
  EXPECT_EQ(Visited(table), (std::vector<int>{0, 3, 6, 9}));
}

TEST(SlotTable, ACopyKeepsTagsAndChangesAlone) {
  SlotTable<int> table(2);
  const SlotTag tag = *table.Insert(1);
  SlotTable<int> copy = table;
  *copy.Find(tag) = 2;
  EXPECT_EQ(*table.Find(tag), 1);
  EXPECT_EQ(copy.Insert(3), table.Insert(3)) << "equal histories give equal tags";
}

TEST(SlotTable, OldTagsMissAfterClear) {
  SlotTable<int> table(3);
  const SlotTag tag = *table.Insert(1);
  table.Clear();
  EXPECT_TRUE(table.empty());
  ASSERT_TRUE(table.Insert(2).has_value());
  EXPECT_EQ(table.Find(tag), nullptr);
}

// Each step inserts, or picks any tag ever given and erases it.
RC_GTEST_PROP(SlotTable, EqualsAMapOfAllTags, (const std::vector<uint16_t>& steps)) {
  SlotTable<uint16_t> table(5);
  std::map<SlotTag, uint16_t> live;
  std::vector<SlotTag> given;
  for (const uint16_t step : steps) {
    if (step % 2 == 0 || given.empty()) {
      const std::optional<SlotTag> tag = table.Insert(step);
      RC_ASSERT(tag.has_value() == (live.size() < 5));
      if (!tag) continue;
      RC_ASSERT(std::find(given.begin(), given.end(), *tag) == given.end());
      given.push_back(*tag);
      live.emplace(*tag, step);
    } else {
      const SlotTag tag = given[step % given.size()];
      RC_ASSERT(table.Erase(tag) == (live.erase(tag) == 1));
    }
    RC_ASSERT(table.size() == live.size());
    for (const SlotTag tag : given) {
      const uint16_t* found = table.Find(tag);
      const auto expected = live.find(tag);
      RC_ASSERT((found != nullptr) == (expected != live.end()));
      if (found != nullptr) RC_ASSERT(*found == expected->second);
    }
  }
}

}  // namespace
}  // namespace gabion
