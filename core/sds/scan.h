// The background scanner of one device (S7 of docs/store.md; docs/roles.md, "The scanner"): reads
// every extent on it, one after the other, at a configured rate, and looks after what is damaged.
//
//   kWaiting -- time, or an order --> kPacing --> kReading --> kPacing ... -> kWaiting
//                                       |  ^         |
//                                       |  |         +--> kAwaitingRepair (this side is secondary)
//                                       |  |                   |
//                                       |  +-------------------+
//                                       +---> kExamining (this side is primary; examine.h) ->
//                                       kPacing
//
// As primary with a second copy in sync, the extent is compared and made good by Examinations. As
// secondary it is only read; the primary is told what is damaged, and repairs. Anything else is
// only read. One extent at a time, one buffer of 64 KiB, one timer.
//
// How far a pass is, is remembered chunk by chunk (scan_memory.h) and becomes durable once a
// minute: after a restart of the SDS it goes on from there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/sds/context.h"
#include "core/sds/extent_read.h"
#include "core/sds/ops.h"
#include "core/store/store.h"
#include "core/wire/management.pb.h"

namespace gabion::sds {

struct Device;
struct Examined;
struct Node;

// "volume 7, 64 KiB at byte 131072 (slice 500): what", for people: with ids as `gabion` shows them.
std::string DescribeFinding(const Node& node, SliceId slice, const store::ChunkKey& key,
                            uint16_t extent, std::string_view what);

class Scanner {
 public:
  // What all passes found since the SDS started.
  struct Totals {
    uint64_t bytes_read = 0;
    uint64_t extents_compared = 0;
    uint64_t blocks_damaged = 0;
    uint64_t blocks_differing = 0;
    uint64_t blocks_repaired = 0;
    uint64_t extents_unresolved = 0;
    uint64_t passes = 0;  // that ran to their end
  };

  void OnUp(Context& ctx, Device& device);
  void OnDown(Context& ctx, Device& device);
  void OnOrder(Context& ctx, Device& device, const proto::ScanOrder& order);
  void OnTimer(Context& ctx, Device& device);
  void OnRead(Context& ctx, Device& device, const Op& op, store::DoneStatus status);
  // Of the extent that the scanner waits for.
  void OnExamined(Context& ctx, Device& device, const Examined& result);
  // Of one that the other copy's scanner asked for, which counts what is damaged.
  void OnHintExamined(const Examined& result);

  bool running() const { return phase_ != Phase::kWaiting; }
  const Totals& totals() const { return totals_; }
  uint32_t progress_permille() const;
  void Report(proto::ScanStatus* status) const;
  uint64_t StateHash() const;

 private:
  enum class Phase : uint8_t { kWaiting, kPacing, kReading, kExamining, kAwaitingRepair };

  // `ordered_rate`: bytes per second; 0: as configured, or as the pass that goes on was ordered.
  void Begin(Context& ctx, Device& device, uint64_t ordered_rate);
  // When the next pass begins by itself.
  Instant NextPassAt(Context& ctx, const proto::ScanPass& before) const;
  void Remember(Context& ctx, const Device& device);
  void Step(Context& ctx, Device& device);
  // False: the pass is at its end.
  bool FindNext(const store::Store& store, bool* found);
  bool MustPause(Context& ctx, const Device& device);
  void Visit(Context& ctx, Device& device);
  void Read(Context& ctx, Device& device);
  void OnDamage(Context& ctx, Device& device);
  void Next(Context& ctx, Device& device, uint32_t blocks_read);
  void End(Context& ctx, Device& device);
  void Add(const Examined& result);
  void SetTimer(Context& ctx, const Device& device, Instant when);

  Phase phase_ = Phase::kWaiting;
  bool enabled_ = false;  // passes begin by themselves
  bool paused_ = false;
  Instant begin_at_ = kNever;  // the next pass
  uint64_t order_ = 0;
  uint64_t rate_ = 0;
  Instant next_at_{};  // pacing: nothing is read before
  uint32_t yields_ = 0;
  uint64_t expected_bytes_ = 0;  // of the pass: what was in use when it began

  // The cursor: the slice, the last chunk of it that was listed, and what is left of that page.
  bool slice_begun_ = false;
  SliceId slice_;
  std::optional<store::ChunkKey> listed_;
  std::vector<store::ChunkSummary> page_;  // keeps its memory
  size_t page_at_ = 0;
  uint16_t extents_left_ = 0;  // of page_[page_at_]
  store::ChunkKey key_;
  uint16_t extent_ = 0;

  ExtentRead read_;
  uint64_t next_read_ = 1;
  uint32_t damaged_blocks_ = 0;  // found at first, while the primary repairs
  Instant repair_until_{};

  proto::ScanPass pass_;
  proto::ScanPass last_;
  std::string last_finding_;
  Totals totals_;
};

}  // namespace gabion::sds
