#include "core/mdm/role_switch.h"

#include <algorithm>

#include "core/base/mix.h"
#include "core/plan/plan.h"

namespace gabion::mdm {
namespace {

// A slice admits nothing while its primary drains, so few drain at a time, and not for long.
constexpr size_t kUnderWayMax = 16;
constexpr Duration kReleaseMax = std::chrono::seconds(2);
constexpr Duration kPauseMin = std::chrono::seconds(10);
// 40 s and 11 min: what is even again may be late, and complaints that go on are no news.
constexpr uint32_t kInVainDoublingsMax = 2;
constexpr uint32_t kSuspectDoublingsMax = 6;
// After this a pause is forgotten, and the next one is short again.
constexpr Duration kPauseMemory = std::chrono::minutes(10);
// A network that comes and goes must not make roles go back and forth with it.
constexpr Duration kAvoided = std::chrono::seconds(60);

// The secondary could take over this instant, and nothing else is going on.
bool IsSettled(const View& view, const SliceState& slice) {
  return view.IsActing(slice.primary) && view.IsActing(slice.secondary) && !slice.joining;
}

bool IsAccusedByClient(const View& view, SdsId sds) {
  const auto at = view.accusers.find(sds);
  if (at == view.accusers.end()) return false;
  return std::any_of(at->second.begin(), at->second.end(),
                     [](const Accuser& accuser) { return accuser.is_sdc; });
}

}  // namespace

void RoleSwitch::Observe(const View& view) {
  absl::btree_map<SliceId, Asked> asked;
  absl::btree_map<PoolId, bool> whole;
  for (const auto& [id, slice] : view.repository.slices()) {
    const bool both = view.IsActing(slice.primary) && view.IsActing(slice.secondary);
    const auto [at, is_new] = whole.emplace(slice.pool, both);
    if (!is_new) at->second = at->second && both;
    if (!slice.release) continue;
    const auto known = asked_.find(id);
    const bool same = known != asked_.end() && known->second.epoch == slice.epoch;
    asked.emplace(id,
                  same ? known->second
                       : Asked{.at = view.now,
                               .epoch = slice.epoch,
                               .primary = slice.primary,
                               .suspect = view.IsSuspect(slice.primary.sds, slice.secondary.sds)});
  }
  for (const auto& [id, before] : asked_) {
    if (asked.contains(id)) continue;
    const SliceState* slice = view.repository.FindSlice(id);
    if (slice == nullptr) continue;
    if (slice->primary.device == before.primary.device) {
      Extend(in_vain_, id, view.now, kInVainDoublingsMax);
    }
    if (before.suspect) {
      Extend(after_suspect_, id, view.now, kSuspectDoublingsMax);
      avoided_until_[before.primary.sds] = view.now + kAvoided;
    }
  }
  asked_ = std::move(asked);
  const auto is_past = [&](const auto& entry) { return entry.second <= view.now; };
  const auto is_long_past = [&](const auto& entry) {
    return entry.second.until + kPauseMemory <= view.now;
  };
  absl::erase_if(in_vain_, is_long_past);
  absl::erase_if(after_suspect_, is_long_past);
  absl::erase_if(avoided_until_, is_past);

  absl::erase_if(whole_since_, [&](const auto& entry) {
    const auto at = whole.find(entry.first);
    return at == whole.end() || !at->second;
  });
  for (const auto& [pool, is_whole] : whole) {
    if (is_whole) whole_since_.emplace(pool, view.now);
  }
}

void RoleSwitch::Extend(Pauses& pauses, SliceId id, Instant now, uint32_t doublings_max) {
  Pause& pause = pauses[id];
  pause.until = now + kPauseMin * (1 << std::min(pause.count, doublings_max));
  ++pause.count;
}

bool RoleSwitch::IsPaused(const Pauses& pauses, SliceId id, Instant now) {
  const auto at = pauses.find(id);
  return at != pauses.end() && now < at->second.until;
}

void RoleSwitch::Annotate(View& view) const {
  for (const Pauses* pauses : {&in_vain_, &after_suspect_}) {
    for (const auto& [id, pause] : *pauses) {
      if (view.now < pause.until) view.may_not_switch.insert(id);
    }
  }
}

std::vector<PoolId> RoleSwitch::CalmPools(Instant now) const {
  std::vector<PoolId> out;
  for (const auto& [pool, since] : whole_since_) {
    if (now - since >= options_.balance_delay) out.push_back(pool);
  }
  return out;
}

RoleSwitch::Decision RoleSwitch::Decide(const View& view) const {
  Decision decision;
  for (const auto& [id, asked] : asked_) {
    if (view.now - asked.at < kReleaseMax || view.facts(id).released) continue;
    const SliceState* slice = view.repository.FindSlice(id);
    if (slice == nullptr || slice->epoch != asked.epoch) continue;
    SliceState next = *slice;
    next.release = false;
    next.epoch = view.repository.NextEpoch(*slice);
    decision.call_off.push_back(next);
  }
  if (asked_.size() >= kUnderWayMax) return decision;
  decision.ask = Suspects(view, kUnderWayMax - asked_.size());
  if (decision.ask.empty()) decision.ask = Leaving(view, kUnderWayMax - asked_.size());
  // A balance is made from one look at everybody's place, so nothing may be under way.
  if (!decision.ask.empty() || !asked_.empty()) return decision;
  for (const PoolId pool : CalmPools(view.now)) {
    AskForBalance(view, pool, kUnderWayMax, &decision.ask);
    if (!decision.ask.empty()) break;
  }
  return decision;
}

std::vector<SliceId> RoleSwitch::Suspects(const View& view, size_t max) const {
  std::vector<SliceId> found;
  if (view.accusers.empty()) return found;
  for (const auto& [id, slice] : view.repository.slices()) {
    if (found.size() == max) break;
    if (slice.release || !IsSettled(view, slice)) continue;
    if (IsPaused(in_vain_, id, view.now) || IsPaused(after_suspect_, id, view.now)) continue;
    const SdsId primary = slice.primary.sds;
    const SdsId secondary = slice.secondary.sds;
    const bool missed = IsAccusedByClient(view, primary) || view.facts(id).member_needed_long;
    if (missed && view.IsSuspect(primary, secondary)) found.push_back(id);
  }
  return found;
}

std::vector<SliceId> RoleSwitch::Leaving(const View& view, size_t max) const {
  std::vector<SliceId> found;
  for (const auto& [id, slice] : view.repository.slices()) {
    if (found.size() == max) break;
    if (!view.repository.IsLeaving(slice.primary.device)) continue;
    if (slice.release || IsPaused(in_vain_, id, view.now) || !IsSettled(view, slice)) continue;
    if (!view.repository.IsLeaving(slice.secondary.device)) found.push_back(id);
  }
  return found;
}

void RoleSwitch::AskForBalance(const View& view, PoolId pool, size_t max,
                               std::vector<SliceId>* ask) const {
  std::vector<plan::PlacedSlice> slices;
  std::vector<SliceId> ids;
  for (const auto& [id, slice] : view.repository.slices()) {
    if (slice.pool != pool) continue;
    // It is about to have other members, or somebody does not do as asked.
    if (slice.joining || IsPaused(in_vain_, id, view.now)) return;
    const bool may_turn = IsSettled(view, slice) && !avoided_until_.contains(slice.secondary.sds) &&
                          !view.repository.IsLeaving(slice.secondary.device);
    slices.push_back({slice.primary.device, slice.secondary.device, may_turn});
    ids.push_back(id);
  }
  for (const size_t i : plan::TurnSlices(slices, max)) {
    if (ask->size() == max) break;
    ask->push_back(ids[i]);
  }
}

uint64_t RoleSwitch::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t id, Instant at) {
    hash = mix64(hash ^ id) + static_cast<uint64_t>(at.time_since_epoch().count());
  };
  for (const auto& [id, asked] : asked_) add(id.value() + asked.epoch.value(), asked.at);
  for (const auto& [id, pause] : in_vain_) add(id.value(), pause.until);
  for (const auto& [id, pause] : after_suspect_) add(id.value(), pause.until);
  for (const auto& [id, at] : avoided_until_) add(id.value(), at);
  for (const auto& [id, at] : whole_since_) add(id.value(), at);
  return hash;
}

}  // namespace gabion::mdm
