// A replica as the primary of its slice: opens the epoch, admits, orders, replicates, commits,
// answers.
//
//   kAwaitingDevice --> kAwaitingTail --> kAwaitingAdopt --> kAwaitingFetch --> kAwaitingStart -->
//   kServing
//        |                  (skipped without a present secondary)                  ^
//        |                                                                         |
//        +-------------------------------------------------------------------------+
//   any of them --> kNeedsResync, kStopped   (until a newer configuration)
//
// A newer configuration that still names this incarnation as primary begins at the top again and
// keeps what is in flight: the start record gives it new names (R18). Anything else ends the
// object.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/fifo.h"
#include "core/base/ids.h"
#include "core/sds/config.h"
#include "core/sds/context.h"
#include "core/sds/examine.h"
#include "core/sds/join_source.h"
#include "core/sds/lineage.h"
#include "core/sds/ops.h"
#include "core/sds/range_lock.h"
#include "core/sds/repair.h"
#include "core/sds/requests.h"

namespace gabion::sds {

// How the primary sees another member.
struct Follower {
  enum class State : uint8_t {
    kNone,           // there is no such member, or it is absent
    kAwaitingTail,   // asked, or to be asked, what it holds
    kTailKnown,      // waits for this side
    kAwaitingStart,  // has, or is to get, the record of the epoch
    kActive,         // follows
    kStopped,        // refused for good in this epoch
  };
  State state = State::kNone;
  Member member;
  Lineage lineage;      // kTailKnown and later: what it said
  Epoch in_sync_epoch;  // as it said
  uint64_t in_sync_issuer = 0;
  uint64_t sent = 0;             // seq of this epoch
  uint64_t acked = 0;            // durable there
  wire::Credits credits;         // R24: what it promised in this epoch
  uint64_t extents_used = 0;     // of them
  uint64_t log_used = 0;         // of them, or given back
  bool give_back = false;        // it wants back what is not used
  Instant short_since = kNever;  // a write waits for credits since
  Instant ask_at = kNever;       // for what it can promise now: not before
  bool probing = false;          // it had no room: one entry at a time until it takes one
  uint64_t commit_told = 0;
  ConnId conn;                    // connection that carried what was sent
  bool asked = false;             // the question of this state was sent on `conn`
  Instant retry_at = kNever;      // it was behind: not before
  Instant owed_since = kNever;    // it owes an answer since
  std::optional<uint64_t> start;  // joining: entries up to here are not forwarded
  bool needs_resync = false;
  bool no_space = false;

  bool active() const { return state == State::kActive; }
};

struct InFlight {
  enum class Payload : uint8_t { kHere, kAbsent, kLoading };
  wire::EntryHeader header;
  Payload payload_state = Payload::kHere;
  Slice payload;
  std::array<uint32_t, wire::kDataBlocksMax> crc{};
  RangeLock::Handle lock;
  SlotTag request;       // who waits for it; none: nobody
  uint64_t ordinal = 0;  // of its append; 0: durable with the epoch's start
  // Follower::extents_used and log_used with it. Zeroes: admitted before the first promise.
  struct Used {
    uint64_t extents = 0;
    uint64_t log_bytes = 0;
  };
  Used secondary_used;
  Used joining_used;
  ConfigVersion admitted_at;
};

class Primary {
 public:
  enum class Phase : uint8_t {
    kAwaitingDevice,
    kAwaitingTail,
    kAwaitingAdopt,
    kAwaitingFetch,
    kAwaitingStart,
    kServing,
    kNeedsResync,
    kStopped,
  };

  // `joined`: the epoch in which this process was joining the slice, if it was (S2).
  Primary(ReplicaKey key, Epoch joined, uint64_t instance);

  // A configuration that names this process as present primary: a newer epoch, or the same with
  // another `release`.
  void OnConfig(Context& ctx, const SliceConfig& config);
  // Before the object goes: requests that are not admitted are refused with `status`; writes in
  // flight are not answered, their fate is the next reign's.
  void End(Context& ctx, wire::Status status);

  void OnRequest(Context& ctx, SlotTag request);
  // Everything that may have changed while the request waited, checked at arrival and at admission.
  // `hold`: it must wait for the configuration that its client already has.
  wire::Status CheckRequest(Context& ctx, const Request& request, bool* hold) const;
  void Refuse(Context& ctx, SlotTag tag, wire::Status status);
  // Which blocks of the chunks at [first, first + stride, ...] have committed data, or are being
  // changed: as a read that is answered at once. `client` carries the target and who asks.
  wire::Status Presence(Context& ctx, const Request& client, uint32_t stride,
                        std::span<wire::ChunkPresence> into) const;
  // The request leaves the table unadmitted: its lock goes to the next one.
  void ForgetRequest(Context& ctx, SlotTag tag, Request& request);

  void OnTailReply(Context& ctx, const wire::TailReply& reply, const Slice& payload);
  void OnFetchReply(Context& ctx, const wire::FetchReply& reply, const Slice& payload);
  void OnEpochStartReply(Context& ctx, const wire::EpochStartReply& reply);
  void OnReplicateAck(Context& ctx, const wire::ReplicateAck& ack);
  void OnJoinAck(Context& ctx, const wire::JoinAck& ack);
  void OnChangedReply(Context& ctx, const wire::ChangedReply& reply, const Slice& payload);
  void OnExtentReply(Context& ctx, const wire::ExtentReply& reply, const Slice& payload);
  void OnScanFixReply(Context& ctx, const wire::ScanFixReply& reply);
  void OnScanHint(Context& ctx, const wire::ScanHint& hint);
  // Compares both copies of an extent and tells the device's scanner (S7). False: there is no
  // second copy in sync, or this is not the moment.
  bool Examine(Context& ctx, const store::ChunkKey& key, uint16_t extent) {
    return examinations_.Start(ctx, *this, key, extent, /*for_scan=*/true);
  }
  // A joining is being fed from here.
  bool feeds_joining() const { return join_.forwards() && !join_.binding(); }
  void OnDone(Context& ctx, const Op& op, store::DoneStatus status);

  // Does everything that can be done now. Called whenever something changed.
  void Advance(Context& ctx);
  // What the secondary and the joining member were not told yet.
  void AddCommitPoints(Context& ctx);
  void AddReports(Context& ctx, proto::SdsHeartbeat* heartbeat);

  Phase phase() const { return phase_; }
  bool serving() const { return phase_ == Phase::kServing; }
  Epoch epoch() const { return config_.epoch; }
  Reign reign() const { return config_.reign; }
  uint64_t instance() const { return instance_; }
  const ReplicaKey& key() const { return key_; }
  bool IsFollowerOf(SdsId sds, DeviceId device) const;
  // May this side be asked to serve: for the simulator's single-primary check and for status.
  bool MayServe() const { return serving() && !released_; }

  void CheckInvariants(const Node& node) const;
  std::string Dump() const;  // one line
  uint64_t StateHash() const;

 private:
  friend class JoinSource;
  friend class Repairs;
  friend class Examinations;
  friend struct HeldExtent;

  void MaybeRelease(Context& ctx);

  // ---- epoch_opening.cc
  void AdvanceOpening(Context& ctx);
  void OpenOnDevice(Context& ctx, store::Store& store);
  void OnExchange(Context& ctx);
  void BeginFetch(Context& ctx, const ExchangePlan& plan);
  void AdvanceFetch(Context& ctx);
  void BeginStart(Context& ctx);
  void RebuildLog(Context& ctx, store::Store& store, const Lineage& lineage);
  void MaybeServe(Context& ctx);
  void BecomeNeedsResync(Context& ctx, bool self, std::string_view why);
  void SetPhase(Context& ctx, Phase phase);

  // ---- followers.cc
  wire::PairHeader PairOf(const Follower& follower) const;
  Follower* FindFollower(const wire::PairHeader& pair);
  void Pump(Context& ctx, Follower& follower);
  void PumpEntries(Context& ctx, Follower& follower);
  void SendEpochStart(Context& ctx, Follower& follower);
  bool Refused(Context& ctx, Follower& follower, wire::Status status);
  void TakeCredits(Follower& follower, const wire::Credits& credits);
  // A write waits for them, for log bytes or (0) for extents: asks again when nothing is on its way
  // that would bring them.
  void AskCredits(Context& ctx, Follower& follower, uint64_t log_bytes);
  void GiveBackCredits(Context& ctx, Follower& follower);
  void Retry(Context& ctx, Follower& follower);
  void Progress(Context& ctx, Follower& follower);
  void LoadEntry(Context& ctx, InFlight& entry, size_t index);
  void OnEntryLoaded(Context& ctx, const Op& op, store::DoneStatus status);

  // ---- write_path.cc
  void AdmitQueued(Context& ctx);
  void OnLockGranted(Context& ctx, SlotTag tag);
  void BeginMerge(Context& ctx, SlotTag tag, Request& request);
  void OnMergeRead(Context& ctx, const Op& op, store::DoneStatus status);
  bool FinishMerge(Context& ctx, Request& request);
  // True when the request is no longer waiting: admitted, answered or refused.
  bool TryAdmit(Context& ctx, SlotTag tag);
  // False: wait, or be refused when `refusal` says why. `extents`: what the entry newly takes; a
  // walk through its chunk, so the last question.
  bool HasRoom(Context& ctx, const store::Store& store, const wire::EntryHeader& header,
               uint64_t bytes, uint64_t* extents, wire::Status* refusal);
  // R24. False: not now; `full`: and no answer that is on its way will change that.
  bool HasCredits(const Follower& follower, uint64_t extents, bool* full) const;
  // False: the write waits. A member that has no room for too long is given up.
  bool JoiningHasCredits(Context& ctx, uint64_t bytes, uint64_t extents, wire::Status* refusal);
  wire::EntryHeader HeaderOf(Context& ctx, const Request& request) const;
  void Append(Context& ctx, SlotTag tag, Request& request, const wire::EntryHeader& header,
              uint64_t extents);
  bool DurableEverywhere(const InFlight& entry) const;
  void Commit(Context& ctx);
  void CommitEntry(Context& ctx, InFlight& entry);
  void Trim(Context& ctx);
  void Unlock(Context& ctx, RangeLock::Handle* lock);

  // ---- reads.cc (and presence.cc)
  void BeginRead(Context& ctx, SlotTag tag, Request& request);
  void OnClientRead(Context& ctx, const Op& op, store::DoneStatus status);
  // What the request reads is damaged: it waits for a repair and begins again, or fails.
  void Repair(Context& ctx, SlotTag tag, Request& request);
  enum class Repaired : uint8_t { kGood, kBad, kNotTried };
  void OnRepaired(Context& ctx, SlotTag tag, Repaired outcome);

  store::Store* StoreOf(Context& ctx) const;
  void DropEntry(Context& ctx, InFlight& entry);
  // Owed an answer for longer than `patience`.
  bool Silent(Context& ctx, const Follower& follower, Duration patience) const;
  bool Owed(const Follower& follower) const;
  void WatchSilence(Context& ctx);
  bool MayAdmit(Context& ctx) const;
  bool MayExamine(Context& ctx) const;

  bool needs_secondary() const { return config_.secondary.has_value(); }
  bool secondary_absent() const { return needs_secondary() && !config_.secondary->present; }
  uint64_t first_seq() const {
    return log_.empty() ? next_seq_ : log_.front().header.id.seq.value();
  }
  uint64_t last_seq() const { return next_seq_ - 1; }
  uint64_t committed_seq() const { return first_seq() + committed_count_ - 1; }
  InFlight& EntryAt(uint64_t seq) { return log_[seq - first_seq()]; }

  ReplicaKey key_;
  Epoch joined_;
  uint64_t instance_;
  SliceConfig config_;
  Phase phase_ = Phase::kAwaitingDevice;
  Instant opened_at_{};
  bool released_ = false;
  Epoch ahead_;                // a later one than the configured that a member started; 0: none
  bool write_waits_ = false;   // for an absent member
  bool short_of_log_ = false;  // in this step a write waits for room in somebody's log
  Instant room_at_ = kNever;   // when a write that waits for room in its own log tries again

  // Opening.
  Lineage self_;
  ExchangePlan plan_;
  uint64_t fetch_asked_ = 0;  // own seq of the last entry asked for
  uint64_t fetch_got_ = 0;
  bool start_issued_ = false;
  bool start_durable_ = false;
  std::vector<wire::HistoryItem> history_;  // handed over with the record
  Epoch previous_epoch_;
  EntryId end_;
  uint64_t carried_ = 0;

  // Serving. The log holds entries of the present epoch in order, without gaps; the first
  // committed_count_ are committed and kept for the joining member.
  Fifo<InFlight> log_;
  size_t committed_count_ = 0;
  uint64_t next_seq_ = 1;
  uint64_t append_count_ = 0;
  uint64_t durable_ordinal_ = 0;
  uint64_t uncommitted_bytes_ = 0;
  uint64_t retained_bytes_ = 0;

  Follower secondary_;
  Follower joining_;
  JoinSource join_;
  Repairs repairs_;
  Examinations examinations_;

  RangeLock locks_;
  std::vector<RangeLock::Owner> granted_;
  std::vector<RangeLock::Owner> granting_;  // being handled; keeps its memory
  Fifo<SlotTag> queued_;                    // in order of arrival
  Fifo<SlotTag> ready_;                     // lock held, data complete
  uint32_t reads_active_ = 0;
  uint64_t open_reported_ = 0;      // heartbeat that said so first
  bool counted_undrained_ = false;  // an opening primary holds up every fence (R6)
};

const char* ToString(Primary::Phase phase);
const char* ToString(Follower::State state);

// A joining member that owes an answer, or has no room, for so long is given up (R24).
inline constexpr Duration kJoiningPatience = std::chrono::seconds(1);

// Room that a log entry takes in a window besides its payload.
inline constexpr uint64_t kEntryOverheadBytes = 512;

}  // namespace gabion::sds
