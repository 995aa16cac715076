// The ordered, versioned configuration stream of every SDS (R6, docs/roles.md). Each committed
// command that concerns an SDS is one version of its stream, sent at once when it is connected; a
// new connection starts with everything (`full`). The stream also knows which fences an SDS has not
// applied, which is what grants and answers to administrators wait for.
//
// Versions carry the repository's generation and the manager's incarnation in their high half, so a
// version of an earlier run never counts as applied in this one.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/mdm/leases.h"
#include "core/mdm/repository.h"
#include "core/role/effects.h"

namespace gabion::mdm {

class ConfigStream {
 public:
  explicit ConfigStream(BufferPool* pool) : pool_(pool) {}

  // This manager starts: every SDS lacks everything.
  void Start(const Repository& repository);

  // The SDS registered on `conn`: sends everything. `must_apply`: a new incarnation, or the first
  // time in this manager's run; it gets no grant before it has applied what is sent now (R6).
  // `kept`: devices that it has and the repository does not know; they stay open.
  void Attach(const Repository& repository, SdsId sds, ConnId conn, bool must_apply,
              std::vector<proto::Device> kept, Effects& effects);
  void Detach(SdsId sds);

  // A command was committed and applied.
  void OnCommitted(const Repository& repository, const Changes& changes, Instant now,
                   Effects& effects);

  // From a heartbeat of the registered incarnation.
  void OnReport(SdsId sds, const proto::SdsHeartbeat& heartbeat);

  uint64_t version(SdsId sds) const;
  uint64_t applied(SdsId sds) const;
  uint64_t drained(SdsId sds) const;
  // The newest version that says who may use which volume.
  uint64_t access_version(SdsId sds) const;
  Leases::Fence FenceOf(SdsId sds) const;

  // Replicas whose forgetting is confirmed (drained, and not named as undropped), and still in the
  // repository's list; at most `max`.
  std::vector<std::pair<SliceId, DeviceId>> Forgotten(const Repository& repository,
                                                      size_t max) const;

  void CheckInvariants() const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  struct UnappliedFence {
    uint64_t version = 0;
    Instant committed_at;
  };
  struct Stream {
    ConnId conn;  // not valid: not connected
    uint64_t version = 0;
    uint64_t access_version = 0;
    uint64_t applied = 0;
    uint64_t drained = 0;
    std::deque<UnappliedFence> fences;                              // oldest first
    absl::btree_map<std::pair<SliceId, DeviceId>, uint64_t> stale;  // sent in this version
    absl::btree_set<std::pair<SliceId, DeviceId>> undropped;        // as last heard
    std::vector<proto::Device> kept;
  };

  proto::ConfigUpdate Full(const Repository& repository, SdsId sds) const;
  proto::ConfigUpdate Increment(const Repository& repository, SdsId sds,
                                const Changes& changes) const;
  void Send(Stream& stream, proto::ConfigUpdate update, Effects& effects);
  void NoteStale(Stream& stream, const proto::ConfigUpdate& update);

  BufferPool* pool_;
  absl::btree_map<SdsId, Stream> streams_;
  uint64_t first_version_ = 0;
};

// True when the configuration of this slice must be known to that SDS.
bool Concerns(const Repository& repository, const SliceState& slice, SdsId sds);

}  // namespace gabion::mdm
