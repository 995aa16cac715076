// Requests of clients from arrival to answer. The table's capacity is the limit of requests in this
// process; a full table answers kBusy.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/base/slot_table.h"
#include "core/sds/ops.h"
#include "core/sds/range_lock.h"
#include "core/wire/data.h"

namespace gabion::sds {

enum class RequestPhase : uint8_t {
  kQueued,        // its slice does not serve yet, or its snapshot number is not known yet
  kAwaitingLock,  // an overlapping request is before it
  kMerging,       // the rest of its partial blocks is being read
  kRepairing,     // blocks that it reads were damaged
  kReady,         // waits for room, or for a member that is away
  kReading,       // admitted read
  kInFlight,      // admitted write
};

struct Request {
  RequestPhase phase = RequestPhase::kQueued;
  bool is_write = false;
  ConnId conn;  // 0: the connection is gone; an admitted request goes on without it
  SdcId client;
  Incarnation client_incarnation;
  wire::IoTarget target;
  uint64_t tag = 0;
  SnapNumber snap_number;
  RequestId request;
  RequestId low_water;
  wire::EntryKind kind{};
  ReplicaKey replica;
  uint16_t first_block = 0;
  uint16_t block_count = 0;
  RangeLock::Handle lock;
  uint32_t reads_pending = 0;
  bool read_failed = false;   // the device is gone
  bool read_damaged = false;  // blocks do not match their checksums
  bool repaired = false;      // once; what is damaged again stays so
  bool merged = false;        // `data` is whole blocks, `crc` theirs
  Slice data;  // the client's bytes; once merged, whole blocks; of a read, its target
  Slice merge_first;
  Slice merge_last;
  std::array<uint32_t, wire::kDataBlocksMax + 1> crc{};  // of the pieces; once merged, of blocks
  ConfigVersion admitted_at;  // configuration under which it was admitted

  bool admitted() const {
    return phase == RequestPhase::kReading || phase == RequestPhase::kInFlight;
  }
  uint32_t end_bytes() const { return target.offset_bytes + target.length_bytes; }
  bool partial() const {
    return target.offset_bytes % wire::kBlockBytes != 0 || end_bytes() % wire::kBlockBytes != 0;
  }
};

using RequestTable = SlotTable<Request>;

// What was admitted and is not settled, by the configuration version under which it was admitted:
// the drained version of R6.
class Outstanding {
 public:
  void Add(ConfigVersion version);
  void Remove(ConfigVersion version);
  // The version whose fences wait for nothing that was admitted before them.
  ConfigVersion Drained(ConfigVersion applied) const;
  size_t count() const;

 private:
  std::vector<std::pair<ConfigVersion, uint32_t>> counts_;  // ascending, no zeroes
};

}  // namespace gabion::sds
