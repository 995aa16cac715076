// Brings committed blocks from the log to their homes, oldest first, and moves uncommitted ones
// that hold up the tail of the log nearer to its head.
//
//   Idle -> AwaitingFloor (nothing that is destaged can be voided afterwards)
//        -> Destaging (extents, several at a time) -> Relocating (entries, one at a time)
//        -> AwaitingLog -> Idle
//
// A home is overwritten in place: until the next checkpoint is durable the log still holds the
// blocks and recovery reads them there. So is an extent of an entry's own that becomes the home.
// Its checksums change in their page, which is read with the blocks when it is not in memory, and
// stays there until the checkpoint: so a pass changes no more pages than the budget holds.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/store/log.h"
#include "core/store/state.h"

namespace gabion::store {

class Destager {
 public:
  enum class Phase : uint8_t { kIdle, kAwaitingFloor, kDestaging, kRelocating, kAwaitingLog };

  Destager(const Options& options, DeviceState* state, Log* log, Counters* counters);
  void Open(const Geometry& geometry) { geometry_ = geometry; }

  // Some of what is in the log could be destaged, or its floor raised so that it can.
  bool HasWork() const;
  // `bytes_max`: of the log, from its oldest item on. `relocate_below`: uncommitted items at lower
  // positions are moved.
  void Start(uint64_t bytes_max, uint64_t relocate_below);
  // False when memory is short.
  bool Advance(DiskTag tag_base, Effects& effects);
  // False: a write failed, and with it the device (S3).
  [[nodiscard]] bool OnDiskDone(uint64_t slot, DiskStatus status);

  bool idle() const { return phase_ == Phase::kIdle; }
  Phase phase() const { return phase_; }
  bool out_of_extents() const { return out_of_extents_; }
  // The last pass ended early: it would have changed more pages than may be dirty.
  bool out_of_pages() const { return out_of_pages_; }
  // Extents that are allocated but not yet homes.
  uint32_t in_transit() const { return in_transit_; }
  // What the last pass did.
  bool destaged() const { return destaged_; }
  uint64_t relocated_bytes() const { return relocated_bytes_; }

  static constexpr uint32_t kJobsMax = 16;

 private:
  static EntryId NextFloor(const Replica& replica);
  struct Target {
    SliceId slice;
    ChunkKey key;
    uint32_t extent = 0;
    uint64_t uid = 0;   // of the replica: it may be dropped meanwhile, and come anew
    PlacedExtent home;  // that nothing else changes during a pass
  };
  struct Source {
    uint32_t block = 0;         // within the extent
    uint64_t offset_bytes = 0;  // on the device
    uint32_t crc = 0;
  };
  struct Job {
    void Reset();  // keeps the memory of its lists

    bool active = false;
    bool writing = false;
    bool failed_read = false;
    Target target;
    std::vector<VersionKey> versions;
    std::vector<Source> sources;
    Home home;
    uint16_t changed = 0;           // blocks of the home that have another content, or none, now
    uint32_t place = kNoPlace;      // where it will be
    uint32_t new_place = kNoPlace;  // the same, when it was allocated for it
    Slice buffer;
    std::optional<HomeTable::PageRead> page_read;  // its page is on its way
    Slice page;
    uint32_t outstanding = 0;
    uint32_t attempts = 0;
  };

  void BecomeDestaging();
  void BecomeRelocating();
  // Nothing to do: true as well. False: memory is short.
  bool StartJob(uint32_t slot, const Target& target, DiskTag tag, Effects& effects);
  enum class Got : uint8_t { kAll, kNotAll, kNoMemory };
  // A place for the job's home, if it needs one, and its page, pinned or on its way. `own`: that of
  // an entry, which becomes the home; kNoPlace: none.
  Got GetPlace(Job& job, uint32_t own);
  Got GetPage(Job& job);
  void ReadSources(Job& job, DiskTag tag, Effects& effects);
  void ReadPage(Job& job, DiskTag tag, Effects& effects);
  // The page that was read is in memory, and pinned. False: it is to be read again.
  bool TakePage(Job& job);
  // The checksums of what does not change.
  void KeepChecksums(Job& job);
  // The job's reads are done: reads again, writes, or finishes.
  void AfterReads(Job& job, DiskTag tag, Effects& effects);
  void WriteHome(Job& job, DiskTag tag, Effects& effects);
  void FinishJob(Job& job);
  bool AdvanceRelocation(DiskTag tag, Effects& effects);
  Item* NextToRelocate();
  Item* FindMoving();

  Options options_;
  DeviceState* state_;
  Log* log_;
  Counters* counters_;
  Geometry geometry_;
  Phase phase_ = Phase::kIdle;
  std::vector<Target> targets_;
  size_t next_target_ = 0;
  std::vector<Job> jobs_;
  uint64_t bytes_max_ = 0;
  uint64_t relocate_below_ = 0;
  uint64_t relocated_bytes_ = 0;
  uint32_t active_ = 0;
  uint32_t in_transit_ = 0;
  bool out_of_extents_ = false;
  bool out_of_pages_ = false;
  bool destaged_ = false;
  // The item that is being relocated.
  Slice moving_;
  uint64_t moving_number_ = 0;
  bool moving_read_ = false;
};

}  // namespace gabion::store
