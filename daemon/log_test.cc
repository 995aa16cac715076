#include "daemon/log.h"

#include <gtest/gtest.h>

namespace gabion::daemon {
namespace {

LogLine Sample(std::string text) {
  return {.time = WallTime(std::chrono::milliseconds(1'709'251'199'123)),
          .severity = Severity::kWarning,
          .program = "gabion-sds",
          .name = "sds1",
          .text = std::move(text)};
}

TEST(Log, TextIsOneReadableLine) {
  EXPECT_EQ(FormatLine(LogFormat::kText, Sample("peer lost")),
            "2024-02-29 23:59:59.123 warning  sds1: peer lost\n");
}

TEST(Log, JsonIsOneObjectPerLine) {
  EXPECT_EQ(
      FormatLine(LogFormat::kJson, Sample("a \"b\" \\ c")),
      "{\"time\":\"2024-02-29T23:59:59.123Z\",\"level\":\"warning\",\"program\":\"gabion-sds\","
      "\"name\":\"sds1\",\"message\":\"a \\\"b\\\" \\\\ c\"}\n");
}

TEST(Log, TextOfAPeerCannotForgeALineOrReachTheTerminal) {
  EXPECT_EQ(FormatLine(LogFormat::kText, Sample("a\nb\x1b[2J")),
            "2024-02-29 23:59:59.123 warning  sds1: a\\x0ab\\x1b[2J\n");
  EXPECT_NE(FormatLine(LogFormat::kJson, Sample("a\nb")).find("a\\u000ab"), std::string::npos);
}

}  // namespace
}  // namespace gabion::daemon
