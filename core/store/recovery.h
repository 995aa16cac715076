// Format and recovery: from the bytes of a device to a state, or to a reason why not.
//
//   Format:   [ReadHead] -> Zeroing -> WritingCheckpoint -> FlushingFormat -> then as Open
//   Open:     Flushing -> ReadSuperblocks -> Marking -> ReadCheckpoint -> ReadHomes
//             -> ReplayingLog [-> SearchingProof] -> RaisingGeneration -> Done
//
// Nothing is written to a device before its superblocks have been found to be this store's own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/store/checkpoint.h"
#include "core/store/state.h"

namespace gabion::store {

class Recovery {
 public:
  enum class Phase : uint8_t {
    kIdle,
    kReadHead,
    kZeroing,
    kWritingCheckpoint,
    kFlushingFormat,
    kWritingSuperblocks,
    kFlushing,
    kReadSuperblocks,
    kMarking,
    kReadCheckpoint,
    kReadHomes,
    kReplayingLog,
    kSearchingProof,
    kRaisingGeneration,
    kDone,
    kFailed,
  };

  Recovery(const Options& options, DeviceState* state);

  void StartFormat(const Now& now, const DeviceInfo& info, const Identity& identity, bool force);
  void StartOpen(const DeviceInfo& info, const Identity& identity);

  // Both return false when memory is short; phase() says what came of it.
  bool Advance(DiskTag tag, Effects& effects);
  void OnDiskDone(DiskStatus status);

  Phase phase() const { return phase_; }
  bool formatting() const { return phase_ < Phase::kFlushing; }
  const std::string& error() const { return error_; }
  Incarnation newer_incarnation() const { return newer_incarnation_; }
  bool marked() const { return phase_ > Phase::kMarking && phase_ <= Phase::kDone; }

  // When done.
  const Superblock& superblock() const { return superblock_; }
  uint64_t head() const { return position_; }
  uint32_t last_crc() const { return last_crc_; }
  bool damaged() const { return damaged_; }
  uint64_t batches() const { return batches_; }

 private:
  void Fail(std::string reason);
  void FailDamaged(const char* what);
  bool Read(uint64_t offset_bytes, uint64_t length_bytes, DiskTag tag, Effects& effects);

  void OnHead();
  void OnSuperblocks();
  void OnCheckpointPiece();
  void OnHomes();
  void BecomeReplaying();
  // Takes batches until it wants bytes that the buffer does not hold, or the log ends.
  void Replay();
  enum class Take : uint8_t { kTaken, kNone, kWants };
  Take TakeBatch(uint64_t position);
  // Looks for a header that proves that what follows `position_` was durable once (S2).
  void SearchProof();
  // Whether a batch of that generation may count at that position.
  bool Counts(const BatchHeader& header) const;
  // Whether a header found at search_position_ shows that the log once went on behind `position_`.
  bool ShowsMore(const BatchHeader& header) const;
  std::span<const std::byte> Buffered(uint64_t position, uint64_t bytes);
  void BecomeRaising();

  Options options_;
  DeviceState* state_;
  SuperblockWriter writer_;
  DeviceInfo info_;
  Identity identity_;
  Phase phase_ = Phase::kIdle;
  std::string error_;
  Incarnation newer_incarnation_;
  Superblock superblock_;
  uint32_t first_slot_ = 0;
  bool in_flight_ = false;

  Slice buffer_;
  std::vector<std::byte> checkpoint_;
  std::optional<SlotTable::Range> homes_;  // what is read of directory and homes; nothing: all was

  // The log: what the buffer holds, and where the next read begins.
  uint64_t buffer_position_ = 0;
  uint64_t buffer_bytes_ = 0;
  uint64_t want_position_ = 0;
  uint64_t position_ = 0;  // end of what was replayed
  uint64_t last_generation_ = 0;
  uint32_t last_crc_ = 0;
  uint64_t batches_ = 0;  // replayed
  uint64_t proven_ = 0;   // everything below was durable: a later header says so
  bool wrapped_ = false;  // there is no batch at position_: the ring's beginning is tried
  // A batch at position_ has a good header and a payload that is not its own; where it would end.
  uint64_t suspect_end_ = 0;  // 0: none
  uint64_t search_position_ = 0;
  bool damaged_ = false;
};

}  // namespace gabion::store
