#include "core/store/home_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

constexpr Home kNobody;

uint64_t SlotOffset(uint64_t region_offset, uint32_t number, bool second) {
  return region_offset + (uint64_t{number} * 2 + (second ? 1 : 0)) * kBlockBytes;
}

}  // namespace

void NumberSet::Reset(uint32_t limit) {
  words_.assign((limit + 63) / 64, 0);
  size_ = 0;
  first_word_ = 0;
}

void NumberSet::insert(uint32_t number) {
  if (contains(number)) return;
  words_[number / 64] |= uint64_t{1} << number % 64;
  first_word_ = std::min(first_word_, number / 64);
  ++size_;
}

uint32_t NumberSet::TakeFirst() {
  CHECK_GT(size_, 0u);
  while (words_[first_word_] == 0) ++first_word_;
  uint64_t& word = words_[first_word_];
  const auto bit = static_cast<uint32_t>(std::countr_zero(word));
  word &= word - 1;
  --size_;
  return first_word_ * 64 + bit;
}

void HomeTable::Reset(const Geometry& geometry, uint64_t log_key) {
  *this = HomeTable();
  geometry_ = geometry;
  log_key_ = log_key;
  pages_.resize(geometry.table_pages());
  references_.resize(geometry.table_pages());
  maps_.resize(geometry.table_maps());
  dirty_.Reset(geometry.table_pages());
  to_write_.Reset(geometry.table_pages());
  maps_to_write_.Reset(geometry.table_maps());
}

const Home& HomeTable::at(uint32_t place) const {
  CHECK_LT(place, geometry_.extents_total);
  const std::unique_ptr<Page>& page = pages_[place / kHomesPerPage];
  return page == nullptr ? kNobody : (*page)[place % kHomesPerPage];
}

void HomeTable::Set(uint32_t place, const Home& home) {
  CHECK_LT(place, geometry_.extents_total);
  const uint32_t number = place / kHomesPerPage;
  std::unique_ptr<Page>& page = pages_[number];
  if (page == nullptr) page = std::make_unique<Page>();
  if (to_write_.contains(number) && !PLANTED_BUG("S8-page-changes-after-the-cut")) {
    const auto [frozen, is_first] = frozen_.try_emplace(number);
    if (is_first) frozen->second = std::make_unique<Page>(*page);
  }
  (*page)[place % kHomesPerPage] = home;
  dirty_.insert(number);
}

// ---- Checkpoint

void HomeTable::BeginCheckpoint(uint64_t checkpoint_number) {
  CHECK(to_write_.empty() && maps_to_write_.empty() && frozen_.empty());
  checkpoint_number_ = checkpoint_number;
  to_write_.swap(dirty_);
}

uint64_t HomeTable::Give(std::span<std::byte> block, uint64_t magic, uint64_t number,
                         uint64_t region_offset, Reference& reference) {
  const TableBlockHeader header{.magic = magic,
                                .log_key = log_key_,
                                .number = number,
                                .checkpoint_number = checkpoint_number_};
  std::memcpy(block.data(), &header, sizeof(header));
  bool second = reference.slot == Slot::kFirst;
  if (PLANTED_BUG("S8-page-over-the-last-one")) second = reference.slot == Slot::kSecond;
  reference.slot = second ? Slot::kSecond : Slot::kFirst;
  reference.crc = Crc32c(block);
  return SlotOffset(region_offset, static_cast<uint32_t>(number), second);
}

std::optional<uint64_t> HomeTable::NextToWrite(std::span<std::byte> block) {
  CHECK_EQ(block.size(), kBlockBytes);
  while (!to_write_.empty()) {
    const uint32_t number = to_write_.TakeFirst();
    maps_to_write_.insert(number / kPagesPerMap);
    Reference& reference = references_[number];
    if (!EncodePage(number, block)) {
      reference = {};
      if (!dirty_.contains(number)) pages_[number] = nullptr;
      continue;
    }
    return Give(block, kPageMagic, number, geometry_.pages_offset(), reference);
  }
  if (maps_to_write_.empty()) return std::nullopt;
  const uint32_t number = maps_to_write_.TakeFirst();
  EncodeMap(number, block);
  return Give(block, kMapMagic, number, geometry_.maps_offset(), maps_[number]);
}

bool HomeTable::EncodePage(uint32_t number, std::span<std::byte> block) {
  std::unique_ptr<Page> frozen;
  if (const auto found = frozen_.find(number); found != frozen_.end()) {
    frozen = std::move(found->second);
    frozen_.erase(found);
  }
  const Page* source = frozen != nullptr ? frozen.get() : pages_[number].get();
  if (source == nullptr) return false;
  const Page& page = *source;
  const auto is_used = [](const Home& home) { return home.present != 0; };
  if (std::none_of(page.begin(), page.end(), is_used)) return false;
  static_assert(sizeof(TableBlockHeader) + sizeof(Page) == kBlockBytes);
  std::memcpy(block.data() + sizeof(TableBlockHeader), page.data(), sizeof(Page));
  return true;
}

void HomeTable::EncodeMap(uint32_t number, std::span<std::byte> block) const {
  std::memset(block.data(), 0, block.size());
  std::byte* crc = block.data() + sizeof(TableBlockHeader);
  std::byte* slot = crc + kPagesPerMap * sizeof(uint32_t);
  const uint32_t first = number * kPagesPerMap;
  const auto end = std::min<size_t>(references_.size(), size_t{first} + kPagesPerMap);
  for (size_t i = first; i < end; ++i) {
    StoreLe(crc, references_[i].crc);
    crc += sizeof(uint32_t);
    *slot++ = static_cast<std::byte>(references_[i].slot);
  }
}

void HomeTable::EncodeRoot(ByteWriter& writer) const {
  CHECK(to_write_.empty() && maps_to_write_.empty());
  for (const Reference& map : maps_) {
    writer.U8(static_cast<uint8_t>(map.slot));
    writer.U32(map.crc);
  }
}

// ---- Recovery

bool HomeTable::DecodeRoot(ByteReader& reader) {
  for (Reference& map : maps_) {
    const uint8_t slot = reader.U8();
    map.crc = reader.U32();
    if (slot > static_cast<uint8_t>(Slot::kSecond)) return false;
    map.slot = static_cast<Slot>(slot);
  }
  return reader.ok();
}

std::optional<HomeTable::Range> HomeTable::NextUsed(const std::vector<Reference>& references,
                                                    uint32_t* next, uint64_t region_offset) const {
  constexpr uint32_t kBlocksMax = kIoBytesMax / (2 * kBlockBytes);
  while (*next < references.size() && references[*next].slot == Slot::kNone) ++*next;
  if (*next == references.size()) return std::nullopt;
  const uint32_t first = *next;
  const auto end =
      static_cast<uint32_t>(std::min<size_t>(references.size(), size_t{first} + kBlocksMax));
  *next = end;
  return Range{.offset_bytes = SlotOffset(region_offset, first, false),
               .length_bytes = uint64_t{end - first} * 2 * kBlockBytes};
}

std::optional<HomeTable::Range> HomeTable::NextRead() {
  if (const auto maps = NextUsed(maps_, &next_map_, geometry_.maps_offset())) return maps;
  return NextUsed(references_, &next_page_, geometry_.pages_offset());
}

bool HomeTable::Matches(std::span<const std::byte> block, const Reference& reference) const {
  return Crc32c(block) == reference.crc || PLANTED_BUG("S4-page-not-verified");
}

bool HomeTable::DecodeMap(uint32_t number, std::span<const std::byte> block) {
  const std::byte* crc = block.data() + sizeof(TableBlockHeader);
  const std::byte* slot = crc + kPagesPerMap * sizeof(uint32_t);
  const uint32_t first = number * kPagesPerMap;
  const auto end = std::min<size_t>(references_.size(), size_t{first} + kPagesPerMap);
  for (size_t i = first; i < end; ++i, crc += sizeof(uint32_t), ++slot) {
    if (*slot > static_cast<std::byte>(Slot::kSecond)) return false;
    references_[i] = {.crc = LoadLe<uint32_t>(crc), .slot = static_cast<Slot>(*slot)};
  }
  return true;
}

bool HomeTable::OnRead(const Range& range, std::span<const std::byte> bytes) {
  const bool is_map = range.offset_bytes < geometry_.pages_offset();
  const uint64_t region = is_map ? geometry_.maps_offset() : geometry_.pages_offset();
  const auto first = static_cast<uint32_t>((range.offset_bytes - region) / (2 * kBlockBytes));
  const auto count = static_cast<uint32_t>(range.length_bytes / (2 * kBlockBytes));
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t number = first + i;
    const Reference& reference = is_map ? maps_[number] : references_[number];
    if (reference.slot == Slot::kNone) continue;
    const uint64_t at = SlotOffset(0, i, reference.slot == Slot::kSecond);
    const std::span<const std::byte> block = bytes.subspan(at, kBlockBytes);
    if (!Matches(block, reference)) return false;
    if (is_map) {
      if (!DecodeMap(number, block)) return false;
      continue;
    }
    auto page = std::make_unique<Page>();
    std::memcpy(page->data(), block.data() + sizeof(TableBlockHeader), sizeof(Page));
    pages_[number] = std::move(page);
  }
  return true;
}

}  // namespace gabion::store
