// Single primary: at no instant of true time would two SDSs serve the same slice. Looked at after
// every step of an SDS, because only a step can make one serve; time alone can only end a lease.
#pragma once

#include <vector>

#include "core/base/ids.h"
#include "sim/world/world.h"

namespace gabion::sim {

class SinglePrimary : public Observer {
 public:
  SinglePrimary(World* world, std::vector<NodeIndex> sdss)
      : world_(world), sdss_(std::move(sdss)) {}

  void OnStepped(NodeIndex node, const Event& event) override;

 private:
  void Serving(NodeIndex node, std::vector<SliceId>* slices) const;

  World* world_;
  std::vector<NodeIndex> sdss_;
  std::vector<SliceId> mine_;
  std::vector<SliceId> theirs_;
};

// The first slice that is in both; nothing (an invalid id) when none is.
SliceId FirstInBoth(const std::vector<SliceId>& a, const std::vector<SliceId>& b);

}  // namespace gabion::sim
