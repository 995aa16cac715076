#include "core/store/store.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/store/store_impl.h"

namespace gabion::store {

Store::Store(const Options& options) : impl_(std::make_unique<StoreImpl>(options)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

void Store::Format(const Now& now, const DeviceInfo& info, const Identity& identity, bool force,
                   Tag tag, Output out) {
  impl_->Format(now, info, identity, force, tag, out);
}
void Store::Open(const Now& now, const DeviceInfo& info, const Identity& identity, Tag tag,
                 Output out) {
  impl_->Open(now, info, identity, tag, out);
}
void Store::Close(const Now& now, Tag tag, Output out) { impl_->Close(now, tag, out); }
void Store::OnDiskDone(const Now& now, const DiskDoneEvent& event, Output out) {
  impl_->OnDiskDone(now, event, out);
}
void Store::OnTimer(const Now& now, Output out) { impl_->OnTimer(now, out); }

State Store::state() const { return impl_->phase(); }
const std::string& Store::error() const { return impl_->error(); }
Incarnation Store::newer_incarnation() const { return impl_->newer_incarnation(); }
bool Store::marked() const { return impl_->marked(); }
DeviceId Store::device() const { return impl_->device(); }
uint64_t Store::log_position() const { return impl_->log_position(); }
Capacity Store::capacity() const { return impl_->capacity(); }
uint64_t Store::extents_offset() const { return impl_->geometry().extents_offset(); }
Counters Store::counters() const { return impl_->counters(); }
Memory Store::memory() const { return impl_->memory(); }

uint64_t Store::slice_window_bytes() const {
  // Room for 32 slices in a quarter of the ring; a small ring holds fewer at full window, but one
  // of the largest requests always fits.
  constexpr uint64_t kSlices = 32;
  constexpr uint64_t kBytesMin = wire::kDataBytesMax + 2 * kBlockBytes;
  constexpr uint64_t kBytesMax = 4 << 20;
  const uint64_t share = impl_->geometry().log_bytes / 4 / kSlices;
  return std::clamp(RoundDown(share, kBlockBytes), kBytesMin, kBytesMax);
}

uint64_t Store::append_room() const { return impl_->append_room(); }

std::vector<SliceId> Store::slices() const {
  std::vector<SliceId> slices;
  for (const auto& [slice, replica] : impl_->state().replicas()) slices.push_back(slice);
  return slices;
}

const SliceFacts* Store::Find(SliceId slice) const {
  const Replica* replica = impl_->state().Find(slice);
  return replica == nullptr ? nullptr : &replica->facts;
}

std::vector<wire::EntryHeader> Store::Tail(SliceId slice) const {
  std::vector<wire::EntryHeader> tail;
  const Replica* replica = impl_->state().Find(slice);
  if (replica == nullptr) return tail;
  const EntryId after = std::max(replica->facts.commit_point, replica->floor);
  for (auto it = replica->items.upper_bound(ItemKey{after, UINT64_MAX}); it != replica->items.end();
       ++it) {
    if (it->first.serial == 0) tail.push_back(it->second->header);
  }
  return tail;
}

void Store::StartEpoch(const Now& now, SliceId slice, const EpochStartRecord& record, Tag tag,
                       Output out) {
  impl_->StartEpoch(now, slice, record, tag, out);
}
void Store::VoidAbove(const Now& now, SliceId slice, EntryId end, Tag tag, Output out) {
  impl_->VoidAbove(now, slice, end, tag, out);
}
void Store::SetNeedsResync(const Now& now, SliceId slice, bool value, Tag tag, Output out) {
  impl_->SetNeedsResync(now, slice, value, tag, out);
}
void Store::SetInSync(const Now& now, SliceId slice, Epoch epoch, uint64_t issuer, Tag tag,
                      Output out) {
  impl_->SetInSync(now, slice, epoch, issuer, tag, out);
}
void Store::SetCursor(const Now& now, SliceId slice, const wire::JoinCursor& cursor, Tag tag,
                      Output out) {
  impl_->SetCursor(now, slice, cursor, tag, out);
}
void Store::DropSlice(const Now& now, SliceId slice, Tag tag, Output out) {
  impl_->DropSlice(now, slice, tag, out);
}

void Store::Append(const Now& now, SliceId slice, const wire::EntryHeader& entry, Slice payload,
                   std::span<const uint32_t> block_crc, Tag tag, Output out) {
  impl_->Append(now, slice, entry, std::move(payload), block_crc, tag, out);
}
void Store::SetCommitPoint(const Now& now, SliceId slice, EntryId commit_point, Output out) {
  impl_->SetCommitPoint(now, slice, commit_point, out);
}
void Store::AppendCopy(const Now& now, SliceId slice, const ChunkKey& key, uint16_t extent,
                       uint16_t present, Epoch modified_epoch, EntryId after, Slice payload,
                       std::span<const uint32_t> block_crc, Tag tag, Output out) {
  impl_->AppendCopy(now, slice, key, extent, present, modified_epoch, after, std::move(payload),
                    block_crc, tag, out);
}
void Store::AppendDrop(const Now& now, SliceId slice, const ChunkKey& key, EntryId after, Tag tag,
                       Output out) {
  impl_->AppendDrop(now, slice, key, after, tag, out);
}
void Store::AppendRequests(const Now& now, SliceId slice,
                           std::span<const wire::RequestRecord> records, Tag tag, Output out) {
  impl_->AppendRequests(now, slice, records, tag, out);
}

void Store::Read(const Now& now, SliceId slice, const ChunkKey& key, uint32_t first_block,
                 uint32_t count, Slice target, Tag tag, Output out) {
  impl_->Read(now, {.slice = slice, .key = key, .first_block = first_block, .count = count},
              std::move(target), tag, out);
}

void Store::ReadFromDevice(const Now& now, SliceId slice, const ChunkKey& key, uint32_t first_block,
                           uint32_t count, Slice target, Tag tag, Output out) {
  impl_->Read(
      now,
      {.slice = slice, .key = key, .first_block = first_block, .count = count, .from_device = true},
      std::move(target), tag, out);
}

uint64_t Store::Present(SliceId slice, const ChunkKey& key, uint32_t first_block,
                        uint32_t count) const {
  CHECK_LE(count, 64u);
  CHECK_LE(first_block + count, kBlocksPerChunk);
  const ChunkView chunk = impl_->state().View(slice, key);
  uint64_t present = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (chunk.HasData(first_block + i)) present |= uint64_t{1} << i;
  }
  return present;
}

const wire::EntryHeader* Store::FindEntry(SliceId slice, EntryId id) const {
  const Replica* replica = impl_->state().Find(slice);
  if (replica == nullptr || id <= replica->floor) return nullptr;
  const auto found = replica->items.find(ItemKey{id, 0});
  return found == replica->items.end() ? nullptr : &found->second->header;
}

void Store::ReadEntry(const Now& now, SliceId slice, EntryId id, Slice target,
                      std::span<uint32_t> block_crc, Tag tag, Output out) {
  impl_->ReadEntry(now, slice, id, std::move(target), block_crc, tag, out);
}

std::vector<ChunkSummary> Store::List(SliceId slice, std::optional<ChunkKey> after,
                                      Epoch after_epoch, size_t max) const {
  std::vector<ChunkSummary> list;
  if (max == 0) return list;
  impl_->state().Walk(slice, after, [&](const ChunkKey& key, const ChunkView& chunk) {
    ChunkSummary summary{.key = key, .modified_epoch = {}, .extents = 0, .changed = 0};
    for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
      const auto bit = static_cast<uint16_t>(1u << extent);
      const uint32_t first = extent * kBlocksPerExtent;
      for (uint32_t block = first; block < first + kBlocksPerExtent; ++block) {
        if (!chunk.HasData(block)) continue;
        summary.extents |= bit;
        break;
      }
      const Epoch modified = chunk.Modified(extent);
      summary.modified_epoch = std::max(summary.modified_epoch, modified);
      if (modified > after_epoch) summary.changed |= bit;
    }
    // A chunk of zeroes is no chunk, whether or not destaging has found out yet.
    if (summary.extents != 0) list.push_back(summary);
    return list.size() < max;
  });
  return list;
}

uint32_t Store::ExtentsNeeded(SliceId slice, const wire::EntryHeader& entry) const {
  if (entry.kind != wire::EntryKind::kWrite || entry.block_count == 0) return 0;
  const ChunkKey key{entry.vtree, entry.version, entry.chunk};
  const Chunk* chunk = impl_->state().FindChunk(slice, key);
  uint32_t taken = 0;
  if (chunk != nullptr) {
    taken = chunk->homed | uint32_t{chunk->claimed};
  } else {
    taken = impl_->state().View(slice, key).homes.extents;
  }
  const uint32_t first = entry.first_block / kBlocksPerExtent;
  const uint32_t last = (entry.first_block + entry.block_count - 1) / kBlocksPerExtent;
  uint32_t needed = 0;
  for (uint32_t extent = first; extent <= last; ++extent) {
    if ((taken >> extent & 1u) != 0) continue;
    if (chunk == nullptr || !chunk->HasRedirect(extent)) ++needed;
  }
  return needed;
}

void Store::SetExtentsPromised(uint64_t extents) { impl_->SetExtentsPromised(extents); }
uint64_t Store::extents_promised() const { return impl_->extents_promised(); }

Store::RequestLookup Store::FindRequest(SliceId slice, SdcId client, Incarnation incarnation,
                                        RequestId request) const {
  const Replica* replica = impl_->state().Find(slice);
  if (replica == nullptr) return {};
  return replica->requests.Find(client, incarnation, request);
}

std::vector<wire::RequestRecord> Store::Requests(SliceId slice) const {
  const Replica* replica = impl_->state().Find(slice);
  if (replica == nullptr) return {};
  return replica->requests.All();
}

void Store::DropClient(const Now& now, SdcId client, Incarnation below, Output out) {
  impl_->DropClient(now, client, below, out);
}

void Store::SetLowWater(SliceId slice, SdcId client, Incarnation incarnation, RequestId low_water) {
  Replica* replica = impl_->state().Find(slice);
  if (replica != nullptr) replica->requests.RaiseLowWater(client, incarnation, low_water);
}

void Store::CheckInvariants(bool everything) const { impl_->CheckInvariants(everything); }
std::string Store::Dump() const { return impl_->Dump(); }
uint64_t Store::StateHash() const { return impl_->StateHash(); }

}  // namespace gabion::store
