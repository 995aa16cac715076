#include "sim/checker/volume_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "sim/checker/stamp.h"

namespace gabion::sim {
namespace {

constexpr uint64_t kSectors = 32;
constexpr uint64_t kVolume = 3;

std::vector<std::byte> Stamped(Stamp stamp, uint64_t first, uint64_t count) {
  std::vector<std::byte> bytes(count * kStampSectorBytes);
  FillStamped(bytes, stamp, kVolume, first);
  return bytes;
}

// Sectors 8 to 15 hold stamp 1, which is acknowledged.
class VolumeHistoryTest : public testing::Test {
 protected:
  VolumeHistoryTest() : history_(kVolume, kSectors * kStampSectorBytes) {
    history_.WriteStarted(1, false, 8, 8, 10, 10);
    EXPECT_EQ(history_.WriteEnded(1, 8, 8, 20), "");
  }

  // Both as a read and as the content of a copy.
  bool Refused(const std::vector<std::byte>& bytes, uint64_t first) {
    const bool as_copy = !history_.CheckCopy(bytes, first).empty();
    VolumeHistory history = history_;
    const bool as_read = !history.ReadEnded(bytes, first, 30, 40).empty();
    EXPECT_EQ(as_copy, as_read);
    return as_read;
  }

  VolumeHistory history_;
};

TEST_F(VolumeHistoryTest, AcceptsWhatWasWrittenWhereItWasWritten) {
  EXPECT_FALSE(Refused(Stamped(1, 8, 8), 8));
  EXPECT_FALSE(Refused(Stamped(1, 10, 2), 10));
  EXPECT_FALSE(Refused(std::vector<std::byte>(8 * kStampSectorBytes), 0));
  std::vector<std::byte> all(kSectors * kStampSectorBytes);
  std::copy_n(Stamped(1, 8, 8).begin(), 8 * kStampSectorBytes, all.begin() + 8 * kStampSectorBytes);
  EXPECT_FALSE(Refused(all, 0));
}

TEST_F(VolumeHistoryTest, RefusesOneLostSector) {
  std::vector<std::byte> bytes = Stamped(1, 8, 8);
  std::fill_n(bytes.begin() + 3 * kStampSectorBytes, kStampSectorBytes, std::byte{0});
  EXPECT_TRUE(Refused(bytes, 8));
}

TEST_F(VolumeHistoryTest, RefusesBytesOfAnotherPlaceOrVolume) {
  EXPECT_TRUE(Refused(Stamped(1, 9, 1), 8));
  std::vector<std::byte> other(kStampSectorBytes);
  FillStamped(other, 1, kVolume + 1, 8);
  EXPECT_TRUE(Refused(other, 8));
  EXPECT_TRUE(Refused(Stamped(1, 0, 1), 0)) << "stamp 1 was not written to sector 0";
}

TEST_F(VolumeHistoryTest, RefusesASectorOfTwoWrites) {
  history_.WriteStarted(2, false, 8, 8, 22, 22);
  EXPECT_FALSE(Refused(Stamped(1, 8, 8), 8));
  EXPECT_FALSE(Refused(Stamped(2, 8, 8), 8));
  std::vector<std::byte> torn = Stamped(2, 8, 8);
  std::copy_n(Stamped(1, 12, 4).begin(), 4 * kStampSectorBytes,
              torn.begin() + 4 * kStampSectorBytes);
  EXPECT_FALSE(Refused(torn, 8)) << "a write that is under way may be half there";
  std::copy_n(Stamped(1, 11, 1).begin(), 256, torn.begin() + 3 * kStampSectorBytes);
  EXPECT_TRUE(Refused(torn, 8)) << "but never within a sector";
}

TEST_F(VolumeHistoryTest, RefusesASingleFlippedBit) {
  for (const size_t at : {0, 7, 8, 511}) {
    std::vector<std::byte> bytes = Stamped(1, 8, 1);
    bytes[at] ^= std::byte{0x10};
    EXPECT_TRUE(Refused(bytes, 8)) << at;
  }
}

TEST_F(VolumeHistoryTest, SaysWhereItIs) {
  const std::string wrong = history_.CheckCopy(std::vector<std::byte>(kStampSectorBytes), 9);
  EXPECT_NE(wrong.find("volume 3 sector 9 (chunk 0 block 1)"), std::string::npos) << wrong;
}

}  // namespace
}  // namespace gabion::sim
