// One extent of a primary, whose two copies are looked at while its range is held: what read repair
// (repair.h) and the scanner's comparison (examine.h) have in common. With the range held nothing
// in it is undecided, so the in-sync secondary, if it has everything up to the commit point that a
// question names, has the same content.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/sds/context.h"
#include "core/sds/extent_read.h"
#include "core/sds/ops.h"
#include "core/sds/range_lock.h"
#include "core/store/store.h"

namespace gabion::sds {

class Primary;

struct HeldExtent {
  uint64_t number = 0;  // by which the lock, this side's read and the other side's answers find it
  store::ChunkKey key;
  uint16_t extent = 0;
  Instant give_up_at = kNever;
  RangeLock::Handle lock;
  ExtentRead own;
  // The secondary is asked (or told) once on each connection to it, and not before `ask_at`.
  ConnId asked;
  Instant ask_at{};

  void SetPatience(Context& ctx, const Primary& primary, Duration patience);
  // True: the range is held at once. Else the owner with this number is woken.
  bool Lock(Primary& primary, RangeLock::Mode mode, RangeLock::Owner::Kind owner);
  // This side's copy.
  ExtentRead::Step Read(Context& ctx, const Primary& primary, store::Store& store, OpKind kind);

  // Something else is to be asked.
  void BeginAsking();
  // Where to ask now. 0: it was asked there, or this is not the moment.
  ConnId ConnToAsk(const Context& ctx, const Primary& primary) const;
  // What the secondary has of the extent, unless that was asked.
  void Ask(Context& ctx, const Primary& primary, bool with_content);
  // It was behind or busy: the same again, after a pause.
  void AskLater(Context& ctx, const Primary& primary);
};

// Of jobs that have a HeldExtent `at`. Null: it is over.
template <class Job>
Job* FindJob(std::vector<Job>& jobs, uint64_t number) {
  for (Job& job : jobs) {
    if (job.at.number == number) return &job;
  }
  return nullptr;
}

}  // namespace gabion::sds
