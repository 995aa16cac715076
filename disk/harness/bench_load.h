// Loads of the store's bench: on a store, and on a bare device for comparison.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/random.h"
#include "disk/harness/store_runner.h"
#include "disk/layer/block_layer.h"

namespace gabion::disk {

struct LoadResult {
  uint64_t operations = 0;
  double seconds = 0;
  double cpu_seconds = 0;               // of this process
  double worst_second_operations = -1;  // of whole seconds after the first; -1: there are none
  bool failed = false;

  double iops() const { return seconds > 0 ? static_cast<double>(operations) / seconds : 0; }
  double cpu_us() const {
    return operations > 0 ? cpu_seconds * 1e6 / static_cast<double>(operations) : 0;
  }
};

// Blocks of random bytes with their checksums, made once: what is measured is not their making.
class Payloads {
 public:
  explicit Payloads(BufferPool* pool);

  static constexpr uint32_t kBlocksMax = 64;
  // Up to kBlocksMax blocks; which ones differs from call to call.
  Slice Take(uint32_t blocks);
  std::span<const uint32_t> crcs() const { return crcs_of_last_; }

 private:
  static constexpr uint32_t kVariants = 16;
  std::vector<Slice> slices_;
  std::vector<std::vector<uint32_t>> crcs_;
  std::span<const uint32_t> crcs_of_last_;
  uint32_t next_ = 0;
};

struct WriteLoad {
  uint64_t volume_bytes = 0;  // whole chunks from 0
  uint32_t blocks = 1;        // of each write
  bool random = true;         // else in order from the beginning, and again
  uint32_t depth = 1;
  uint64_t operations = 0;
  double seconds_max = 1e9;
  std::function<bool()> until{};  // also ends it
};

LoadResult RunWrites(StoreRunner& runner, SliceWriter& writer, Payloads& payloads,
                     RandomStream& random, const WriteLoad& load);

struct ReadLoad {
  uint64_t volume_bytes = 0;
  uint32_t depth = 32;
  uint64_t operations = 0;
  double seconds_max = 1e9;
};

// Random single blocks, each verified by the store.
LoadResult RunReads(StoreRunner& runner, const SliceWriter& writer, RandomStream& random,
                    const ReadLoad& load);

struct RawLoad {
  DiskOp op{};
  uint32_t depth = 1;
  uint64_t operations = 0;
  double seconds_max = 1e9;
  // Place and size of the next request, of at most 2 MiB.
  struct Request {
    uint64_t offset_bytes = 0;
    uint32_t bytes = 0;
  };
  std::function<Request()> next{};
};

LoadResult RunRaw(BlockLayer& device, const RawLoad& load);

}  // namespace gabion::disk
