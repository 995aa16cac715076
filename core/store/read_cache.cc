#include "core/store/read_cache.h"

#include <algorithm>
#include <cstring>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

ReadCache::ReadCache(uint64_t bytes_max)
    : frames_max_(
          static_cast<uint32_t>(std::min<uint64_t>(bytes_max / wire::kBlockBytes, kNone - 1))) {}

std::optional<uint32_t> ReadCache::Find(DeviceIndex device, uint64_t offset_bytes, std::byte* to) {
  const auto found = frame_of_.find(Key{device, offset_bytes});
  if (found == frame_of_.end()) return std::nullopt;
  Frame& frame = frames_[found->second];
  std::memcpy(to, frame.content->data(), wire::kBlockBytes);
  if (Crc32c(std::span(to, wire::kBlockBytes)) != frame.crc) {
    Remove(found->second);
    return std::nullopt;
  }
  frame.asked_for = true;
  return frame.crc;
}

void ReadCache::Add(DeviceIndex device, uint64_t offset_bytes, std::span<const std::byte> block,
                    uint32_t crc) {
  CHECK_EQ(block.size(), size_t{wire::kBlockBytes});
  CHECK_EQ(offset_bytes % wire::kBlockBytes, 0u);
  if (!enabled()) return;
  const Key key{device, offset_bytes};
  if (const auto found = frame_of_.find(key); found != frame_of_.end()) Remove(found->second);
  const uint32_t number = TakeFrame();
  Frame& frame = frames_[number];
  std::memcpy(frame.content->data(), block.data(), block.size());
  frame.key = key;
  frame.crc = crc;
  frame.asked_for = false;
  frame.newer = kNone;
  frame.older = newest_;
  if (newest_ != kNone) frames_[newest_].newer = number;
  newest_ = number;
  if (oldest_ == kNone) oldest_ = number;
  frame_of_.emplace(key, number);
}

void ReadCache::Forget(DeviceIndex device, uint64_t offset_bytes, uint64_t length_bytes) {
  if (frame_of_.empty() || PLANTED_BUG("S4-cache-keeps-what-was-overwritten")) return;
  for (uint64_t at = 0; at < length_bytes; at += wire::kBlockBytes) {
    const auto found = frame_of_.find(Key{device, offset_bytes + at});
    if (found != frame_of_.end()) Remove(found->second);
  }
}

void ReadCache::Forget(DeviceIndex device) {
  for (uint32_t frame = oldest_; frame != kNone;) {
    const uint32_t next = frames_[frame].newer;
    if (frames_[frame].key.device == device) Remove(frame);
    frame = next;
  }
}

uint32_t ReadCache::TakeFrame() {
  if (free_ == kNone && frames_.size() < frames_max_) {
    frames_.push_back({.content = std::make_unique<Content>(), .key = {}});
    return static_cast<uint32_t>(frames_.size() - 1);
  }
  if (free_ == kNone) {
    uint32_t frame = hand_ != kNone ? hand_ : oldest_;
    while (frames_[frame].asked_for) {
      frames_[frame].asked_for = false;
      frame = frames_[frame].newer != kNone ? frames_[frame].newer : oldest_;
    }
    hand_ = frame;
    Remove(frame);  // the hand goes on to the next newer one
  }
  const uint32_t frame = free_;
  free_ = frames_[frame].newer;
  return frame;
}

void ReadCache::Remove(uint32_t number) {
  Frame& frame = frames_[number];
  CHECK_EQ(frame_of_.erase(frame.key), 1u);
  if (hand_ == number) hand_ = frame.newer;
  (frame.newer != kNone ? frames_[frame.newer].older : newest_) = frame.older;
  (frame.older != kNone ? frames_[frame.older].newer : oldest_) = frame.newer;
  frame.older = kNone;
  frame.newer = free_;
  free_ = number;
}

void ReadCache::Check() const {
  size_t queued = 0;
  bool has_hand = hand_ == kNone;
  uint32_t older = kNone;
  for (uint32_t frame = oldest_; frame != kNone; frame = frames_[frame].newer) {
    CHECK_EQ(frames_[frame].older, older);
    CHECK_EQ(frame_of_.at(frames_[frame].key), frame);
    CHECK_EQ(Crc32c(*frames_[frame].content), frames_[frame].crc);
    if (frame == hand_) has_hand = true;
    older = frame;
    ++queued;
  }
  CHECK_EQ(newest_, older);
  CHECK(has_hand);
  CHECK_EQ(queued, frame_of_.size());
  CHECK_LE(frames_.size(), frames_max_);
}

}  // namespace gabion::store
