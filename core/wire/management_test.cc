#include "core/wire/management.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace gabion::wire {
namespace {

TEST(Management, ComesBackAsItWasSent) {
  BufferPool pool({});
  proto::Management sent;
  sent.mutable_sds_heartbeat()->set_number(7);
  sent.mutable_sds_heartbeat()->set_incarnation(3);
  const Message message = ToMessage(sent, 42, pool);
  EXPECT_EQ(std::get<ManagementBody>(message.body).tag, 42u);
  const Result<proto::Management> parsed = ParseManagement(message);
  ASSERT_TRUE(parsed.has_value()) << ToString(parsed.error());
  EXPECT_EQ(parsed->sds_heartbeat().number(), 7u);
  EXPECT_EQ(parsed->sds_heartbeat().incarnation(), 3u);
}

TEST(Management, AnEmptyBodyOfAKnownKindSurvives) {
  BufferPool pool({});
  proto::Management sent;
  sent.mutable_config_update();
  const Result<proto::Management> parsed = ParseManagement(ToMessage(sent, 0, pool));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->body_case(), proto::Management::kConfigUpdate);
}

TEST(Management, RefusesGarbageOtherTypesAndUnknownKinds) {
  BufferPool pool({});
  const std::string garbage = "\xff\xff\xff\xff garbage";
  Slice slice = pool.Allocate(static_cast<uint32_t>(garbage.size()));
  std::memcpy(slice.mutable_span().data(), garbage.data(), garbage.size());
  EXPECT_EQ(ParseManagement({ManagementBody{}, slice}).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(ParseManagement({ManagementBody{}, {}}).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(ParseManagement({Hello{}, {}}).error().code, ErrorCode::kCorrupt);

  // Field 1000, length-delimited, empty: a kind of a later version.
  const std::string later("\xc2\x3e\x00", 3);
  Slice other = pool.Allocate(static_cast<uint32_t>(later.size()));
  std::memcpy(other.mutable_span().data(), later.data(), later.size());
  EXPECT_EQ(ParseManagement({ManagementBody{}, other}).error().code, ErrorCode::kCorrupt);
}

TEST(Management, HasNoPayloadWhenThePoolIsExhausted) {
  BufferPool pool({.bytes_max = 4096});
  const Slice all = pool.Allocate(4096);
  ASSERT_FALSE(all.empty());
  proto::Management sent;
  sent.mutable_config_update()->set_version(1);
  EXPECT_TRUE(ToMessage(sent, 1, pool).payload.empty());
}

}  // namespace
}  // namespace gabion::wire
