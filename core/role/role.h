// A role: plain data plus one function. Both hosts (net/ + disk/, and sim/) drive it through this.
#pragma once

#include <memory>
#include <string>

#include "core/base/buffer.h"
#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/role/metrics.h"

namespace gabion {

class Role {
 public:
  virtual ~Role() = default;

  // Handles one event; `effects` comes in empty. Never blocks, never re-enters. `now.boot` never
  // goes back; it may stand still between events of one burst.
  virtual void Step(const Now& now, const Event& event, Effects& effects) = 0;

  // Aborts when the role's own data contradict each other. The simulator calls it after every step.
  virtual void CheckInvariants() const = 0;

  // State for people: a few lines per component, stable order. Also what `status` of a daemon
  // prints.
  virtual std::string Dump() const = 0;

  // Numbers for monitoring. A role may have none.
  virtual void Collect(MetricList& /*metrics*/) const {}

  // Order-independent of addresses and hash seeds; equal states give equal hashes.
  virtual uint64_t StateHash() const = 0;
};

// What a host lends a role. The pool outlives the role; its buffers may outlive both.
struct RoleResources {
  BufferPool* pool = nullptr;
};

}  // namespace gabion
