#include "core/base/check.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"

namespace gabion {
namespace {

constexpr int Half(int even) {
  CHECK_EQ(even % 2, 0) << "not even";
  CHECK(even >= 0);
  return even / 2;
}

enum class Phase { kFirst, kSecond };

const char* NameOf(Phase phase) {
  switch (phase) {
    case Phase::kFirst:
      return "first";
    case Phase::kSecond:
      return "second";
  }
  UNREACHABLE();
}

TEST(Check, PassesSilently) {
  CHECK(true);
  CHECK(std::optional<int>(0)) << "has a value";
  CHECK_EQ(std::string("a"), "a");
  CHECK_NE(1, 2);
  CHECK_LT(Epoch(1), Epoch(2));
  CHECK_LE(1u, 1);
  CHECK_GT(std::vector<int>(3).size(), 2);
  CHECK_GE(std::byte{2}, std::byte{1});
}

TEST(Check, WorksInConstantExpressions) { static_assert(Half(6) == 3); }

TEST(Check, LeavesTheElseToItsCaller) {
  bool other = false;
  if (!other)
    CHECK(true);
  else
    other = true;
  EXPECT_FALSE(other);
}

TEST(Check, EvaluatesEachOperandOnce) {
  int evaluations = 0;
  CHECK_EQ(++evaluations, 1);
  CHECK_GE(++evaluations, 2);
  CHECK(++evaluations == 3);
  EXPECT_EQ(evaluations, 3);
}

TEST(Check, DoesNotEvaluateItsTextWhileItPasses) {
  int evaluations = 0;
  CHECK(true) << ++evaluations;
  EXPECT_EQ(evaluations, 0);
}

TEST(Check, ComparesIntegersOfDifferentSignByValue) {
  CHECK_LT(-1, 1u);
  CHECK_NE(-1, UINT32_MAX);
  EXPECT_DEATH(CHECK_EQ(-1, UINT64_MAX), "-1 vs 18446744073709551615");
}

TEST(CheckDeathTest, PrintsPlaceConditionAndText) {
  const int count = 3;
  EXPECT_DEATH(CHECK(count < 3) << "count " << count << ' ' << true << ' ' << std::string("end"),
               "check_test.cc:[0-9]+: CHECK failed: count < 3 count 3 true end\n");
}

TEST(CheckDeathTest, PrintsBothValues) {
  const std::vector<int> items(2);
  EXPECT_DEATH(CHECK_EQ(items.size(), 3u) << "items",
               "CHECK failed: items.size\\(\\) == 3u \\(2 vs 3\\) items");
  EXPECT_DEATH(CHECK_NE(std::string("a"), "a"), "\\(a vs a\\)");
  EXPECT_DEATH(CHECK_LT(2, 1), "2 < 1 \\(2 vs 1\\)");
  EXPECT_DEATH(CHECK_LE(uint8_t{2}, uint8_t{1}), "\\(2 vs 1\\)");
  EXPECT_DEATH(CHECK_GT(std::byte{1}, std::byte{2}), "\\(1 vs 2\\)");
  EXPECT_DEATH(CHECK_GE(false, true), "\\(false vs true\\)");
}

TEST(CheckDeathTest, PrintsIdsNumbersAndTimes) {
  EXPECT_DEATH(CHECK_EQ(VolumeId(255), VolumeId()), "\\(00000000000000ff vs 0000000000000000\\)");
  EXPECT_DEATH(CHECK_LT(Epoch(12), Epoch(12)), "\\(12 vs 12\\)");
  EXPECT_DEATH(CHECK_EQ((EntryId{Epoch(1), Seq(2)}), EntryId{}), "\\(1.2 vs 0.0\\)");
  EXPECT_DEATH(CHECK_EQ(Duration(1), Duration(2)), "\\(1 vs 2\\)");
  EXPECT_DEATH(CHECK_EQ(Instant(Duration(1)), Instant(Duration(2))),
               "\\(0.000000001 s vs 0.000000002 s\\)");
}

TEST(CheckDeathTest, PrintsAQuestionMarkForWhatItCannotPrint) {
  struct Opaque {
    bool operator==(const Opaque&) const { return false; }
  };
  EXPECT_DEATH(CHECK_EQ(Opaque{}, Opaque{}), "\\(\\? vs \\?\\)");
}

TEST(CheckDeathTest, PrintsNullPointers) {
  const char* name = nullptr;
  int number = 0;
  EXPECT_DEATH(CHECK_NE(name, nullptr), "\\(null vs null\\)");
  EXPECT_DEATH(CHECK_EQ(&number, nullptr), "\\(0x[0-9a-f]+ vs null\\)");
}

TEST(CheckDeathTest, UnreachableSaysWhere) {
  EXPECT_STREQ(NameOf(Phase::kSecond), "second");
  EXPECT_DEATH(UNREACHABLE(), "check_test.cc:[0-9]+: CHECK failed: unreachable");
  EXPECT_DEATH(UNREACHABLE("no such phase"), "unreachable no such phase");
}

}  // namespace
}  // namespace gabion
