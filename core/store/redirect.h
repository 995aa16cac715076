// Writes the extents that entries have of their own (docs/store.md, "Large writes"). Until that is
// done the entry's record waits in the log's queue, and reads find the content in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "core/store/state.h"
#include "core/store/store.h"

namespace gabion::store {

class RedirectWriter {
 public:
  RedirectWriter(const Options& options, Counters* counters)
      : options_(options), counters_(counters) {}
  void Open(const Geometry& geometry) { geometry_ = geometry; }

  // `content`: of the item's own extents, in order. The item stays while it is written: its record
  // is in the log's queue.
  void Start(Item* item, Slice content, DiskTag tag_base, Effects& effects);
  // `slot`: what was added to tag_base.
  void OnDiskDone(uint64_t slot);

 private:
  Options options_;
  Counters* counters_;
  Geometry geometry_;
  std::vector<Item*> slots_;  // null: free
  std::vector<uint32_t> free_;
};

}  // namespace gabion::store
