// Records of the log as bytes, and reading them back into the state.
#pragma once

#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/store/layout.h"
#include "core/store/state.h"

namespace gabion::store {

// Appends one record: the header first, the body by `body(ByteWriter&)`.
class RecordWriter {
 public:
  explicit RecordWriter(std::vector<std::byte>* target) : target_(target) {}

  // Of an item with extents of its own: their places, and the plain CRCs of their blocks. The
  // record's payload is the rest.
  struct Redirected {
    std::span<const uint32_t> places = {};
    std::span<const uint32_t> crc = {};
  };
  void Entry(SliceId slice, const wire::EntryHeader& entry, uint32_t payload_blocks,
             const Redirected& redirected);
  void CommitPoint(SliceId slice, EntryId commit_point);
  void EpochStart(SliceId slice, const EpochStartRecord& record, EntryId keep);
  void Void(SliceId slice, const VoidRecord& record);
  void Copy(SliceId slice, const ChunkKey& key, uint32_t extent, uint16_t present,
            Epoch modified_epoch, EntryId after, const Redirected& redirected);
  void Drop(SliceId slice, const ChunkKey& key, EntryId after);
  void Requests(SliceId slice, std::span<const wire::RequestRecord> records);
  void NeedsResync(SliceId slice, bool value);
  void InSync(SliceId slice, Epoch epoch, uint64_t issuer);
  void Cursor(SliceId slice, const wire::JoinCursor& cursor);
  void DropSlice(SliceId slice);
  void Floor(SliceId slice, EntryId floor);
  void Relocate(SliceId slice, const ItemKey& key, uint32_t payload_blocks);
  void DropClient(SdcId client, Incarnation below);

 private:
  template <class Body>
  void Write(RecordType type, uint32_t payload_blocks, Body body);

  std::vector<std::byte>* target_;
};

// Shared with the checkpoint.
void WriteEntryId(ByteWriter& writer, EntryId id);
EntryId ReadEntryId(ByteReader& reader);
void WriteKey(ByteWriter& writer, const ChunkKey& key);
ChunkKey ReadKey(ByteReader& reader);
void WriteEntryHeader(ByteWriter& writer, const wire::EntryHeader& entry);
wire::EntryHeader ReadEntryHeader(ByteReader& reader);
void WriteRequest(ByteWriter& writer, const wire::RequestRecord& record);
wire::RequestRecord ReadRequest(ByteReader& reader);
void WriteCursor(ByteWriter& writer, const wire::JoinCursor& cursor);
wire::JoinCursor ReadCursor(ByteReader& reader);
void WriteMembers(ByteWriter& writer, const EpochMembers& members);
EpochMembers ReadMembers(ByteReader& reader);
void WriteHistory(ByteWriter& writer, std::span<const wire::HistoryItem> history);
std::vector<wire::HistoryItem> ReadHistory(ByteReader& reader);

// A batch in memory: `header_block` is its header_bytes. Checked by CheckBatchHeader before.
BatchHeader ReadBatchHeader(std::span<const std::byte> header_block);
std::span<const std::byte> BatchPayloadCrcs(const BatchHeader& header,
                                            std::span<const std::byte> header_block);

// Whether the first bytes may be the header of a batch at `position` of this store.
bool LooksLikeBatch(const BatchHeader& header, const Superblock& superblock, uint64_t position);
// The CRC of all header bytes.
uint32_t BatchCrc(std::span<const std::byte> header_block);

// Carries out every record of a batch. False: a record is malformed or does not fit the state.
[[nodiscard]] bool ReplayBatch(const BatchHeader& header, std::span<const std::byte> header_block,
                               DeviceState& state);

}  // namespace gabion::store
