#include "sim/cluster/config_watch.h"

namespace gabion::sim {

void ConfigWatch::OnSend(NodeIndex from, NodeIndex, const wire::Message& message) {
  if (from != mdm_ || !std::holds_alternative<wire::ManagementBody>(message.body)) return;
  const Result<proto::Management> management = wire::ParseManagement(message);
  if (!management.has_value() || !management->has_config_update()) return;
  for (const proto::SliceConfig& config : management->config_update().slices()) {
    proto::SliceConfig& known = slices_[config.slice()];
    if (config.epoch() == known.epoch()) known.set_release(config.release());
    if (config.epoch() <= known.epoch()) continue;
    ++epochs_;
    if (known.epoch() != 0 && known.primary().sds() != config.primary().sds()) {
      ++(known.release() ? role_switches_ : fail_overs_);
    }
    const bool promoted = known.has_joining() && config.has_secondary() &&
                          known.joining().device() == config.secondary().device();
    known = config;
    if (promoted && on_promotion_) on_promotion_(config.slice());
  }
}

}  // namespace gabion::sim
