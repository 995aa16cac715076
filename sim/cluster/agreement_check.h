// Convergence of what everybody believes: at rest each slice's members act in its newest epoch and
// nobody else acts at all, no slice has a joiner, and every device that works holds the replicas
// that the configuration gives it and no other. Looked up in the roles, and on the simulated
// devices themselves.
#pragma once

#include <string>
#include <vector>

#include "sim/cluster/cluster.h"
#include "sim/cluster/config_watch.h"

namespace gabion::sim {

// Empty, or what is wrong. `sdss`: all nodes that may run an SDS.
std::string CheckActing(Cluster& cluster, const ConfigWatch& watch,
                        const std::vector<NodeIndex>& sdss);
// By the devices of the status that the cluster asked for last.
std::string CheckReplicas(Cluster& cluster, const ConfigWatch& watch);

}  // namespace gabion::sim
