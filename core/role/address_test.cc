#include "core/role/address.h"

#include <gtest/gtest.h>

namespace gabion {
namespace {

std::string RoundTrip(std::string_view text) {
  const std::optional<Address> address = Address::Parse(text);
  return address ? address->ToString() : "refused";
}

TEST(Address, PrintsWhatItParsed) {
  for (const char* text : {"127.0.0.1:7070", "0.0.0.0:1", "255.255.255.255:65535", "[::1]:7070",
                           "[::]:1", "[fe80::1:2]:80", "[1:2:3:4:5:6:7:8]:9", "[1::]:5",
                           "[2001:db8::1:0:0:1]:443", "[1:0:3:4:5:6:7:8]:9"}) {
    EXPECT_EQ(RoundTrip(text), text);
  }
}

TEST(Address, HasOneFormForEachAddress) {
  EXPECT_EQ(RoundTrip("[0:0:0:0:0:0:0:1]:2"), "[::1]:2");
  EXPECT_EQ(RoundTrip("[2001:DB8:0:0:1:0:0:1]:2"), "[2001:db8::1:0:0:1]:2");
  EXPECT_EQ(RoundTrip("[::ffff:10.1.2.3]:2"), "10.1.2.3:2");
  EXPECT_EQ(Address::Parse("[::ffff:10.1.2.3]:2"), Address::V4(10, 1, 2, 3, 2));
}

TEST(Address, RefusesEverythingElse) {
  for (const char* text : {"",
                           ":",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:0",
                           "127.0.0.1:65536",
                           "127.0.0.1:+1",
                           "127.0.0.1: 1",
                           "1.2.3:4",
                           "1.2.3.4.5:6",
                           "1.2.3.256:4",
                           "1..3.4:5",
                           "host:80",
                           "::1:80",
                           "[::1]80",
                           "[::1:80",
                           "[]:80",
                           "[1:2:3:4:5:6:7]:8",
                           "[1:2:3:4:5:6:7:8:9]:1",
                           "[1::2::3]:4",
                           "[:1]:2",
                           "[1:]:2",
                           "[12345::]:1",
                           "[::g]:1",
                           "[1.2.3.4::]:1",
                           "[::1.2.3.4:5]:6",
                           "[1:2:3:4:5:6:7::8]:1"}) {
    EXPECT_EQ(RoundTrip(text), "refused") << text;
  }
}

TEST(Address, IsValidOnlyWithAPort) {
  EXPECT_FALSE(Address().valid());
  EXPECT_TRUE(Address::V4(127, 0, 0, 1, 7070).valid());
}

}  // namespace
}  // namespace gabion
