#include "core/store/home_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::store {

bool Home::IsOf(const DirectoryKey& owner, uint32_t number, const PlacedExtent& placed) const {
  return slice == owner.slice && key() == owner.chunk && extent == number &&
         present == placed.present && modified == placed.modified;
}

void HomeTable::Reset(const Geometry& geometry, uint64_t log_key) {
  const uint32_t frames_max = frames_max_;
  *this = HomeTable();
  frames_max_ = frames_max;
  table_.Reset({.maps_offset = geometry.page_maps_offset(),
                .blocks_offset = geometry.pages_offset(),
                .blocks = geometry.pages(),
                .map_magic = kPageMapMagic,
                .block_magic = kPageMagic,
                .log_key = log_key});
  frame_of_.resize(geometry.pages());
}

HomeTable::Frame& HomeTable::FrameOf(uint32_t page) {
  CHECK_LT(page, frame_of_.size());
  CHECK(frame_of_[page] != 0) << "page " << page << " is not in memory";
  return frames_[frame_of_[page] - 1];
}

const Home& HomeTable::at(uint32_t place) {
  Frame& frame = FrameOf(PageOf(place));
  frame.referenced = true;
  return (*frame.page)[place % kHomesPerPage];
}

void HomeTable::Set(uint32_t place, const Home& home) {
  CHECK(!writing_) << "a page changes between the cut and its checkpoint";
  Frame& frame = FrameOf(PageOf(place));
  (*frame.page)[place % kHomesPerPage] = home;
  frame.referenced = true;
  table_.MarkDirty(frame.number);
}

bool HomeTable::exists(uint32_t page) const {
  return cached(page) || table_.reference(page).slot != SlotTable::Slot::kNone;
}

void HomeTable::AddEmpty(uint32_t page) {
  CHECK(!cached(page));
  Add(page);
}

void HomeTable::Pin(uint32_t page) {
  Frame& frame = FrameOf(page);
  CHECK_LT(frame.pins, UINT16_MAX);
  ++frame.pins;
}

void HomeTable::Unpin(uint32_t page) {
  Frame& frame = FrameOf(page);
  CHECK_GT(frame.pins, 0);
  --frame.pins;
}

bool HomeTable::evictable(const Frame& frame) const {
  if (frame.page == nullptr || frame.pins > 0 || frame.written) return false;
  if (PLANTED_BUG("S8-dirty-page-evicted")) return true;
  return !table_.is_dirty(frame.number) && !table_.awaits_writing(frame.number);
}

void HomeTable::Evict() {
  // Two rounds of the hand: one takes away the second chances.
  for (size_t left = frames_.size() * 2; left > 0 && frames_used_ >= frames_max_; --left) {
    hand_ = hand_ + 1 < frames_.size() ? hand_ + 1 : 0;
    Frame& frame = frames_[hand_];
    if (!evictable(frame)) continue;
    if (frame.referenced) {
      frame.referenced = false;
      continue;
    }
    frame_of_[frame.number] = 0;
    frame = {};
    free_frames_.push_back(hand_);
    --frames_used_;
  }
}

HomeTable::Page& HomeTable::Add(uint32_t page) {
  CHECK(!cached(page));
  Evict();
  if (free_frames_.empty()) {
    free_frames_.push_back(static_cast<uint32_t>(frames_.size()));
    frames_.emplace_back();
  }
  const uint32_t index = free_frames_.back();
  free_frames_.pop_back();
  Frame& frame = frames_[index];
  frame.page = std::make_unique<Page>();
  frame.number = page;
  frame.referenced = true;
  frame_of_[page] = index + 1;
  ++frames_used_;
  return *frame.page;
}

HomeTable::PageRead HomeTable::ToRead(uint32_t page) const {
  const SlotTable::Reference& reference = table_.reference(page);
  return {.page = page, .reference = reference, .offset_bytes = table_.OffsetOf(page, reference)};
}

bool HomeTable::OnPageRead(const PageRead& read, std::span<const std::byte> block) {
  if (!SlotTable::Matches(block, read.reference)) return false;
  if (!IsCurrent(read) && !(PLANTED_BUG("S4-old-page-taken") && !cached(read.page))) return true;
  std::memcpy(Add(read.page).data(), block.data() + sizeof(TableBlockHeader), sizeof(Page));
  return true;
}

bool HomeTable::IsCurrent(const PageRead& read) const {
  return !cached(read.page) && table_.reference(read.page) == read.reference;
}

Home HomeTable::HomeIn(std::span<const std::byte> block, uint32_t place) {
  Home home;
  const size_t at = sizeof(TableBlockHeader) + place % kHomesPerPage * sizeof(Home);
  std::memcpy(&home, block.subspan(at, sizeof(Home)).data(), sizeof(home));
  return home;
}

void HomeTable::SetBudget(size_t bytes) {
  const size_t frames = std::max<size_t>(bytes / kFrameBytes, kFramesMin);
  frames_max_ = static_cast<uint32_t>(std::min<size_t>(frames, UINT32_MAX / 2));
  if (frames_used_ > frames_max_) Evict();
}

// ---- Checkpoint

void HomeTable::BeginCheckpoint(uint64_t checkpoint_number) {
  CHECK(!writing_ && written_.empty());
  writing_ = true;
  table_.BeginCheckpoint(checkpoint_number);
}

std::optional<uint64_t> HomeTable::NextToWrite(std::span<std::byte> block) {
  return table_.NextToWrite(block, [this](uint32_t number, std::span<std::byte> content) {
    if (PLANTED_BUG("S8-dirty-page-evicted") && !cached(number)) return false;
    Frame& frame = FrameOf(number);
    frame.written = true;
    written_.push_back(frame_of_[number] - 1);
    std::memset(content.data(), 0, content.size());
    std::memcpy(content.data(), frame.page->data(), sizeof(Page));
    return true;
  });
}

void HomeTable::CheckpointWritten() {
  for (const uint32_t index : written_) frames_[index].written = false;
  written_.clear();
  writing_ = false;
}

void HomeTable::Check() const {
  uint32_t used = 0;
  for (uint32_t index = 0; index < frames_.size(); ++index) {
    const Frame& frame = frames_[index];
    if (frame.page == nullptr) continue;
    CHECK_EQ(frame_of_[frame.number], index + 1);
    ++used;
  }
  CHECK_EQ(used, frames_used_);
}

}  // namespace gabion::store
