// A write cache that forgets. Writes are answered when they are in memory; a flush, and a durable
// write for what it writes, bring them to the device below. When the layer or its process goes, all
// that was not brought there is lost. Like the caches of real disks it also writes back when nobody
// asked: drawn blocks in a drawn order. So what is left after a SIGKILL is a drawn subset of what
// was not flushed, and durable writes of several blocks are torn between any of them.
//
// Everything is whole blocks of 4 KiB.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "core/base/random.h"
#include "disk/layer/block_layer.h"

namespace gabion::disk {

class VolatileCacheLayer final : public PassingLayer {
 public:
  static constexpr uint32_t kBlockBytes = 4096;

  struct Options {
    uint64_t seed = 1;
    // Of each request this share makes a drawn block go to the device below.
    uint32_t write_back_percent = 50;
  };

  VolatileCacheLayer(BlockLayer* below, const Options& options);

  DeviceInfo info() const override;
  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override;
  void Submit() override { below().Submit(); }
  void Collect(std::vector<DiskDoneEvent>& done) override;
  void Wait(Duration limit) override;

  // Blocks that the device below does not have yet.
  size_t held_blocks() const { return held_.size(); }

 private:
  struct Held {
    Slice content;
    uint64_t version = 0;
    uint64_t writing = 0;  // version on its way; 0: none
  };
  // A flush, or a durable write: done when its blocks are below and a flush after them is.
  struct Barrier {
    DiskEffect effect;
    std::map<uint64_t, uint64_t> blocks;  // block -> version that must be there
    bool flushing = false;
  };
  struct ReadOperation {
    DiskEffect effect;
    std::vector<Slice> slices;
    std::map<uint64_t, Slice> from_cache;  // block -> what it was when the read came
  };
  // What was asked of the device below; its tag is the key.
  struct Below {
    uint64_t block = 0;  // a write back
    uint64_t version = 0;
    std::unique_ptr<ReadOperation> read;
    uint64_t barrier = 0;  // the flush of one
  };

  void Hold(const DiskEffect& effect, std::span<const Slice> slices);
  void Read(const DiskEffect& effect, std::span<const Slice> slices);
  void StartBarrier(const DiskEffect& effect);
  void WriteBack(uint64_t block);
  void OnWrittenBack(uint64_t block, uint64_t version);
  void Finish(const ReadOperation& read) const;
  void AdvanceBarriers();
  void Answer(const DiskEffect& effect, DiskStatus status);

  Options options_;
  RandomStream random_;
  BufferPool pool_;
  std::map<uint64_t, Held> held_;  // by number of the block
  std::map<uint64_t, Barrier> barriers_;
  std::map<DiskTag, Below> below_requests_;
  std::vector<DiskDoneEvent> answers_;
  uint64_t next_version_ = 1;
  uint64_t next_tag_ = 1;
};

}  // namespace gabion::disk
