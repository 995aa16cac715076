// One SDS is killed and nothing else goes wrong. Then no request of a client takes longer than the
// lease and half a second, or than a second when the process is back at once.
#pragma once

#include "sim/cluster/cluster.h"
#include "sim/fault/injector.h"

namespace gabion::sim {

class KillStory {
 public:
  KillStory(Cluster* cluster, FaultInjector* injector);

  // Some time before `end`, early enough for the SDS to be back.
  void Run(TrueTime end);
  // After the load: empty, or which bound was missed.
  std::string Judge() const;

 private:
  Cluster* cluster_;
  World* world_;
  FaultInjector* injector_;
  Stream stream_;
  bool at_once_ = false;
  bool killed_ = false;
};

}  // namespace gabion::sim
