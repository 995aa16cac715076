#include "sim/run/lockstep.h"

#include <gtest/gtest.h>

#include <string>

namespace gabion::sim {
namespace {

constexpr const char* kGcc = "sim/run/lockstep_victim_gcc";
constexpr const char* kClang = "sim/run/lockstep_victim_clang";

Comparison CompareVictims(const std::string& kind, const char* second = kGcc) {
  return Compare({kGcc, kind}, {second, kind});
}

TEST(Lockstep, TwoEqualRunsAreEqual) {
  const Comparison comparison = CompareVictims("steady");
  EXPECT_EQ(comparison.error, "");
  EXPECT_TRUE(comparison.equal) << comparison.ToText();
  EXPECT_GT(comparison.event, 2 * EventLog::kEventsPerCheckpoint);
}

struct Case {
  const char* kind;
  const char* second;
};

// The 5,000th step decides by it, and the next event shows it.
TEST(Lockstep, FindsTheEventThatDependsOnWhatItMustNot) {
  const Case cases[] = {{"hash-order", kGcc},
                        {"address", kGcc},
                        {"uninitialised", kGcc},
                        {"earlier-run", kGcc},
                        {"evaluation-order", kClang}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.kind);
    const Comparison comparison = CompareVictims(c.kind, c.second);
    const std::string text = comparison.ToText();
    EXPECT_EQ(comparison.error, "");
    EXPECT_FALSE(comparison.equal);
    EXPECT_EQ(comparison.event, 5'001u);
    EXPECT_NE(comparison.first, comparison.second);
    EXPECT_NE(comparison.first.find("event 5001 at"), std::string::npos) << text;
    EXPECT_NE(comparison.second.find("timer, node 0"), std::string::npos) << text;
    EXPECT_NE(comparison.before.find("event 5000 at"), std::string::npos) << text;
  }
}

TEST(Lockstep, OneCompilerKeepsToOneOrderOfEvaluation) {
  EXPECT_TRUE(CompareVictims("evaluation-order").equal);
  EXPECT_TRUE(CompareVictims("steady", kClang).equal);
}

TEST(Lockstep, SaysWhenAProgramDoesNotRun) {
  const Comparison comparison = Compare({kGcc}, {"/nonexistent"});
  EXPECT_FALSE(comparison.equal);
  EXPECT_NE(comparison.error.find("the second run ended"), std::string::npos) << comparison.error;
}

}  // namespace
}  // namespace gabion::sim
