// A replica that follows its slice's primary in one epoch: as the secondary, or joining (T).
//
//   kAwaitingStart -- EpochStart --> kStarting -- record durable --> kFollowing
//
// A newer configuration ends the object; what it appended stays in the store.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/sds/config.h"
#include "core/sds/context.h"
#include "core/sds/device_set.h"
#include "core/sds/extent_read.h"
#include "core/sds/ops.h"
#include "core/wire/data.h"

namespace gabion::sds {

class Secondary {
 public:
  enum class Phase : uint8_t { kAwaitingStart, kStarting, kFollowing };

  // `joined`: the epoch in which this process was joining it; a damaged log was made good then.
  Secondary(ReplicaKey key, const SliceConfig& config, bool joining, Epoch joined,
            uint64_t instance);

  // The messages' pairs have been checked (Node::CheckPair) and the device is up.
  void OnTailQuery(Context& ctx, ConnId conn, const wire::TailQuery& query);
  void OnFetchEntry(Context& ctx, ConnId conn, const wire::FetchEntry& fetch);
  void OnEpochStart(Context& ctx, ConnId conn, const wire::EpochStart& start, const Slice& payload);
  void OnReplicate(Context& ctx, ConnId conn, const wire::Replicate& message, const Slice& payload);
  void OnCommitPoint(Context& ctx, EntryId commit_point);
  void OnCreditsRequest(Context& ctx, ConnId conn, const wire::CreditsRequest& request);
  void OnCopyExtent(Context& ctx, ConnId conn, const wire::CopyExtent& copy, const Slice& payload);
  void OnDropChunk(Context& ctx, ConnId conn, const wire::DropChunk& drop);
  void OnCopyRequests(Context& ctx, ConnId conn, const wire::CopyRequests& ids,
                      const Slice& payload);
  void OnCopyCursor(Context& ctx, ConnId conn, const wire::CopyCursor& cursor);
  void OnChangedQuery(Context& ctx, ConnId conn, const wire::ChangedQuery& query);
  // ---- secondary_scan.cc
  void OnExtentQuery(Context& ctx, ConnId conn, const wire::ExtentQuery& query);
  void OnScanFix(Context& ctx, ConnId conn, const wire::ScanFix& fix, const Slice& payload);
  // Tells the primary what this side's own pass found. False: it cannot be told now.
  bool SendScanHint(Context& ctx, const store::ChunkKey& key, uint16_t extents, uint16_t damaged);
  void OnDone(Context& ctx, const Op& op, store::DoneStatus status);

  // R24: what it promises to the primary is counted at its device, from here to there.
  void Begin(Device& device) { device.credits.Join(); }
  void End(Device& device) { device.credits.Leave(key_.slice, instance_, &promise_); }
  // Tells the primary when there is room again after there was little.
  void RefillCredits(Context& ctx);
  void RecallCredits(Context& ctx);
  const Promise& promise() const { return promise_; }

  // Sends the acknowledgements that became due.
  void Advance(Context& ctx);

  Phase phase() const { return phase_; }
  bool joining() const { return joining_; }
  // All entries that its primary carried over are here.
  bool settled() const { return phase_ == Phase::kFollowing && received_ >= carried_; }
  uint64_t instance() const { return instance_; }
  const SliceConfig& config() const { return config_; }

  void CheckInvariants(const Node& node) const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  wire::PairHeader Pair() const;
  // What the primary may take from now on, with what is free now.
  wire::Credits CreditsNow(Context& ctx);
  void SettleIfHere(Context& ctx);
  // An extent that the primary asked for, to repair its own copy or to compare.
  struct Serve {
    ExtentRead read;
    ConnId conn;
    uint64_t number = 0;  // the primary's
    bool with_content = false;
  };
  static constexpr size_t kServesMax = 8;
  wire::Status CheckServe(uint16_t extent, EntryId after) const;
  // Not kOk: nothing was begun.
  wire::Status BeginServe(Context& ctx, Serve serve, const store::ChunkKey& key, uint16_t extent);
  void OnServeRead(Context& ctx, const Op& op, store::DoneStatus status);
  void FinishServe(Context& ctx, const Serve& serve);
  void OnFixDurable(Context& ctx, const Op& op);
  store::Store* StoreOf(Context& ctx) const;
  void StartInSync(Context& ctx, ConnId conn, const wire::EpochStart& start,
                   std::span<const wire::HistoryItem> history);
  void StartJoining(Context& ctx, const wire::EpochStart& start,
                    std::span<const wire::HistoryItem> history);
  void ReplyStart(Context& ctx, ConnId conn, wire::Status status);
  // True: the message is the next of the stream, and there is room for it. Else it was answered.
  bool TakeStream(Context& ctx, ConnId conn, uint64_t stream, uint64_t payload_bytes);
  store::Tag StreamOp(Context& ctx);
  EntryId AfterOf(EntryId after) const;
  bool IsFull(Context& ctx, ConnId conn, uint64_t extents);

  ReplicaKey key_;
  SliceConfig config_;
  bool joining_;
  Epoch joined_;
  uint64_t instance_;
  Phase phase_ = Phase::kAwaitingStart;
  ConnId conn_;            // where acknowledgements go: the primary's newest
  uint64_t received_ = 0;  // seq of the last entry appended in this epoch
  uint64_t durable_ = 0;
  uint64_t stream_received_ = 0;
  uint64_t stream_durable_ = 0;
  uint64_t carried_ = 0;    // entries up to here are from before the epoch
  uint64_t committed_ = 0;  // seq of the commit point as it was told in this epoch
  Promise promise_;
  std::vector<Serve> serves_;
  uint64_t next_serve_ = 1;
  bool ack_owed_ = false;
  bool join_ack_owed_ = false;
};

const char* ToString(Secondary::Phase phase);

}  // namespace gabion::sds
