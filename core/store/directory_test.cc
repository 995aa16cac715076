#include "core/store/directory.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "core/base/random.h"

namespace gabion::store {
namespace {

using Model = std::map<DirectoryKey, PlacedChunk>;
using Bytes = std::vector<std::byte>;
using Blocks = std::map<uint64_t, Bytes>;

constexpr Geometry kGeometry{
    .device_bytes = uint64_t{8} << 30,
    .area_bytes = 1 << 20,
    .log_bytes = 4 << 20,
    .extents_total = 64 * 1024,
};

PlacedChunk DrawChunk(RandomStream& random) {
  PlacedChunk chunk;
  chunk.born = Epoch(random.Below(random.Chance(1, 8) ? UINT64_MAX : 300));
  const bool same = random.Chance(1, 2);
  const bool full = random.Chance(1, 2);
  const auto extents =
      static_cast<uint16_t>(random.Chance(1, 2) ? 1u << random.Below(16) : random.Range(1, 0xffff));
  for (uint32_t i = 0; i < kExtentsPerChunk; ++i) {
    if ((extents >> i & 1u) == 0) continue;
    const uint64_t place = random.Chance(1, 8) ? random.Below(kNoPlace) : random.Below(2000);
    chunk.Set(i, {.place = static_cast<uint32_t>(place),
                  .present = static_cast<uint16_t>(full ? 0xffff : random.Range(1, 0xffff)),
                  .modified = same ? chunk.born : Epoch(random.Below(1000))});
  }
  return chunk;
}

DirectoryKey DrawKey(RandomStream& random) {
  DirectoryKey key;
  key.slice = SliceId(random.Range(1, 4));
  key.chunk.vtree = VtreeId(random.Chance(1, 20) ? UINT64_MAX : random.Range(1, 2));
  key.chunk.version = VolumeVersion(random.Below(2));
  key.chunk.chunk = static_cast<uint32_t>(random.Below(random.Chance(1, 10) ? UINT32_MAX : 3000));
  return key;
}

Model Content(const Directory& directory) {
  Model model;
  for (Directory::Cursor it = directory.From({}); it.valid(); it.Next()) {
    EXPECT_TRUE(model.emplace(it.key(), it.chunk()).second);
  }
  return model;
}

void Change(Directory& directory, Model& model, RandomStream& random) {
  // Runs of one kind make leaves split, and merge again.
  const bool grows = random.Chance(1, 2);
  for (uint64_t i = random.Range(1, 400); i > 0; --i) {
    DirectoryKey key = DrawKey(random);
    if (!model.empty() && random.Chance(1, 2)) {
      if (const auto found = model.lower_bound(key); found != model.end()) key = found->first;
    }
    if (random.Chance(grows ? 4 : 1, 5)) {
      const PlacedChunk chunk = DrawChunk(random);
      directory.Put(key, chunk);
      model[key] = chunk;
    } else {
      directory.Put(key, {});
      model.erase(key);
    }
  }
  if (!random.Chance(1, 10)) return;
  const SliceId slice(random.Range(1, 4));
  std::multiset<uint32_t> places;
  std::multiset<uint32_t> expected;
  for (auto it = model.begin(); it != model.end();) {
    if (it->first.slice != slice) {
      ++it;
      continue;
    }
    for (const PlacedExtent& each : it->second.extent) {
      if (each.place != kNoPlace) expected.insert(each.place);
    }
    it = model.erase(it);
  }
  directory.EraseSlice(slice, [&places](uint32_t place) { places.insert(place); });
  ASSERT_EQ(places, expected);
}

// A checkpoint; `during` is called when some of its blocks have been written.
Bytes Write(
    Directory& directory, uint64_t number, Blocks& blocks,
    const std::function<void()>& during = [] {}) {
  directory.BeginCheckpoint(number);
  Bytes block(kBlockBytes);
  for (int i = 0;; ++i) {
    if (i == 3) during();
    const std::optional<uint64_t> offset = directory.NextToWrite(block);
    if (!offset) break;
    blocks[*offset] = block;
  }
  Bytes root;
  ByteWriter writer(&root);
  directory.EncodeRoot(writer);
  return root;
}

bool Read(const Bytes& root, const Blocks& blocks, Directory& directory) {
  directory.Reset(kGeometry, 7);
  ByteReader reader(root);
  if (!directory.DecodeRoot(reader)) return false;
  while (const std::optional<SlotTable::Range> range = directory.NextRead()) {
    Bytes bytes(range->length_bytes);
    for (auto it = blocks.lower_bound(range->offset_bytes);
         it != blocks.end() && it->first < range->offset_bytes + range->length_bytes; ++it) {
      std::copy(it->second.begin(), it->second.end(),
                bytes.begin() + static_cast<ptrdiff_t>(it->first - range->offset_bytes));
    }
    if (!directory.OnRead(*range, bytes)) return false;
  }
  return directory.FinishRead();
}

void ExpectSame(const Directory& directory, const Model& model, RandomStream& random) {
  directory.Check();
  ASSERT_EQ(Content(directory), model);
  for (int i = 0; i < 20; ++i) {
    const DirectoryKey key = DrawKey(random);
    const auto expected = model.lower_bound(key);
    const Directory::Cursor cursor = directory.From(key);
    ASSERT_EQ(cursor.valid(), expected != model.end());
    if (!cursor.valid()) continue;
    EXPECT_EQ(cursor.key(), expected->first);
    PlacedChunk chunk;
    EXPECT_EQ(directory.Find(key, &chunk), expected->first == key);
    EXPECT_TRUE(directory.Find(expected->first, &chunk));
    EXPECT_EQ(chunk, expected->second);
  }
}

RC_GTEST_PROP(Directory, IsAsAMap, (uint64_t seed)) {
  RandomStream random(seed, 0, 0);
  Directory directory;
  directory.Reset(kGeometry, 7);
  Model model;
  Blocks blocks;
  for (uint64_t number = 2; number < 20; ++number) {
    Change(directory, model, random);
    ExpectSame(directory, model, random);
    const Model at_cut = model;
    const bool changes = random.Chance(1, 2);
    const Bytes root = Write(directory, number, blocks, [&] {
      if (changes) Change(directory, model, random);
    });
    EXPECT_EQ(root.size(), directory.root_bytes());
    ExpectSame(directory, model, random);
    Directory read;
    ASSERT_TRUE(Read(root, blocks, read));
    ExpectSame(read, at_cut, random);
    EXPECT_EQ(read.leaves_free() + read.leaves(), kGeometry.leaves());
    // It goes on from what was read, as after a crash.
    if (random.Chance(1, 3)) {
      directory = std::move(read);
      model = at_cut;
    }
  }
}

// Leaves that are no leaves, as a forged checksum may let them through.
RC_GTEST_PROP(Directory, BytesThatAreNoLeafAreRefusedOrReadAsOne, (uint64_t seed)) {
  RandomStream random(seed, 1, 0);
  Bytes leaf;
  DirectoryKey previous;
  for (uint32_t i = 0; i < 20; ++i) {
    DirectoryKey key = previous;
    key.slice = SliceId(1 + i / 7);
    key.chunk.chunk = i * 3;
    AppendKey(i == 0 ? nullptr : &previous, key, &leaf);
    AppendBody(DrawChunk(random), &leaf);
    previous = key;
  }
  for (uint64_t i = random.Range(1, 4); i > 0; --i) {
    leaf[random.Below(leaf.size())] = static_cast<std::byte>(random.Below(256));
  }
  if (random.Chance(1, 4)) leaf.resize(random.Below(leaf.size()));
  LeafReader reader(leaf);
  DirectoryKey last;
  bool is_first = true;
  size_t steps = 0;
  while (reader.Next()) {
    ASSERT_LE(++steps, leaf.size());
    EXPECT_TRUE(is_first || last < reader.key());
    last = reader.key();
    is_first = false;
    PlacedChunk chunk;
    if (!reader.Decode(&chunk)) continue;
    EXPECT_NE(chunk.extents, 0);
    for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
      const bool is_placed = (chunk.extents >> extent & 1u) != 0;
      EXPECT_EQ(chunk.extent[extent].place != kNoPlace, is_placed);
      EXPECT_EQ(chunk.extent[extent].present != 0, is_placed);
    }
  }
}

// A directory with two leaves, which hold these chunks.
bool Opens(const std::vector<std::vector<uint32_t>>& leaves) {
  SlotTable table;
  table.Reset({.maps_offset = kGeometry.leaf_maps_offset(),
               .blocks_offset = kGeometry.leaves_offset(),
               .blocks = kGeometry.leaves()});
  for (uint32_t number = 0; number < leaves.size(); ++number) table.MarkDirty(number);
  table.BeginCheckpoint(2);
  Blocks blocks;
  Bytes block(kBlockBytes);
  const auto encode = [&leaves](uint32_t number, std::span<std::byte> content) {
    Bytes leaf;
    std::optional<DirectoryKey> previous;
    for (const uint32_t chunk : leaves[number]) {
      const DirectoryKey key{SliceId(1), {VtreeId(1), VolumeVersion(0), chunk}};
      PlacedChunk placed;
      placed.Set(0, {.place = chunk, .present = 1, .modified = Epoch(1)});
      AppendKey(previous ? &*previous : nullptr, key, &leaf);
      AppendBody(placed, &leaf);
      previous = key;
    }
    StoreLe(content.data(), static_cast<uint32_t>(leaf.size()));
    std::copy(leaf.begin(), leaf.end(), content.begin() + sizeof(uint32_t));
    return true;
  };
  while (const std::optional<uint64_t> offset = table.NextToWrite(block, encode)) {
    blocks[*offset] = block;
  }
  Bytes root;
  ByteWriter writer(&root);
  table.EncodeRoot(writer);
  Directory directory;
  return Read(root, blocks, directory);
}

TEST(Directory, TwoLeavesThatOverlapAreNoDirectory) {
  EXPECT_TRUE(Opens({{0, 10}, {11, 20}}));
  EXPECT_TRUE(Opens({{11, 20}, {0, 10}}));
  EXPECT_FALSE(Opens({{0, 10}, {10, 20}}));
  EXPECT_FALSE(Opens({{5, 20}, {0, 10}}));
  EXPECT_FALSE(Opens({{0, 10}, {0, 20}}));
  EXPECT_FALSE(Opens({{0}, {}}));
}

// The example of docs/store-format.md.
TEST(DirectoryLeaf, BytesAreAsTheFormatSays) {
  const DirectoryKey five{SliceId(77), {VtreeId(9), VolumeVersion(0), 5}};
  const DirectoryKey eight{SliceId(77), {VtreeId(9), VolumeVersion(0), 8}};
  PlacedChunk one;
  one.born = Epoch(3);
  one.Set(1, {.place = 1000, .present = 4, .modified = Epoch(3)});
  PlacedChunk two;
  two.born = Epoch(3);
  two.Set(0, {.place = 40, .present = 0xffff, .modified = Epoch(3)});
  two.Set(1, {.place = 41, .present = 0xffff, .modified = Epoch(3)});
  Bytes leaf;
  AppendKey(nullptr, five, &leaf);
  AppendBody(one, &leaf);
  AppendKey(&five, eight, &leaf);
  AppendBody(two, &leaf);
  const uint8_t expected[] = {0x01, 0x4d, 0x09, 0x00, 0x05, 0x06, 0x1d, 0x03, 0xd0, 0x0f,
                              0x04, 0x00, 0x06, 0x06, 0x0e, 0x03, 0x00, 0x03, 0x50, 0x00};
  ASSERT_EQ(leaf.size(), std::size(expected));
  for (size_t i = 0; i < leaf.size(); ++i) {
    EXPECT_EQ(static_cast<uint8_t>(leaf[i]), expected[i]) << "byte " << i;
  }
  LeafReader reader(leaf);
  PlacedChunk chunk;
  ASSERT_TRUE(reader.Next() && reader.Decode(&chunk));
  EXPECT_EQ(chunk, one);
  ASSERT_TRUE(reader.Next() && reader.Decode(&chunk));
  EXPECT_EQ(reader.key(), eight);
  EXPECT_EQ(chunk, two);
  EXPECT_FALSE(reader.Next());
  EXPECT_TRUE(reader.ok());
}

// Worked figures of docs/store.md.
TEST(Directory, TakesFewBytesForAnExtent) {
  constexpr uint32_t kCount = 60'000;
  RandomStream random(5, 0, 0);
  Directory single;
  single.Reset(kGeometry, 7);
  std::set<uint32_t> chunks;
  while (chunks.size() < kCount) chunks.insert(static_cast<uint32_t>(random.Below(1'000'000)));
  std::vector<uint32_t> order(chunks.begin(), chunks.end());
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  for (const uint32_t each : order) {
    PlacedChunk one;
    one.born = Epoch(300);
    one.Set(static_cast<uint32_t>(random.Below(16)),
            {.place = static_cast<uint32_t>(random.Below(16'000'000)),
             .present = static_cast<uint16_t>(1u << random.Below(16)),
             .modified = Epoch(300)});
    single.Put({SliceId(77), {VtreeId(5000), VolumeVersion(3), each}}, one);
  }
  EXPECT_LE(single.memory_bytes(), kCount * 13u + kGeometry.leaves() * 8u);
  EXPECT_GE(single.leaves_free(), kGeometry.leaves() / 2);

  Directory full;
  full.Reset(kGeometry, 7);
  uint32_t place = 0;
  for (uint32_t i = 0; i < kCount / 16; ++i) {
    PlacedChunk all;
    all.born = Epoch(300);
    for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
      all.Set(extent, {.place = place++, .present = 0xffff, .modified = Epoch(300)});
    }
    full.Put({SliceId(77), {VtreeId(5000), VolumeVersion(3), i}}, all);
  }
  EXPECT_LE(full.memory_bytes(), kCount * 2u + kGeometry.leaves() * 8u);
}

}  // namespace
}  // namespace gabion::store
