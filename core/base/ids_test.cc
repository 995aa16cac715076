#include "core/base/ids.h"

#include <absl/container/flat_hash_set.h>
#include <gtest/gtest.h>

#include <cstddef>

namespace gabion {
namespace {

// The shape of a wire struct: every field at its natural place, padding named.
struct Body {
  uint32_t type;
  uint32_t padding;
  VolumeId volume;
  EntryId entry;
};
static_assert(sizeof(Body) == 32 && offsetof(Body, volume) == 8 && offsetof(Body, entry) == 16);
static_assert(std::is_trivially_copyable_v<Body> && std::is_standard_layout_v<Body>);

// Kinds do not mix, and integers do not slip in.
static_assert(!std::is_convertible_v<uint64_t, VolumeId>);
static_assert(!std::is_convertible_v<VolumeId, uint64_t>);
static_assert(!std::is_constructible_v<VolumeId, SliceId>);
static_assert(!std::is_constructible_v<Epoch, Seq>);

TEST(Ids, ZeroNamesNothing) {
  EXPECT_FALSE(VolumeId().valid());
  EXPECT_TRUE(VolumeId(1).valid());
  EXPECT_EQ(VolumeId(7).value(), 7u);
}

TEST(Ids, NumbersGrowByOne) {
  EXPECT_EQ(Epoch().next(), Epoch(1));
  EXPECT_LT(Epoch(9), Epoch(9).next());
}

TEST(Ids, EntriesAreOrderedByEpochThenSeq) {
  const EntryId late_in_old_epoch{Epoch(1), Seq(100)};
  const EntryId early_in_new_epoch{Epoch(2), Seq(1)};
  EXPECT_LT(late_in_old_epoch, early_in_new_epoch);
  EXPECT_LT(early_in_new_epoch, (EntryId{Epoch(2), Seq(2)}));
  EXPECT_EQ(early_in_new_epoch, (EntryId{Epoch(2), Seq(1)}));
}

TEST(Ids, Print) {
  EXPECT_EQ(ToString(SdsId(0xdeadbeef)), "00000000deadbeef");
  EXPECT_EQ(ToString(SdsId(UINT64_MAX)), "ffffffffffffffff");
  EXPECT_EQ(ToString(Seq(42)), "42");
  EXPECT_EQ(ToString(EntryId{Epoch(3), Seq(17)}), "3.17");
}

TEST(Ids, AreKeysOfHashContainers) {
  absl::flat_hash_set<VolumeId> volumes{VolumeId(1), VolumeId(2), VolumeId(1)};
  absl::flat_hash_set<EntryId> entries{EntryId{Epoch(1), Seq(2)}, EntryId{Epoch(2), Seq(1)}};
  EXPECT_EQ(volumes.size(), 2u);
  EXPECT_EQ(entries.size(), 2u);
  EXPECT_TRUE(volumes.contains(VolumeId(2)));
}

}  // namespace
}  // namespace gabion
