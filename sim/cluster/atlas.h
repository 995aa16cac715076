// The fault atlas, as far as it depends on what the cluster is doing: whether a server's disk may
// lose its content now without taking the last good copy of anything with it. It looks at the
// committed configuration and at the world, and is careful: a run with no such moment loses
// nothing.
#pragma once

#include "sim/cluster/cluster.h"
#include "sim/cluster/config_watch.h"

namespace gabion::sim {

class Atlas {
 public:
  Atlas(const Cluster* cluster, const ConfigWatch* watch) : cluster_(cluster), watch_(watch) {}

  // Everybody who keeps data or metadata runs and hears the others, and every slice is whole.
  bool AllIsWell() const { return EverybodyIsWell() && SlicesAreWhole(); }

 private:
  bool EverybodyIsWell() const;
  // Both members of each are present and act in its newest epoch.
  bool SlicesAreWhole() const;

  const Cluster* cluster_;
  const ConfigWatch* watch_;
};

}  // namespace gabion::sim
