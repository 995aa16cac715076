// One device's replica of one slice: what the configuration makes of it.
#pragma once

#include <memory>

#include "core/sds/config.h"
#include "core/sds/ops.h"
#include "core/sds/primary.h"
#include "core/sds/secondary.h"

namespace gabion::sds {

struct Replica {
  ReplicaKey key;
  SliceConfig config;  // as last applied; epoch 0: none
  Epoch joined;        // newest epoch in which this process followed as the joining member
  bool dirty = false;  // in Node::dirty
  bool awake = false;  // in Node::wakes
  // At most one; neither: it acts in nothing (absent, an older incarnation's, or not named).
  std::unique_ptr<Primary> primary;
  std::unique_ptr<Secondary> secondary;
};

}  // namespace gabion::sds
