#include "core/base/bytes.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <string>

#include "core/base/ids.h"

namespace gabion {
namespace {

TEST(Bytes, AreLittleEndianAtAnyAlignment) {
  std::array<std::byte, 9> bytes{};
  StoreLe<uint32_t>(bytes.data() + 1, 0x04030201);
  for (size_t i = 1; i <= 4; ++i) EXPECT_EQ(bytes[i], std::byte(i));
  EXPECT_EQ(LoadLe<uint16_t>(bytes.data() + 3), 0x0403);
  EXPECT_EQ(LoadLe<uint64_t>(bytes.data() + 1), 0x04030201u);
}

RC_GTEST_PROP(Bytes, WhatIsWrittenIsRead,
              (uint8_t a, uint16_t b, uint32_t c, uint64_t d, int64_t e, uint64_t id,
               const std::string& text)) {
  std::vector<std::byte> record;
  ByteWriter writer(&record);
  writer.U8(a);
  writer.U16(b);
  writer.U32(c);
  writer.U64(d);
  writer.I64(e);
  writer.Of(VolumeId(id));
  writer.Of(Epoch(id));
  writer.SizedText(text);
  writer.Zeros(3);
  RC_ASSERT(writer.ok());
  RC_ASSERT(writer.size() == record.size());

  ByteReader reader(record);
  RC_ASSERT(reader.U8() == a);
  RC_ASSERT(reader.U16() == b);
  RC_ASSERT(reader.U32() == c);
  RC_ASSERT(reader.U64() == d);
  RC_ASSERT(reader.I64() == e);
  RC_ASSERT(reader.As<VolumeId>() == VolumeId(id));
  RC_ASSERT(reader.As<Epoch>() == Epoch(id));
  RC_ASSERT(reader.SizedText(UINT32_MAX) == text);
  RC_ASSERT(reader.remaining() == 3u);
  RC_ASSERT(!reader.done());
  RC_ASSERT(reader.Bytes(3).size() == 3u);
  RC_ASSERT(reader.done());
}

TEST(ByteReader, StaysFailedAfterReadingBeyondTheEnd) {
  const std::vector<std::byte> bytes(5, std::byte{0xff});
  ByteReader reader(bytes);
  EXPECT_EQ(reader.U32(), UINT32_MAX);
  EXPECT_EQ(reader.U16(), 0);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.U8(), 0) << "the fifth byte is there, but the reader has failed";
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.done());
}

TEST(ByteReader, RefusesSizesAboveTheLimitAndBeyondTheEnd) {
  std::vector<std::byte> bytes;
  ByteWriter(&bytes).SizedText("hello");
  EXPECT_EQ(ByteReader(bytes).SizedText(5), "hello");
  EXPECT_TRUE(ByteReader(bytes).SizedText(4).empty());
  bytes.pop_back();
  ByteReader reader(bytes);
  EXPECT_TRUE(reader.SizedText(5).empty());
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, ReadsNothingFromNothing) {
  ByteReader reader({});
  EXPECT_TRUE(reader.done());
  EXPECT_TRUE(reader.Bytes(0).empty());
  EXPECT_TRUE(reader.done());
  EXPECT_TRUE(reader.Bytes(SIZE_MAX).empty());
  EXPECT_FALSE(reader.ok());
}

TEST(ByteWriter, IntoASpanStopsAtTheFirstWriteThatDoesNotFit) {
  std::array<std::byte, 6> target{};
  ByteWriter writer(target);
  writer.U32(0x01010101);
  writer.U32(0x02020202);
  EXPECT_FALSE(writer.ok());
  writer.U8(3);
  EXPECT_EQ(writer.size(), 4u);
  EXPECT_EQ(target[3], std::byte{1});
  EXPECT_EQ(target[4], std::byte{0});
}

TEST(ByteWriter, FillsASpanToItsLastByte) {
  std::array<std::byte, 5> target{};
  ByteWriter writer(target);
  writer.U32(7);
  writer.Bytes({});
  writer.U8(9);
  EXPECT_TRUE(writer.ok());
  EXPECT_EQ(target[4], std::byte{9});
}

TEST(ByteWriter, AppendsToAVector) {
  std::vector<std::byte> target(2);
  ByteWriter writer(&target);
  writer.U16(1);
  EXPECT_EQ(target.size(), 4u);
  EXPECT_EQ(writer.size(), 2u);
}

}  // namespace
}  // namespace gabion
