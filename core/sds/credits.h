// Credits at the device of a follower (R24; docs/roles.md, "Space"): what primaries elsewhere may
// still take of its extents and of its log. What is promised is set aside: it is not for clients of
// this side's own primaries, not for copies, and not promised again.
//
//   promised --Replicate--> used --decided, destaged--> free again, for everybody
//      |  ^
//      |  +-- topped up with acknowledgements and heartbeats, or asked for
//      +----- given back when others wait; void with the epoch
//
// Void is not free: entries that took log bytes of an epoch that is over may still be on their way
// to this log, fetched (R14) or carried over (R18). Until the next epoch of the slice has settled
// that, what was left of the promise is a debt and stays set aside.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/store/store.h"
#include "core/wire/data.h"

namespace gabion::sds {

// To one primary, for one epoch and pair. Cumulative.
struct Promise {
  uint64_t extents_limit = 0;
  uint64_t extents_used = 0;
  uint64_t log_limit = 0;
  uint64_t log_used = 0;  // or given back

  uint64_t extents_left() const { return extents_limit - extents_used; }
  uint64_t log_left() const { return log_limit - log_used; }
};

// What a replicate says that it and those before it use, and what it may at most take by itself.
struct CreditsUsed {
  uint64_t extents_used = 0;
  uint64_t log_used = 0;
  uint64_t extents_max = 0;
  uint64_t log_bytes = 0;
};

// Of a device now, promised or not.
struct CreditRoom {
  uint64_t extents = 0;
  uint64_t log_bytes = 0;
  uint64_t log_bytes_max = 0;  // when its log is empty
};

// What the largest request takes.
inline constexpr uint64_t kExtentCreditsMin = wire::kDataBlocksMax / wire::kBlocksPerExtent + 1;
inline constexpr uint64_t kLogCreditsMin = wire::kDataBytesMax + store::kAppendOverheadBytes;

class DeviceCredits {
 public:
  // The device's store is told what of its extents is promised, whenever that changes: large writes
  // leave it alone. Null: the device has none now.
  void SetStore(store::Store* store);

  // A primary elsewhere is followed, no longer followed.
  void Join() { ++followers_; }
  void Leave(SliceId slice, uint64_t instance, Promise* promise);
  // The slice's entries of ended epochs are here, or will never come.
  void Settle(SliceId slice);

  // What the primary may take from now on.
  void TopUp(Promise* promise, const CreditRoom& room);
  // Little of the promise is left, and there may be more.
  bool IsShort(const Promise& promise, const CreditRoom& room) const;

  enum class Cover : uint8_t {
    kCovered,
    kUncovered,    // of before the first promise: what was carried over
    kImplausible,  // more than was promised, or less than before
  };
  static Cover Judge(const Promise& promise, const CreditsUsed& used);
  void Use(Promise* promise, const CreditsUsed& used);

  // False: implausible.
  bool GiveBack(Promise* promise, uint64_t log_used);
  // An entry of `wanted` bytes waits for them. Whoever waits gets them in order; false: not yet,
  // and the others should give back what they do not need.
  bool Ask(uint64_t instance, Promise* promise, uint64_t wanted, Instant now,
           const CreditRoom& room);
  // At most once in a pause.
  bool MayRecall(Instant now);

  uint64_t extents_promised() const { return extents_promised_; }
  // Debts included.
  uint64_t log_promised() const { return log_promised_; }
  uint64_t log_debts() const { return log_debts_; }
  uint32_t followers() const { return followers_; }

 private:
  struct Waiting {
    uint64_t instance = 0;
    uint64_t log_bytes = 0;  // that it lacks
    Instant asked_at;
  };

  uint64_t LogAvailable(const CreditRoom& room) const;
  uint64_t LogLevel(const CreditRoom& room) const;
  void AddLog(Promise* promise, uint64_t bytes);
  void SetExtentsPromised(uint64_t extents);

  store::Store* store_ = nullptr;
  uint32_t followers_ = 0;
  uint64_t extents_promised_ = 0;
  uint64_t log_promised_ = 0;
  uint64_t log_debts_ = 0;
  absl::btree_map<SliceId, uint64_t> debts_;
  std::vector<Waiting> waiting_;  // first come, first served
  Instant recall_at_{};
};

}  // namespace gabion::sds
