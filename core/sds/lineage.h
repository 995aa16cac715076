// Where two replicas of a slice stand to each other (replication.md, R14 and R18). Pure arithmetic
// on the facts that replicas keep; the exchange at an epoch's start and the void of one who missed
// a start both come from here.
//
// Two replicas have a youngest epoch h in common. In it there was one log order, so an entry of it
// has one position p on both: (h, p). A primary that started a later epoch without the other
// recorded `end` (what was committed) and `last` (what it carried over), so its (next, s) is
// position end + s, as long as end + s <= last; entries beyond are its own. So:
//
//        positions          1 ........ committed ........ limit ......
//        (h, s)             p = s
//        next epoch's s     p = base + s,  base = sum of `end` since h
//        same entry on both for p <= limit = the least (base + last) on the way, on either side
//
// Nobody voids what lies within the limit: such an entry may have been acknowledged from this very
// copy. (Voiding it first and fetching it again would leave one copy of it for a while, and that
// one may be the next to fail.) What lies beyond the limit on the side with the older epoch was
// never on both, hence never acknowledged.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/ids.h"
#include "core/store/store.h"
#include "core/wire/data.h"

namespace gabion::sds {

// Older epochs are forgotten: a replica that knows only those is copied in full.
inline constexpr size_t kHistoryItemsMax = 128;

// Far above what a slice can see in its life, far below overflow of a sum.
inline constexpr uint64_t kSeqMax = uint64_t{1} << 48;

// What a replica started and how far it got.
struct Lineage {
  std::vector<wire::HistoryItem> history;  // of ended epochs, oldest first
  Epoch started;                           // 0: an empty replica
  uint64_t issuer = 0;
  uint64_t committed = 0;  // seq within `started`
  uint64_t last = 0;       // seq within `started`, >= committed

  bool empty() const { return !started.valid(); }
};

Lineage LineageOf(const store::SliceFacts& facts);
Lineage LineageOf(const wire::TailReply& reply, std::span<const wire::HistoryItem> history);

// What a decoder cannot see: order of epochs, ends within their epoch, sane numbers.
bool ValidHistory(std::span<const wire::HistoryItem> history, Epoch started);

// The history that the next epoch's record carries: with the epoch that ends now.
std::vector<wire::HistoryItem> ExtendHistory(const Lineage& lineage);

// Nothing was ever appended to the slice: a replica that missed all of it has missed nothing.
bool NothingEverWritten(const Lineage& lineage);

struct Common {
  Epoch epoch;
  uint64_t issuer = 0;
  uint64_t base_a = 0;  // a's (started, s) is position base_a + s
  uint64_t base_b = 0;
  uint64_t limit = UINT64_MAX;
};
std::optional<Common> FindCommon(const Lineage& a, const Lineage& b);

// Of the replicas' youngest common epoch for a joining: not above what T was in sync with, and one
// of which T holds everything that the source knew to be committed, under the names of that epoch
// (a rolled-back device does not; nor does one that carried entries over without the source).
struct JoinBase {
  Epoch epoch;  // 0: nothing in common, everything is copied
  uint64_t issuer = 0;
  EntryId end;  // as the source recorded it; T voids what it has above
};
JoinBase FindJoinBase(const Lineage& target, Epoch target_in_sync,
                      std::span<const wire::HistoryItem> source_history);

// A joining goes on where an earlier one of epoch c stopped: the target keeps what it got then, up
// to the returned entry, at which c ended. Nothing: it does not. (What was copied behind an entry
// above that end is void with it.)
std::optional<EntryId> FindResumeEnd(const wire::JoinCursor& cursor,
                                     std::span<const wire::HistoryItem> source_history);

enum class Verdict : uint8_t { kOk, kSelfNeedsResync, kPeerNeedsResync };

// What a start record does to the tail of one replica: the arguments of Store::StartEpoch.
struct TailPlan {
  EntryId end;         // own numbering; entries above it that are not renamed are void
  Seq start;           // see EpochStartRecord::start
  uint64_t first = 1;  // own seq of the first renamed entry
  uint64_t count = 0;  // how many are renamed, to (epoch, start + 1 ..)
};
std::vector<store::Rename> RenamesOf(const TailPlan& plan, Epoch from, Epoch to);

// The exchange, as the primary sees it.
struct ExchangePlan {
  Verdict verdict = Verdict::kOk;
  // The peer's epoch is the younger one: first a record at this side that starts it here (`tail`).
  bool adopt = false;
  TailPlan tail;
  // Then, in the younger of both epochs: this seq is committed; entries fetch_from .. fetch_to come
  // from the peer, where they are called (peer's epoch, seq + fetch_shift).
  uint64_t committed = 0;
  uint64_t fetch_from = 1;
  uint64_t fetch_to = 0;
  int64_t fetch_shift = 0;
};
ExchangePlan PlanExchange(const Lineage& self, const Lineage& peer);

// A replica gets the record of an epoch whose primary has `source` (its history includes the epoch
// that ended): what happens to its own tail. Nothing: it needs a resync.
std::optional<TailPlan> PlanFollow(const Lineage& self, const Lineage& source);

}  // namespace gabion::sds
