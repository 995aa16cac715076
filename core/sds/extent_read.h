// One extent, read and verified: as a whole, and when that does not match, block by block, because
// a read of several blocks says only that one of them is damaged. The memory is one buffer of 64
// KiB, whatever is found.
//
// The completions that belong to it are those of operations with its kind and its number.
#pragma once

#include <cstdint>

#include "core/base/buffer.h"
#include "core/sds/context.h"
#include "core/sds/extent_data.h"
#include "core/sds/ops.h"
#include "core/store/store.h"

namespace gabion::sds {

class ExtentRead {
 public:
  struct Asker {
    OpKind kind{};
    ReplicaKey replica;
    uint64_t instance = 0;
    Epoch epoch;
    uint64_t number = 0;
  };

  enum class Step : uint8_t {
    kRunning,
    kDone,
    kNoMemory,
    kFailed,  // the device failed, and says so
  };

  // kDone: nothing has data there.
  Step Begin(Context& ctx, store::Store& store, const Asker& asker, const store::ChunkKey& key,
             uint16_t extent);
  // `op` is of this kind and number.
  Step OnDone(Context& ctx, store::Store& store, store::DoneStatus status);

  bool running() const { return running_; }
  uint64_t number() const { return asker_.number; }
  const store::ChunkKey& key() const { return key_; }
  uint16_t extent() const { return extent_; }
  uint16_t present() const { return present_; }
  uint16_t damaged() const { return damaged_; }
  uint16_t good() const { return static_cast<uint16_t>(present_ & ~damaged_); }
  // The whole extent; what is not good() is undefined.
  const Slice& data() const { return data_; }
  // Plain checksums of the good blocks.
  ExtentCrcs Crcs() const;

 private:
  static constexpr uint32_t kWhole = UINT32_MAX;

  void Submit(Context& ctx, store::Store& store);
  void ToNextPresent();

  Asker asker_;
  store::ChunkKey key_;
  uint16_t extent_ = 0;
  uint16_t present_ = 0;
  uint16_t damaged_ = 0;
  bool running_ = false;
  uint32_t block_ = kWhole;  // being read
  Slice data_;
};

// Blocks that two copies do not agree on. What has no data reads as zeroes.
uint16_t DifferingBlocks(uint16_t present_a, const ExtentCrcs& a, uint16_t present_b,
                         const ExtentCrcs& b);

}  // namespace gabion::sds
