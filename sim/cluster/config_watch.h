// Listens to what the MDM tells the SDSs: the newest committed configuration of each slice, and the
// fail-overs. It sees the messages as they are sent, which is after their commit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "core/wire/management.h"
#include "sim/world/world.h"

namespace gabion::sim {

class ConfigWatch : public Observer {
 public:
  explicit ConfigWatch(NodeIndex mdm) : mdm_(mdm) {}

  const std::map<uint64_t, proto::SliceConfig>& slices() const { return slices_; }
  // Epochs that moved the primary to another SDS: without its consent, and with it.
  uint64_t fail_overs() const { return fail_overs_; }
  uint64_t role_switches() const { return role_switches_; }
  uint64_t epochs() const { return epochs_; }
  // Called with the slice when what was joining it is a secondary.
  void OnPromotion(std::function<void(uint64_t)> call) { on_promotion_ = std::move(call); }

  void OnSend(NodeIndex from, NodeIndex to, const wire::Message& message) override;

 private:
  NodeIndex mdm_;
  std::map<uint64_t, proto::SliceConfig> slices_;
  uint64_t fail_overs_ = 0;
  uint64_t role_switches_ = 0;
  uint64_t epochs_ = 0;
  std::function<void(uint64_t)> on_promotion_;
};

}  // namespace gabion::sim
