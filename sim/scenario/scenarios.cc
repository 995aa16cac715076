#include <array>
#include <vector>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

ClusterOptions SmallCluster(uint32_t sds_count, uint32_t sdc_count) {
  ClusterOptions options;
  options.sds_count = sds_count;
  options.sdc_count = sdc_count;
  options.slice_count = 4;
  options.volume_bytes = 4 << 20;
  options.rebuild_delay = std::chrono::seconds(2);
  return options;
}

std::span<const Scenario> AllScenarios() {
  static const std::vector<Scenario> kScenarios = [] {
    std::vector<Scenario> all;
    for (const std::span<const Scenario> some :
         std::array{ServerScenarios(), DeviceScenarios(), DiskScenarios(), ClientScenarios(),
                    ManagerScenarios(), StateScenarios()}) {
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }();
  return kScenarios;
}

}  // namespace gabion::sim
