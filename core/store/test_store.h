// A store on a test disk, driven step by step.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/random.h"
#include "core/role/effects.h"
#include "core/store/read_cache.h"
#include "core/store/store.h"
#include "core/store/test_disk.h"

namespace gabion::store {

inline constexpr ClusterId kTestCluster{0x1001};
inline constexpr SdsId kTestSds{0x2002};
inline constexpr DeviceId kTestDevice{0x3003};

class TestStore {
 public:
  struct Options {
    uint64_t device_bytes = 24 << 20;
    uint64_t log_bytes = 4 << 20;
    uint64_t seed = 1;
    bool in_order = true;   // disk operations complete oldest first; else in any order
    bool redirect = false;  // large writes need not go through the log
    uint64_t memory_bytes = 0;
    uint64_t read_cache_bytes = 0;
  };

  explicit TestStore(const Options& options);
  // On a disk that has a past.
  TestStore(const Options& options, TestDisk disk);

  // A new store object on the same disk, as after the start of a process.
  void NewProcess();
  void Crash(bool power_cut);
  bool Format(bool force = false);
  bool Open();
  bool Close();

  // Carries out what the last call asked for.
  void Take();
  // Completes one disk operation; false: none waits.
  bool StepDisk();
  void CompleteDisk(size_t index);  // of disk().pending()
  void Settle();                    // until no disk operation waits
  void FireTimer();                 // time goes on to the timer, if there is one
  // Fires timers and settles until nothing is left to do.
  void Quiesce();

  // Runs until `tag` is done.
  DoneStatus Await(Tag tag);
  bool IsDone(Tag tag) const { return results_.contains(tag); }
  std::optional<DoneStatus> Result(Tag tag) const;
  Tag NewTag() { return next_tag_++; }

  Store& store() { return *store_; }
  TestDisk& disk() { return disk_; }
  BufferPool& pool() { return pool_; }
  RandomStream& draws() { return random_; }
  Output out() { return Output{effects_, done_}; }
  const Now& now() const { return now_; }
  void Wait(Duration duration) { now_.boot += duration; }
  Instant timer() const { return timer_; }
  Identity identity{.cluster = kTestCluster, .sds = kTestSds, .device = kTestDevice};

  // ---- Short forms
  // `count` blocks, each filled with a stamp.
  Slice Data(uint64_t stamp, uint32_t count);
  static std::vector<uint32_t> Crcs(const Slice& data);
  wire::EntryHeader Write(EntryId id, uint32_t chunk, uint32_t first, uint32_t count) const;
  Tag Append(SliceId slice, const wire::EntryHeader& entry, uint64_t stamp);
  Tag Start(SliceId slice, const EpochStartRecord& record);
  void Commit(SliceId slice, EntryId id);
  // The stamps of the blocks; nothing when the store says corrupt.
  std::optional<std::vector<uint64_t>> Read(SliceId slice, const ChunkKey& key, uint32_t first,
                                            uint32_t count);

 private:
  Options options_;
  BufferPool pool_;
  ReadCache read_cache_{0};
  TestDisk disk_;
  RandomStream random_;
  std::unique_ptr<Store> store_;
  Effects effects_;
  std::vector<Done> done_;
  std::map<Tag, DoneStatus> results_;
  Tag next_tag_ = 1;
  Now now_;
  Instant timer_ = kNever;
};

inline ChunkKey TestKey(uint32_t chunk) { return {VtreeId(7), VolumeVersion(0), chunk}; }
inline EntryId Entry(uint64_t epoch, uint64_t seq) { return {Epoch(epoch), Seq(seq)}; }

}  // namespace gabion::store
