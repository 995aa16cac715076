// Comparison of an extent's two copies, at the primary (S7; docs/roles.md, "The scanner"). Under a
// shared range lock, which waits for writes in flight and holds up new ones, so that both copies
// are at rest:
//
//   kAwaitingLock -> kExamining (own blocks are read, the secondary reads its own)
//        ^             |    |
//        |   own ones damaged    the secondary's damaged, or different
//        |             v    v
//        +---- kRepairing  kFixing (it gets the extent as it is here) -> done
//
// Blocks that are damaged here are made good first (repair.h), from the secondary. Blocks that are
// damaged there are made good from here, and only when everything here verifies. Blocks that verify
// on both sides and differ are reported; then the secondary takes what is here, because that is
// what clients read. Only the in-sync secondary of the running epoch is asked or changed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/sds/context.h"
#include "core/sds/held_extent.h"
#include "core/sds/ops.h"
#include "core/store/store.h"
#include "core/wire/message.h"

namespace gabion::sds {

class Primary;

// Of one extent.
struct Examined {
  bool compared = false;     // both copies were looked at
  bool unresolved = false;   // what was found could not be made good
  uint32_t blocks_read = 0;  // here
  uint32_t damaged = 0;      // blocks, on both copies together
  uint32_t differing = 0;
  uint32_t repaired = 0;
  std::string finding;  // for people; empty: all is well
};

class Examinations {
 public:
  // False: there is no in-sync replica to compare with now, or too much is being examined.
  // `for_scan`: the device's scanner waits for the outcome.
  bool Start(Context& ctx, Primary& primary, const store::ChunkKey& key, uint16_t extent,
             bool for_scan);
  // Nothing more happens: the epoch is over, or the role is to be released.
  void Release(Context& ctx, Primary& primary);

  void Advance(Context& ctx, Primary& primary);
  void OnLockGranted(Context& ctx, Primary& primary, uint64_t number);
  void OnRead(Context& ctx, Primary& primary, const Op& op, store::DoneStatus status);
  void OnReply(Context& ctx, Primary& primary, const wire::ExtentReply& reply);
  void OnRepaired(Context& ctx, Primary& primary, uint64_t number, bool good);
  void OnFixed(Context& ctx, Primary& primary, const wire::ScanFixReply& reply);

  size_t size() const { return jobs_.size(); }

 private:
  // The first one is worked on; the others wait.
  struct Job {
    enum class Phase : uint8_t { kWaiting, kAwaitingLock, kExamining, kRepairing, kFixing };
    Phase phase = Phase::kWaiting;
    HeldExtent at;
    bool for_scan = false;
    bool repaired = false;  // this side's copy; once
    bool own_read = false;
    bool peer_read = false;
    wire::ExtentReply peer;
    uint16_t peer_bad = 0;  // damaged there, or different
    Examined result;
  };
  static constexpr size_t kJobsMax = 64;

  void Lock(Context& ctx, Primary& primary, Job& job);
  void OnLocked(Context& ctx, Primary& primary, Job& job);
  void Decide(Context& ctx, Primary& primary, Job& job);
  bool Send(Context& ctx, Primary& primary, Job& job);
  void Finish(Context& ctx, Primary& primary, Job& job);
  void GiveUp(Context& ctx, Primary& primary, Job& job, std::string_view why);
  void Report(Context& ctx, Primary& primary, Job& job, Severity severity, std::string_view text);

  std::vector<Job> jobs_;
  uint64_t next_number_ = 1;
};

}  // namespace gabion::sds
