// What the control loops look at: the repository, and what the manager knows at this instant about
// everybody's liveness. Built anew for each decision, so a decision is a function of its arguments.
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/repository.h"

namespace gabion::mdm {

struct SdsView {
  bool alive = false;          // its registered incarnation was heard within a lease
  bool lease_over = true;      // of the registered incarnation: run out, handed back or void
  bool old_lease_over = true;  // of all lower incarnations
  bool silent = true;          // not heard for the unreachable time-out
};

struct DeviceView {
  bool usable = false;    // opened by the registered incarnation, and not given up by it
  bool released = false;  // the registered incarnation gave it up: it acts in none of its slices
  uint64_t used_bytes = 0;
};

// Reports of a slice's primary about the epoch that the repository has (R20: others are not here).
struct SliceFacts {
  bool member_needed = false;
  bool member_needed_long = false;  // for the unreachable time-out, whatever the member's state
  bool join_complete = false;
  bool join_failed = false;
  bool joining_useless = false;       // what the joining member held cannot be built upon
  bool released = false;              // R12
  bool primary_needs_resync = false;  // the primary may not act: a release, too
  bool secondary_needs_resync = false;
  bool open = false;
};

struct View {
  const Repository& repository;
  Instant now;
  absl::btree_map<SdsId, SdsView> sdss;
  absl::btree_map<DeviceId, DeviceView> devices;
  absl::btree_map<SliceId, SliceFacts> slices;  // only those with facts

  SdsView sds(SdsId id) const {
    const auto at = sdss.find(id);
    return at == sdss.end() ? SdsView() : at->second;
  }
  DeviceView device(DeviceId id) const {
    const auto at = devices.find(id);
    return at == devices.end() ? DeviceView() : at->second;
  }
  SliceFacts facts(SliceId id) const {
    const auto at = slices.find(id);
    return at == slices.end() ? SliceFacts() : at->second;
  }

  // Could act if an epoch named it now.
  bool IsAble(SdsId sds_id, DeviceId device_id) const {
    return sds(sds_id).alive && device(device_id).usable;
  }
  bool IsAble(const Member& member) const { return member && IsAble(member.sds, member.device); }
  bool IsCurrent(const Member& member) const {
    return member && member.incarnation == repository.IncarnationOf(member.sds);
  }
  // The epoch names it, and it acts in it as far as the manager can tell.
  bool IsActing(const Member& member) const {
    return IsAble(member) && member.present && IsCurrent(member);
  }
  // Its media failed for good.
  bool IsDeviceLost(DeviceId id) const {
    const proto::Device* found = repository.FindDevice(id);
    return found == nullptr || found->state() == proto::DEVICE_FAILED;
  }
  // As an epoch issued now names it.
  Member Current(const Member& member, bool present) const {
    Member out = member;
    out.incarnation = repository.IncarnationOf(member.sds);
    out.present = present;
    return out;
  }
};

}  // namespace gabion::mdm
