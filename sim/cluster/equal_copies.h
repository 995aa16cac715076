// Equal copies: nobody ever finds two copies of a block in sync that match their checksums and
// differ. Scanners compare (S7), while clients write and everything fails; a difference is theirs,
// by a comparison that is wrong, or the protocol's.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/sds/inspect.h"
#include "sim/world/world.h"

namespace gabion::sim {

class EqualCopies : public Observer {
 public:
  // How many extents a role has found to differ.
  using Count = uint64_t (*)(const Role&);

  EqualCopies(World* world, std::vector<NodeIndex> sdss, Count differed = sds::CopiesThatDiffered)
      : world_(world), sdss_(std::move(sdss)), differed_(differed) {}

  void OnStepped(NodeIndex node, const Event& event) override;

 private:
  World* world_;
  std::vector<NodeIndex> sdss_;
  Count differed_;
};

}  // namespace gabion::sim
