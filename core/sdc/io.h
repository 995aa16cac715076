// User requests on their way through the cluster.
//
// A request is split into parts, one slice each (split.h). A part makes attempts: messages to the
// primary of its slice. The law is R10: a write keeps one id through all its attempts, and within a
// reign a new attempt is sent only when the one before was refused, or its connection is confirmed
// to be closed. "Fenced" below: the last attempt can no longer be admitted by anybody.
//
//                 .------------------------- route, id and connection there? -------.
//                 |                                                                 v
//   new --> kAwaitingRoute   kAwaitingId   kAwaitingLink        sent ----------> kSent --answer-->
//   done
//              ^    kAwaitingPause   kAwaitingConfirm   <--- refused (fenced) -----|
//              |                                                                  | connection lost
//              '--- newer reign, or hello answered by the same SDS (fenced) --- kUnconfirmed
//
// | state            | attempt out | leaves when                                                |
// |------------------|-------------|------------------------------------------------------------|
// | kAwaitingRoute   | no          | the map names a primary                                    |
// | kAwaitingId      | no          | the slice's low-water mark moves (R10: 1,024 ids)          |
// | kAwaitingLink    | no          | the connection to the primary is up                        |
// | kAwaitingPause   | no          | the pause ends, or the map has a newer reign or snap number|
// | kAwaitingConfirm | no          | the MDM has confirmed the map                              |
// | kSent            | yes         | answered; connection lost; newer reign                     |
// | kUnconfirmed     | yes         | a hello reply of that SDS; newer reign                     |
//
// A part that must fail (io_timeout, unmapped) has `doom` set and fails once no attempt is out: a
// write reported as failed never takes effect later. One that was out at a primary which is gone is
// `uncertain`: it may be in that primary's log, which may come back when its successor fails, too.
// So a time-out does not fail it any more: the successor gets it, and answers for it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "core/base/buffer.h"
#include "core/base/fifo.h"
#include "core/base/ids.h"
#include "core/base/slot_table.h"
#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/role/metrics.h"
#include "core/sdc/map_cache.h"
#include "core/sdc/mdm_session.h"
#include "core/sdc/reaction.h"
#include "core/sdc/request_ids.h"
#include "core/sdc/sds_session.h"
#include "core/wire/data.h"

namespace gabion::sdc {

struct IoOptions {
  BufferPool* pool = nullptr;
  uint32_t requests_max = 0;
  uint32_t parts_max = 0;
  Duration io_timeout{0};
  Duration connection_timeout{0};
  DialTag dial_base = 0;        // of the first SDS session; each takes 2^32
  TimerTag session_timers = 0;  // of the first SDS session; each takes one
  TimerTag pause_timer = 0;
  TimerTag watch_timer = 0;
};

// What a step works with.
struct Context {
  const Now& now;
  MdmSession& mdm;
  Effects& effects;
};

// Counted since the start; for people and tests.
struct IoCounters {
  uint64_t attempts = 0;
  uint64_t retries = 0;        // attempts after the first of a part
  uint64_t bad_checksums = 0;  // of data that an SDS sent
  uint64_t malformed = 0;      // answers that do not fit what was asked
  uint64_t timeouts = 0;       // requests that met io_timeout
};

// Requests that ended, by what was asked.
struct IoStats {
  LatencyHistogram latency;  // of all, failed ones too
  uint64_t bytes = 0;        // of those that succeeded
  uint64_t errors = 0;
};

class Io {
 public:
  explicit Io(const IoOptions& options);

  // One read, write, trim, write of zeroes or question for block status. Refused at once when the
  // table is full; waits for the first map.
  void Submit(Context& context, const UserRequestEvent& request);
  bool idle() const { return requests_.empty(); }

  void OnMapChanged(Context& context);
  // The MDM session's confirmed() rose.
  void OnConfirmed(Context& context);

  // False: the event is not of an SDS session.
  bool OnConnected(Context& context, const ConnectedEvent& event, const wire::Hello& self);
  bool OnConnectFailed(Context& context, const ConnectFailedEvent& event);
  bool OnDisconnected(Context& context, const DisconnectedEvent& event);
  bool OnMessage(Context& context, const MessageEvent& event);
  bool OnTimer(Context& context, TimerTag tag);

  // SDSs that parts wait for and that are not connected, in order of id.
  std::vector<SdsId> Unreachable() const;
  const IoCounters& counters() const { return counters_; }
  void Collect(MetricList& metrics) const;

  void CheckInvariants() const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  struct Request {
    UserTag tag = 0;
    UserOp op{};
    VolumeId volume;
    Instant submitted{};
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t cursor = 0;   // the rest has no part yet
    bool checked = false;  // against the map
    bool gathers = false;  // an answer in several parts: they meet in `payload`
    uint32_t stride = 0;   // kBlockStatus: the pool's number of slices
    uint32_t parts_open = 0;
    int error = 0;
    Instant deadline = kNever;
    Slice payload;  // of a write; what a read has got

    bool has_answer() const { return op == UserOp::kRead || op == UserOp::kBlockStatus; }
  };

  enum class PartState : uint8_t {
    kAwaitingRoute,
    kAwaitingId,
    kAwaitingLink,
    kAwaitingPause,
    kAwaitingConfirm,
    kSent,
    kUnconfirmed,
  };

  struct Part {
    PartState state = PartState::kAwaitingRoute;
    bool is_read = false;      // it changes nothing: no id, and a late answer harms nobody
    uint32_t chunk_count = 0;  // kBlockStatus: of one slice, from the target's on; 0: a real read
    SlotTag request;
    uint64_t sequence = 0;        // order of creation
    uint64_t request_offset = 0;  // bytes of the request before this part
    wire::WriteRequest message;   // of a write; a read uses its target alone
    Slice payload;
    // The last attempt.
    uint32_t attempts = 0;
    uint32_t session = 0;  // index; also what kAwaitingLink waits for
    Reign reign;
    SnapNumber snap_number;
    // Retries.
    Instant resume_at;
    Duration pause{0};
    uint32_t tries = 0;
    wire::Status refusal = wire::Status::kOk;
    uint64_t confirm_number = 0;
    int doom = 0;
    bool uncertain = false;  // only of writes

    bool fails() const { return doom != 0 && !uncertain; }
    bool attempt_out() const {
      return state == PartState::kSent || state == PartState::kUnconfirmed;
    }
  };

  struct SliceState {
    RequestIds ids;
    RequestId low_water_told{1};
    uint32_t awaiting_id = 0;  // parts
  };

  // Requests (requests.cc).
  // What every handler ends with: parts and requests that found room move on.
  void Pump(Context& context);
  // False: it waits for room, and so does every request behind it.
  bool Issue(Context& context, SlotTag tag);
  // Once, before the first part. False: no memory now.
  bool Prepare(Context& context, Request& request);
  void ForgetFinished();  // from unissued_
  int CheckAgainstMap(const Request& request, const MapCache& map) const;
  void AddPart(Context& context, SlotTag tag, const VolumeInfo& volume);
  // Of a kBlockStatus: the chunks of one slice, so that few messages cover much.
  void AddPresencePart(Context& context, SlotTag tag, const VolumeInfo& volume);
  // The part is over; its attempt is fenced or answered.
  void Settle(Context& context, SlotTag tag, int error, Slice data = {});
  void TakeData(Request& request, const Part& part, Slice data);
  void TakePresence(Request& request, const Part& part, const Slice& data);
  void FinishIfSettled(Context& context, SlotTag tag);
  void Doom(Context& context, SlotTag tag, int error);
  void ExpireRequests(Context& context);

  // Attempts (attempts.cc).
  void TrySend(Context& context, SlotTag tag);
  void Send(Context& context, SlotTag tag, SdsSession& session, const VolumeInfo& volume,
            Route route);
  void OnWriteReply(Context& context, SdsSession& session, const wire::WriteReply& reply);
  void OnReadReply(Context& context, SdsSession& session, const wire::ReadReply& reply,
                   const Slice& payload);
  void OnPresenceReply(Context& context, SdsSession& session, const wire::PresenceReply& reply,
                       const Slice& payload);
  void OnRefusal(Context& context, SlotTag tag, wire::Status status);
  void Pause(Context& context, Part& part);
  void ArmPauseTimer(Context& context, Instant when);
  void OnPauseTimer(Context& context);
  // No attempt is out any more, for the reason that the caller has.
  void RetireAttempt(Part& part);
  bool MapIsNewer(const Part& part, const MapCache& map) const;

  // SDS sessions (sessions.cc).
  SdsSession* SessionOf(Context& context, SdsId sds);
  SdsSession* FindByConn(ConnId conn);
  // The SDS at the other end is this process now.
  void OnProcess(SdsSession& session, Incarnation incarnation);
  void OnLinkChange(Context& context, SdsSession& session, Link::Change change);
  void GiveUp(Context& context, SdsSession& session, std::string_view reason);
  void ArmWatch(Context& context);
  void OnWatchTimer(Context& context);
  void WatchSession(Context& context, SdsSession& session);
  // Low-water marks of idle slices, and signs of life asked of silent sessions.
  void SendHeartbeats(Context& context);

  // Tags of the parts for which `wanted(part)` holds, in order of creation.
  template <class Wanted>
  std::vector<SlotTag> Collect(Wanted wanted) const {
    std::vector<std::pair<uint64_t, SlotTag>> found;
    parts_.ForEach([&](SlotTag tag, const Part& part) {
      if (wanted(part)) found.emplace_back(part.sequence, tag);
    });
    std::sort(found.begin(), found.end());
    std::vector<SlotTag> tags;
    tags.reserve(found.size());
    for (const auto& [sequence, tag] : found) tags.push_back(tag);
    return tags;
  }

  IoOptions options_;
  SlotTable<Request> requests_;
  SlotTable<Part> parts_;
  Fifo<SlotTag> unissued_;  // requests with bytes that have no part yet, oldest first
  uint64_t last_sequence_ = 0;
  absl::btree_map<SliceId, SliceState> slices_;
  std::vector<SliceId> opened_;      // their window of ids moved while parts waited for it
  std::deque<SdsSession> sessions_;  // a deque: references stay valid
  absl::btree_map<SdsId, uint32_t> session_by_sds_;
  absl::flat_hash_map<ConnId, uint32_t> session_by_conn_;
  bool watch_armed_ = false;
  Instant pause_timer_at_ = kNever;
  IoCounters counters_;
  enum StatsKind : uint8_t { kReads, kWrites, kZeroes, kQuestions, kKinds };
  static StatsKind StatsKindOf(UserOp op);
  std::array<IoStats, kKinds> stats_;
};

}  // namespace gabion::sdc
