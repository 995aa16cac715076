#include "core/base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace gabion {
namespace {

Result<int> Parse(bool good) {
  if (!good) return Err(ErrorCode::kInvalidArgument, "%s is not between %d and %d", "x", 1, 2);
  return 7;
}

Result<void> Validate(bool good) {
  if (!good) return Err(ErrorCode::kFenced, "stale");
  return {};
}

TEST(Result, HoldsAValue) {
  const Result<int> result = Parse(true);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(*result, 7);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = Parse(false);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ToString(result.error()), "invalid_argument: x is not between 1 and 2");
}

TEST(Result, OfVoidIsGoodByDefault) {
  EXPECT_TRUE(Validate(true).has_value());
  EXPECT_EQ(Validate(false).error(), (Error{ErrorCode::kFenced, "stale"}));
}

TEST(Result, PassesAnErrorOnInAnotherType) {
  const auto length = [](bool good) -> Result<std::string> {
    const Result<int> parsed = Parse(good);
    if (!parsed) return tl::unexpected(parsed.error());
    return std::string(static_cast<size_t>(*parsed), '.');
  };
  EXPECT_EQ(length(true)->size(), 7u);
  EXPECT_EQ(length(false).error().code, ErrorCode::kInvalidArgument);
}

TEST(Result, Maps) {
  const Result<long> doubled = Parse(true).map([](int value) { return 2L * value; });
  EXPECT_EQ(*doubled, 14);
  const Result<void> validated =
      Parse(true).and_then([](int) { return Validate(false).map([] {}); });
  EXPECT_EQ(validated.error().code, ErrorCode::kFenced);
}

// A naive wrapper converts a Result<bool> to bool ("is good") where it should copy it.
TEST(Result, OfBoolCopiesItsValue) {
  Result<bool> original = false;
  Result<bool> copy(original);
  Result<bool> assigned = true;
  assigned = original;
  EXPECT_TRUE(copy.has_value());
  EXPECT_FALSE(*copy);
  EXPECT_FALSE(*assigned);
}

TEST(Result, HoldsWhatCanOnlyMove) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 3);
}

TEST(Result, ErrorMessagesHaveAnyLength) {
  const std::string name(5000, 'n');
  const Result<void> result = Err(ErrorCode::kNotFound, "no volume %s", name.c_str());
  EXPECT_EQ(result.error().message, "no volume " + name);
}

TEST(Result, EveryErrorCodeHasAName) {
  for (auto code = static_cast<uint8_t>(ErrorCode::kInvalidArgument);
       code <= static_cast<uint8_t>(ErrorCode::kCorrupt); ++code) {
    EXPECT_STRNE(ToString(static_cast<ErrorCode>(code)), "");
  }
}

}  // namespace
}  // namespace gabion
