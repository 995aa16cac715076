// The primary's side of a joining (replication.md section 4, R19; docs/roles.md): forwards every
// entry to T, and walks all chunks once, copying each extent under an exclusive range lock that is
// held until T has it durable.
//
//   kIdle -> kIds -> kWalking -> kDraining -> kComplete (reported: from here T's durability counts)
//   any of them before kComplete -> kFailed (reported; T is sent nothing more in this epoch)
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/sds/context.h"
#include "core/sds/lineage.h"
#include "core/sds/ops.h"
#include "core/sds/range_lock.h"
#include "core/store/store.h"
#include "core/wire/message.h"

namespace gabion::sds {

class Primary;

class JoinSource {
 public:
  enum class Phase : uint8_t { kIdle, kIds, kWalking, kDraining, kComplete, kFailed };

  void Reset() { *this = JoinSource(); }
  // Locks are given back; nothing is sent any more.
  void Fail(Context& ctx, Primary& primary, std::string why);
  // Every lock is given back: the epoch is over.
  void Release(Context& ctx, Primary& primary);

  // T has the epoch's record: the stream begins.
  void Begin(Context& ctx, Primary& primary);
  // The connection to T is another one: what T did not acknowledge is sent again.
  void OnReconnect();
  void Advance(Context& ctx, Primary& primary);
  void OnLockGranted(Context& ctx, Primary& primary, uint64_t number);
  void OnCopyRead(Context& ctx, Primary& primary, const Op& op, store::DoneStatus status);
  void OnRepaired(Context& ctx, Primary& primary, uint64_t number, bool good);
  void OnJoinAck(Context& ctx, Primary& primary, const wire::JoinAck& ack);
  void OnChangedReply(Context& ctx, Primary& primary, const wire::ChangedReply& reply,
                      const Slice& payload);

  Phase phase() const { return phase_; }
  // R19: nothing is acknowledged that T does not have.
  bool binding() const { return phase_ == Phase::kComplete; }
  bool forwards() const { return phase_ != Phase::kIdle && phase_ != Phase::kFailed; }
  // Sent or not: locks are held for it.
  bool stream_owed() const { return !unacked_.empty() || query_sent_; }
  const JoinBase& base() const { return base_; }
  // `cursor`: of an earlier joining from which this one goes on; epoch 0: none.
  void set_base(const JoinBase& base, const wire::JoinCursor& cursor);
  uint32_t progress_permille() const { return progress_; }
  std::string Dump() const;

 private:
  // One extent, or one chunk to drop, on its way.
  struct Copy {
    enum class Phase : uint8_t { kAwaitingLock, kAwaitingBuffer, kReading, kAwaitingRepair, kSent };
    uint64_t number = 0;
    Phase phase = Phase::kAwaitingLock;
    bool drop = false;
    bool repaired = false;  // once
    store::ChunkKey key;
    uint16_t extent = 0;
    uint16_t present = 0;
    RangeLock::Handle lock;
    uint64_t stream = 0;  // once sent
  };
  struct Unacked {
    uint64_t stream = 0;
    bool sent = false;  // on the present connection
    wire::Message message;
  };
  struct Work {  // what the walk found
    store::ChunkKey key;
    uint16_t extents = 0;
    bool drop = false;
  };

  static constexpr size_t kCopiesMax = 4;
  static constexpr size_t kPageChunks = 256;

  void SendIds(Context& ctx, Primary& primary);
  void Walk(Context& ctx, Primary& primary);
  bool RefillWork(Context& ctx, Primary& primary);
  void LoadOwnPage(const store::Store& store, SliceId slice);
  bool PushCursor(Primary& primary);
  bool InResumedPart(const std::optional<store::ChunkKey>& after) const;
  bool IsResumed(const store::ChunkKey& key) const {
    return resumed_to_.has_value() && key <= *resumed_to_;
  }
  Epoch BaseOf(bool resumed) const;
  void StartCopy(Context& ctx, Primary& primary, const store::ChunkKey& key, uint16_t extent,
                 bool drop);
  void Lock(Context& ctx, Primary& primary, Copy& copy);
  void OnLocked(Context& ctx, Primary& primary, Copy& copy);
  void ReadExtent(Context& ctx, Primary& primary, Copy& copy);
  void FailForDamage(Context& ctx, Primary& primary);
  void SendExtent(Context& ctx, Primary& primary, Copy& copy, const Slice& data);
  void SendDrop(Context& ctx, Primary& primary, Copy& copy);
  void Push(wire::Message message);
  bool GivesUp(Context& ctx, wire::Status status);
  void SendStream(Context& ctx, Primary& primary);
  Copy* FindCopy(uint64_t number);

  Phase phase_ = Phase::kIdle;
  JoinBase base_;
  Epoch resumed_epoch_;
  std::optional<store::ChunkKey> resumed_to_;
  std::string error_;
  uint64_t next_stream_ = 1;
  uint64_t next_copy_ = 1;
  std::deque<Unacked> unacked_;
  std::vector<Copy> copies_;

  // The walk: pages of T's keys, merged with this side's own.
  bool query_sent_ = false;
  bool target_done_ = false;  // T has no key behind the last page
  bool own_done_ = false;
  std::deque<wire::ChangedChunk> target_;
  std::deque<store::ChunkSummary> own_;
  std::optional<store::ChunkKey> own_cursor_;
  std::optional<store::ChunkKey> target_cursor_;
  std::optional<Work> work_;
  std::optional<store::ChunkKey> walked_to_;  // of the last work begun
  uint32_t since_cursor_ = 0;
  uint64_t walked_ = 0;
  Instant busy_since_ = kNever;  // it refuses copies since
  uint32_t progress_ = 0;
};

const char* ToString(JoinSource::Phase phase);

}  // namespace gabion::sds
