// What a store should hold, kept in the plainest way: every operation in order, nothing folded.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/store/store.h"

namespace gabion::store {

inline constexpr SdcId kModelClient{77};
inline constexpr Incarnation kModelIncarnation{1};

struct ModelKey {
  EntryId id;
  uint64_t serial = 0;
  auto operator<=>(const ModelKey&) const = default;
};

struct ModelOp {
  wire::EntryHeader entry{};  // of copies and drops: the range
  bool is_copy = false;       // drops are copies of nothing
  uint16_t present = 0;
  Epoch modified{};
  uint64_t stamp = 0;
};

using ChunkStamps = std::array<uint64_t, wire::kBlocksPerChunk>;

struct ModelSlice {
  Epoch started;
  uint64_t issuer = 0;
  Epoch in_sync;
  EntryId start;
  EntryId last;
  EntryId commit_point;  // soft: a crash may forget it
  bool needs_resync = false;
  size_t history = 0;
  uint64_t next_serial = 1;
  std::map<ModelKey, ModelOp> ops;
  std::map<std::pair<SdcId, RequestId>, EntryId> copied_requests;
  std::map<SdcId, RequestId> low_water;

  void StartEpoch(const EpochStartRecord& record);
  void VoidAbove(EntryId end);
  std::vector<EntryId> Tail() const;
  ChunkStamps Content(const ChunkKey& key) const;
  // Epoch of the last change of an extent; nothing: never touched.
  std::optional<Epoch> Modified(const ChunkKey& key, uint32_t extent) const;
  std::optional<EntryId> FindRequest(SdcId client, RequestId request) const;
};

using World = std::map<SliceId, ModelSlice>;

// What cannot be seen (a drop of what is zero anyway) may or may not have survived a crash, and
// come to light later, when a void uncovers it. So a model is every world that looks like the
// store.
struct Model {
  std::vector<World> worlds = {World()};
};

// Equal worlds, and no others, have equal texts.
std::string Fingerprint(const World& world);

}  // namespace gabion::store
