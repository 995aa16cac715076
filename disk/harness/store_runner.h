// One store over a stack of layers, driven as a host drives it: one thread, requests handed to the
// device once per turn, completions and the store's timer brought back.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/fifo.h"
#include "core/base/result.h"
#include "core/role/effects.h"
#include "core/store/store.h"
#include "disk/layer/block_layer.h"

namespace gabion::disk {

// CLOCK_BOOTTIME and CLOCK_REALTIME.
Now MachineClock();

class StoreRunner {
 public:
  struct Options {
    uint64_t log_bytes = 0;     // 0: the store's default
    uint64_t memory_bytes = 0;  // of the store; 0: its default
    size_t pool_bytes = size_t{512} << 20;
    std::function<Now()> clock = MachineClock;
  };

  StoreRunner(BlockLayer* device, const Options& options);

  // Each runs until it is done; the error is the store's.
  Result<void> Format(bool force);
  Result<void> Open();
  Result<void> Close();

  store::Store& store() { return *store_; }
  BufferPool& pool() { return pool_; }
  const Now& now() const { return now_; }
  store::Output out() { return {effects_, done_}; }
  store::Tag NewTag() { return next_tag_++; }

  // Hands over what the store asks for; waits when nothing has come back, no longer than `limit` or
  // until the timer; brings back what there is.
  void Turn(Duration limit = std::chrono::seconds(1));
  // What Turn brought. The caller clears it.
  std::vector<store::Done>& done() { return done_; }
  // Turns until this call is done; everything else that gets done meanwhile is forgotten.
  store::DoneStatus Await(store::Tag tag);
  // Until the store has nothing to do any more: all that is committed is at home.
  void Settle();

 private:
  Result<void> Finish(store::Tag tag);
  void Submit();

  BlockLayer& device_;
  std::function<Now()> clock_;
  BufferPool pool_;
  std::unique_ptr<store::Store> store_;
  Effects effects_;
  std::vector<store::Done> done_;
  std::vector<DiskDoneEvent> events_;
  store::Tag next_tag_ = uint64_t{1} << 32;  // above those of the caller
  uint64_t in_flight_ = 0;                   // requests that the device has
  Instant timer_ = kNever;
  Now now_;
};

// Writes to many slices as their primary does when both copies are always durable at once: entries
// in order, within the slice's window and the log's room, commit points that follow.
class SliceWriter {
 public:
  struct Options {
    uint32_t slices = 32;
    // Of the entries that became durable; the last few stay above the commit point meanwhile.
    uint32_t commit_every = 1;
  };

  SliceWriter(StoreRunner* runner, const Options& options);

  // A new epoch in every slice, which keeps all that is there. False: the store failed.
  [[nodiscard]] bool StartEpochs();

  // Whether an entry of so many blocks may be appended now. If not: after a turn.
  bool Fits(uint32_t chunk, uint32_t first_block, uint32_t block_count) const;
  // `payload` is empty for zeroes. Its completion comes with `tag`.
  void Write(uint32_t chunk, uint32_t first_block, uint32_t block_count, Slice payload,
             std::span<const uint32_t> block_crc, store::Tag tag);
  // For each append that is done, in order.
  void OnDone(store::Tag tag);

  size_t in_flight() const { return pending_.size(); }
  SliceId SliceOf(uint32_t chunk) const { return SliceId(1 + chunk % options_.slices); }
  static store::ChunkKey KeyOf(uint32_t chunk) {
    return {.vtree = VtreeId(1), .version = VolumeVersion(0), .chunk = chunk};
  }

 private:
  struct SliceState {
    EntryId last;
    uint64_t uncommitted_bytes = 0;  // what is on its way included
    uint64_t durable_bytes = 0;      // of them: durable, waiting for a commit point
    uint32_t durable_entries = 0;
  };
  struct Pending {
    store::Tag tag = 0;
    uint32_t slice = 0;
    EntryId id;
    uint64_t bytes = 0;
  };

  wire::EntryHeader Entry(uint32_t chunk, uint32_t first_block, uint32_t block_count,
                          bool zero) const;

  StoreRunner& runner_;
  Options options_;
  std::vector<SliceState> slices_;
  Fifo<Pending> pending_;
};

}  // namespace gabion::disk
