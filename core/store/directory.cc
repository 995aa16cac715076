#include "core/store/directory.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::store {

namespace {

// Memory of a leaf comes in steps: a few bytes more now and then, instead of twice as many.
constexpr size_t kCapacityStep = 128;
// Of a leaf besides its bytes: its place in the vector and in the order, and what malloc adds.
constexpr size_t kLeafOverheadBytes = 128;
constexpr size_t kJoinedBytesMax = Directory::kLeafBytesMax / 8 * 7;

LeafReader Walk(std::span<const std::byte> bytes) { return LeafReader(bytes); }

}  // namespace

void Directory::Reset(const Geometry& geometry, uint64_t log_key) {
  *this = Directory();
  table_.Reset({.maps_offset = geometry.leaf_maps_offset(),
                .blocks_offset = geometry.leaves_offset(),
                .blocks = geometry.leaves(),
                .map_magic = kLeafMapMagic,
                .block_magic = kLeafMagic,
                .log_key = log_key});
  free_.Reset(geometry.leaves());
  for (uint32_t number = 0; number < geometry.leaves(); ++number) free_.insert(number);
}

Directory::Order::const_iterator Directory::LeafOf(const DirectoryKey& key) const {
  auto leaf = order_.upper_bound(key);
  if (leaf != order_.begin()) --leaf;
  return leaf;
}

bool Directory::Find(const DirectoryKey& key, PlacedChunk* chunk) const {
  *chunk = {};
  const auto leaf = LeafOf(key);
  if (leaf == order_.end()) return false;
  LeafReader reader = Walk(leaves_[leaf->second]);
  while (reader.Next()) {
    if (reader.key() < key) continue;
    if (reader.key() != key) return false;
    CHECK(reader.Decode(chunk));
    return true;
  }
  CHECK(reader.ok());
  return false;
}

void Directory::Touch(uint32_t number) {
  if (table_.awaits_writing(number) && !PLANTED_BUG("S8-leaf-changes-after-the-cut")) {
    frozen_.try_emplace(number, leaves_[number]);
  }
  table_.MarkDirty(number);
}

void Directory::SetBytes(uint32_t number, std::span<const std::byte> bytes) {
  Bytes& leaf = leaves_[number];
  bytes_ -= leaf.capacity();
  Bytes exact;
  if (!bytes.empty()) exact.reserve(RoundUp(bytes.size(), kCapacityStep));
  exact.assign(bytes.begin(), bytes.end());
  leaf = std::move(exact);
  bytes_ += leaf.capacity();
}

void Directory::Splice(uint32_t number, size_t begin, size_t end) {
  Bytes& leaf = leaves_[number];
  const size_t old_size = leaf.size();
  const size_t size = old_size - (end - begin) + scratch_.size();
  if (size > leaf.capacity() || size + 4 * kCapacityStep < leaf.capacity()) {
    Bytes exact;
    exact.reserve(RoundUp(size, kCapacityStep));
    const auto at = [&leaf](size_t offset) {
      return leaf.begin() + static_cast<ptrdiff_t>(offset);
    };
    exact.insert(exact.end(), leaf.begin(), at(begin));
    exact.insert(exact.end(), scratch_.begin(), scratch_.end());
    exact.insert(exact.end(), at(end), leaf.end());
    bytes_ -= leaf.capacity();
    leaf = std::move(exact);
    bytes_ += leaf.capacity();
    return;
  }
  if (size > old_size) leaf.resize(size);
  std::memmove(leaf.data() + begin + scratch_.size(), leaf.data() + end, old_size - end);
  leaf.resize(size);
  std::ranges::copy(scratch_, leaf.data() + begin);
}

void Directory::Put(const DirectoryKey& key, const PlacedChunk& chunk) {
  auto leaf = LeafOf(key);
  if (leaf == order_.end()) {
    if (chunk.extents == 0) return;
    const uint32_t number = free_.TakeFirst();
    if (leaves_.size() <= number) leaves_.resize(size_t{number} + 1);
    leaf = order_.emplace(key, number).first;
  }
  if (key < leaf->first) {  // it is the first leaf
    if (chunk.extents == 0) return;
    const uint32_t first = leaf->second;
    order_.erase(leaf);
    leaf = order_.emplace(key, first).first;
  }
  const uint32_t number = leaf->second;
  const Bytes& bytes = leaves_[number];
  LeafReader reader = Walk(bytes);
  DirectoryKey previous;
  bool is_first = true;
  bool at_end = true;
  while (reader.Next()) {
    if (reader.key() >= key) {
      at_end = false;
      break;
    }
    previous = reader.key();
    is_first = false;
  }
  CHECK(reader.ok());
  const size_t begin = at_end ? bytes.size() : reader.begin();
  size_t end = begin;
  const bool replaces = !at_end && reader.key() == key;
  if (replaces) {
    end = reader.end();
    at_end = !reader.Next();
    CHECK(reader.ok());
  } else if (chunk.extents == 0) {
    return;
  }
  Touch(number);
  scratch_.clear();
  if (chunk.extents != 0) {
    AppendKey(is_first ? nullptr : &previous, key, &scratch_);
    AppendBody(chunk, &scratch_);
    previous = key;
    is_first = false;
  }
  // The key that follows is told by the one before it.
  if (!at_end) {
    AppendKey(is_first ? nullptr : &previous, reader.key(), &scratch_);
    end = reader.body();
  }
  Splice(number, begin, end);
  if (bytes.size() > kLeafBytesMax) {
    Split(leaf);
  } else if (replaces && bytes.size() < kLeafBytesMax / 2) {
    Merge(leaf);
  }
}

void Directory::Split(Order::const_iterator leaf) {
  const uint32_t number = leaf->second;
  const Bytes bytes = leaves_[number];
  // Where chunks come in ascending order, full leaves stay behind; else each half has room.
  const bool is_last = std::next(leaf) == order_.end();
  const size_t at = is_last ? kLeafBytesMax * 9 / 10 : bytes.size() / 2;
  LeafReader reader = Walk(bytes);
  while (reader.Next() && reader.begin() < at && reader.end() < kLeafBytesMax) {
  }
  CHECK(reader.ok() && reader.begin() > 0 && reader.begin() < bytes.size());
  const uint32_t right = free_.TakeFirst();
  if (leaves_.size() <= right) leaves_.resize(size_t{right} + 1);
  scratch_.clear();
  AppendKey(nullptr, reader.key(), &scratch_);
  const auto rest = std::span(bytes).subspan(reader.body());
  scratch_.insert(scratch_.end(), rest.begin(), rest.end());
  Touch(right);
  SetBytes(right, scratch_);
  SetBytes(number, std::span(bytes).first(reader.begin()));
  order_.emplace(reader.key(), right);
}

void Directory::Merge(Order::const_iterator leaf) {
  const size_t bytes = leaves_[leaf->second].size();
  if (bytes == 0) {
    RemoveLeaf(leaf);
    return;
  }
  if (bytes >= kLeafBytesMax / 2) return;
  const auto fits = [&](Order::const_iterator other) {
    return leaves_[other->second].size() + bytes <= kJoinedBytesMax;
  };
  const auto next = std::next(leaf);
  if (next != order_.end() && fits(next)) {
    Join(leaf, next);
  } else if (leaf != order_.begin() && fits(std::prev(leaf))) {
    Join(std::prev(leaf), leaf);
  }
}

void Directory::Join(Order::const_iterator left, Order::const_iterator right) {
  LeafReader last = Walk(leaves_[left->second]);
  while (last.Next()) {
  }
  CHECK(last.ok());
  const DirectoryKey previous = last.key();
  const Bytes& from = leaves_[right->second];
  LeafReader first = Walk(from);
  CHECK(first.Next());
  scratch_.clear();
  AppendKey(&previous, first.key(), &scratch_);
  const auto rest = std::span(from).subspan(first.body());
  scratch_.insert(scratch_.end(), rest.begin(), rest.end());
  Touch(left->second);
  const size_t end = leaves_[left->second].size();
  Splice(left->second, end, end);
  CHECK_LE(leaves_[left->second].size(), kLeafBytesMax);
  RemoveLeaf(right);
}

void Directory::RemoveLeaf(Order::const_iterator leaf) {
  const uint32_t number = leaf->second;
  Touch(number);
  SetBytes(number, {});
  free_.insert(number);
  order_.erase(leaf);
}

void Directory::EraseSlice(SliceId slice, absl::FunctionRef<void(uint32_t place)> visit) {
  const DirectoryKey first{slice, {}};
  auto leaf = LeafOf(first);
  std::vector<DirectoryKey> emptied;
  std::optional<DirectoryKey> remaining;
  for (; leaf != order_.end() && leaf->first.slice <= slice; ++leaf) {
    const uint32_t number = leaf->second;
    const Bytes& bytes = leaves_[number];
    LeafReader reader = Walk(bytes);
    DirectoryKey previous;
    bool is_first = true;
    size_t begin = bytes.size();
    size_t end = begin;
    bool at_end = true;
    while (reader.Next()) {
      if (reader.key().slice > slice) {
        at_end = false;
        break;
      }
      if (reader.key().slice < slice) {
        previous = reader.key();
        is_first = false;
        continue;
      }
      begin = std::min(begin, reader.begin());
      PlacedChunk chunk;
      CHECK(reader.Decode(&chunk));
      for (const PlacedExtent& each : chunk.extent) {
        if (each.place != kNoPlace) visit(each.place);
      }
    }
    CHECK(reader.ok());
    if (begin == bytes.size()) continue;  // nothing of it is in this leaf
    Touch(number);
    scratch_.clear();
    if (!at_end) {
      AppendKey(is_first ? nullptr : &previous, reader.key(), &scratch_);
      end = reader.body();
    }
    Splice(number, begin, end);
    if (bytes.empty()) {
      emptied.push_back(leaf->first);
    } else {
      remaining = leaf->first;
    }
  }
  for (const DirectoryKey& key : emptied) RemoveLeaf(order_.find(key));
  if (remaining) Merge(order_.find(*remaining));
}

// ---- Cursor

Directory::Cursor Directory::From(const DirectoryKey& key) const {
  Cursor cursor;
  cursor.directory_ = this;
  cursor.leaf_ = LeafOf(key);
  if (cursor.leaf_ == order_.end()) return cursor;
  cursor.reader_ = Walk(leaves_[cursor.leaf_->second]);
  do cursor.Next();
  while (cursor.valid_ && cursor.key() < key);
  return cursor;
}

void Directory::Cursor::Next() {
  while (!reader_.Next()) {
    CHECK(reader_.ok());
    ++leaf_;
    valid_ = leaf_ != directory_->order_.end();
    if (!valid_) return;
    reader_ = Walk(directory_->leaves_[leaf_->second]);
  }
  valid_ = true;
}

PlacedChunk Directory::Cursor::chunk() const {
  PlacedChunk chunk;
  CHECK(reader_.Decode(&chunk));
  return chunk;
}

// ---- Checkpoint

void Directory::BeginCheckpoint(uint64_t checkpoint_number) {
  CHECK(frozen_.empty());
  table_.BeginCheckpoint(checkpoint_number);
}

std::optional<uint64_t> Directory::NextToWrite(std::span<std::byte> block) {
  return table_.NextToWrite(block, [this](uint32_t number, std::span<std::byte> content) {
    Bytes was;
    const auto found = frozen_.find(number);
    const bool has_changed = found != frozen_.end();
    if (has_changed) {
      was = std::move(found->second);
      frozen_.erase(found);
    }
    const Bytes& bytes = has_changed ? was : leaves_[number];
    if (bytes.empty()) return false;
    std::memset(content.data(), 0, content.size());
    StoreLe(content.data(), static_cast<uint32_t>(bytes.size()));
    std::memcpy(content.data() + sizeof(uint32_t), bytes.data(), bytes.size());
    return true;
  });
}

// ---- Recovery

std::optional<SlotTable::Range> Directory::NextRead() {
  if (const auto maps = table_.NextMaps()) return maps;
  reading_leaves_ = true;
  return table_.NextBlocks();
}

bool Directory::OnRead(const SlotTable::Range& range, std::span<const std::byte> bytes) {
  if (!reading_leaves_) return table_.OnMaps(range, bytes);
  return table_.OnBlocks(range, bytes, [this](uint32_t number, std::span<const std::byte> content) {
    const auto length = LoadLe<uint32_t>(content.data());
    if (length == 0 || length > kLeafBytesMax) return false;
    const auto leaf = content.subspan(sizeof(uint32_t), length);
    LeafReader reader = Walk(leaf);
    if (!reader.Next()) return false;
    if (!order_.emplace(reader.key(), number).second) return false;
    PlacedChunk chunk;
    do {
      if (!reader.Decode(&chunk)) return false;
    } while (reader.Next());
    if (!reader.ok()) return false;
    if (leaves_.size() <= number) leaves_.resize(size_t{number} + 1);
    SetBytes(number, leaf);
    free_.erase(number);
    return true;
  });
}

bool Directory::FinishRead() {
  for (auto leaf = order_.begin(); leaf != order_.end(); ++leaf) {
    const auto next = std::next(leaf);
    if (next == order_.end()) break;
    LeafReader reader = Walk(leaves_[leaf->second]);
    while (reader.Next()) {
      if (reader.key() >= next->first) return false;
    }
  }
  return true;
}

size_t Directory::memory_bytes() const {
  return bytes_ + order_.size() * kLeafOverheadBytes + table_.memory_bytes();
}

void Directory::Check() const {
  size_t capacity = 0;
  for (auto leaf = order_.begin(); leaf != order_.end(); ++leaf) {
    const Bytes& bytes = leaves_[leaf->second];
    CHECK(!bytes.empty() && bytes.size() <= kLeafBytesMax);
    CHECK(!free_.contains(leaf->second));
    capacity += bytes.capacity();
    LeafReader reader = Walk(bytes);
    bool is_first = true;
    const auto next = std::next(leaf);
    while (reader.Next()) {
      CHECK(!is_first || reader.key() >= leaf->first);
      CHECK(next == order_.end() || reader.key() < next->first);
      PlacedChunk chunk;
      CHECK(reader.Decode(&chunk));
      is_first = false;
    }
    CHECK(reader.ok());
  }
  CHECK_EQ(capacity, bytes_);
}

}  // namespace gabion::store
