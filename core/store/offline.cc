#include "core/store/offline.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/store/block_crc.h"
#include "core/store/records.h"
#include "core/store/recovery.h"
#include "core/store/state.h"
#include "core/store/superblock.h"

namespace gabion::store {

namespace {

constexpr size_t kMemoryBytes = size_t{64} << 20;

struct Superblocks {
  std::vector<std::byte> bytes = std::vector<std::byte>(2 * kBlockBytes);
  bool readable = true;

  std::span<const std::byte> block(size_t copy) const {
    return std::span(bytes).subspan(copy * kBlockBytes, kBlockBytes);
  }
  std::array<std::span<const std::byte>, 2> blocks() const { return {block(0), block(1)}; }
};

Superblocks ReadSuperblocks(const DeviceInfo& info, const DeviceReader& reader) {
  Superblocks read;
  for (size_t copy = 0; copy < 2; ++copy) {
    const uint64_t offset = kSuperblockOffset[copy];
    const std::span<std::byte> to = std::span(read.bytes).subspan(copy * kBlockBytes, kBlockBytes);
    if (offset + kBlockBytes > info.size_bytes || !reader(offset, to)) read.readable = false;
  }
  return read;
}

// The state that Open would find.
class Replayed {
 public:
  Replayed(const DeviceInfo& info, const DeviceReader& reader, const Superblock& superblock)
      : pool_({.bytes_max = kMemoryBytes}), recovery_({.pool = &pool_}, &state_) {
    recovery_.StartOpen(
        info, {.cluster = superblock.cluster, .sds = superblock.sds, .device = superblock.device});
    Effects effects;
    while (!ended()) {
      effects.Clear();
      CHECK(recovery_.Advance(0, effects)) << "the memory of recovery has a limit";
      if (ended()) break;
      DiskStatus status = DiskStatus::kOk;
      for (const DiskEffect& effect : effects.disk) {
        if (!Carry(effects, effect, reader)) status = DiskStatus::kIoError;
      }
      recovery_.OnDiskDone(status);
    }
    if (recovery_.phase() == Recovery::Phase::kFailed || !recovery_.damaged()) return;
    for (auto& [slice, replica] : state_.replicas()) replica->facts.needs_resync = true;
  }

  const Recovery& recovery() const { return recovery_; }
  DeviceState& state() { return state_; }

 private:
  // In the phase that it ends with, recovery would write for the first time.
  bool ended() const {
    return recovery_.phase() == Recovery::Phase::kRaisingGeneration ||
           recovery_.phase() == Recovery::Phase::kFailed;
  }

  static bool Carry(const Effects& effects, const DiskEffect& effect, const DeviceReader& reader) {
    if (effect.op == DiskOp::kFlush) return true;
    CHECK(effect.op == DiskOp::kRead);
    uint64_t at = effect.offset_bytes;
    for (uint32_t i = 0; i < effect.slice_count; ++i) {
      const Slice& slice = effects.slices.at(effect.slice_begin + i);
      // The target of a read is the reader's to fill.
      if (!reader(at, {const_cast<std::byte*>(slice.data()), slice.size()})) return false;
      at += slice.size();
    }
    return true;
  }

  BufferPool pool_;
  DeviceState state_;
  Recovery recovery_;
};

std::string NameOf(SliceId slice, const ChunkKey& key) {
  return absl::StrFormat("slice %s, V-tree %s, chunk %d", ToString(slice), ToString(key.vtree),
                         key.chunk);
}

// Null: its page cannot be read, or is not what it should be.
const Home* FindHome(HomeTable& homes, uint32_t place, const DeviceReader& reader) {
  const uint32_t page = HomeTable::PageOf(place);
  if (!homes.cached(page)) {
    std::array<std::byte, kBlockBytes> block;
    const HomeTable::PageRead read = homes.ToRead(page);
    if (!reader(read.offset_bytes, block) || !homes.OnPageRead(read, block)) return nullptr;
  }
  return &homes.at(place);
}

// ---- Check
// ----------------------------------------------------------------------------------------

class Checker {
 public:
  Checker(const DeviceInfo& info, const DeviceReader& reader) : info_(info), reader_(reader) {}

  CheckReport Run() {
    const Superblocks superblocks = ReadSuperblocks(info_, reader_);
    if (!superblocks.readable) {
      Found(Health::kUnusable, "its superblocks cannot be read");
      return std::move(report_);
    }
    const Result<Superblock> newest = NewestSuperblock(superblocks.blocks(), info_);
    if (!newest) {
      Found(Health::kUnusable, newest.error().message);
      return std::move(report_);
    }
    report_.superblock = *newest;
    CheckCopies(superblocks);
    Replayed replayed(info_, reader_, *newest);
    const Recovery& recovery = replayed.recovery();
    if (recovery.phase() == Recovery::Phase::kFailed) {
      Found(Health::kUnusable, recovery.error());
      return std::move(report_);
    }
    report_.log_batches = recovery.batches();
    report_.log_bytes = recovery.head() - newest->checkpoint_position;
    if (recovery.damaged()) {
      Found(Health::kDamaged, absl::StrFormat("the log ends at %d, and more of it had been durable "
                                              "once: every replica needs resync",
                                              recovery.head()));
    }
    geometry_ = newest->geometry();
    CheckState(replayed.state());
    return std::move(report_);
  }

 private:
  void Found(Health health, std::string text) {
    report_.health = std::max(report_.health, health);
    if (report_.findings.size() < CheckReport::kFindingsMax) {
      report_.findings.push_back({health, std::move(text)});
    } else {
      ++report_.findings_left_out;
    }
  }

  void CheckCopies(const Superblocks& superblocks) {
    for (size_t copy = 0; copy < 2; ++copy) {
      const std::optional<Superblock> found = DecodeSuperblock(superblocks.block(copy));
      if (!found) {
        Found(Health::kWorn,
              absl::StrFormat("superblock %d, at %d, is damaged; the next Open writes it anew",
                              copy, kSuperblockOffset[copy]));
      } else if (found->sequence != report_.superblock->sequence) {
        Found(Health::kGood,
              absl::StrFormat("superblock %d is the one before (%d, not %d): a crash came between",
                              copy, found->sequence, report_.superblock->sequence));
      }
    }
  }

  void CheckState(DeviceState& state) {
    report_.slices = state.replicas().size();
    report_.extents_used = state.extents().total() - state.extents().free();
    for (const auto& [slice, replica] : state.replicas()) {
      if (replica->facts.needs_resync) {
        ++report_.slices_that_need_resync;
        Found(Health::kDamaged, absl::StrFormat("slice %s needs resync", ToString(slice)));
      }
    }
    for (Directory::Cursor it = state.directory().From({}); it.valid(); it.Next()) {
      const PlacedChunk chunk = it.chunk();
      for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
        if (chunk.extent[extent].place == kNoPlace) continue;
        CheckPlaced(state, it.key(), extent, chunk.extent[extent]);
      }
    }
    for (const auto& [slice, replica] : state.replicas()) {
      for (const auto& [key, item] : replica->items) {
        CheckItem(*item, replica->chunks.at(item->chunk()), replica->floor);
      }
    }
  }

  // Whether something newer in the log is sure to go home over what `below` says of the block: then
  // that has been, perhaps, and nobody reads it any more.
  static bool IsHidden(const Chunk& chunk, uint32_t block, EntryId floor, const ItemKey& below) {
    const auto newer = chunk.versions.upper_bound(VersionKey{block, below});
    return newer != chunk.versions.end() && newer->first.block == block &&
           newer->first.item.id <= floor;
  }

  // What the directory says against the record of the place.
  void CheckPlaced(DeviceState& state, const DirectoryKey& owner, uint32_t extent,
                   const PlacedExtent& placed) {
    const Home* home = FindHome(state.homes(), placed.place, reader_);
    if (home == nullptr) {
      report_.bad_blocks += static_cast<uint64_t>(std::popcount(placed.present));
      Found(Health::kDamaged,
            absl::StrFormat("%s, extent %d: the page with its checksums is damaged; it must come "
                            "from the other copy",
                            NameOf(owner.slice, owner.chunk), extent));
      return;
    }
    if (!home->IsOf(owner, extent, placed)) {
      report_.bad_blocks += static_cast<uint64_t>(std::popcount(placed.present));
      Found(Health::kDamaged,
            absl::StrFormat("%s, extent %d: the checksums of place %d are those of %s, extent %d; "
                            "it must come from the other copy",
                            NameOf(owner.slice, owner.chunk), extent, placed.place,
                            NameOf(home->slice, home->key()), home->extent));
      return;
    }
    CheckHome(owner, state.FindChunk(owner.slice, owner.chunk), state.Find(owner.slice)->floor,
              *home, placed.place);
  }

  // `log`: what the log holds of the chunk; null: nothing.
  void CheckHome(const DirectoryKey& owner, const Chunk* log, EntryId floor, const Home& home,
                 uint32_t place) {
    std::array<std::byte, kExtentBytes>& bytes = extent_;
    const uint64_t offset = geometry_.extent_offset(place);
    const bool readable = reader_(offset, bytes);
    for (uint32_t i = 0; i < kBlocksPerExtent; ++i) {
      const uint32_t block = home.extent * kBlocksPerExtent + i;
      if ((home.present >> i & 1u) == 0) continue;
      if (log != nullptr && IsHidden(*log, block, floor, ItemKey{})) continue;
      ++report_.home_blocks;
      const uint64_t at = uint64_t{i} * kBlockBytes;
      // Where the extent as a whole cannot be read, most of its blocks can.
      const std::span<std::byte> content = std::span<std::byte>(bytes).subspan(at, kBlockBytes);
      const bool read = readable || reader_(offset + at, content);
      CheckBlock(owner.slice, owner.chunk, block, offset + at, home.crc[i],
                 read ? std::optional(Crc32c(content)) : std::nullopt);
    }
  }

  void CheckItem(const Item& item, const Chunk& chunk, EntryId floor) {
    for (uint32_t i = 0; i < item.payload_blocks(); ++i) {
      const uint32_t block = item.PayloadBlock(i);
      if (!chunk.versions.contains(VersionKey{block, item.key})) continue;  // it is home
      if (IsHidden(chunk, block, floor, item.key)) continue;
      ++report_.log_blocks;
      const std::span<std::byte> content = std::span<std::byte>(extent_).first(kBlockBytes);
      const uint64_t at = item.OffsetOf(i, geometry_);
      const bool read = reader_(at, content);
      CheckBlock(item.slice, item.chunk(), block, at, item.crc[i],
                 read ? std::optional(Crc32c(content)) : std::nullopt);
    }
  }

  // `plain`: nothing when the block cannot be read.
  void CheckBlock(SliceId slice, const ChunkKey& key, uint32_t block, uint64_t offset_bytes,
                  uint32_t bound, std::optional<uint32_t> plain) {
    if (plain && BindCrc(*plain, key, block) == bound) return;
    ++report_.bad_blocks;
    Found(Health::kDamaged,
          absl::StrFormat("%s, block %d, at %d on the device, %s; it must come from the other copy",
                          NameOf(slice, key), block, offset_bytes,
                          plain ? "does not match its checksum" : "cannot be read"));
  }

  const DeviceInfo& info_;
  const DeviceReader& reader_;
  Geometry geometry_;
  CheckReport report_;
  std::array<std::byte, kExtentBytes> extent_{};
};

// ---- Dump
// -----------------------------------------------------------------------------------------

void DumpSuperblock(size_t copy, std::span<const std::byte> block, const Print& print) {
  const std::optional<Superblock> found = DecodeSuperblock(block);
  if (!found) {
    print(absl::StrFormat("superblock %d at %d: damaged\n", copy, kSuperblockOffset[copy]));
    return;
  }
  const Superblock& s = *found;
  print(absl::StrFormat("superblock %d at %d: sequence %d, version %d, crc %08x%s\n", copy,
                        kSuperblockOffset[copy], s.sequence, s.version, s.crc,
                        (s.flags & kFlagDamaged) != 0 ? ", LOG DAMAGED" : ""));
  print(absl::StrFormat("  cluster %s, SDS %s, device %s, log key %016x\n", ToString(s.cluster),
                        ToString(s.sds), ToString(s.device), s.log_key));
  print(absl::StrFormat("  device %d B = areas 2 x %d B, log %d B, %d extents from %d\n",
                        s.device_bytes, s.area_bytes, s.log_bytes, s.extents_total,
                        s.geometry().extents_offset()));
  print(absl::StrFormat("  recovery: generation %d from position %d\n", s.recovery_generation,
                        s.recovery_position));
  print(absl::StrFormat(
      "  checkpoint %d: %d B in area %d, crc %08x; log from %d (tail %d), generation %d, "
      "predecessor %08x\n",
      s.checkpoint_number, s.checkpoint_bytes, s.checkpoint_area, s.checkpoint_crc,
      s.checkpoint_position, s.tail_position, s.checkpoint_generation, s.previous_crc));
}

const char* NameOf(RecordType type) {
  switch (type) {
    case RecordType::kEntry:
      return "entry";
    case RecordType::kCommitPoint:
      return "commit point";
    case RecordType::kEpochStart:
      return "epoch start";
    case RecordType::kVoid:
      return "void";
    case RecordType::kCopy:
      return "copy";
    case RecordType::kDrop:
      return "drop";
    case RecordType::kRequests:
      return "request ids";
    case RecordType::kNeedsResync:
      return "needs resync";
    case RecordType::kInSync:
      return "in sync";
    case RecordType::kDropSlice:
      return "drop slice";
    case RecordType::kFloor:
      return "floor";
    case RecordType::kRelocate:
      return "relocate";
    case RecordType::kDropClient:
      return "drop client";
    case RecordType::kCursor:
      return "join cursor";
  }
  return "unknown record";
}

// What its body begins with, as far as it fits one line.
std::string DescribeBody(RecordType type, ByteReader reader) {
  if (type == RecordType::kDropClient) return "client " + ToString(reader.As<SdcId>());
  std::string text = "slice " + ToString(reader.As<SliceId>());
  switch (type) {
    case RecordType::kEntry: {
      const wire::EntryHeader entry = ReadEntryHeader(reader);
      absl::StrAppendFormat(&text, " %s kind %d V-tree %s chunk %d blocks %d+%d",
                            ToString(entry.id), static_cast<int>(entry.kind), ToString(entry.vtree),
                            entry.chunk, entry.first_block, entry.block_count);
      if (const uint32_t own = reader.U32(); own > 0) {
        absl::StrAppendFormat(&text, ", %d extents of its own", own);
      }
      break;
    }
    case RecordType::kCommitPoint:
    case RecordType::kFloor:
    case RecordType::kVoid:
    case RecordType::kRelocate:
      text += " " + ToString(ReadEntryId(reader));
      break;
    case RecordType::kEpochStart:
    case RecordType::kInSync:
    case RecordType::kCursor:
      text += " epoch " + ToString(reader.As<Epoch>());
      break;
    case RecordType::kCopy:
    case RecordType::kDrop: {
      const ChunkKey key = ReadKey(reader);
      absl::StrAppendFormat(&text, " V-tree %s chunk %d", ToString(key.vtree), key.chunk);
      if (type == RecordType::kCopy) absl::StrAppendFormat(&text, " extent %d", reader.U16());
      break;
    }
    case RecordType::kRequests:
    case RecordType::kNeedsResync:
      absl::StrAppendFormat(&text, " %d", reader.U32());
      break;
    case RecordType::kDropSlice:
    case RecordType::kDropClient:
      break;
  }
  return reader.ok() ? text : text + " (cut off)";
}

void DumpBatch(const BatchHeader& header, std::span<const std::byte> header_block,
               const Print& print) {
  print(absl::StrFormat(
      "batch at %d: %d B, generation %d, crc %08x after %08x, durable up to %d, %d records, %d "
      "blocks\n",
      header.position, header.total_bytes(), header.generation, header.crc, header.previous_crc,
      header.durable_up_to, header.record_count, header.payload_blocks));
  ByteReader records(header_block.subspan(sizeof(BatchHeader), header.record_bytes));
  for (uint32_t i = 0; i < header.record_count; ++i) {
    RecordHeader record;
    const std::span<const std::byte> bytes = records.Bytes(sizeof(record));
    if (!bytes.empty()) std::memcpy(&record, bytes.data(), sizeof(record));
    const std::span<const std::byte> body = records.Bytes(record.body_bytes);
    if (!records.ok()) {
      print("  (its records are cut off)\n");
      return;
    }
    print(absl::StrFormat("  %s: %s, %d blocks\n", NameOf(record.type),
                          DescribeBody(record.type, ByteReader(body)), record.payload_blocks));
  }
}

// As recovery walks it, payloads unread.
void DumpLog(const Superblock& superblock, uint64_t head, const DeviceReader& reader,
             const Print& print) {
  const Geometry geometry = superblock.geometry();
  std::vector<std::byte> block(kBlockBytes);
  std::vector<std::byte> header_block;
  uint64_t position = superblock.checkpoint_position;
  while (position < head) {
    const uint64_t ring_start = RoundUp(position, geometry.log_bytes);
    BatchHeader header;
    bool found = false;
    for (const uint64_t at : {position, ring_start}) {
      if (found || !reader(geometry.log_place(at), block)) continue;
      header = ReadBatchHeader(block);
      found = LooksLikeBatch(header, superblock, at);
    }
    if (!found) break;
    header_block.resize(header.header_bytes);
    if (!reader(geometry.log_place(header.position), header_block)) break;
    if (BatchCrc(header_block) != header.crc) break;
    DumpBatch(header, header_block, print);
    position = header.position + header.total_bytes();
  }
  print(absl::StrFormat("log ends at %d\n", position));
}

void DumpSlices(const DeviceState& state, const Print& print) {
  for (const auto& [slice, replica] : state.replicas()) {
    const SliceFacts& facts = replica->facts;
    size_t chunks = 0;
    state.Walk(slice, std::nullopt, [&chunks](const ChunkKey&, const ChunkView&) {
      ++chunks;
      return true;
    });
    print(absl::StrFormat(
        "slice %s: started %s, in sync %s, committed %s, floor %s, last %s%s; %d chunks, %d "
        "entries in the log, %d epochs of history\n",
        ToString(slice), ToString(facts.started_epoch), ToString(facts.in_sync_epoch),
        ToString(facts.commit_point), ToString(replica->floor), ToString(facts.last),
        facts.needs_resync ? ", NEEDS RESYNC" : "", chunks, replica->items.size(),
        facts.history.size()));
  }
}

void DumpHome(HomeTable& homes, const Geometry& geometry, const DirectoryKey& owner,
              uint32_t extent, const PlacedExtent& placed, const DeviceReader& reader,
              const Print& print) {
  print(absl::StrFormat("  extent %d: home %d at %d, present %04x, modified in epoch %s\n", extent,
                        placed.place, geometry.extent_offset(placed.place), placed.present,
                        ToString(placed.modified)));
  const Home* home = FindHome(homes, placed.place, reader);
  if (home == nullptr || !home->IsOf(owner, extent, placed)) {
    print("    its checksums are lost\n");
    return;
  }
  for (uint32_t i = 0; i < kBlocksPerExtent; ++i) {
    if ((home->present >> i & 1u) == 0) continue;
    const uint32_t block = extent * kBlocksPerExtent + i;
    print(absl::StrFormat("    block %d: crc %08x\n", block,
                          BindCrc(home->crc[i], owner.chunk, block)));
  }
}

void DumpChunk(DeviceState& state, const Geometry& geometry, const DumpOptions::Chunk& wanted,
               const DeviceReader& reader, const Print& print) {
  const ChunkView chunk = state.View(wanted.slice, wanted.key);
  if (!chunk.exists()) {
    print(NameOf(wanted.slice, wanted.key) + ": nothing is here; it reads as zeroes\n");
    return;
  }
  print(absl::StrFormat("%s: born in epoch %s\n", NameOf(wanted.slice, wanted.key),
                        ToString(chunk.born())));
  for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
    const PlacedExtent& placed = chunk.homes.extent[extent];
    if (placed.place == kNoPlace) continue;
    DumpHome(state.homes(), geometry, {wanted.slice, wanted.key}, extent, placed, reader, print);
  }
  if (chunk.log == nullptr) return;
  for (const auto& [version, item] : chunk.log->versions) {
    const std::optional<uint32_t> index = item->PayloadIndex(version.block);
    if (!index) {
      print(absl::StrFormat("  block %d: zeroes, by %s in the log\n", version.block,
                            ToString(version.item.id)));
      continue;
    }
    const bool is_redirected = item->IsRedirected(version.block);
    print(absl::StrFormat("  block %d: crc %08x, by %s in %s, on the device %d\n", version.block,
                          item->PlainCrc(*index), ToString(version.item.id),
                          is_redirected ? "an extent of its own" : "the log",
                          item->OffsetOf(*index, geometry)));
  }
}

}  // namespace

CheckReport CheckDevice(const DeviceInfo& info, const DeviceReader& reader) {
  return Checker(info, reader).Run();
}

Result<void> DumpDevice(const DeviceInfo& info, const DeviceReader& reader,
                        const DumpOptions& options, const Print& print) {
  const Superblocks superblocks = ReadSuperblocks(info, reader);
  if (!superblocks.readable) return Err(ErrorCode::kIoError, "its superblocks cannot be read");
  if (options.superblocks) {
    for (size_t copy = 0; copy < 2; ++copy) DumpSuperblock(copy, superblocks.block(copy), print);
  }
  const Result<Superblock> newest = NewestSuperblock(superblocks.blocks(), info);
  if (!newest) return tl::unexpected(newest.error());
  const bool needs_state = options.log || options.slices || options.chunk;
  if (!needs_state) return {};
  Replayed replayed(info, reader, *newest);
  if (replayed.recovery().phase() == Recovery::Phase::kFailed) {
    return Err(ErrorCode::kCorrupt, "%s", replayed.recovery().error().c_str());
  }
  if (options.slices) DumpSlices(replayed.state(), print);
  if (options.log) DumpLog(*newest, replayed.recovery().head(), reader, print);
  if (options.chunk) DumpChunk(replayed.state(), newest->geometry(), *options.chunk, reader, print);
  return {};
}

}  // namespace gabion::store
