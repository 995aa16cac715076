// An administrator who takes volumes from clients and gives them back, at any time. Once an unmap
// is answered, nothing that the client had under way takes effect any more (R6; scenario 43).
#pragma once

#include "sim/cluster/cluster.h"

namespace gabion::sim {

class AccessStory {
 public:
  explicit AccessStory(Cluster* cluster);

  // Until `end`.
  void Run(TrueTime end);
  // The faults are over: what is taken is given back at once.
  void End();

 private:
  void Schedule();
  void Unmap();
  void Map();

  Cluster* cluster_;
  World* world_;
  Stream stream_;
  TrueTime end_ = 0;
  bool over_ = true;
  bool taken_ = false;  // the unmap is answered, the map not commanded yet
  uint32_t client_ = 0;
  uint32_t volume_ = 0;
};

}  // namespace gabion::sim
