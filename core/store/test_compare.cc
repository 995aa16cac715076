#include "core/store/test_compare.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace gabion::store {

namespace {

bool EqualChunk(TestStore& test, SliceId slice, const ModelSlice& want, const ChunkKey& key,
                std::string* why) {
  const auto got = test.Read(slice, key, 0, wire::kBlocksPerChunk);
  if (!got) {
    *why = "corrupt";
    return false;
  }
  const ChunkStamps content = want.Content(key);
  uint32_t extents = 0;
  for (uint32_t block = 0; block < wire::kBlocksPerChunk; ++block) {
    if ((*got)[block] != content[block]) {
      *why = "chunk " + std::to_string(key.chunk) + " block " + std::to_string(block) + " holds " +
             std::to_string((*got)[block]) + ", want " + std::to_string(content[block]);
      return false;
    }
    if (content[block] != 0) extents |= 1u << (block / wire::kBlocksPerExtent);
    const bool present = test.store().Present(slice, key, block, 1) != 0;
    if (present != (content[block] != 0)) {
      *why = "present bit of block " + std::to_string(block);
      return false;
    }
  }
  for (uint64_t epoch = 0; epoch <= want.started.value(); ++epoch) {
    std::optional<ChunkSummary> summary;
    for (const ChunkSummary& each : test.store().List(slice, std::nullopt, Epoch(epoch), 100)) {
      if (each.key == key) summary = each;
    }
    if (summary.has_value() != (extents != 0)) {
      *why = "chunk is (not) listed";
      return false;
    }
    if (!summary) continue;
    if (summary->extents != extents) {
      *why = "extents of the summary";
      return false;
    }
    bool any_changed = false;
    for (uint32_t extent = 0; extent < wire::kExtentsPerChunk; ++extent) {
      const std::optional<Epoch> modified = want.Modified(key, extent);
      any_changed = any_changed || (modified && *modified > Epoch(epoch));
    }
    for (uint32_t extent = 0; extent < wire::kExtentsPerChunk; ++extent) {
      const std::optional<Epoch> modified = want.Modified(key, extent);
      if (!modified) continue;
      const bool changed = (summary->changed >> extent & 1u) != 0;
      const bool has_data = (extents >> extent & 1u) != 0;
      // It may say more than it must of what has no data, or none at home yet (Chunk::born).
      const bool more = changed && (!has_data || any_changed);
      if (changed == (*modified > Epoch(epoch)) || more) continue;
      *why = "modified epoch of extent " + std::to_string(extent);
      return false;
    }
  }
  return true;
}

bool EqualRequests(TestStore& test, SliceId slice, const ModelSlice& want, uint64_t requests,
                   std::string* why) {
  const auto mark = want.low_water.find(kModelClient);
  const RequestId low_water = mark == want.low_water.end() ? RequestId() : mark->second;
  for (RequestId request(1); request <= RequestId(requests); request = request.next()) {
    const auto found = test.store().FindRequest(slice, kModelClient, kModelIncarnation, request);
    const std::optional<EntryId> entry = want.FindRequest(kModelClient, request);
    bool good = false;
    if (request < low_water) {
      good = found.state == Store::RequestState::kBelowLowWater;
    } else if (entry) {
      good = found.state == Store::RequestState::kKnown && found.entry == *entry;
    } else {
      good = found.state == Store::RequestState::kUnknown;
    }
    if (good) continue;
    *why = "request " + ToString(request);
    return false;
  }
  return true;
}

bool EqualSlice(TestStore& test, SliceId slice, const ModelSlice& want, const View& view,
                std::string* why) {
  const SliceFacts& facts = *test.store().Find(slice);
  if (facts.started_epoch != want.started || facts.issuer != want.issuer ||
      facts.in_sync_epoch != want.in_sync || facts.last != want.last ||
      facts.needs_resync != want.needs_resync || facts.history.size() != want.history) {
    *why = "facts: last " + ToString(facts.last) + ", want " + ToString(want.last);
    return false;
  }
  // The store may have forgotten the commit point: then its tail is longer.
  std::vector<EntryId> tail;
  for (const wire::EntryHeader& entry : test.store().Tail(slice)) tail.push_back(entry.id);
  const std::vector<EntryId> want_tail = want.Tail();
  if (tail.size() < want_tail.size() ||
      !std::equal(want_tail.rbegin(), want_tail.rend(), tail.rbegin())) {
    *why = "tail of " + std::to_string(tail.size()) + ", want " + std::to_string(want_tail.size());
    return false;
  }
  for (uint32_t chunk = 0; chunk < view.chunks; ++chunk) {
    if (!EqualChunk(test, slice, want, TestKey(chunk), why)) return false;
  }
  return EqualRequests(test, slice, want, view.requests, why);
}

}  // namespace

bool Looks(TestStore& test, const World& want, const View& view, std::string* why) {
  std::vector<SliceId> slices;
  for (const auto& [slice, each] : want) slices.push_back(slice);
  if (test.store().slices() != slices) {
    *why = "other slices";
    return false;
  }
  for (const auto& [slice, each] : want) {
    if (!EqualSlice(test, slice, each, view, why)) {
      *why = "slice " + ToString(slice) + ": " + *why;
      return false;
    }
  }
  return true;
}

}  // namespace gabion::store
