// What commands do to slices: epochs, roles, and which replicas are of no use any more.
#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/mdm/lookup.h"
#include "core/mdm/repository.h"

namespace gabion::mdm {
namespace {

proto::Member* Fill(const Member& member, proto::Member* out) {
  out->set_sds(member.sds.value());
  out->set_device(member.device.value());
  out->set_incarnation(member.incarnation.value());
  out->set_present(member.present);
  return out;
}

Member MemberOf(const proto::Member& member) {
  return {.sds = SdsId(member.sds()),
          .device = DeviceId(member.device()),
          .incarnation = Incarnation(member.incarnation()),
          .present = member.present()};
}

}  // namespace

proto::SliceConfig ToProto(const SliceState& slice) {
  proto::SliceConfig config;
  config.set_slice(slice.id.value());
  config.set_epoch(slice.epoch.value());
  config.set_reign(slice.reign.value());
  config.set_issuer(slice.issuer);
  Fill(slice.primary, config.mutable_primary());
  if (slice.secondary) Fill(slice.secondary, config.mutable_secondary());
  if (slice.joining) Fill(slice.joining, config.mutable_joining());
  config.set_release(slice.release);
  return config;
}

void FromProto(const proto::SliceConfig& config, SliceState& slice) {
  slice.id = SliceId(config.slice());
  slice.epoch = Epoch(config.epoch());
  slice.reign = Reign(config.reign());
  slice.issuer = config.issuer();
  slice.primary = MemberOf(config.primary());
  slice.secondary = config.has_secondary() ? MemberOf(config.secondary()) : Member();
  slice.joining = config.has_joining() ? MemberOf(config.joining()) : Member();
  slice.release = config.release();
}

Epoch Repository::NextEpoch(const SliceState& slice) const {
  return Epoch(std::max(slice.epoch.value() + 1, generation_ << kGenerationShift | 1));
}

void Repository::MarkStale(SliceId slice, DeviceId device, Changes& changes) {
  if (!devices_.contains(device)) return;
  stale_.insert({slice, device});
  changes.stale.push_back({slice, device});
}

void Repository::Do(const proto::ChangeSlices& command, Changes& changes) {
  CHECK_GT(command.slices_size(), 0);
  for (const proto::DevicePosition& position : command.positions()) NotePosition(position);
  for (const proto::SliceConfig& config : command.slices()) ApplySliceConfig(config, changes);
  for (const proto::StaleReplica& useless : command.useless()) {
    SliceState& slice = Get(slices_, SliceId(useless.slice()));
    if (slice.former != DeviceId(useless.device())) continue;
    slice.former = DeviceId();
    MarkStale(slice.id, DeviceId(useless.device()), changes);
  }
}

void Repository::ApplySliceConfig(const proto::SliceConfig& config, Changes& changes) {
  SliceState& slice = Get(slices_, SliceId(config.slice()));
  const SliceState before = slice;
  changes.slices_before.push_back(before);
  FromProto(config, slice);

  CHECK_GT(slice.epoch, before.epoch);
  CHECK_EQ(slice.issuer, before.issuer);
  CHECK_EQ(slice.reign == before.reign, slice.primary == before.primary);
  // R13, R19: the in-sync set loses members, or gains the one that was joining; nobody else enters.
  const auto was_in_sync = [&](const Member& member) {
    return member.device == before.primary.device || member.device == before.secondary.device;
  };
  CHECK(was_in_sync(slice.primary) || PLANTED_BUG("R13-promote-out-of-sync")) << before.id;
  if (slice.secondary && !was_in_sync(slice.secondary)) {
    CHECK_EQ(slice.secondary.device, before.joining.device);
    CHECK_EQ(slice.primary, before.primary);
  }
  CheckSlice(slice);

  const auto is_member = [&](DeviceId device) {
    return device == slice.primary.device || device == slice.secondary.device ||
           device == slice.joining.device;
  };
  for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
    if (*member) stale_.erase({slice.id, member->device});
  }
  // One replica that left stays for the delta: the one that was in sync last. Others go, and so
  // does that one as soon as two other copies are in sync.
  for (const Member* member : {&before.primary, &before.secondary, &before.joining}) {
    if (!*member || is_member(member->device)) continue;
    const bool was_complete = was_in_sync(*member);
    if (rolled_back_.contains({slice.id, member->device})) {
      ForgetRollBack(slice.id, member->device);
      MarkStale(slice.id, member->device, changes);
      continue;
    }
    if (member->device == slice.former) continue;
    if (slice.secondary || (!was_complete && slice.former.valid())) {
      MarkStale(slice.id, member->device, changes);
      continue;
    }
    if (slice.former.valid()) MarkStale(slice.id, slice.former, changes);
    slice.former = member->device;
  }
  if (slice.former.valid() && slice.secondary) {
    if (!is_member(slice.former)) MarkStale(slice.id, slice.former, changes);
    slice.former = DeviceId();
  }
}

void Repository::Do(const proto::AskRelease& command, Changes& changes) {
  for (const uint64_t id : command.slices()) {
    SliceState& slice = Get(slices_, SliceId(id));
    changes.slices_before.push_back(slice);
    slice.release = true;
  }
}

void Repository::Do(const proto::ForgetReplicas& command, Changes&) {
  for (const proto::StaleReplica& replica : command.replicas()) {
    stale_.erase({SliceId(replica.slice()), DeviceId(replica.device())});
  }
}

void Repository::NotePosition(const proto::DevicePosition& position) {
  proto::Device& device = Get(devices_, DeviceId(position.device()));
  device.set_log_position(std::max(device.log_position(), position.log_position()));
}

void Repository::Do(const proto::NotePositions& command, Changes&) {
  for (const proto::DevicePosition& position : command.positions()) NotePosition(position);
}

void Repository::Do(const proto::RollBackDevice& command, Changes& changes) {
  const DeviceId id(command.device());
  proto::Device& device = Get(devices_, id);
  CHECK_LT(command.log_position(), device.log_position());
  device.set_log_position(command.log_position());
  for (auto& [slice_id, slice] : slices_) {
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      if (member->device == id) rolled_back_.insert({slice_id, id});
    }
    if (slice.former != id) continue;
    slice.former = DeviceId();
    MarkStale(slice_id, id, changes);
  }
  if (HeldBy(id) != 0) {
    device.set_error("its content went back to an older state: what it holds is copied anew");
  }
  changes.devices.push_back(id);
  changes.id = command.device();
}

void Repository::ForgetRollBack(SliceId slice, DeviceId id) {
  if (rolled_back_.erase({slice, id}) == 0) return;
  const bool more = std::any_of(rolled_back_.begin(), rolled_back_.end(),
                                [&](const auto& replica) { return replica.second == id; });
  const auto device = devices_.find(id);
  if (!more && device != devices_.end()) device->second.clear_error();
}

void Repository::Do(const proto::ForceSlice& command, Changes& changes) {
  const SliceId id(command.slice());
  // Of one that is closed (R23) nobody has been told.
  const bool was_closed = closed_.contains(id);
  SliceState unknown;
  unknown.id = id;
  if (was_closed) {
    slices_.insert(closed_.extract(id));
    unknown.pool = slices_.at(id).pool;
  }
  SliceState& slice = Get(slices_, id);
  const SliceState before = slice;
  changes.slices_before.push_back(was_closed ? unknown : before);
  slice.epoch = NextEpoch(slice);
  slice.reign = Reign(slice.epoch.value());
  slice.issuer = NextId();
  slice.primary = MemberOf(command.member());
  slice.secondary = slice.joining = Member();
  slice.release = false;
  slice.former = DeviceId();
  for (const Member* member : {&before.primary, &before.secondary, &before.joining}) {
    if (*member && member->device != slice.primary.device) {
      MarkStale(slice.id, member->device, changes);
    }
  }
  if (before.former.valid() && before.former != slice.primary.device) {
    MarkStale(slice.id, before.former, changes);
  }
  stale_.erase({slice.id, slice.primary.device});
  for (const Member* member : {&before.primary, &before.secondary, &before.joining}) {
    ForgetRollBack(slice.id, member->device);
  }
  CheckSlice(slice);
  changes.id = command.slice();
}

void Repository::CheckSlice(const SliceState& slice) const {
  CHECK(slice.epoch.valid() && slice.reign.valid()) << slice.id;
  CHECK_LE(slice.reign.value(), slice.epoch.value());
  CHECK(slice.primary) << "slice " << slice.id << " has no in-sync member";
  const Member* members[] = {&slice.primary, &slice.secondary, &slice.joining};
  for (size_t i = 0; i < 3; ++i) {
    if (!*members[i]) continue;
    const proto::Device* device = FindDevice(members[i]->device);
    CHECK(device != nullptr && SdsId(device->sds()) == members[i]->sds) << slice.id;
    CHECK_EQ(PoolId(device->pool()), slice.pool);
    CHECK_LE(members[i]->incarnation, IncarnationOf(members[i]->sds));
    for (size_t j = 0; j < i; ++j) {
      if (!*members[j]) continue;
      // A joining member replaces a secondary, and may share its domain.
      if (i == 2 && j == 1) {
        CHECK_NE(members[i]->device, members[j]->device);
        continue;
      }
      CHECK_NE(DomainOf(members[i]->sds), DomainOf(members[j]->sds)) << slice.id;
      CHECK_NE(members[i]->sds, members[j]->sds) << slice.id;
    }
  }
}

}  // namespace gabion::mdm
