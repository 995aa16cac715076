// What the control loops look at: the repository, and what the manager knows at this instant about
// everybody's liveness. Built anew for each decision, so a decision is a function of its arguments.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/repository.h"
#include "core/mdm/survey.h"

namespace gabion::mdm {

struct SdsView {
  // Its registered incarnation was heard within a lease, hears this manager, and either holds a
  // lease or may still get one.
  bool alive = false;
  bool lease_over = true;      // of the registered incarnation: run out, handed back or void
  bool old_lease_over = true;  // of all lower incarnations
  bool silent = true;          // not heard for the unreachable time-out
};

struct DeviceView {
  bool usable = false;    // opened by the registered incarnation, and not given up by it
  bool released = false;  // the registered incarnation gave it up: it acts in
                          // none of its slices
  bool behind = false;    // its log ends below what was noted of it
  uint64_t used_bytes = 0;
  uint64_t log_position = 0;
  proto::StoreMemory memory;
};

// Reports of a slice's primary about the epoch that the repository has (R20: others are not here).
struct SliceFacts {
  bool member_needed = false;
  bool member_needed_long = false;  // for the unreachable time-out, whatever the member's state
  Duration member_needed_for{};
  bool join_complete = false;
  bool join_failed = false;
  bool joining_useless = false;       // what the joining member held cannot be built upon
  bool released = false;              // R12
  bool primary_needs_resync = false;  // the primary may not act: a release, too
  bool secondary_needs_resync = false;
  // Its device went back to an older content. No release: the device may still be acting.
  bool primary_rolled_back = false;
  bool open = false;
};

// Somebody who cannot reach an SDS.
struct Accuser {
  bool is_sdc = false;
  uint64_t id = 0;

  friend auto operator<=>(const Accuser&, const Accuser&) = default;
};

struct View {
  const Repository& repository;
  Instant now;
  absl::btree_map<SdsId, SdsView> sdss;
  absl::btree_map<DeviceId, DeviceView> devices;
  absl::btree_map<SliceId, SliceFacts> slices;  // only those with facts
  // Primaries that wait for a member on that SDS, and clients that wait for a connection to it.
  absl::btree_map<SdsId, absl::btree_set<Accuser>> accusers{};
  // Clients that could not reach that SDS some time ago. They may not have tried since.
  absl::btree_map<SdsId, absl::btree_set<Accuser>> missed_lately{};
  // R23. What devices hold, if the repository is a restored one; who came with an id that the lost
  // repository gave, by name.
  const Survey* survey = nullptr;
  uint64_t generation_seen = 0;
  bool are_old_leases_over = false;  // all that may have been granted before this manager started
  absl::btree_map<std::string, SdsId> lost_sdss{};
  absl::btree_map<std::string, SdcId> lost_sdcs{};
  // Slices whose roles were switched, or could not be, a moment ago.
  absl::btree_set<SliceId> may_not_switch{};

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
  // Of two SDSs that do not reach each other: do more of the others miss the first one? A client
  // that missed the other one lately counts against it: who reaches neither must not make roles go
  // back and forth, following the one that was not tried last.
  bool IsSuspect(SdsId suspect, SdsId other) const {
    const auto accusers_of = [&](SdsId accused) {
      const auto at = accusers.find(accused);
      return at == accusers.end() ? absl::btree_set<Accuser>() : at->second;
    };
    const auto count = [&](const absl::btree_set<Accuser>& all) {
      return std::count_if(all.begin(), all.end(), [&](const Accuser& accuser) {
        return accuser.is_sdc || (accuser.id != suspect.value() && accuser.id != other.value());
      });
    };
    absl::btree_set<Accuser> of_other = accusers_of(other);
    if (const auto at = missed_lately.find(other); at != missed_lately.end()) {
      of_other.insert(at->second.begin(), at->second.end());
    }
    return count(accusers_of(suspect)) > count(of_other);
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
