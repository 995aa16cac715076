// Read repair at the primary (replication.md section 4, "Repair"; docs/roles.md). A read found that
// blocks of this side's copy do not match their checksums. Extent by extent, under an exclusive
// range lock, which waits for what is in flight:
//
//   kAwaitingLock -> kReading (this side's copy) -> kAwaitingPeer -> kAppending -> next extent
//
// Nothing in the range is undecided then, so the in-sync replica, which holds everything up to the
// commit point that the question names, has the same content. Blocks that are damaged here are
// taken from there and written as a copy, which goes the way of every write. Blocks that verify on
// both sides and differ are reported, and stay.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/sds/context.h"
#include "core/sds/held_extent.h"
#include "core/sds/ops.h"
#include "core/store/store.h"
#include "core/wire/message.h"

namespace gabion::sds {

class Primary;

class Repairs {
 public:
  // Who waits for the outcome.
  struct Waiter {
    enum class Kind : uint8_t { kRequest, kCopy, kExamine };
    Kind kind{};
    uint64_t number = 0;  // a request's tag, a joining's copy, or an examination
  };
  struct Range {
    store::ChunkKey key;
    uint32_t first_block = 0;
    uint32_t block_count = 0;
  };

  // False: there is no other in-sync replica to ask.
  bool Start(Context& ctx, Primary& primary, const Range& range, Waiter waiter);
  // The epoch is over: locks are given back, and requests that wait begin again.
  void Release(Context& ctx, Primary& primary);

  void Advance(Context& ctx, Primary& primary);
  void OnLockGranted(Context& ctx, Primary& primary, uint64_t number);
  void OnRead(Context& ctx, Primary& primary, const Op& op, store::DoneStatus status);
  void OnReply(Context& ctx, Primary& primary, const wire::ExtentReply& reply,
               const Slice& payload);
  void OnAppended(Context& ctx, Primary& primary, const Op& op);

  size_t size() const { return jobs_.size(); }

 private:
  struct Job {
    enum class Phase : uint8_t { kAwaitingLock, kReading, kAwaitingPeer, kAppending };
    Phase phase = Phase::kAwaitingLock;
    Waiter waiter;
    HeldExtent at;  // of a new number for each extent
    uint16_t extent_end = 0;
  };

  void LockExtent(Context& ctx, Primary& primary, Job& job);
  void ReadOwn(Context& ctx, Primary& primary, Job& job);
  void NextExtent(Context& ctx, Primary& primary, Job& job);
  void Finish(Context& ctx, Primary& primary, uint64_t number, bool good);
  void GiveUp(Context& ctx, Primary& primary, Job& job, std::string_view why);

  std::vector<Job> jobs_;
  uint64_t next_number_ = 1;
};

}  // namespace gabion::sds
