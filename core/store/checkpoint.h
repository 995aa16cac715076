// Checkpoints: the state as bytes, directory and homes into their tables, all else into the area
// that no superblock names, and then named by both superblocks, one after the other.
//
//   Idle -> Cutting (all that is queued gets its place: the state is that of the log below head())
//        -> Table (leaves and pages that changed) -> Writing (pieces) -> AwaitingLog (everything
//        below the position is durable)
//        -> Flushing (area and homes) -> Superblocks -> Idle
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/store/log.h"
#include "core/store/state.h"
#include "core/store/superblock.h"

namespace gabion::store {

// Appends all but the roots of the directory and of the pages of homes.
void EncodeState(const DeviceState& state, std::vector<std::byte>* bytes);
// When their blocks have been given out.
void EncodeRoot(const DeviceState& state, std::vector<std::byte>* bytes);
// False: the bytes are no state and roots. `state` was reset to the right geometry before; the
// directory is still to be read (DeviceState::NextRead), and its places to be claimed
// (InsertHomes).
[[nodiscard]] bool DecodeState(std::span<const std::byte> bytes, DeviceState& state);

// Writes one superblock to both places, durably, the place of the worse copy first.
class SuperblockWriter {
 public:
  explicit SuperblockWriter(const Options& options) : options_(options) {}

  void Start(const Superblock& superblock, uint32_t first_slot);
  bool active() const { return active_; }
  const Superblock& superblock() const { return superblock_; }
  // False when memory is short.
  bool Advance(DiskTag tag, Effects& effects);
  // True when both are durable.
  bool OnWritten();

 private:
  Options options_;
  Superblock superblock_;
  uint32_t slot_ = 0;
  uint32_t written_ = 0;
  bool active_ = false;
  bool in_flight_ = false;
};

class Checkpointer {
 public:
  enum class Phase : uint8_t {
    kIdle,
    kCutting,
    kTable,
    kWriting,
    kAwaitingLog,
    kFlushing,
    kSuperblocks
  };
  static constexpr uint32_t kPagesInFlightMax = 32;

  Checkpointer(const Options& options, DeviceState* state, Log* log, Counters* counters);

  void Open(const Superblock& superblock);  // the one on disk
  void Start();
  // False when memory is short. Fills `error` when the state does not fit, or the log.
  bool Advance(DiskTag tag, Effects& effects, std::string* error);
  void OnDiskDone();

  bool idle() const { return phase_ == Phase::kIdle; }
  Phase phase() const { return phase_; }
  const Superblock& superblock() const { return superblock_; }
  // How full the areas are or may become: bytes of the last checkpoint plus of all records since.
  uint64_t bytes_estimate() const;

 private:
  Options options_;
  DeviceState* state_;
  Log* log_;
  Counters* counters_;
  SuperblockWriter writer_;
  Superblock superblock_;  // as on disk
  Superblock next_;
  Phase phase_ = Phase::kIdle;
  std::vector<std::byte> content_;  // keeps its memory: the next one needs about as much
  size_t written_ = 0;
  uint32_t in_flight_ = 0;
  uint64_t records_at_last_ = 0;
};

}  // namespace gabion::store
