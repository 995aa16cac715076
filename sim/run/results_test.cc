#include "sim/run/results.h"

#include <gtest/gtest.h>

#include <string>

namespace gabion::sim {
namespace {

RunOutcome SomeOutcome() {
  RunOutcome outcome;
  outcome.summary.seed = 18'446'744'073'709'551'615u;
  outcome.summary.events = 2;
  outcome.summary.completed = 3;
  outcome.summary.bytes = 4;
  outcome.summary.simulated_ns = 5;
  outcome.summary.longest_ns = 6;
  outcome.summary.wall_ns = 7;
  outcome.summary.fail_overs = 8;
  outcome.summary.hash_high = 9;
  outcome.summary.hash_low = 10;
  outcome.summary.enabled[Fault::kKill] = true;
  outcome.summary.fired[Fault::kKill] = 11;
  outcome.summary.enabled[Fault::kRot] = true;
  return outcome;
}

TEST(Results, ALineSaysEverythingThatFiguresNeed) {
  RunOutcome outcome = SomeOutcome();
  outcome.summary.failed = true;
  outcome.checker = "liveness";
  outcome.message = "a\tb\nand more";
  const std::string line = ToLine(outcome);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  RunOutcome read;
  ASSERT_TRUE(FromLine(line, &read)) << line;
  EXPECT_EQ(ToLine(read), line);
  EXPECT_EQ(read.summary.seed, outcome.summary.seed);
  EXPECT_EQ(read.summary.wall_ns, 7);
  EXPECT_EQ(read.summary.hash_low, 10u);
  EXPECT_TRUE(read.summary.failed);
  EXPECT_EQ(read.checker, "liveness");
  EXPECT_EQ(read.message, "a b");
  EXPECT_EQ(read.summary.fired[Fault::kKill], 11u);
  EXPECT_TRUE(read.summary.enabled[Fault::kRot]);
  EXPECT_FALSE(read.summary.enabled[Fault::kDrop]);
}

TEST(Results, WhatIsNoSuchLineIsRefused) {
  const std::string line = ToLine(SomeOutcome());
  RunOutcome read;
  EXPECT_TRUE(FromLine(line, &read));
  EXPECT_FALSE(read.summary.failed);
  for (size_t size = 0; size < line.rfind("good"); ++size) {
    EXPECT_FALSE(FromLine(line.substr(0, size), &read)) << size;
  }
  EXPECT_FALSE(FromLine("", &read));
  EXPECT_FALSE(FromLine(line + "\tmore", &read));
  EXPECT_FALSE(FromLine("x" + line, &read));
}

TEST(Results, ClassesThatAreUnknownAreLeftOut) {
  std::string line = ToLine(SomeOutcome());
  line.replace(line.find("kill:"), 4, "kiln");
  RunOutcome read;
  ASSERT_TRUE(FromLine(line, &read));
  EXPECT_FALSE(read.summary.enabled[Fault::kKill]);
  EXPECT_TRUE(read.summary.enabled[Fault::kRot]);
}

}  // namespace
}  // namespace gabion::sim
