#include "core/store/test_model.h"

#include <algorithm>
#include <bit>

namespace gabion::store {

void ModelSlice::StartEpoch(const EpochStartRecord& record) {
  start = {record.epoch, record.start};
  std::map<ModelKey, ModelOp> next;
  for (const auto& [key, op] : ops) {
    if (key.id <= record.end) {
      next[key] = op;
      continue;
    }
    EntryId after = start;
    bool renamed = false;
    for (const Rename& rename : record.renames) {
      if (rename.from > key.id) break;
      after = rename.to;
      renamed = rename.from == key.id;
    }
    if (op.is_copy) {
      ModelOp& moved = next[ModelKey{after, key.serial}] = op;
      if (after != start) moved.modified = record.epoch;
    } else if (renamed) {
      ModelOp moved = op;
      moved.entry.id = after;
      next[ModelKey{after, 0}] = moved;
    }
  }
  ops = std::move(next);
  started = record.epoch;
  issuer = record.issuer;
  if (record.in_sync) in_sync = record.epoch;
  history = record.history.size();
  commit_point =
      record.start.valid() || !record.in_sync ? start : std::max(commit_point, record.end);
  last = {record.epoch, Seq(record.start.value() + record.renames.size())};
}

void ModelSlice::VoidAbove(EntryId end) {
  ops.erase(ops.upper_bound(ModelKey{end, UINT64_MAX}), ops.end());
  last = std::min(last, end);
  commit_point = std::min(commit_point, end);
}

std::vector<EntryId> ModelSlice::Tail() const {
  std::vector<EntryId> tail;
  for (const auto& [key, op] : ops) {
    if (!op.is_copy && key.id > commit_point) tail.push_back(key.id);
  }
  return tail;
}

ChunkStamps ModelSlice::Content(const ChunkKey& chunk) const {
  ChunkStamps stamps{};
  for (const auto& [key, op] : ops) {
    if (ChunkKey{op.entry.vtree, op.entry.version, op.entry.chunk} != chunk) continue;
    uint32_t from = 0;
    for (uint32_t i = 0; i < op.entry.block_count; ++i) {
      uint64_t stamp = 0;
      const bool data = op.is_copy ? i < 16 && (op.present >> i & 1u) != 0
                                   : op.entry.kind == wire::EntryKind::kWrite;
      if (data) stamp = op.stamp + from++;
      stamps[op.entry.first_block + i] = stamp;
    }
  }
  return stamps;
}

std::optional<Epoch> ModelSlice::Modified(const ChunkKey& chunk, uint32_t extent) const {
  std::optional<Epoch> modified;
  const uint32_t first = extent * wire::kBlocksPerExtent;
  for (const auto& [key, op] : ops) {
    if (ChunkKey{op.entry.vtree, op.entry.version, op.entry.chunk} != chunk) continue;
    if (op.entry.first_block >= first + wire::kBlocksPerExtent) continue;
    if (op.entry.first_block + op.entry.block_count <= first) continue;
    if (op.is_copy) {
      modified = op.modified;
    } else {
      modified = std::max(modified.value_or(Epoch()), key.id.epoch);
    }
  }
  return modified;
}

std::optional<EntryId> ModelSlice::FindRequest(SdcId client, RequestId request) const {
  for (const auto& [key, op] : ops) {
    if (!op.is_copy && op.entry.client == client && op.entry.request == request) return key.id;
  }
  const auto copied = copied_requests.find({client, request});
  if (copied != copied_requests.end()) return copied->second;
  return std::nullopt;
}

std::string Fingerprint(const World& world) {
  std::string text;
  const auto add = [&text](uint64_t number) { text += std::to_string(number) + " "; };
  for (const auto& [id, slice] : world) {
    add(id.value());
    add(slice.started.value());
    add(slice.issuer);
    for (const auto& [key, op] : slice.ops) {
      text += ToString(key.id) + " ";
      add(key.serial);
      add(op.stamp);
      add(op.present);
      add(op.entry.chunk);
      add(op.entry.first_block);
    }
    for (const auto& [request, entry] : slice.copied_requests) {
      add(request.second.value());
      text += ToString(entry) + " ";
    }
    for (const auto& [client, mark] : slice.low_water) add(mark.value());
    text += "; ";
  }
  return text;
}

}  // namespace gabion::store
