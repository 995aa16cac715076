#include "cli/size.h"

#include <gtest/gtest.h>

namespace gabion::cli {
namespace {

TEST(Size, ParsesUnits) {
  EXPECT_EQ(*ParseSize("1M"), uint64_t{1} << 20);
  EXPECT_EQ(*ParseSize("10G"), uint64_t{10} << 30);
  EXPECT_EQ(*ParseSize("1.5TiB"), uint64_t{3} << 39);
  EXPECT_EQ(*ParseSize("0.5GiB"), uint64_t{512} << 20);
  EXPECT_EQ(*ParseSize("4096T"), uint64_t{1} << 52);
}

TEST(Size, RefusesWhatIsNoWholeNumberOfMebibytes) {
  for (const char* text :
       {"", "G", "10", "10K", "10g", "10GB", "-1G", "0G", "0.3M", "1.0000001G", "inf", "infG",
        "nanG", "1e3G", " 1G", "1 G", "4097T", "1e400G", "99999999999999999999999999T"}) {
    EXPECT_FALSE(ParseSize(text)) << text;
  }
}

TEST(Size, ErrorNamesTheTextAndTheWayOut) {
  EXPECT_EQ(ParseSize("10").error().message,
            "size '10': wants a number and a unit, such as 512M, 10G or 1.5T");
}

TEST(Size, FormatsThreeDigits) {
  EXPECT_EQ(FormatSize(0), "0 B");
  EXPECT_EQ(FormatSize(uint64_t{10} << 30), "10 GiB");
  EXPECT_EQ(FormatSize(uint64_t{3} << 39), "1.5 TiB");
  EXPECT_EQ(FormatSize((uint64_t{1} << 30) - 1), "1 GiB");
  EXPECT_EQ(FormatSize(1000), "0.977 KiB");
}

}  // namespace
}  // namespace gabion::cli
