// Reads a replica from the bytes of a disk, as a fresh process would after a power cut at this
// instant: a store of its own recovers from a copy of the image, outside the running cluster.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/store/store.h"
#include "sim/world/disk.h"

namespace gabion::sim {

class ReplicaReader {
 public:
  // Copies the image (its pages are shared). `pool` outlives the reader.
  ReplicaReader(const DiskImage& image, const DeviceInfo& info, BufferPool* pool);

  // Empty, or why the store does not open.
  std::string Open(const store::Identity& identity);
  std::vector<SliceId> slices() const { return store_.slices(); }  // ascending
  const store::SliceFacts* Find(SliceId slice) const { return store_.Find(slice); }
  // One whole chunk into `target` (1 MiB). Empty, or what is wrong.
  std::string ReadChunk(SliceId slice, const store::ChunkKey& key, Slice target);
  std::string Dump() const { return store_.Dump(); }

 private:
  // Carries out disk effects until the store is quiet or `tag` is done; whether it is, and how.
  bool Settle(store::Tag tag, store::DoneStatus* status);

  DiskImage image_;
  PageArena* arena_;
  DeviceInfo info_;
  store::Store store_;
  Effects effects_;
  std::vector<store::Done> done_;
  Now now_;
};

}  // namespace gabion::sim
