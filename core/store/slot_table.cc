#include "core/store/slot_table.h"

#include <algorithm>
#include <cstring>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

uint64_t SlotOffset(uint64_t region_offset, uint32_t number, SlotTable::Slot slot) {
  const uint64_t second = slot == SlotTable::Slot::kSecond ? 1 : 0;
  return region_offset + (uint64_t{number} * 2 + second) * kBlockBytes;
}

}  // namespace

void SlotTable::Reset(const Layout& layout) {
  *this = SlotTable();
  layout_ = layout;
  const uint32_t maps = (layout.blocks + kBlocksPerMap - 1) / kBlocksPerMap;
  references_.resize(layout.blocks);
  maps_.resize(maps);
  dirty_.Reset(layout.blocks);
  to_write_.Reset(layout.blocks);
  maps_to_write_.Reset(maps);
}

// ---- Checkpoint

void SlotTable::BeginCheckpoint(uint64_t checkpoint_number) {
  CHECK(to_write_.empty() && maps_to_write_.empty());
  checkpoint_number_ = checkpoint_number;
  to_write_.swap(dirty_);
}

uint64_t SlotTable::Give(std::span<std::byte> block, uint64_t magic, uint32_t number,
                         uint64_t region_offset, Reference& reference) {
  const TableBlockHeader header{.magic = magic,
                                .log_key = layout_.log_key,
                                .number = number,
                                .checkpoint_number = checkpoint_number_};
  std::memcpy(block.data(), &header, sizeof(header));
  bool second = reference.slot == Slot::kFirst;
  if (PLANTED_BUG("S8-page-over-the-last-one")) second = reference.slot == Slot::kSecond;
  reference.slot = second ? Slot::kSecond : Slot::kFirst;
  reference.crc = Crc32c(block);
  return SlotOffset(region_offset, number, reference.slot);
}

std::optional<uint64_t> SlotTable::NextToWrite(std::span<std::byte> block, Encode encode) {
  CHECK_EQ(block.size(), kBlockBytes);
  const std::span<std::byte> content = block.subspan(sizeof(TableBlockHeader));
  while (!to_write_.empty()) {
    const uint32_t number = to_write_.TakeFirst();
    maps_to_write_.insert(number / kBlocksPerMap);
    if (encode(number, content)) {
      return Give(block, layout_.block_magic, number, layout_.blocks_offset, references_[number]);
    }
    references_[number] = {};
  }
  if (maps_to_write_.empty()) return std::nullopt;
  const uint32_t number = maps_to_write_.TakeFirst();
  EncodeMap(number, content);
  return Give(block, layout_.map_magic, number, layout_.maps_offset, maps_[number]);
}

void SlotTable::EncodeMap(uint32_t number, std::span<std::byte> content) const {
  std::memset(content.data(), 0, content.size());
  std::byte* crc = content.data();
  std::byte* slot = crc + kBlocksPerMap * sizeof(uint32_t);
  const uint32_t first = number * kBlocksPerMap;
  const auto end = std::min<size_t>(references_.size(), size_t{first} + kBlocksPerMap);
  for (size_t i = first; i < end; ++i) {
    StoreLe(crc, references_[i].crc);
    crc += sizeof(uint32_t);
    *slot++ = static_cast<std::byte>(references_[i].slot);
  }
}

void SlotTable::EncodeRoot(ByteWriter& writer) const {
  CHECK(to_write_.empty() && maps_to_write_.empty());
  for (const Reference& map : maps_) {
    writer.U8(static_cast<uint8_t>(map.slot));
    writer.U32(map.crc);
  }
}

// ---- Single blocks

uint64_t SlotTable::OffsetOf(uint32_t number, const Reference& reference) const {
  CHECK(reference.slot != Slot::kNone);
  return SlotOffset(layout_.blocks_offset, number, reference.slot);
}

bool SlotTable::Matches(std::span<const std::byte> block, const Reference& reference) {
  return Crc32c(block) == reference.crc || PLANTED_BUG("S4-page-not-verified");
}

// ---- Recovery

bool SlotTable::DecodeRoot(ByteReader& reader) {
  for (Reference& map : maps_) {
    const uint8_t slot = reader.U8();
    map.crc = reader.U32();
    if (slot > static_cast<uint8_t>(Slot::kSecond)) return false;
    map.slot = static_cast<Slot>(slot);
  }
  return reader.ok();
}

std::optional<SlotTable::Range> SlotTable::NextUsed(const std::vector<Reference>& references,
                                                    uint32_t* next, uint64_t region_offset) {
  constexpr uint32_t kBlocksMax = kIoBytesMax / (2 * kBlockBytes);
  while (*next < references.size() && references[*next].slot == Slot::kNone) ++*next;
  if (*next == references.size()) return std::nullopt;
  const uint32_t first = *next;
  const auto end =
      static_cast<uint32_t>(std::min<size_t>(references.size(), size_t{first} + kBlocksMax));
  *next = end;
  return Range{.offset_bytes = SlotOffset(region_offset, first, Slot::kFirst),
               .length_bytes = uint64_t{end - first} * 2 * kBlockBytes};
}

bool SlotTable::ForEachRead(const Range& range, std::span<const std::byte> bytes,
                            uint64_t region_offset, const std::vector<Reference>& references,
                            Visit visit) {
  const auto first =
      static_cast<uint32_t>((range.offset_bytes - region_offset) / (uint64_t{2} * kBlockBytes));
  const auto count = static_cast<uint32_t>(range.length_bytes / (uint64_t{2} * kBlockBytes));
  for (uint32_t i = 0; i < count; ++i) {
    const Reference& reference = references[first + i];
    if (reference.slot == Slot::kNone) continue;
    const auto block = bytes.subspan(SlotOffset(0, i, reference.slot), kBlockBytes);
    if (!Matches(block, reference)) return false;
    if (!visit(first + i, block.subspan(sizeof(TableBlockHeader)))) return false;
  }
  return true;
}

bool SlotTable::OnMaps(const Range& range, std::span<const std::byte> bytes) {
  return ForEachRead(range, bytes, layout_.maps_offset, maps_,
                     [this](uint32_t number, std::span<const std::byte> content) {
                       return DecodeMap(number, content);
                     });
}

bool SlotTable::DecodeMap(uint32_t number, std::span<const std::byte> content) {
  const std::byte* crc = content.data();
  const std::byte* slot = crc + kBlocksPerMap * sizeof(uint32_t);
  const uint32_t first = number * kBlocksPerMap;
  const auto end = std::min<size_t>(references_.size(), size_t{first} + kBlocksPerMap);
  for (size_t i = first; i < end; ++i, crc += sizeof(uint32_t), ++slot) {
    if (*slot > static_cast<std::byte>(Slot::kSecond)) return false;
    references_[i] = {.crc = LoadLe<uint32_t>(crc), .slot = static_cast<Slot>(*slot)};
  }
  return true;
}

bool SlotTable::OnBlocks(const Range& range, std::span<const std::byte> bytes, Visit visit) {
  return ForEachRead(range, bytes, layout_.blocks_offset, references_, visit);
}

}  // namespace gabion::store
