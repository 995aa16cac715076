// The same SDS twice (R22): a machine is frozen, an image of it starts elsewhere under the same
// name, and then the frozen one wakes up. The image does not hold the state lock, so the old lease
// must run out before anybody else is primary; afterwards the old process may do nothing.
//
// The image lacks what the old process acknowledges after it wakes, so this is in budget only while
// a peer has all of that, and stays well until the image has fetched it: the old process wakes when
// the MDM knows the new incarnation, no slice lives on it alone, nobody counts on it in an epoch
// that is over, and everybody else is well; and then nothing else happens for a while.
//
// Or: the original ends, and both begin with the same copy of the state directory, so that they
// come to the same incarnation. Only one of them may have it.
#pragma once

#include "sim/cluster/cluster.h"
#include "sim/cluster/config_watch.h"
#include "sim/fault/injector.h"

namespace gabion::sim {

class TwinStory : public Observer {
 public:
  TwinStory(Cluster* cluster, const ConfigWatch* watch, FaultInjector* injector);

  // Now, if the cluster is in a state that allows it.
  void Happen();
  bool happened() const { return state_ != State::kNotYet; }
  // The faults are over: the old process must not be woken any more.
  void End();

  void OnSend(NodeIndex from, NodeIndex to, const wire::Message& message) override;

 private:
  enum class State : uint8_t { kNotYet, kFrozen, kReplaced, kRace, kOver };

  bool LivesAlone() const;
  bool MayWake() const;
  void Wake();
  void Race();

  Cluster* cluster_;
  World* world_;
  const ConfigWatch* watch_;
  FaultInjector* injector_;
  Stream stream_;
  State state_ = State::kNotYet;
};

}  // namespace gabion::sim
