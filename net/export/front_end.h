// Where block I/O comes from: what turns a foreign protocol into user requests for an SDC role, and
// the answers back. A host calls it on its own thread only.
#pragma once

#include <vector>

#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/role/metrics.h"

namespace gabion::net {

class FrontEnd {
 public:
  virtual ~FrontEnd() = default;
  // Appends the requests that are due (UserRequestEvent).
  virtual void TakeRequests(std::vector<Event>& events) = 0;
  virtual void OnReply(const UserReplyEffect& reply) = 0;
  virtual void OnNotice(const UserNoticeEffect& notice) = 0;
  // After each burst: sends what the replies left, reads on where memory or budget was short.
  virtual void EndTurn() = 0;
  // There are requests to take that no descriptor will announce.
  virtual bool has_requests() const = 0;
  // Numbers for monitoring.
  virtual void Collect(MetricList& metrics) const = 0;
  // Takes nothing new; what is in flight is answered.
  virtual void Shutdown() = 0;
};

}  // namespace gabion::net
