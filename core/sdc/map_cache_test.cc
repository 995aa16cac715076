#include "core/sdc/map_cache.h"

#include <gtest/gtest.h>

#include "core/base/mix.h"

namespace gabion::sdc {
namespace {

proto::MapUpdate Full(uint64_t version) {
  proto::MapUpdate update;
  update.set_version(version);
  update.set_full(true);
  proto::Pool* pool = update.add_pools();
  pool->set_id(1);
  pool->set_slice_count(8);
  pool->set_first_slice(500);
  proto::Volume* volume = update.add_volumes();
  volume->set_id(100);
  volume->set_name("vol");
  volume->set_pool(1);
  volume->set_vtree(9);
  volume->set_size_bytes(1 << 20);
  proto::SliceRoute* route = update.add_slices();
  route->set_slice(500);
  route->set_reign(4);
  route->set_sds(11);
  return update;
}

proto::MapUpdate Next(const MapCache& map) {
  proto::MapUpdate update;
  update.set_version(map.version() + 1);
  return update;
}

TEST(MapCache, BeginsWithAFullUpdate) {
  MapCache map;
  EXPECT_FALSE(map.ready());
  EXPECT_EQ(map.Apply(Next(map)), MapCache::Outcome::kGap);
  EXPECT_EQ(map.Apply(Full(17)), MapCache::Outcome::kApplied);
  EXPECT_TRUE(map.ready());
  EXPECT_EQ(map.version(), 17u);
}

TEST(MapCache, FindsAGapAndIgnoresWhatItHas) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(17)), MapCache::Outcome::kApplied);
  proto::MapUpdate old = Next(map);
  old.set_version(17);
  old.add_unmapped_volumes(100);
  EXPECT_EQ(map.Apply(old), MapCache::Outcome::kOld);
  EXPECT_NE(map.FindVolume(VolumeId(100)), nullptr);
  proto::MapUpdate later = Next(map);
  later.set_version(19);
  EXPECT_EQ(map.Apply(later), MapCache::Outcome::kGap);
  EXPECT_EQ(map.version(), 17u);
}

TEST(MapCache, AfterANewRegistrationOnlyAFullUpdateCounts) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(17)), MapCache::Outcome::kApplied);
  map.ExpectFull();
  EXPECT_TRUE(map.ready());
  EXPECT_FALSE(map.current());
  EXPECT_EQ(map.Apply(Next(map)), MapCache::Outcome::kGap);
  EXPECT_EQ(map.Apply(Full(3)), MapCache::Outcome::kApplied);
  EXPECT_EQ(map.version(), 3u);
}

TEST(MapCache, ChunksVisitTheSlicesInTurnFromAPlaceOfTheVtree) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(1)), MapCache::Outcome::kApplied);
  const VolumeInfo& volume = *map.FindVolume(VolumeId(100));
  for (uint32_t chunk = 0; chunk < 20; ++chunk) {
    EXPECT_EQ(map.SliceOf(volume, chunk), SliceId(500 + (mix64(9) + chunk) % 8));
  }
}

TEST(MapCache, AFullUpdateForgetsWhatItDoesNotName) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(1)), MapCache::Outcome::kApplied);
  proto::MapUpdate empty;
  empty.set_version(2);
  empty.set_full(true);
  ASSERT_EQ(map.Apply(empty), MapCache::Outcome::kApplied);
  EXPECT_EQ(map.FindVolume(VolumeId(100)), nullptr);
  EXPECT_EQ(map.FindVolume("vol"), nullptr);
  EXPECT_EQ(map.RouteOf(SliceId(500)), (Route{Reign(4), SdsId()}));
}

TEST(MapCache, AReignNeverGoesBack) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(1)), MapCache::Outcome::kApplied);
  proto::MapUpdate update = Next(map);
  proto::SliceRoute* route = update.add_slices();
  route->set_slice(500);
  route->set_reign(3);
  route->set_sds(12);
  ASSERT_EQ(map.Apply(update), MapCache::Outcome::kApplied);
  EXPECT_EQ(map.RouteOf(SliceId(500)), (Route{Reign(4), SdsId(11)}));
}

TEST(MapCache, ImpossibleValuesAreRefusedWhole) {
  MapCache map;
  proto::MapUpdate update = Full(1);
  update.mutable_pools(0)->set_slice_count(12);
  EXPECT_EQ(map.Apply(update), MapCache::Outcome::kMalformed);
  EXPECT_FALSE(map.ready());
  update = Full(1);
  update.mutable_volumes(0)->set_size_bytes(UINT64_MAX);
  EXPECT_EQ(map.Apply(update), MapCache::Outcome::kMalformed);
  EXPECT_FALSE(map.error().empty());
}

TEST(MapCache, MappingsMakeVolumesReadOnlyAndWritableAgain) {
  MapCache map;
  ASSERT_EQ(map.Apply(Full(1)), MapCache::Outcome::kApplied);
  EXPECT_FALSE(map.FindVolume("vol")->read_only);
  for (bool read_only : {true, false}) {
    proto::MapUpdate update = Next(map);
    proto::Mapping* mapping = update.add_mappings();
    mapping->set_volume(100);
    mapping->set_read_only(read_only);
    ASSERT_EQ(map.Apply(update), MapCache::Outcome::kApplied);
    EXPECT_EQ(map.FindVolume("vol")->read_only, read_only);
  }
}

}  // namespace
}  // namespace gabion::sdc
