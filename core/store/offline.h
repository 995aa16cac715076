// A device as its store would find it, read without writing a byte: what `gabion store check` and
// `gabion store dump` show. Recovery itself is what reads the metadata, so both see what Open
// would.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/role/event.h"
#include "core/store/layout.h"
#include "core/store/store.h"

namespace gabion::store {

// Fills `to` from `offset_bytes` on. False: it cannot be read.
using DeviceReader = std::function<bool(uint64_t offset_bytes, std::span<std::byte> to)>;

enum class Health : uint8_t {
  kGood,      // nothing is wrong
  kWorn,      // something that there is twice on the device is damaged once; no data is lost
  kDamaged,   // some data must come from its other copies
  kUnusable,  // the store does not open the device
};

struct Finding {
  Health health{};
  std::string text;  // a sentence for a person
};

struct CheckReport {
  static constexpr size_t kFindingsMax = 1000;  // more are counted only

  Health health = Health::kGood;  // the worst of all findings
  std::vector<Finding> findings;
  uint64_t findings_left_out = 0;

  std::optional<Superblock> superblock;  // the one that counts
  uint64_t log_batches = 0;              // since the checkpoint
  uint64_t log_bytes = 0;
  uint64_t slices = 0;
  uint64_t slices_that_need_resync = 0;
  uint64_t extents_used = 0;
  uint64_t home_blocks = 0;  // checked, as are those that follow
  uint64_t log_blocks = 0;
  uint64_t bad_blocks = 0;
};

// Reads all metadata and every block that is in use.
CheckReport CheckDevice(const DeviceInfo& info, const DeviceReader& reader);

struct DumpOptions {
  bool superblocks = false;
  bool log = false;     // every batch since the checkpoint, with its records
  bool slices = false;  // the facts of each replica
  struct Chunk {
    SliceId slice;
    ChunkKey key;
  };
  std::optional<Chunk> chunk{};  // where each of its blocks is
};

using Print = std::function<void(std::string_view text)>;

// An error when there is nothing to show: no superblock, or a damaged checkpoint.
Result<void> DumpDevice(const DeviceInfo& info, const DeviceReader& reader,
                        const DumpOptions& options, const Print& print);

}  // namespace gabion::store
