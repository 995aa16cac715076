#include "core/mdm/reopening.h"

#include <algorithm>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::mdm {
namespace {

// May the newest configuration be taken for the last one that anybody acted in? Whoever acted in a
// later one was named by an earlier one, and has recorded it: so each device that is named must
// have reported, and must still hold its replica (one that has forgotten it left in a later epoch,
// and no longer says which).
std::string WhyNotComplete(const View& view, const Survey::Holders& holders, Epoch newest) {
  absl::btree_set<DeviceId> named;
  for (const auto& [id, recorded] : holders) {
    if (recorded.epoch != newest) continue;
    for (const DeviceId member : {recorded.primary, recorded.secondary, recorded.joining}) {
      if (member.valid()) named.insert(member);
    }
  }
  for (const DeviceId id : named) {
    if (!view.survey->HasReported(id)) {
      return absl::StrCat("waits for ", TitleOf(view, id), ", which epoch ", newest.value(),
                          " names");
    }
    if (!holders.contains(id)) {
      return absl::StrCat(TitleOf(view, id), " was a member in epoch ", newest.value(),
                          ", and holds no copy any more: later members are not known");
    }
  }
  return "";
}

}  // namespace

std::string TitleOf(const View& view, DeviceId id) {
  const proto::Device* device = view.repository.FindDevice(id);
  if (device == nullptr) {
    return absl::StrCat("device ", id.value(), ", which this repository does not know");
  }
  return absl::StrCat("device ", id.value(), " (", device->path(), " at SDS ",
                      view.repository.FindSds(SdsId(device->sds()))->name(), ")");
}

Reopening DecideReopening(const View& view, const SliceState& closed) {
  CHECK(view.survey != nullptr);
  const Repository& repository = view.repository;
  Reopening out;
  const Survey::Holders holders = view.survey->HoldersOf(closed.id);
  if (holders.empty()) {
    out.why_not = "no device that has reported holds a copy";
    return out;
  }
  const auto newest_at = std::max_element(
      holders.begin(), holders.end(),
      [](const auto& a, const auto& b) { return a.second.epoch < b.second.epoch; });
  const Epoch newest = newest_at->second.epoch;
  Survey::Recorded recorded;
  for (const auto& [id, other] : holders) {
    if (other.epoch != newest || !other.primary.valid()) continue;
    if (recorded.primary.valid() && other != recorded) {
      // An old copy was at work before anybody noticed. Neither knows what the other side wrote.
      out.why_not = absl::StrCat("epoch ", newest.value(), " was issued by two repositories, and ",
                                 TitleOf(view, id),
                                 " and another device followed one each: "
                                 "`gabion slice force` decides which copy is kept");
      return out;
    }
    recorded = other;
  }
  if (GenerationOf(newest.value()) >= repository.generation()) {
    out.why_not = absl::StrCat("epoch ", newest.value(), " is of a later repository");
    return out;
  }
  if (!recorded.primary.valid()) {
    out.why_not = absl::StrCat("waits for the device that started epoch ", newest.value(), " with ",
                               TitleOf(view, newest_at->first));
    return out;
  }
  if (!PLANTED_BUG("R23-reopen-without-all-members")) {
    out.why_not = WhyNotComplete(view, holders, newest);
    if (!out.why_not.empty()) return out;
  }
  const auto member_of = [&](DeviceId id) {
    Member member;
    const proto::Device* device = repository.FindDevice(id);
    if (!id.valid() || device == nullptr) return member;
    member.device = id;
    member.sds = SdsId(device->sds());
    return member;
  };
  Member primary = member_of(recorded.primary);
  Member secondary = member_of(recorded.secondary);
  for (const auto& [id, member] :
       {std::pair(recorded.primary, primary), std::pair(recorded.secondary, secondary)}) {
    if (!id.valid()) continue;
    if (!member || PoolId(repository.FindDevice(id)->pool()) != closed.pool) {
      out.why_not = absl::StrCat(TitleOf(view, id), " holds a copy, and is not in its pool");
      return out;
    }
  }
  if (secondary && repository.DomainOf(primary.sds) == repository.DomainOf(secondary.sds)) {
    out.why_not =
        absl::StrCat(TitleOf(view, primary.device), " and ", TitleOf(view, secondary.device),
                     " hold the copies, and are in one fault set");
    return out;
  }
  if (!view.IsAble(primary)) {
    if (!view.IsAble(secondary)) {
      out.why_not = absl::StrCat("waits for ", TitleOf(view, primary.device), " to be up",
                                 secondary ? " (or the other copy)" : "");
      return out;
    }
    std::swap(primary, secondary);
  }
  out.possible = true;
  out.next.id = closed.id;
  out.next.pool = closed.pool;
  out.next.primary = view.Current(primary, true);
  if (secondary) out.next.secondary = view.Current(secondary, view.IsAble(secondary));
  out.next.issuer = recorded.issuer;
  SliceState before;
  before.epoch = newest;
  out.next.epoch = repository.NextEpoch(before);
  out.next.reign = Reign(out.next.epoch.value());
  for (const auto& [id, other] : holders) {
    if (id != primary.device && id != secondary.device) out.leftovers.push_back(id);
  }
  std::stable_sort(out.leftovers.begin(), out.leftovers.end(), [&](DeviceId a, DeviceId b) {
    return holders.at(a).epoch > holders.at(b).epoch;
  });
  return out;
}

proto::ReopenSlices DecideReopenings(const View& view, size_t max) {
  proto::ReopenSlices command;
  for (const auto& [id, closed] : view.repository.closed()) {
    if (static_cast<size_t>(command.slices_size()) == max) break;
    const Reopening reopening = DecideReopening(view, closed);
    if (!reopening.possible) continue;
    *command.add_slices() = ToProto(reopening.next);
    for (const DeviceId leftover : reopening.leftovers) {
      proto::StaleReplica* replica = command.add_leftovers();
      replica->set_slice(id.value());
      replica->set_device(leftover.value());
    }
  }
  return command;
}

std::string WhyOutdated(const View& view) {
  for (const auto& [id, reported] : view.survey->devices()) {
    for (const auto& [slice, recorded] : reported.replicas) {
      const bool is_closed = view.repository.closed().contains(slice);
      if (GenerationOf(recorded.epoch.value()) <
          view.repository.generation() + (is_closed ? 0 : 1)) {
        continue;
      }
      return absl::StrCat(TitleOf(view, id), " has recorded epoch ", recorded.epoch.value(),
                          " of slice ", slice.value(), ", which this MDM's repository (generation ",
                          view.repository.generation(), ") has not issued");
    }
  }
  return "";
}

}  // namespace gabion::mdm
