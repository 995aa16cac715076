#include "core/mdm/survey.h"

#include <algorithm>
#include <utility>

#include "core/mdm/repository.h"

namespace gabion::mdm {

bool Survey::Note(SdsId sds, const proto::SdsSurvey& report) {
  Reported reported{.sds = sds, .replicas = {}};
  for (const proto::RecordedReplica& replica : report.replicas()) {
    const Recorded recorded{.epoch = Epoch(replica.epoch()),
                            .issuer = replica.issuer(),
                            .primary = DeviceId(replica.primary_device()),
                            .secondary = DeviceId(replica.secondary_device()),
                            .joining = DeviceId(replica.joining_device())};
    if (replica.slice() == 0 || !recorded.epoch.valid()) return false;
    if (!reported.replicas.emplace(SliceId(replica.slice()), recorded).second) return false;
  }
  if (report.device() == 0) return false;
  devices_.insert_or_assign(DeviceId(report.device()), std::move(reported));
  return true;
}

const Survey::Recorded* Survey::Find(DeviceId device, SliceId slice) const {
  const auto reported = devices_.find(device);
  if (reported == devices_.end()) return nullptr;
  const auto at = reported->second.replicas.find(slice);
  return at == reported->second.replicas.end() ? nullptr : &at->second;
}

Survey::Holders Survey::HoldersOf(SliceId slice) const {
  Holders holders;
  for (const auto& [id, reported] : devices_) {
    const auto at = reported.replicas.find(slice);
    if (at != reported.replicas.end()) holders.emplace(id, at->second);
  }
  return holders;
}

uint64_t Survey::GenerationMax() const {
  uint64_t max = 0;
  for (const auto& [id, reported] : devices_) {
    for (const auto& [slice, recorded] : reported.replicas) {
      max = std::max(max, GenerationOf(recorded.epoch.value()));
    }
  }
  return max;
}

}  // namespace gabion::mdm
