#include "core/store/records.h"

#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

// Items of a list are read one by one, so a wild count runs into the end of the bytes.
template <class T, class Read>
std::vector<T> ReadList(ByteReader& reader, uint32_t count_max, Read read) {
  std::vector<T> list;
  const uint32_t count = reader.U32();
  if (count > count_max) reader.Fail();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) list.push_back(read(reader));
  return list;
}

}  // namespace

template <class Body>
void RecordWriter::Write(RecordType type, uint32_t payload_blocks, Body body) {
  const size_t at = target_->size();
  ByteWriter writer(target_);
  writer.Zeros(sizeof(RecordHeader));
  body(writer);
  const RecordHeader header{
      .type = type,
      .body_bytes = static_cast<uint32_t>(target_->size() - at - sizeof(RecordHeader)),
      .payload_blocks = payload_blocks};
  std::memcpy(target_->data() + at, &header, sizeof(header));
}

void WriteEntryId(ByteWriter& writer, EntryId id) {
  writer.Of(id.epoch);
  writer.Of(id.seq);
}

EntryId ReadEntryId(ByteReader& reader) {
  const auto epoch = reader.As<Epoch>();
  const auto seq = reader.As<Seq>();
  return {epoch, seq};
}

void WriteKey(ByteWriter& writer, const ChunkKey& key) {
  writer.Of(key.vtree);
  writer.Of(key.version);
  writer.U32(key.chunk);
}

ChunkKey ReadKey(ByteReader& reader) {
  ChunkKey key;
  key.vtree = reader.As<VtreeId>();
  key.version = reader.As<VolumeVersion>();
  key.chunk = reader.U32();
  return key;
}

void WriteEntryHeader(ByteWriter& writer, const wire::EntryHeader& entry) {
  writer.Bytes(std::as_bytes(std::span(&entry, 1)));
}

wire::EntryHeader ReadEntryHeader(ByteReader& reader) {
  wire::EntryHeader entry;
  const std::span<const std::byte> bytes = reader.Bytes(sizeof(entry));
  if (!bytes.empty()) std::memcpy(&entry, bytes.data(), sizeof(entry));
  return entry;
}

void WriteRequest(ByteWriter& writer, const wire::RequestRecord& record) {
  writer.Bytes(std::as_bytes(std::span(&record, 1)));
}

wire::RequestRecord ReadRequest(ByteReader& reader) {
  wire::RequestRecord record;
  const std::span<const std::byte> bytes = reader.Bytes(sizeof(record));
  if (!bytes.empty()) std::memcpy(&record, bytes.data(), sizeof(record));
  return record;
}

void WriteCursor(ByteWriter& writer, const wire::JoinCursor& cursor) {
  writer.Of(cursor.epoch);
  writer.U64(cursor.issuer);
  writer.Of(cursor.after);
  writer.Of(cursor.vtree);
  writer.Of(cursor.version);
  writer.U32(cursor.chunk);
}

wire::JoinCursor ReadCursor(ByteReader& reader) {
  wire::JoinCursor cursor;
  cursor.epoch = reader.As<Epoch>();
  cursor.issuer = reader.U64();
  cursor.after = reader.As<Seq>();
  cursor.vtree = reader.As<VtreeId>();
  cursor.version = reader.As<VolumeVersion>();
  cursor.chunk = reader.U32();
  return cursor;
}

void WriteMembers(ByteWriter& writer, const EpochMembers& members) {
  writer.Of(members.primary);
  writer.Of(members.secondary);
  writer.Of(members.joining);
}

EpochMembers ReadMembers(ByteReader& reader) {
  EpochMembers members;
  members.primary = reader.As<DeviceId>();
  members.secondary = reader.As<DeviceId>();
  members.joining = reader.As<DeviceId>();
  return members;
}

void WriteHistory(ByteWriter& writer, std::span<const wire::HistoryItem> history) {
  const size_t skip = history.size() > kHistoryMax ? history.size() - kHistoryMax : 0;
  writer.U32(static_cast<uint32_t>(history.size() - skip));
  writer.Bytes(std::as_bytes(history.subspan(skip)));
}

std::vector<wire::HistoryItem> ReadHistory(ByteReader& reader) {
  return ReadList<wire::HistoryItem>(reader, kHistoryMax, [](ByteReader& from) {
    wire::HistoryItem item;
    const std::span<const std::byte> bytes = from.Bytes(sizeof(item));
    if (!bytes.empty()) std::memcpy(&item, bytes.data(), sizeof(item));
    return item;
  });
}

namespace {

void WriteRedirected(ByteWriter& writer, const RecordWriter::Redirected& redirected) {
  CHECK_LE(redirected.places.size(), kExtentsPerChunk);
  CHECK_EQ(redirected.crc.size(), redirected.places.size() * kBlocksPerExtent);
  writer.U32(static_cast<uint32_t>(redirected.places.size()));
  for (const uint32_t place : redirected.places) writer.U32(place);
  for (const uint32_t crc : redirected.crc) writer.U32(crc);
}

}  // namespace

void RecordWriter::Entry(SliceId slice, const wire::EntryHeader& entry, uint32_t payload_blocks,
                         const Redirected& redirected) {
  Write(RecordType::kEntry, payload_blocks, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteEntryHeader(writer, entry);
    WriteRedirected(writer, redirected);
  });
}

void RecordWriter::CommitPoint(SliceId slice, EntryId commit_point) {
  Write(RecordType::kCommitPoint, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteEntryId(writer, commit_point);
  });
}

void RecordWriter::EpochStart(SliceId slice, const EpochStartRecord& record, EntryId keep) {
  static_assert(kRenamesMax >= kTailEntriesMax);
  CHECK_LE(record.renames.size(), kRenamesMax);
  Write(RecordType::kEpochStart, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    writer.Of(record.epoch);
    writer.U64(record.issuer);
    WriteEntryId(writer, record.end);
    WriteEntryId(writer, keep);
    writer.Of(record.start);
    writer.U32(record.in_sync ? 1 : 0);
    WriteMembers(writer, record.members);
    WriteHistory(writer, record.history);
    // `to` follows from the order.
    writer.U32(static_cast<uint32_t>(record.renames.size()));
    for (const Rename& rename : record.renames) WriteEntryId(writer, rename.from);
  });
}

void RecordWriter::Void(SliceId slice, const VoidRecord& record) {
  Write(RecordType::kVoid, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteEntryId(writer, record.end);
    WriteEntryId(writer, record.keep);
  });
}

void RecordWriter::Copy(SliceId slice, const ChunkKey& key, uint32_t extent, uint16_t present,
                        Epoch modified_epoch, EntryId after, const Redirected& redirected) {
  const uint32_t payload_blocks =
      redirected.places.empty() ? static_cast<uint32_t>(std::popcount(present)) : 0;
  Write(RecordType::kCopy, payload_blocks, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteKey(writer, key);
    writer.U16(static_cast<uint16_t>(extent));
    writer.U16(present);
    writer.Of(modified_epoch);
    WriteEntryId(writer, after);
    WriteRedirected(writer, redirected);
  });
}

void RecordWriter::Drop(SliceId slice, const ChunkKey& key, EntryId after) {
  Write(RecordType::kDrop, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteKey(writer, key);
    WriteEntryId(writer, after);
  });
}

void RecordWriter::Requests(SliceId slice, std::span<const wire::RequestRecord> records) {
  CHECK_LE(records.size(), kRequestsPerRecord);
  Write(RecordType::kRequests, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    writer.U32(static_cast<uint32_t>(records.size()));
    for (const wire::RequestRecord& record : records) WriteRequest(writer, record);
  });
}

void RecordWriter::NeedsResync(SliceId slice, bool value) {
  Write(RecordType::kNeedsResync, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    writer.U32(value ? 1 : 0);
  });
}

void RecordWriter::InSync(SliceId slice, Epoch epoch, uint64_t issuer) {
  Write(RecordType::kInSync, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    writer.Of(epoch);
    writer.U64(issuer);
  });
}

void RecordWriter::Cursor(SliceId slice, const wire::JoinCursor& cursor) {
  Write(RecordType::kCursor, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteCursor(writer, cursor);
  });
}

void RecordWriter::DropSlice(SliceId slice) {
  Write(RecordType::kDropSlice, 0, [&](ByteWriter& writer) { writer.Of(slice); });
}

void RecordWriter::Floor(SliceId slice, EntryId floor) {
  Write(RecordType::kFloor, 0, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteEntryId(writer, floor);
  });
}

void RecordWriter::Relocate(SliceId slice, const ItemKey& key, uint32_t payload_blocks) {
  Write(RecordType::kRelocate, payload_blocks, [&](ByteWriter& writer) {
    writer.Of(slice);
    WriteEntryId(writer, key.id);
    writer.U64(key.serial);
  });
}

void RecordWriter::DropClient(SdcId client, Incarnation below) {
  Write(RecordType::kDropClient, 0, [&](ByteWriter& writer) {
    writer.Of(client);
    writer.Of(below);
  });
}

BatchHeader ReadBatchHeader(std::span<const std::byte> header_block) {
  BatchHeader header;
  CHECK_GE(header_block.size(), sizeof(header));
  std::memcpy(&header, header_block.data(), sizeof(header));
  return header;
}

std::span<const std::byte> BatchPayloadCrcs(const BatchHeader& header,
                                            std::span<const std::byte> header_block) {
  return header_block.subspan(sizeof(BatchHeader) + header.record_bytes,
                              size_t{header.payload_blocks} * sizeof(uint32_t));
}

bool LooksLikeBatch(const BatchHeader& header, const Superblock& superblock, uint64_t position) {
  const uint64_t batch_max = superblock.geometry().batch_bytes_max();
  if (header.magic != kBatchMagic || header.log_key != superblock.log_key) return false;
  if (header.device != superblock.device || header.position != position) return false;
  if (header.header_bytes == 0 || header.header_bytes % kBlockBytes != 0) return false;
  if (header.header_bytes > batch_max || header.total_bytes() > batch_max) return false;
  return sizeof(BatchHeader) + uint64_t{header.record_bytes} +
             uint64_t{header.payload_blocks} * sizeof(uint32_t) <=
         header.header_bytes;
}

uint32_t BatchCrc(std::span<const std::byte> header_block) {
  constexpr size_t kCrcAt = offsetof(BatchHeader, crc);
  constexpr std::array<std::byte, sizeof(uint32_t)> kZero{};
  const uint32_t before = Crc32c(header_block.first(kCrcAt));
  return Crc32c(header_block.subspan(kCrcAt + kZero.size()), Crc32c(kZero, before));
}

namespace {

// Where the record being replayed finds its payload.
struct Payload {
  uint64_t position = 0;  // of its first block; of the batch when it has none
  std::vector<uint32_t> crc;
};

// What the record says of its item's own extents; together with the payload that is all of its
// content.
struct WholeContent {
  std::vector<uint32_t> places;
  std::vector<uint32_t> crc;
};

// Nothing: malformed, or a place is not there to be had.
std::optional<WholeContent> ReadContent(ByteReader& reader, const Payload& payload,
                                        uint32_t first_block, DeviceState& state) {
  WholeContent content{.places = {}, .crc = payload.crc};
  content.places =
      ReadList<uint32_t>(reader, kExtentsPerChunk, [](ByteReader& from) { return from.U32(); });
  std::vector<uint32_t> crc;
  for (size_t i = 0; i < content.places.size() * kBlocksPerExtent && reader.ok(); ++i) {
    crc.push_back(reader.U32());
  }
  if (!reader.done()) return std::nullopt;
  const uint32_t before = RoundUp(first_block, kBlocksPerExtent) - first_block;
  if (!crc.empty() && before > content.crc.size()) return std::nullopt;
  if (!crc.empty()) content.crc.insert(content.crc.begin() + before, crc.begin(), crc.end());
  for (const uint32_t place : content.places) {
    if (!state.extents().Claim(place)) return std::nullopt;
  }
  return content;
}

bool ReplayEpochStart(SliceId slice, ByteReader& reader, DeviceState& state) {
  EpochStartRecord record;
  record.epoch = reader.As<Epoch>();
  record.issuer = reader.U64();
  record.end = ReadEntryId(reader);
  const EntryId keep = ReadEntryId(reader);
  record.start = reader.As<Seq>();
  record.in_sync = reader.U32() != 0;
  record.members = ReadMembers(reader);
  const std::vector<wire::HistoryItem> history = ReadHistory(reader);
  Seq to = record.start;
  const std::vector<Rename> renames =
      ReadList<Rename>(reader, kRenamesMax, [&to, &record](ByteReader& from) {
        to = to.next();
        const EntryId id = ReadEntryId(from);
        return Rename{.from = id, .to = {record.epoch, to}};
      });
  record.history = history;
  record.renames = renames;
  return reader.done() && state.StartEpoch(slice, record, keep);
}

bool ReplayRecord(const RecordHeader& header, ByteReader reader, const Payload& payload,
                  DeviceState& state) {
  if (header.type == RecordType::kDropClient) {
    const auto client = reader.As<SdcId>();
    const auto below = reader.As<Incarnation>();
    if (reader.done()) state.DropClient(client, below);
    return reader.done();
  }
  const auto slice = reader.As<SliceId>();
  switch (header.type) {
    case RecordType::kEntry: {
      const wire::EntryHeader entry = ReadEntryHeader(reader);
      const auto content = ReadContent(reader, payload, entry.first_block, state);
      if (!content) return false;
      Item* item = state.AddEntry(slice, entry, {.crc = content->crc, .places = content->places});
      if (item == nullptr) return false;
      state.Place(item, payload.position);
      return true;
    }
    case RecordType::kCommitPoint: {
      const EntryId id = ReadEntryId(reader);
      if (!reader.done()) return false;
      state.SetCommitPoint(slice, id);  // rides along: its slice may be gone, or know more
      return true;
    }
    case RecordType::kEpochStart:
      return ReplayEpochStart(slice, reader, state);
    case RecordType::kVoid: {
      const EntryId end = ReadEntryId(reader);
      const EntryId keep = ReadEntryId(reader);
      return reader.done() && state.VoidAbove(slice, {.end = end, .keep = keep});
    }
    case RecordType::kCopy: {
      const ChunkKey key = ReadKey(reader);
      const uint16_t extent = reader.U16();
      const uint16_t present = reader.U16();
      const auto modified_epoch = reader.As<Epoch>();
      const EntryId after = ReadEntryId(reader);
      const auto content = ReadContent(reader, payload, 0, state);
      if (!content) return false;
      Item* item = state.AddCopy(slice, key, extent, present, modified_epoch, after,
                                 {.crc = content->crc, .places = content->places});
      if (item == nullptr) return false;
      state.Place(item, payload.position);
      return true;
    }
    case RecordType::kDrop: {
      const ChunkKey key = ReadKey(reader);
      const EntryId after = ReadEntryId(reader);
      if (!reader.done()) return false;
      Item* item = state.AddDrop(slice, key, after);
      if (item == nullptr) return false;
      state.Place(item, payload.position);
      return true;
    }
    case RecordType::kRequests: {
      const auto records = ReadList<wire::RequestRecord>(reader, kRequestsPerRecord, &ReadRequest);
      return reader.done() && state.AddRequests(slice, records);
    }
    case RecordType::kNeedsResync: {
      const bool value = reader.U32() != 0;
      return reader.done() && state.SetNeedsResync(slice, value);
    }
    case RecordType::kInSync: {
      const auto epoch = reader.As<Epoch>();
      const uint64_t issuer = reader.U64();
      return reader.done() && state.SetInSync(slice, epoch, issuer);
    }
    case RecordType::kCursor: {
      const wire::JoinCursor cursor = ReadCursor(reader);
      return reader.done() && state.SetCursor(slice, cursor);
    }
    case RecordType::kDropSlice:
      if (reader.done()) state.DropSlice(slice);  // it may be gone already
      return reader.done();
    case RecordType::kFloor: {
      const EntryId floor = ReadEntryId(reader);
      if (!reader.done()) return false;
      state.SetFloor(slice, floor);
      return true;
    }
    case RecordType::kRelocate: {
      ItemKey key;
      key.id = ReadEntryId(reader);
      key.serial = reader.U64();
      if (!reader.done()) return false;
      Replica* replica = state.Find(slice);
      if (replica == nullptr) return true;
      const auto found = replica->items.find(key);
      if (found == replica->items.end()) return true;
      if (found->second->log_blocks() != header.payload_blocks) return false;
      state.Place(found->second.get(), payload.position);
      return true;
    }
    case RecordType::kDropClient:
      break;
  }
  return false;
}

}  // namespace

bool ReplayBatch(const BatchHeader& header, std::span<const std::byte> header_block,
                 DeviceState& state) {
  ByteReader records(header_block.subspan(sizeof(BatchHeader), header.record_bytes));
  ByteReader crcs(BatchPayloadCrcs(header, header_block));
  uint64_t payload_position = header.position + header.header_bytes;
  for (uint32_t i = 0; i < header.record_count; ++i) {
    RecordHeader record;
    const std::span<const std::byte> bytes = records.Bytes(sizeof(record));
    if (bytes.empty()) return false;
    std::memcpy(&record, bytes.data(), sizeof(record));
    const std::span<const std::byte> body = records.Bytes(record.body_bytes);
    Payload payload{.position = record.payload_blocks > 0 ? payload_position : header.position,
                    .crc = {}};
    for (uint32_t block = 0; block < record.payload_blocks && crcs.ok(); ++block) {
      payload.crc.push_back(crcs.U32());
    }
    if (!records.ok() || !crcs.ok()) return false;
    payload_position += uint64_t{record.payload_blocks} * kBlockBytes;
    if (!ReplayRecord(record, ByteReader(body), payload, state)) return false;
  }
  return records.done() && crcs.done();
}

}  // namespace gabion::store
