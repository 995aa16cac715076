// The state as bytes, for checkpoints (docs/store-format.md).
#include <bit>
#include <memory>
#include <utility>

#include "core/base/check.h"
#include "core/store/checkpoint.h"
#include "core/store/records.h"

namespace gabion::store {

namespace {

// The extents in whose index the item still is; the others are in their homes.
uint16_t LiveExtents(const Chunk& chunk, const Item& item) {
  uint32_t live = 0;
  for (uint32_t block = item.header.first_block; block < item.end_block();
       block = (block / kBlocksPerExtent + 1) * kBlocksPerExtent) {
    if (chunk.versions.contains(VersionKey{block, item.key})) {
      live |= 1u << (block / kBlocksPerExtent);
    }
  }
  return static_cast<uint16_t>(live);
}

void WriteItem(ByteWriter& writer, const Replica& replica, const Item& item) {
  CHECK(item.position != 0) << "an item outside the log is in a checkpoint";
  const Chunk& chunk = replica.chunks.at(item.chunk());
  writer.U8(static_cast<uint8_t>(item.kind));
  WriteEntryId(writer, item.key.id);
  writer.U64(item.key.serial);
  WriteEntryHeader(writer, item.header);
  writer.U16(item.present);
  writer.Of(item.modified_epoch);
  writer.U64(item.position);
  writer.U16(LiveExtents(chunk, item));
  writer.Of(chunk.born);
  writer.U16(static_cast<uint16_t>(item.crc.size()));
  for (const uint32_t crc : item.crc) writer.U32(crc);
  const ExtentRange own = item.redirected();
  writer.U8(static_cast<uint8_t>(own.count()));
  for (uint32_t extent = own.first; extent < own.end; ++extent) writer.U32(item.PlaceOf(extent));
}

// The places of an item's own extents: those, and only those, that are still in the index.
bool ReadPlaces(ByteReader& reader, Item& item, uint16_t live, DeviceState& state) {
  std::vector<uint32_t> places(reader.U8());
  for (uint32_t& place : places) place = reader.U32();
  if (!reader.ok() || !state.SetPlaces(item, places)) return false;
  const ExtentRange own = item.redirected();
  for (uint32_t extent = own.first; extent < own.end; ++extent) {
    const uint32_t place = item.PlaceOf(extent);
    if ((place != kNoPlace) != ((live >> extent & 1u) != 0)) return false;
    if (place != kNoPlace && !state.extents().Claim(place)) return false;
  }
  return true;
}

// What the records of a log could have made (state.h).
bool Fits(const Item& item, const Replica& replica) {
  if (item.key.id.epoch > replica.facts.started_epoch) return false;
  const wire::EntryHeader& header = item.header;
  switch (item.kind) {
    case ItemKind::kWrite:
    case ItemKind::kZero:
    case ItemKind::kTrim:
      return item.key.serial == 0 && header.id == item.key.id;
    case ItemKind::kCopy:
      return item.key.serial != 0 && item.key.serial < replica.next_serial &&
             header.first_block % kBlocksPerExtent == 0 && header.block_count == kBlocksPerExtent;
    case ItemKind::kDrop:
      return item.key.serial != 0 && item.key.serial < replica.next_serial &&
             header.first_block == 0 && header.block_count == kBlocksPerChunk;
  }
  return false;
}

bool ReadItem(ByteReader& reader, SliceId slice, Replica& replica, DeviceState& state) {
  ItemPtr item = state.NewItem();
  item->slice = slice;
  item->kind = static_cast<ItemKind>(reader.U8());
  item->key.id = ReadEntryId(reader);
  item->key.serial = reader.U64();
  item->header = ReadEntryHeader(reader);
  item->present = reader.U16();
  item->modified_epoch = reader.As<Epoch>();
  const uint64_t position = reader.U64();
  const uint16_t live = reader.U16();
  const auto born = reader.As<Epoch>();
  const uint16_t blocks = reader.U16();
  for (uint32_t i = 0; i < blocks && reader.ok(); ++i) item->crc.push_back(reader.U32());
  if (!reader.ok() || position == 0 || item->end_block() > kBlocksPerChunk) return false;
  if (item->kind < ItemKind::kWrite || item->kind > ItemKind::kDrop) return false;
  uint32_t data_blocks = 0;
  if (item->kind == ItemKind::kWrite) data_blocks = item->header.block_count;
  if (item->kind == ItemKind::kCopy) {
    data_blocks = static_cast<uint32_t>(std::popcount(item->present));
  }
  if (item->crc.size() != data_blocks) return false;
  if (!Fits(*item, replica)) return false;
  if (!ReadPlaces(reader, *item, live, state)) return false;
  Item* raw = item.get();
  if (!state.InsertItem(replica, std::move(item), false)) return false;
  for (uint32_t block = raw->header.first_block; block < raw->end_block(); ++block) {
    if ((live >> (block / kBlocksPerExtent) & 1u) == 0) continue;
    if (!state.InsertVersion(replica, raw->chunk(), block, raw)) return false;
  }
  if (raw->versions == 0) return false;
  replica.chunks.at(raw->chunk()).born = born;
  state.Place(raw, position);
  return true;
}

void WriteRequests(ByteWriter& writer, const RequestTable& requests) {
  writer.U32(static_cast<uint32_t>(requests.clients().size()));
  for (const auto& [id, client] : requests.clients()) {
    writer.Of(id);
    writer.Of(client.incarnation);
    writer.Of(client.low_water);
    writer.U32(static_cast<uint32_t>(client.requests.size()));
    for (const auto& [request, place] : client.requests) {
      writer.Of(request);
      WriteEntryId(writer, place.live);
      WriteEntryId(writer, place.settled);
    }
  }
}

void ReadRequests(ByteReader& reader, RequestTable& requests) {
  const uint32_t clients = reader.U32();
  for (uint32_t i = 0; i < clients && reader.ok(); ++i) {
    RequestTable::Client& client = requests.Get(reader.As<SdcId>());
    client.incarnation = reader.As<Incarnation>();
    client.low_water = reader.As<RequestId>();
    const uint32_t count = reader.U32();
    for (uint32_t j = 0; j < count && reader.ok(); ++j) {
      RequestTable::Place& place = client.requests[reader.As<RequestId>()];
      place.live = ReadEntryId(reader);
      place.settled = ReadEntryId(reader);
    }
  }
}

void WriteReplica(ByteWriter& writer, SliceId slice, const Replica& replica) {
  const SliceFacts& facts = replica.facts;
  writer.Of(slice);
  writer.Of(facts.started_epoch);
  writer.U64(facts.issuer);
  WriteMembers(writer, facts.members);
  writer.Of(facts.in_sync_epoch);
  writer.U64(facts.in_sync_issuer);
  WriteEntryId(writer, facts.commit_point);
  WriteEntryId(writer, facts.last);
  writer.U8(facts.needs_resync ? 1 : 0);
  WriteCursor(writer, facts.cursor);
  WriteEntryId(writer, replica.start);
  WriteEntryId(writer, replica.floor);
  writer.U64(replica.next_serial);
  WriteHistory(writer, facts.history);
  WriteRequests(writer, replica.requests);
  writer.U32(static_cast<uint32_t>(replica.items.size()));
  for (const auto& [key, item] : replica.items) WriteItem(writer, replica, *item);
}

bool ReadReplica(ByteReader& reader, DeviceState& state) {
  const auto slice = reader.As<SliceId>();
  Replica* replica = state.CreateReplica(slice);
  if (replica == nullptr) return false;
  SliceFacts& facts = replica->facts;
  facts.started_epoch = reader.As<Epoch>();
  facts.issuer = reader.U64();
  facts.members = ReadMembers(reader);
  facts.in_sync_epoch = reader.As<Epoch>();
  facts.in_sync_issuer = reader.U64();
  facts.commit_point = ReadEntryId(reader);
  facts.last = ReadEntryId(reader);
  facts.needs_resync = reader.U8() != 0;
  facts.cursor = ReadCursor(reader);
  replica->start = ReadEntryId(reader);
  replica->floor = ReadEntryId(reader);
  replica->next_serial = reader.U64();
  facts.history = ReadHistory(reader);
  ReadRequests(reader, replica->requests);
  const uint32_t items = reader.U32();
  for (uint32_t i = 0; i < items; ++i) {
    if (!ReadItem(reader, slice, *replica, state)) return false;
  }
  return reader.ok();
}

}  // namespace

void EncodeState(const DeviceState& state, std::vector<std::byte>* bytes) {
  ByteWriter writer(bytes);
  writer.U32(static_cast<uint32_t>(state.replicas().size()));
  for (const auto& [slice, replica] : state.replicas()) WriteReplica(writer, slice, *replica);
  CHECK(writer.ok());
}

void EncodeRoot(const DeviceState& state, std::vector<std::byte>* bytes) {
  ByteWriter writer(bytes);
  state.directory().EncodeRoot(writer);
  state.homes().EncodeRoot(writer);
}

bool DecodeState(std::span<const std::byte> bytes, DeviceState& state) {
  ByteReader reader(bytes);
  const uint32_t replicas = reader.U32();
  for (uint32_t i = 0; i < replicas; ++i) {
    if (!ReadReplica(reader, state)) return false;
  }
  return state.directory().DecodeRoot(reader) && state.homes().DecodeRoot(reader) && reader.done();
}

}  // namespace gabion::store
