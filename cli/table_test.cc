#include "cli/table.h"

#include <gtest/gtest.h>

namespace gabion::cli {
namespace {

TEST(Table, AlignsColumns) {
  Table table({"NAME", ">SIZE", "STATE"});
  table.AddRow({"a", "10 GiB", "up"});
  table.AddRow({"longer", "5 MiB", ""});
  EXPECT_EQ(table.ToString(),
            "NAME      SIZE  STATE\n"
            "a       10 GiB  up\n"
            "longer   5 MiB  -\n");
}

TEST(Table, TextFromElsewhereCannotReachTheTerminal) {
  Table table({"ERROR"});
  table.AddRow({"a\x1b[2J\nb"});
  EXPECT_EQ(table.ToString(), "ERROR\na?[2J?b\n");
}

}  // namespace
}  // namespace gabion::cli
