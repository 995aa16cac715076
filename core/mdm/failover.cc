#include "core/mdm/failover.h"

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::mdm {
namespace {

// Numbers the epoch. A reign lasts as long as the same run of the same SDS serves from one device.
SliceState Issue(const View& view, const SliceState& before, SliceState next) {
  next.release = false;
  next.epoch = view.repository.NextEpoch(before);
  if (next.primary != before.primary) next.reign = Reign(next.epoch.value());
  return next;
}

// A primary that others miss keeps its member for so long while roles are to be switched: that is
// paced, and nobody's writes may wait for ever.
constexpr Duration kSwitchPatience = std::chrono::seconds(5);

// R11: the primary has asked; is the member out?
bool IsMemberOut(const View& view, const SliceState& slice, const SliceFacts& facts) {
  if (!facts.member_needed) return false;
  const Member& member = slice.secondary;
  if (!member.present || !view.IsCurrent(member)) return true;  // acts in nothing
  const SdsView sds = view.sds(member.sds);
  const bool device_out = sds.alive && !view.device(member.device).usable;
  if (sds.lease_over || sds.silent || device_out) return true;
  // The member is well, as far as this manager sees. When others miss the primary rather than the
  // member, the roles are switched instead (role_switch.h), unless that was tried in vain.
  if (view.IsActing(member) && view.IsSuspect(slice.primary.sds, member.sds) &&
      !view.may_not_switch.contains(slice.id) && facts.member_needed_for < kSwitchPatience) {
    return false;
  }
  return facts.member_needed_long;
}

std::optional<SliceState> WhilePrimaryActs(const View& view, const SliceState& slice,
                                           const SliceFacts& facts) {
  SliceState next = slice;
  const Member& secondary = slice.secondary;
  if (secondary) {
    if (facts.secondary_needs_resync || view.IsDeviceLost(secondary.device)) {
      next.secondary = Member();
    } else if (view.IsAble(secondary) && !view.IsActing(secondary)) {
      next.secondary = view.Current(secondary, true);
    } else if (IsMemberOut(view, slice, facts)) {
      next.secondary = Member();
    } else if (secondary.present && view.IsCurrent(secondary) &&
               view.device(secondary.device).released) {
      next.secondary.present = false;
    }
  }
  if (slice.joining) {
    if (facts.join_complete && view.IsActing(slice.joining)) {
      next.secondary = slice.joining;  // R19: in sync from this epoch on
      next.joining = Member();
    } else if (facts.join_failed || facts.join_complete || !view.IsActing(slice.joining)) {
      next.joining = Member();
    }
  }
  if (next == slice && slice.release && !view.IsAble(secondary)) {
    return Issue(view, slice, next);  // the role switch is off
  }
  if (next == slice) return std::nullopt;
  return Issue(view, slice, next);
}

// The primary has released the slice, and could act.
SliceState AfterRelease(const View& view, const SliceState& slice) {
  SliceState next = slice;
  next.joining = Member();
  if (view.IsAble(slice.secondary)) {
    next.primary = view.Current(slice.secondary, true);
    next.secondary = view.Current(slice.primary, true);
  } else if (slice.secondary) {
    next.secondary.present = false;
  }
  return Issue(view, slice, next);
}

std::optional<SliceState> WithoutPrimary(const View& view, const SliceState& slice,
                                         const SliceFacts& facts) {
  if (!MayReplacePrimary(view, slice)) return std::nullopt;
  SliceState next = slice;
  next.joining = Member();
  const bool primary_able =
      view.IsAble(slice.primary) && !facts.primary_needs_resync && !facts.primary_rolled_back;
  const bool secondary_able = view.IsAble(slice.secondary) && !facts.secondary_needs_resync;
  const bool primary_gone = facts.primary_needs_resync || facts.primary_rolled_back ||
                            view.IsDeviceLost(slice.primary.device);
  // Of two that both come back, the one that was primary keeps the role; one that is at work now
  // goes before it.
  if (secondary_able && (!primary_able || view.IsActing(slice.secondary))) {
    next.primary = view.Current(slice.secondary, true);
    next.secondary = primary_gone ? Member() : view.Current(slice.primary, primary_able);
    return Issue(view, slice, next);
  }
  if (primary_able) {
    next.primary = view.Current(slice.primary, true);
    if (slice.secondary) next.secondary = view.Current(slice.secondary, secondary_able);
    return Issue(view, slice, next);
  }
  if (PLANTED_BUG("R13-promote-out-of-sync") && slice.former.valid()) {
    const proto::Device* device = view.repository.FindDevice(slice.former);
    if (device != nullptr && view.IsAble(SdsId(device->sds()), slice.former)) {
      Member promoted;
      promoted.sds = SdsId(device->sds());
      promoted.device = slice.former;
      next.primary = view.Current(promoted, true);
      next.secondary = Member();
      return Issue(view, slice, next);
    }
  }
  // A device that its live SDS gave up comes back only by a new epoch, which must then be seen to
  // be needed: so its absence is written down.
  if (slice.primary.present && view.IsCurrent(slice.primary) &&
      view.device(slice.primary.device).released) {
    next.primary.present = false;
    if (slice.secondary) next.secondary.present = false;
    return Issue(view, slice, next);
  }
  return std::nullopt;
}

}  // namespace

bool MayReplacePrimary(const View& view, const SliceState& slice) {
  if (PLANTED_BUG("R12-promote-before-lease-over")) return true;
  const Member& primary = slice.primary;
  if (!primary.present) return true;  // acts in nothing
  const SdsView sds = view.sds(primary.sds);
  if (!view.IsCurrent(primary)) return sds.old_lease_over;
  const SliceFacts facts = view.facts(slice.id);
  return sds.lease_over || facts.released || facts.primary_needs_resync ||
         view.device(primary.device).released;
}

std::optional<SliceState> DecideSlice(const View& view, const SliceState& slice) {
  const SliceFacts facts = view.facts(slice.id);
  if (view.IsActing(slice.primary) && !facts.primary_needs_resync && !facts.primary_rolled_back) {
    if (facts.released) return AfterRelease(view, slice);
    return WhilePrimaryActs(view, slice, facts);
  }
  return WithoutPrimary(view, slice, facts);
}

std::vector<SliceState> DecideSlices(const View& view, size_t max) {
  std::vector<SliceState> out;
  for (const auto& [id, slice] : view.repository.slices()) {
    if (out.size() == max) break;
    if (auto next = DecideSlice(view, slice)) out.push_back(*next);
  }
  return out;
}

}  // namespace gabion::mdm
