#include "sim/scenario/scenario.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>

namespace gabion::sim {

void PrintTo(const Scenario& scenario, std::ostream* out);
void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

namespace {

class ScenarioTest : public testing::TestWithParam<Scenario> {};

TEST_P(ScenarioTest, ComesOutAsItMust) {
  EXPECT_EQ(RunScenarioScript(GetParam(), nullptr), "") << GetParam().title;
}

INSTANTIATE_TEST_SUITE_P(Corpus, ScenarioTest,
                         testing::ValuesIn(AllScenarios().begin(), AllScenarios().end()),
                         [](const testing::TestParamInfo<Scenario>& info) {
                           std::string name(info.param.name);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace gabion::sim
