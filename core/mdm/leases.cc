#include "core/mdm/leases.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::mdm {

Duration LeaseOnOtherClock(Duration lease, uint32_t drift_permille) {
  CHECK(lease.count() >= 0 && drift_permille < 1000);
  const auto numerator = static_cast<unsigned __int128>(lease.count()) * (1000 + drift_permille);
  const uint32_t denominator = 1000 - drift_permille;
  return Duration(static_cast<int64_t>((numerator + denominator - 1) / denominator));
}

Leases::Leases(const Options& options)
    : lease_(options.lease), lease_here_(LeaseOnOtherClock(options.lease, options.drift_permille)) {
  if (PLANTED_BUG("R2-lease-over-too-early")) lease_here_ = options.lease / 2;
}

void Leases::AssumeGranted(SdsId sds, bool lock_changed, Instant now) {
  State& state = states_[sds];
  state.until = state.old_until = SaturatingAdd(now, lease_here_);
  if (lock_changed) state.foreign_until = state.until;
}

void Leases::Forget(SdsId sds) { states_.erase(sds); }

void Leases::OnNewIncarnation(SdsId sds, bool has_same_lock) {
  State& state = states_[sds];
  State next;
  // A hand-back ended that incarnation's lease (`until` is the past), and says nothing of lower
  // ones.
  next.old_until = std::max(state.old_until, state.until);
  next.foreign_until =
      has_same_lock ? state.foreign_until : std::max(state.foreign_until, next.old_until);
  // A primary that is being taken stays so until the outcome is known.
  next.taking = state.taking;
  state = next;
  if (PLANTED_BUG("R22-void-live-lease")) {
    states_[sds].old_until = states_[sds].foreign_until = Instant::min();
  }
}

void Leases::VoidOld(SdsId sds) { states_[sds].old_until = Instant::min(); }

bool Leases::TryGrant(SdsId sds, const Fence& fence, Instant now) {
  State& state = states_[sds];
  if (state.handed_back) return false;
  if (state.taking && !PLANTED_BUG("R21-renew-while-taking")) return false;
  const bool gap = now >= state.until || state.running_since == kNever;
  if (fence.lacking) {
    // The grace is for an SDS whose lease has run on since before the fence: it had every earlier
    // fence, and gets a moment to apply this one without a stall.
    if (gap || state.running_since >= fence.committed_at) return false;
    if (fence.committed_at < now - lease_ / 4) return false;
  }
  if (gap) state.running_since = now;
  state.until = std::max(state.until, SaturatingAdd(now, lease_here_));
  return true;
}

void Leases::SetTaking(SdsId sds, bool taking) { states_[sds].taking = taking; }

void Leases::HandBack(SdsId sds) {
  State& state = states_[sds];
  state.handed_back = true;
  state.until = Instant::min();
}

bool Leases::IsOver(SdsId sds, Instant now) const {
  const auto at = states_.find(sds);
  return at == states_.end() || now >= at->second.until;
}

bool Leases::IsOldOver(SdsId sds, Instant now) const {
  const auto at = states_.find(sds);
  return at == states_.end() || now >= std::max(at->second.old_until, at->second.foreign_until);
}

bool Leases::handed_back(SdsId sds) const {
  const auto at = states_.find(sds);
  return at != states_.end() && at->second.handed_back;
}

Instant Leases::OverSince(SdsId sds) const {
  const auto at = states_.find(sds);
  return at == states_.end() ? Instant::min() : at->second.until;
}

Instant Leases::NextEnd(Instant now) const {
  Instant next = kNever;
  for (const auto& [sds, state] : states_) {
    if (state.until > now) next = std::min(next, state.until);
    if (state.old_until > now) next = std::min(next, state.old_until);
    if (state.foreign_until > now) next = std::min(next, state.foreign_until);
  }
  return next;
}

std::string Leases::Dump(Instant now) const {
  std::string out = "leases:\n";
  for (const auto& [sds, state] : states_) {
    out += "  sds " + gabion::ToString(sds) +
           (now < state.until ? " for " + gabion::ToString(state.until - now) : " over") +
           (now < state.old_until ? ", older for " + gabion::ToString(state.old_until - now) : "") +
           (now < state.foreign_until
                ? ", elsewhere for " + gabion::ToString(state.foreign_until - now)
                : "") +
           (state.taking ? ", not renewed" : "") + (state.handed_back ? ", handed back" : "") +
           "\n";
  }
  return out;
}

uint64_t Leases::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](int64_t value) {
    hash = mix64(hash ^ mix64(static_cast<uint64_t>(value) + 7));
  };
  for (const auto& [sds, state] : states_) {
    add(static_cast<int64_t>(sds.value()));
    add(state.until.time_since_epoch().count());
    add(state.old_until.time_since_epoch().count());
    add(state.foreign_until.time_since_epoch().count());
    add(state.running_since.time_since_epoch().count());
    add(state.taking * 2 + state.handed_back);
  }
  return hash;
}

}  // namespace gabion::mdm
