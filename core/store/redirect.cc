#include "core/store/redirect.h"

#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/store/read_cache.h"

namespace gabion::store {

void RedirectWriter::Start(Item* item, Slice content, DiskTag tag_base, Effects& effects) {
  Redirect& redirect = *item->redirect;
  CHECK_EQ(content.size(), redirect.places.size() * kExtentBytes);
  CHECK_EQ(redirect.outstanding, 0u);
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.push_back(nullptr);
  }
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = item;
  // Neighbours in one write.
  const auto& places = redirect.places;
  for (uint32_t begin = 0; begin < places.size();) {
    uint32_t end = begin + 1;
    while (end < places.size() && places[end] == places[end - 1] + 1) ++end;
    const Slice run = content.Sub(begin * kExtentBytes, (end - begin) * kExtentBytes);
    const uint64_t offset_bytes = geometry_.extent_offset(places[begin]);
    if (options_.read_cache != nullptr) {
      options_.read_cache->Forget(options_.device, offset_bytes, run.size());
    }
    if (PLANTED_BUG("S1-redirect-not-durable")) {
      effects.Write(options_.device, offset_bytes, std::span(&run, 1), tag_base + slot);
    } else {
      effects.DurableWrite(options_.device, offset_bytes, std::span(&run, 1), tag_base + slot);
    }
    ++redirect.outstanding;
    begin = end;
  }
  counters_->device_bytes += content.size();
  counters_->redirected_bytes += content.size();
  redirect.content = std::move(content);
}

void RedirectWriter::OnDiskDone(uint64_t slot) {
  CHECK_LT(slot, slots_.size());
  Item* item = slots_[slot];
  CHECK(item != nullptr && item->writing());
  if (--item->redirect->outstanding > 0) return;
  item->redirect->content = Slice();
  slots_[slot] = nullptr;
  free_.push_back(static_cast<uint32_t>(slot));
}

}  // namespace gabion::store
