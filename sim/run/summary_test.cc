#include "sim/run/summary.h"

#include <gtest/gtest.h>

#include <string>

namespace gabion::sim {
namespace {

RunOutcome Failed(std::string checker, std::string message) {
  RunOutcome outcome;
  outcome.summary.failed = true;
  outcome.checker = std::move(checker);
  outcome.message = std::move(message);
  return outcome;
}

TEST(Summary, FailuresThatDifferInNumbersHaveOneSignature) {
  const std::string a = SignatureOf(
      Failed("linearizability", "request 17 of client 1: stamps 0001000000000a2f and x\nmore 1"));
  const std::string b = SignatureOf(
      Failed("linearizability", "request 9 of client 0: stamps 000200000000beef and x\nother"));
  EXPECT_EQ(a, "linearizability: request # of client #: stamps # and x");
  EXPECT_EQ(a, b);
}

TEST(Summary, FailuresOfOtherCheckersOrSentencesHaveOtherSignatures) {
  const std::string a = SignatureOf(Failed("check", "core/sds/io.cc:12: CHECK failed: good"));
  EXPECT_EQ(a, "check: core/sds/io.cc:#: CHECK failed: good");
  EXPECT_NE(a, SignatureOf(Failed("crash", "core/sds/io.cc:12: CHECK failed: good")));
  EXPECT_NE(a, SignatureOf(Failed("check", "core/sds/io.cc:12: CHECK failed: bad")));
  EXPECT_EQ(SignatureOf(Failed("hang", "")), "hang: ");
}

TEST(Summary, TheLineSaysHowFarItIs) {
  Summary summary;
  RunOutcome good;
  good.summary.fired[Fault::kKill] = 2;
  good.summary.enabled[Fault::kKill] = true;
  for (int i = 0; i < 18; ++i) summary.Add(good);
  EXPECT_EQ(summary.ToLine(9, 100), "18 of 100 runs, 2.0 runs/s, 1 of " +
                                        std::to_string(kFaultCount) + " fault classes, 0 failed");
  summary.Add(Failed("liveness", "I/O does not complete"));
  summary.Add(Failed("liveness", "I/O does not complete"));
  const std::string line = summary.ToLine(10, 100);
  EXPECT_NE(line.find("2 failed (2x liveness: I/O does not complete)"), std::string::npos) << line;
  const std::string page = summary.ToText(10, 1);
  EXPECT_NE(page.find("failed 2 times: liveness: I/O does not complete\n"), std::string::npos);
}

}  // namespace
}  // namespace gabion::sim
