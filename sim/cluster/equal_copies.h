// Equal copies: nobody ever finds two copies of a block in sync that match their checksums and
// differ. Scanners compare (S7), while clients write and everything fails; a difference is theirs,
// by a comparison that is wrong, or the protocol's.
#pragma once

#include <utility>
#include <vector>

#include "sim/world/world.h"

namespace gabion::sim {

class EqualCopies : public Observer {
 public:
  EqualCopies(World* world, std::vector<NodeIndex> sdss) : world_(world), sdss_(std::move(sdss)) {}

  void OnStepped(NodeIndex node, const Event& event) override;

 private:
  World* world_;
  std::vector<NodeIndex> sdss_;
};

}  // namespace gabion::sim
