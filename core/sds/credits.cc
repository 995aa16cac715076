#include "core/sds/credits.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::sds {

namespace {

constexpr uint64_t kExtentCreditsMax = 128;
constexpr uint64_t kLogCreditsMax = 4 << 20;
constexpr Duration kRecallPause = std::chrono::milliseconds(10);
// Whoever waits asks again and again; who does not has gone, or was served in another way.
constexpr Duration kWaitingMax = std::chrono::milliseconds(100);

}  // namespace

uint64_t DeviceCredits::LogAvailable(const CreditRoom& room) const {
  if (PLANTED_BUG("R24-log-promised-twice")) return room.log_bytes;
  return room.log_bytes > log_promised_ ? room.log_bytes - log_promised_ : 0;
}

// An equal share of the one half for everybody, and of the other, while there is some, more for
// those that are busy.
uint64_t DeviceCredits::LogLevel(const CreditRoom& room) const {
  const uint64_t half = room.log_bytes_max / 2;
  const uint64_t available = LogAvailable(room);
  const uint64_t more = available > half ? (available - half) / 8 : 0;
  return std::min(std::max(half / std::max(1u, followers_), more), kLogCreditsMax);
}

void DeviceCredits::AddLog(Promise* promise, uint64_t bytes) {
  promise->log_limit += bytes;
  log_promised_ += bytes;
}

void DeviceCredits::SetStore(store::Store* store) {
  store_ = store;
  SetExtentsPromised(extents_promised_);
}

void DeviceCredits::SetExtentsPromised(uint64_t extents) {
  extents_promised_ = extents;
  if (store_ != nullptr) store_->SetExtentsPromised(extents);
}

void DeviceCredits::Leave(SliceId slice, uint64_t instance, Promise* promise) {
  CHECK_GT(followers_, 0u);
  --followers_;
  CHECK_GE(extents_promised_, promise->extents_left());
  SetExtentsPromised(extents_promised_ - promise->extents_left());
  promise->extents_used = promise->extents_limit;
  if (const uint64_t left = promise->log_left(); left > 0) {
    debts_[slice] += left;
    log_debts_ += left;
    promise->log_used = promise->log_limit;
  }
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.instance == instance; });
}

void DeviceCredits::Settle(SliceId slice) {
  const auto debt = debts_.find(slice);
  if (debt == debts_.end()) return;
  CHECK_GE(log_debts_, debt->second);
  log_debts_ -= debt->second;
  log_promised_ -= debt->second;
  debts_.erase(debt);
}

void DeviceCredits::TopUp(Promise* promise, const CreditRoom& room) {
  const uint64_t own = promise->extents_left();
  const uint64_t others = extents_promised_ - own;
  const uint64_t extents = room.extents > others ? room.extents - others : 0;
  // Half of what is left, shared by all, so that whoever comes later finds some, too; at the end
  // what one request may need.
  const uint64_t share = std::min(extents / 2 / std::max(1u, followers_), kExtentCreditsMax);
  const uint64_t wanted = std::max(share, std::min(extents, kExtentCreditsMin));
  if (wanted > own) {
    promise->extents_limit += wanted - own;
    SetExtentsPromised(extents_promised_ + wanted - own);
  }
  // Who waits comes first: what becomes free is collected for them.
  if (!waiting_.empty()) return;
  const uint64_t level = LogLevel(room);
  if (level > promise->log_left()) {
    AddLog(promise, std::min(level - promise->log_left(), LogAvailable(room)));
  }
}

bool DeviceCredits::IsShort(const Promise& promise, const CreditRoom& room) const {
  return promise.extents_left() < kExtentCreditsMin ||
         (waiting_.empty() && promise.log_left() < LogLevel(room) / 2);
}

DeviceCredits::Cover DeviceCredits::Judge(const Promise& promise, const CreditsUsed& used) {
  if (used.extents_used < promise.extents_used || used.extents_used > promise.extents_limit ||
      used.log_used < promise.log_used || used.log_used > promise.log_limit) {
    return Cover::kImplausible;
  }
  if (used.extents_used - promise.extents_used > used.extents_max) return Cover::kImplausible;
  const uint64_t log_bytes = used.log_used - promise.log_used;
  if (log_bytes == 0) {
    return used.extents_used == promise.extents_used ? Cover::kUncovered : Cover::kImplausible;
  }
  return log_bytes >= used.log_bytes ? Cover::kCovered : Cover::kImplausible;
}

void DeviceCredits::Use(Promise* promise, const CreditsUsed& used) {
  CHECK(Judge(*promise, used) != Cover::kImplausible);
  SetExtentsPromised(extents_promised_ - (used.extents_used - promise->extents_used));
  promise->extents_used = used.extents_used;
  log_promised_ -= used.log_used - promise->log_used;
  promise->log_used = used.log_used;
}

bool DeviceCredits::GiveBack(Promise* promise, uint64_t log_used) {
  if (log_used < promise->log_used || log_used > promise->log_limit) return false;
  log_promised_ -= log_used - promise->log_used;
  promise->log_used = log_used;
  return true;
}

bool DeviceCredits::Ask(uint64_t instance, Promise* promise, uint64_t wanted, Instant now,
                        const CreditRoom& room) {
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    return waiting.instance != instance && SaturatingAdd(waiting.asked_at, kWaitingMax) < now;
  });
  const auto self = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& waiting) {
    return waiting.instance == instance;
  });
  const uint64_t lacking = wanted > promise->log_left() ? wanted - promise->log_left() : 0;
  uint64_t ahead = 0;
  for (auto it = waiting_.begin(); it != self; ++it) ahead += it->log_bytes;
  const uint64_t available = LogAvailable(room);
  if (lacking == 0 || (available >= lacking && available - lacking >= ahead)) {
    AddLog(promise, lacking);
    if (self != waiting_.end()) waiting_.erase(self);
    return true;
  }
  if (self == waiting_.end()) {
    waiting_.push_back({.instance = instance, .log_bytes = lacking, .asked_at = now});
  } else {
    self->log_bytes = lacking;
    self->asked_at = now;
  }
  return false;
}

bool DeviceCredits::MayRecall(Instant now) {
  if (now < recall_at_) return false;
  recall_at_ = SaturatingAdd(now, kRecallPause);
  return true;
}

}  // namespace gabion::sds
