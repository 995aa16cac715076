// What a scanner knows after a restart of its SDS: part of what the SDS keeps in the journal of its
// state directory (registration.h).
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/store/store.h"
#include "core/wire/management.pb.h"

namespace gabion::sds {

// Of one device.
struct ScanMemory {
  // A pass has begun and is not at its end. It has visited every slice below `slice`, and of this
  // one every chunk up to `chunk`.
  bool running = false;
  proto::ScanPass pass;  // what it found up to there
  SliceId slice;
  std::optional<store::ChunkKey> chunk;
  uint64_t ordered_rate = 0;  // bytes per second, as an administrator wanted it; 0: as configured

  proto::ScanPass last;  // that came to its end

  void Encode(ByteWriter* writer) const;
  // What is missing or bad shows at the reader.
  static ScanMemory Decode(ByteReader* reader);
};

}  // namespace gabion::sds
