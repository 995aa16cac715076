// The store's parts and the order in which they get their turn. After every event each part
// advances as far as it can: log, destaging, checkpoint, and the decision to begin the next round
// of the two.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/store/checkpoint.h"
#include "core/store/destage.h"
#include "core/store/log.h"
#include "core/store/reads.h"
#include "core/store/recovery.h"
#include "core/store/redirect.h"
#include "core/store/state.h"
#include "core/store/store.h"

namespace gabion::store {

// Which part a disk operation belongs to: the upper bits of its tag.
enum class TagKind : uint64_t {
  kRecovery = 1,
  kLog = 2,
  kCheckpoint = 3,
  kDestage = 4,
  kRead = 5,
  kRedirect = 6,
};
inline constexpr uint32_t kTagShift = 48;
constexpr DiskTag TagBase(TagKind kind) { return static_cast<uint64_t>(kind) << kTagShift; }

class StoreImpl {
 public:
  explicit StoreImpl(const Options& options);

  void Format(const Now& now, const DeviceInfo& info, const Identity& identity, bool force, Tag tag,
              Output out);
  void Open(const Now& now, const DeviceInfo& info, const Identity& identity, Tag tag, Output out);
  void Close(const Now& now, Tag tag, Output out);
  void OnDiskDone(const Now& now, const DiskDoneEvent& event, Output out);
  void OnTimer(const Now& now, Output out);

  void StartEpoch(const Now& now, SliceId slice, const EpochStartRecord& record, Tag tag,
                  Output out);
  void VoidAbove(const Now& now, SliceId slice, EntryId end, Tag tag, Output out);
  void SetNeedsResync(const Now& now, SliceId slice, bool value, Tag tag, Output out);
  void SetInSync(const Now& now, SliceId slice, Epoch epoch, uint64_t issuer, Tag tag, Output out);
  void SetCursor(const Now& now, SliceId slice, const wire::JoinCursor& cursor, Tag tag,
                 Output out);
  void DropSlice(const Now& now, SliceId slice, Tag tag, Output out);
  void Append(const Now& now, SliceId slice, const wire::EntryHeader& entry, Slice payload,
              std::span<const uint32_t> block_crc, Tag tag, Output out);
  void SetCommitPoint(const Now& now, SliceId slice, EntryId commit_point, Output out);
  void AppendCopy(const Now& now, SliceId slice, const ChunkKey& key, uint16_t extent,
                  uint16_t present, Epoch modified_epoch, EntryId after, Slice payload,
                  std::span<const uint32_t> block_crc, Tag tag, Output out);
  void AppendDrop(const Now& now, SliceId slice, const ChunkKey& key, EntryId after, Tag tag,
                  Output out);
  void AppendRequests(const Now& now, SliceId slice, std::span<const wire::RequestRecord> records,
                      Tag tag, Output out);
  void DropClient(const Now& now, SdcId client, Incarnation below, Output out);
  void Read(const Now& now, const Reads::Range& range, Slice target, Tag tag, Output out);
  void ReadEntry(const Now& now, SliceId slice, EntryId id, Slice target,
                 std::span<uint32_t> block_crc, Tag tag, Output out);

  void SetExtentsPromised(uint64_t extents) { extents_promised_ = extents; }
  uint64_t extents_promised() const { return extents_promised_; }

  DeviceState& state() { return state_; }
  const DeviceState& state() const { return state_; }
  State phase() const { return phase_; }
  const std::string& error() const { return error_; }
  Incarnation newer_incarnation() const { return newer_incarnation_; }
  bool marked() const {
    return phase_ == State::kOpen || (recovery_ != nullptr && recovery_->marked());
  }
  DeviceId device() const { return identity_.device; }
  uint64_t append_room() const;
  uint64_t log_position() const { return log_.durable_position(); }
  Counters counters() const { return counters_; }
  const Geometry& geometry() const { return geometry_; }
  Capacity capacity() const;
  Memory memory() const;
  uint64_t extents_free() const;

  void CheckInvariants(bool everything) const;
  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  // False, and `tag` is answered, unless the store is open.
  bool Accept(Tag tag, Output out);
  // The parts' turns; then the timer.
  void Pump(const Now& now, Output out);
  void PumpRecovery(const Now& now, Output out);
  void PumpOpen(const Now& now, Output out);
  void BecomeOpen(const Now& now, Output out);
  void Fail(std::string reason, Output out);
  // Begins destaging or a checkpoint when there is a reason to.
  void Maintain(const Now& now, Output out);
  void UpdateTimer(const Now& now, Output out);
  uint64_t RoundSignature() const;
  bool RoundMakesSense() const { return round_again_ || RoundSignature() != round_signature_; }
  bool RoundMadeProgress();
  bool LogPressure() const;
  // Entries have many extents of their own, which are to become homes.
  bool RedirectPressure() const { return state_.redirected() > geometry_.redirected_max() / 2; }
  // What stays free for whoever comes through the log, so that they find no less than they were
  // promised; reserve (S5) not included.
  uint64_t extents_kept() const;
  uint64_t budget_bytes() const;
  // Of the budget, for the index of what is in the log.
  uint64_t index_bytes_max() const;
  // Pages of checksums get what the rest leaves.
  void SharePages();
  // Few free extents while some wait for a checkpoint or for trims to be destaged.
  bool ExtentPressure() const;

  // What goes where of a payload that covers blocks [first_block, end_block) of a chunk.
  struct Split {
    std::span<const uint32_t> places;  // in places_, allocated; empty: all goes to the log
    std::span<const uint32_t> crc;     // of the blocks there
    Slice content;                     // likewise
    Slice in_log;
    RecordWriter::Redirected record() const { return {.places = places, .crc = crc}; }
  };
  Split SplitContent(uint32_t first_block, uint32_t end_block, Slice payload,
                     std::span<const uint32_t> block_crc);
  void Queue(Replica* replica, SliceId slice, Item* item, Slice payload, bool renumbers, Tag tag);

  Options options_;
  Identity identity_;
  Geometry geometry_;
  Counters counters_;
  DeviceState state_;
  Log log_;
  Reads reads_;
  Destager destager_;
  Checkpointer checkpointer_;
  RedirectWriter redirects_;
  std::unique_ptr<Recovery> recovery_;

  State phase_ = State::kClosed;
  std::string error_;
  Incarnation newer_incarnation_;
  Tag open_tag_ = 0;
  Instant opened_at_;
  std::optional<Tag> close_tag_;
  bool checkpoint_wanted_ = false;
  bool memory_short_ = false;
  Instant timer_ = kNever;
  Instant retry_at_ = kNever;
  // A round: destaging, then a checkpoint.
  bool in_round_ = false;
  mutable uint64_t checked_batches_ = 0;  // when everything was checked last
  // When the last round began: another one makes sense only after something changed since.
  uint64_t round_signature_ = 0;
  bool round_again_ = true;
  uint64_t relocated_bytes_ = 0;  // since something changed
  Instant round_ended_;
  uint64_t changes_ = 0;  // calls that may make something destageable
  uint64_t extents_promised_ = 0;
  std::vector<uint32_t> places_;  // of one SplitContent; keeps its memory
};

}  // namespace gabion::store
