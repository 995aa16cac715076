// What every SDC knows: its volumes, and where their slices are served. One ordered stream per
// connection, first update `full`. New rights (a mapping, a larger volume) are shown to the client
// only after every SDS concerned has them, or is out of lease: so no client is refused what it was
// just given. Losses and routes are sent at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/config_stream.h"
#include "core/mdm/leases.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"
#include "core/role/effects.h"

namespace gabion::mdm {

// The pools of the volumes that are mapped to the SDC.
std::vector<PoolId> PoolsOf(const Repository& repository, SdcId sdc);

// Every SDS of the pool has what says who may use which volume, or is out of lease; `drained`: and
// has settled what it admitted before (R6).
bool IsAccessSettled(const Repository& repository, PoolId pool, const ConfigStream& config,
                     const Leases& leases, bool drained, Instant now);

proto::SliceRoute RouteOf(const Repository& repository, const SliceState& slice);

class MapStream {
 public:
  explicit MapStream(BufferPool* pool) : pool_(pool) {}

  // The SDC's registration is committed; it is answered when its fence is complete. Returns an
  // older connection, to be closed.
  ConnId Attach(SdcId sdc, ConnId conn, uint64_t tag, Incarnation incarnation, Instant now);
  void Detach(SdcId sdc);
  ConnId ConnOf(SdcId sdc) const;

  void OnCommitted(const Repository& repository, const Changes& changes, Effects& effects);
  // Sends what has become due: answers to registrations, full maps.
  void Flush(const Repository& repository, const ConfigStream& config, const Leases& leases,
             Instant now, Effects& effects);
  // The newest version, for the heartbeat's reply; nothing when not from the registered connection.
  bool OnHeartbeat(SdcId sdc, ConnId conn, const proto::SdcHeartbeat& heartbeat, Instant now,
                   uint64_t* version);
  // Clients that wait for a connection to an SDS, and have done so for more than a moment.
  void AddAccusers(View& view) const;

  bool IsUp(SdcId sdc, Instant now) const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  struct Session {
    ConnId conn;
    Incarnation incarnation;
    uint64_t tag = 0;
    Instant heard_at;
    struct Missed {
      Instant since = kNever;
      Instant last;
    };
    absl::btree_map<SdsId, Missed> missed;
    bool answered = false;  // the registration
    bool full_due = false;  // everything is to be sent (again)
    bool has_map = false;   // increments make sense
    uint64_t version = 0;   // of this connection
  };

  void Send(Session& session, const proto::Management& management, uint64_t tag, Effects& effects);
  void SendUpdate(Session& session, proto::MapUpdate update, Effects& effects);
  proto::MapUpdate Full(const Repository& repository, SdcId sdc) const;

  BufferPool* pool_;
  absl::btree_map<SdcId, Session> sessions_;
};

}  // namespace gabion::mdm
