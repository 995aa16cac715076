// Calls to stores that have not completed. The store's tag is the number of a slot here, so a
// completion finds who asked, in which epoch, and the memory that it filled.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/check.h"
#include "core/base/ids.h"
#include "core/store/store.h"
#include "core/wire/data.h"

namespace gabion::sds {

// One device's copy of one slice.
struct ReplicaKey {
  SliceId slice;
  DeviceId device;
  friend auto operator<=>(const ReplicaKey&, const ReplicaKey&) = default;
};

enum class OpKind : uint8_t {
  kNone,
  // Devices.
  kDeviceOpen,
  kDeviceFormat,
  kDeviceClose,
  // Primary.
  kAdopt,       // a: -
  kStart,       // a: ordinal of the last append before it
  kAppend,      // a: ordinal
  kLoadEntry,   // a: ordinal of the entry in the log
  kMergeRead,   // a: request
  kClientRead,  // a: request
  kCopyRead,    // a: number of the copy
  kRepairRead,  // a: number of the repair
  kRepairAppend,
  kExamineRead,  // a: number of the examination
  // Secondary and joining side.
  kFollowStart,
  kFollowAppend,  // a: seq
  kFetchRead,     // entry: what was asked
  kJoinAppend,    // a: stream number
  kServeRead,     // a: number of what is served
  kScanFix,       // a: connection, b: number of the fix
  // Either.
  kScanRead,  // a: number of the scanner's read
  kMark,      // a durable fact nobody waits for
  kDrop,
};

struct Op {
  OpKind kind{};
  ReplicaKey replica;
  uint64_t instance = 0;  // of the Primary or Secondary that asked: another one ignores the answer
  Epoch epoch;
  uint64_t a = 0;
  uint64_t b = 0;
  wire::EntryHeader entry;
  Slice target;
  std::array<uint32_t, wire::kDataBlocksMax> crc{};
};

class OpTable {
 public:
  store::Tag Add(Op op) {
    uint32_t index;
    if (free_.empty()) {
      index = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    Place& place = slots_[index];
    place.op = std::move(op);
    ++place.use_count;
    ++live_;
    return (uint64_t{place.use_count} << 32) | index;
  }
  // Where the operation stays until it is taken: its target and checksums may be filled in place.
  Op& At(store::Tag tag) {
    Place& place = slots_[static_cast<uint32_t>(tag)];
    CHECK_EQ(place.use_count, tag >> 32);
    return place.op;
  }
  Op Take(store::Tag tag) {
    Op op = std::move(At(tag));
    slots_[static_cast<uint32_t>(tag)].op = Op();
    ++slots_[static_cast<uint32_t>(tag)].use_count;
    free_.push_back(static_cast<uint32_t>(tag));
    --live_;
    return op;
  }
  // The device's store is gone: its operations will never complete.
  void DropDevice(DeviceId device) {
    for (uint32_t i = 0; i < slots_.size(); ++i) {
      Place& place = slots_[i];
      if (place.op.kind == OpKind::kNone || place.op.replica.device != device) continue;
      Take((uint64_t{place.use_count} << 32) | i);
    }
  }
  bool Live(store::Tag tag) const {
    const auto index = static_cast<uint32_t>(tag);
    return index < slots_.size() && slots_[index].use_count == tag >> 32 &&
           slots_[index].op.kind != OpKind::kNone;
  }
  size_t live() const { return live_; }

 private:
  struct Place {
    Op op;
    uint32_t use_count = 0;
  };
  std::deque<Place> slots_;  // addresses stay
  std::vector<uint32_t> free_;
  size_t live_ = 0;
};

}  // namespace gabion::sds
