#include "core/mdm/restored.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/mdm/admin_answers.h"
#include "core/mdm/reopening.h"

namespace gabion::mdm {

using Code = proto::AdminReply;

AdminDecision DecideRestored(const View& view, const proto::MdmRestored& request) {
  if (!request.accept_older_repository()) {
    return Refuse(
        Code::INVALID,
        "this is for an MDM whose newest state folder is lost: everything that was "
        "created, mapped, unmapped, grown or removed after its copy was made is as it was "
        "then (data stays). Repeat with --accept-older-repository only if there is no "
        "newer state folder");
  }
  const uint64_t highest = std::max(view.repository.generation(), view.generation_seen);
  if (highest >= kGenerationMax) {
    return Refuse(Code::CONFLICT,
                  absl::StrCat("generation ", highest, " is the last one that ids have room for"));
  }
  AdminDecision decision;
  decision.command.mutable_raise_generation()->set_generation(highest + 1);
  return decision;
}

AdminDecision DecideForceOfClosed(const View& view, const SliceState& closed,
                                  const proto::SliceForce& request) {
  const std::string name = absl::StrCat("slice ", request.slice());
  const DeviceId id(request.device());
  const proto::Device* device = view.repository.FindDevice(id);
  const Survey::Recorded* copy = view.survey->Find(id, closed.id);
  const bool was_member = id == closed.primary.device || id == closed.secondary.device;
  if (device == nullptr || PoolId(device->pool()) != closed.pool ||
      (copy == nullptr && !was_member)) {
    return Refuse(Code::NOT_FOUND, absl::StrCat(name, " has no copy on device ", request.device(),
                                                ": `gabion slice list` shows what is known"));
  }
  const Reopening reopening = DecideReopening(view, closed);
  if (reopening.possible) {
    return Refuse(Code::CONFLICT, absl::StrCat(name,
                                               " has a good copy that is about to serve: "
                                               "nothing needs to be forced"));
  }
  if (!view.are_old_leases_over) {
    return Refuse(Code::UNAVAILABLE,
                  absl::StrCat(name, ": its primary may still hold a lease: repeat in a second"));
  }
  if (!view.IsAble(SdsId(device->sds()), id) || !view.survey->HasReported(id)) {
    return Refuse(Code::UNAVAILABLE,
                  absl::StrCat(name, ": ", TitleOf(view, id), " is not up: start its SDS first"));
  }
  for (const auto& [other, recorded] : view.survey->HoldersOf(closed.id)) {
    const proto::Device* known = view.repository.FindDevice(other);
    if (known == nullptr || !view.IsAble(SdsId(known->sds()), other)) continue;
    if (copy != nullptr && recorded.epoch <= copy->epoch) continue;
    return Refuse(Code::CONFLICT, absl::StrCat(name, ": ", TitleOf(view, other),
                                               " has a newer copy, and is up: force that one"));
  }
  return ForceCopy(view, request, SdsId(device->sds()));
}

std::string WhyNothingGoes(const Repository& repository) {
  if (repository.closed().empty()) return "";
  return absl::StrCat(
      "nothing is removed while slices of this restored repository are not served (",
      repository.closed().size(),
      " are not): their newest data may be there. `gabion slice list` says what each waits for");
}

std::vector<std::string> RestoreNotices(const View& view) {
  std::vector<std::string> notices;
  const Repository& repository = view.repository;
  if (repository.generation() == 0 || view.survey == nullptr) return notices;
  if (!repository.closed().empty()) {
    notices.push_back(absl::StrCat(
        repository.closed().size(),
        " slices are not served yet: the repository was restored from an older copy, and each "
        "waits for the devices that hold its newest data (`gabion slice list` says which). Start "
        "the SDSs that are down; for what is lost for good: `gabion slice force`"));
  }
  for (const auto& [name, id] : view.lost_sdss) {
    notices.push_back(
        absl::StrCat("SDS \"", name, "\" (id ", id.value(),
                     ") was added after the copy of this repository was made: `gabion "
                     "sds add ",
                     name, "` (with its fault set) takes it in again with its data"));
  }
  for (const auto& [name, id] : view.lost_sdcs) {
    notices.push_back(
        absl::StrCat("SDC \"", name, "\" (id ", id.value(),
                     ") was added after the copy of this repository was made: `gabion "
                     "sdc add ",
                     name, "` takes it in again"));
  }
  for (const auto& [id, reported] : view.survey->devices()) {
    uint64_t strange = 0;
    for (const auto& [slice, recorded] : reported.replicas) {
      if (!repository.PoolOfSlice(slice).valid()) ++strange;
    }
    const bool is_known = repository.FindDevice(id) != nullptr;
    if (strange == 0 && (is_known || !reported.replicas.empty())) continue;  // or soon known
    notices.push_back(
        is_known || strange != 0
            ? absl::StrCat(TitleOf(view, id), " holds ", strange,
                           " slices of pools that this repository does not know: they are left as "
                           "they are; only a newer state folder of the MDM knows them")
            : absl::StrCat(TitleOf(view, id),
                           ", was added after the copy of this repository was made, and holds "
                           "nothing: `gabion device add` with --force takes it in as a new one"));
  }
  return notices;
}

}  // namespace gabion::mdm
