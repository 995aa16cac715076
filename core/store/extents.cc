#include "core/store/extents.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::store {

void ExtentTable::Reset(uint32_t total) {
  used_.assign(total, false);
  pending_.clear();
  waiting_.clear();
  free_ = total;
  next_ = 0;
}

std::optional<uint32_t> ExtentTable::Allocate() {
  if (free_ == 0) return std::nullopt;
  auto found = std::find(used_.begin() + next_, used_.end(), false);
  if (found == used_.end()) found = std::find(used_.begin(), used_.end(), false);
  CHECK(found != used_.end());
  *found = true;
  --free_;
  const auto place = static_cast<uint32_t>(found - used_.begin());
  next_ = place + 1 < total() ? place + 1 : 0;
  return place;
}

void ExtentTable::FreeNow(uint32_t place) {
  CHECK(used_[place]);
  used_[place] = false;
  ++free_;
}

void ExtentTable::FreeAfterCheckpoint(uint32_t place) {
  CHECK(used_[place]);
  if (PLANTED_BUG("S8-extent-reused-at-once")) {
    FreeNow(place);
    return;
  }
  pending_.push_back(place);
}

void ExtentTable::FreeTooEarly(uint32_t place) {
  FreeNow(place);
  next_ = place;
}

bool ExtentTable::Claim(uint32_t place) {
  if (place >= total()) return false;
  if (used_[place]) return false;
  used_[place] = true;
  --free_;
  return true;
}

void ExtentTable::CheckpointTaken() {
  CHECK(waiting_.empty());
  waiting_.swap(pending_);
}

void ExtentTable::CheckpointDurable() {
  for (const uint32_t place : waiting_) FreeNow(place);
  waiting_.clear();
}

}  // namespace gabion::store
