#include "core/wire/message.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace gabion::wire {
namespace {

TEST(Message, TypeNumbersOfTheWireNeverMove) {
  EXPECT_EQ((Message{Hello{}, {}}).type(), 1);
  EXPECT_EQ((Message{ManagementBody{}, {}}).type(), 3);
  EXPECT_EQ((Message{WriteRequest{}, {}}).type(), 4);
  EXPECT_EQ((Message{Replicate{}, {}}).type(), 10);
  EXPECT_EQ((Message{TailQuery{}, {}}).type(), 13);
  EXPECT_EQ((Message{CopyExtent{}, {}}).type(), 19);
  EXPECT_EQ((Message{ChangedReply{}, {}}).type(), 24);
  EXPECT_EQ((Message{PresenceReply{}, {}}).type(), 26);
  EXPECT_EQ((Message{ExtentQuery{}, {}}).type(), 27);
  EXPECT_EQ((Message{CopyCursor{}, {}}).type(), 29);
  EXPECT_EQ((Message{CreditsRequest{}, {}}).type(), 30);
  EXPECT_EQ((Message{ScanFix{}, {}}).type(), 31);
  EXPECT_EQ((Message{ScanHint{}, {}}).type(), 33);
}

TEST(Message, TypeNamesFollowTheNumbers) {
  EXPECT_EQ(TypeName(1), "Hello");
  EXPECT_EQ(TypeName(10), "Replicate");
  EXPECT_EQ(TypeName(13), "TailQuery");
  EXPECT_EQ(TypeName(24), "ChangedReply");
  EXPECT_EQ(TypeName(26), "PresenceReply");
  EXPECT_EQ(TypeName(29), "CopyCursor");
  EXPECT_EQ(TypeName(30), "CreditsRequest");
  EXPECT_EQ(TypeName(28), "ExtentReply");
  EXPECT_EQ(TypeName(31), "ScanFix");
  EXPECT_EQ(TypeName(33), "ScanHint");
  EXPECT_EQ(TypeName(34), "Unknown");
  EXPECT_EQ(TypeName(65535), "Unknown");
}

TEST(Message, EveryStatusHasANameOfItsOwn) {
  std::set<std::string> names;
  for (uint16_t i = 0; i <= static_cast<uint16_t>(Status::kUnknownPeer); ++i) {
    const std::string name(StatusName(static_cast<Status>(i)));
    EXPECT_NE(name, "unknown status") << i;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(StatusName(static_cast<Status>(999)), "unknown status");
}

}  // namespace
}  // namespace gabion::wire
