#include "core/store/directory_leaf.h"

#include <bit>

#include "core/base/bytes.h"
#include "core/base/check.h"

namespace gabion::store {

namespace {

constexpr uint8_t kSingle = 1;          // one extent, its number in the upper half
constexpr uint8_t kFull = 2;            // every block of every extent has data
constexpr uint8_t kSameModified = 4;    // one epoch for all extents
constexpr uint8_t kModifiedAsBorn = 8;  // and it is the chunk's
constexpr uint8_t kFlags = 15;
constexpr uint16_t kAllPresent = 0xffff;
static_assert(kExtentsPerChunk == 16 && kBlocksPerExtent == 16);

// Seven bits a byte, low ones first.
void AppendNumber(uint64_t value, std::vector<std::byte>* to) {
  for (; value >= 0x80; value >>= 7) to->push_back(static_cast<std::byte>(value | 0x80));
  to->push_back(static_cast<std::byte>(value));
}

struct Numbers {
  std::span<const std::byte> bytes;
  size_t at = 0;
  bool ok = true;

  uint8_t Byte() {
    if (at >= bytes.size()) {
      ok = false;
      return 0;
    }
    return static_cast<uint8_t>(bytes[at++]);
  }
  uint64_t Number() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    ok = false;
    return 0;
  }
  uint16_t U16() {
    const uint8_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }
};

void AppendU16(uint16_t value, std::vector<std::byte>* to) {
  to->push_back(static_cast<std::byte>(value));
  to->push_back(static_cast<std::byte>(value >> 8));
}

// Differences of places are small whatever their sign.
uint64_t Fold(int64_t value) {
  return static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63);
}
int64_t Unfold(uint64_t value) { return static_cast<int64_t>(value >> 1 ^ (0 - (value & 1))); }

template <class Visit>
void ForEachBit(uint16_t bits, Visit visit) {
  for (uint32_t left = bits; left != 0; left &= left - 1) {
    visit(static_cast<uint32_t>(std::countr_zero(left)));
  }
}

}  // namespace

void PlacedChunk::Set(uint32_t number, const PlacedExtent& placed) {
  CHECK(placed.place != kNoPlace && placed.present != 0);
  extent[number] = placed;
  extents |= static_cast<uint16_t>(1u << number);
}

void PlacedChunk::Clear(uint32_t number) {
  extent[number] = {};
  extents &= static_cast<uint16_t>(~(1u << number));
}

// Keys of one slice, V-tree and version differ in their chunk only: an even number, twice the
// difference. An odd one comes before a whole key.
void AppendKey(const DirectoryKey* previous, const DirectoryKey& key, std::vector<std::byte>* to) {
  CHECK(previous == nullptr || *previous < key);
  if (previous != nullptr && previous->slice == key.slice &&
      previous->chunk.vtree == key.chunk.vtree && previous->chunk.version == key.chunk.version) {
    AppendNumber(uint64_t{key.chunk.chunk - previous->chunk.chunk} << 1, to);
    return;
  }
  AppendNumber(1, to);
  AppendNumber(key.slice.value(), to);
  AppendNumber(key.chunk.vtree.value(), to);
  AppendNumber(key.chunk.version.value(), to);
  AppendNumber(key.chunk.chunk, to);
}

void AppendBody(const PlacedChunk& chunk, std::vector<std::byte>* to) {
  CHECK(chunk.extents != 0);
  const auto first = static_cast<uint32_t>(std::countr_zero(chunk.extents));
  uint8_t flags = kFull | kSameModified | kModifiedAsBorn;
  ForEachBit(chunk.extents, [&](uint32_t i) {
    const PlacedExtent& each = chunk.extent[i];
    if (each.present != kAllPresent) flags &= static_cast<uint8_t>(~kFull);
    if (each.modified != chunk.extent[first].modified) {
      flags &= static_cast<uint8_t>(~(kSameModified | kModifiedAsBorn));
    }
    if (each.modified != chunk.born) flags &= static_cast<uint8_t>(~kModifiedAsBorn);
  });
  if (std::has_single_bit(chunk.extents)) flags |= static_cast<uint8_t>(kSingle | first << 4);

  // Its length comes first, in one byte or two, so that a search need not look into it.
  const size_t start = to->size();
  to->push_back(static_cast<std::byte>(flags));
  if ((flags & kSingle) == 0) AppendU16(chunk.extents, to);
  AppendNumber(chunk.born.value(), to);
  if ((flags & kModifiedAsBorn) == 0 && (flags & kSameModified) != 0) {
    AppendNumber(chunk.extent[first].modified.value(), to);
  }
  int64_t expected = 0;
  ForEachBit(chunk.extents, [&](uint32_t i) {
    const PlacedExtent& each = chunk.extent[i];
    AppendNumber(Fold(int64_t{each.place} - expected), to);
    expected = int64_t{each.place} + 1;
    if ((flags & kFull) == 0) AppendU16(each.present, to);
    if ((flags & kSameModified) == 0) AppendNumber(each.modified.value(), to);
  });
  const size_t length = to->size() - start;
  std::array<std::byte, 2> prefix{static_cast<std::byte>(length), static_cast<std::byte>(0)};
  size_t prefix_bytes = 1;
  if (length >= 0x80) {
    prefix = {static_cast<std::byte>(length | 0x80), static_cast<std::byte>(length >> 7)};
    prefix_bytes = 2;
  }
  to->insert(to->begin() + static_cast<ptrdiff_t>(start), prefix.begin(),
             prefix.begin() + static_cast<ptrdiff_t>(prefix_bytes));
}

bool LeafReader::Fail() {
  ok_ = false;
  end_ = bytes_.size();
  return false;
}

bool LeafReader::Next() {
  const bool is_first = end_ == 0;
  begin_ = end_;
  if (begin_ >= bytes_.size()) return false;
  if (bytes_.size() - begin_ >= 2 && !is_first) {
    // As nearly all are: a small step, a short body.
    const auto small_step = static_cast<uint8_t>(bytes_[begin_]);
    const auto short_length = static_cast<uint8_t>(bytes_[begin_ + 1]);
    const bool is_small = (small_step & 0x81) == 0 && small_step != 0 && short_length < 0x80;
    const uint32_t chunk = key_.chunk.chunk + (small_step >> 1);
    const size_t end = begin_ + 2 + short_length;
    if (is_small && short_length != 0 && chunk > key_.chunk.chunk && end <= bytes_.size()) {
      key_.chunk.chunk = chunk;
      body_ = begin_ + 1;
      end_ = end;
      return true;
    }
  }
  Numbers numbers{.bytes = bytes_, .at = begin_};
  const uint64_t step = numbers.Number();
  if ((step & 1) == 0) {
    const uint64_t chunk = key_.chunk.chunk + (step >> 1);
    if (is_first || step == 0 || chunk > UINT32_MAX) return Fail();
    key_.chunk.chunk = static_cast<uint32_t>(chunk);
  } else {
    if (step != 1) return Fail();
    DirectoryKey key;
    key.slice = SliceId(numbers.Number());
    key.chunk.vtree = VtreeId(numbers.Number());
    key.chunk.version = VolumeVersion(numbers.Number());
    const uint64_t chunk = numbers.Number();
    if (chunk > UINT32_MAX) return Fail();
    key.chunk.chunk = static_cast<uint32_t>(chunk);
    if (!is_first && key <= key_) return Fail();
    key_ = key;
  }
  body_ = numbers.at;
  const uint64_t length = numbers.Number();
  if (!numbers.ok || length == 0 || length > bytes_.size() - numbers.at) return Fail();
  end_ = numbers.at + length;
  return true;
}

bool LeafReader::Decode(PlacedChunk* chunk) const {
  Numbers numbers{.bytes = bytes_.first(end_), .at = body_};
  numbers.Number();  // the length
  *chunk = {};
  const uint8_t flags = numbers.Byte();
  uint16_t extents = 0;
  if ((flags & kSingle) != 0) {
    extents = static_cast<uint16_t>(1u << (flags >> 4));
  } else {
    if (flags > kFlags) return false;
    extents = numbers.U16();
    if (extents == 0) return false;
  }
  chunk->born = Epoch(numbers.Number());
  Epoch modified = chunk->born;
  if ((flags & kModifiedAsBorn) == 0 && (flags & kSameModified) != 0) {
    modified = Epoch(numbers.Number());
  }
  int64_t expected = 0;
  bool good = true;
  ForEachBit(extents, [&](uint32_t i) {
    const uint64_t folded = numbers.Number();
    // No sum of these can overflow.
    const int64_t place = folded <= uint64_t{1} << 34 ? expected + Unfold(folded) : -1;
    PlacedExtent each{
        .place = static_cast<uint32_t>(place), .present = kAllPresent, .modified = modified};
    if ((flags & kFull) == 0) each.present = numbers.U16();
    if ((flags & kSameModified) == 0) each.modified = Epoch(numbers.Number());
    if (place < 0 || place >= kNoPlace || each.present == 0 || !numbers.ok) {
      good = false;
      return;
    }
    expected = place + 1;
    chunk->Set(i, each);
  });
  return good && numbers.ok && numbers.at == end_;
}

}  // namespace gabion::store
