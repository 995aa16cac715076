// What a device may hold: a store with some of everything on it, changed by the input, is opened,
// read, brought home and closed. Errors are fine; a crash or an operation without end is not.
//
// The input is a list of changes: where (1 byte: the part of the device; 3 bytes: offset within
// it), how many bytes (1), and the bytes. The first byte of the input says which checksums are made
// right afterwards, so that a search gets behind them: bit 0 superblocks, bit 1 the checkpoint, bit
// 2 batches of the log.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/store/layout.h"
#include "core/store/offline.h"
#include "core/store/records.h"
#include "core/store/superblock.h"
#include "core/store/test_store.h"

namespace {

using namespace gabion;         // NOLINT(google-build-using-namespace): a program of one page
using namespace gabion::store;  // NOLINT(google-build-using-namespace)

constexpr TestStore::Options kOptions{
    .device_bytes = 10 << 20, .log_bytes = 4 << 20, .redirect = true};
constexpr SliceId kSlice{1};

// Homes, entries in the log, a copy, a drop, request ids, a rename.
TestDisk MakeDevice() {
  TestStore test(kOptions);
  CHECK(test.Format());
  test.Await(test.Start(kSlice, {.epoch = Epoch(1), .issuer = 9}));
  const auto append = [&](EntryId id, uint32_t chunk, uint32_t first, uint32_t count) {
    wire::EntryHeader entry = test.Write(id, chunk, first, count);
    entry.client = SdcId(5);
    entry.client_incarnation = Incarnation(1);
    entry.request = RequestId(id.seq.value());
    test.Await(test.Append(kSlice, entry, id.seq.value() * 1000));
  };
  append(Entry(1, 1), 0, 0, 20);
  append(Entry(1, 2), 1, 3, 2);
  test.Commit(kSlice, Entry(1, 2));
  test.Quiesce();
  append(Entry(1, 3), 0, 5, 40);  // two extents of its own, and ends
  test.Await(test.Start(SliceId(2), {.epoch = Epoch(1), .issuer = 9}));
  CHECK(test.Close());
  test.NewProcess();
  CHECK(test.Open());
  append(Entry(1, 4), 0, 6, 1);
  const Rename renames[] = {{.from = Entry(1, 3), .to = Entry(2, 1)},
                            {.from = Entry(1, 4), .to = Entry(2, 2)}};
  test.Await(test.Start(kSlice, {.epoch = Epoch(2), .end = Entry(1, 2), .renames = renames}));
  const Slice data = test.Data(9000, 2);
  Tag tag = test.NewTag();
  test.store().AppendCopy(test.now(), kSlice, TestKey(2), 1, 0x0101, Epoch(1), Entry(2, 2), data,
                          TestStore::Crcs(data), tag, test.out());
  test.Take();
  test.Await(tag);
  tag = test.NewTag();
  test.store().AppendDrop(test.now(), kSlice, TestKey(1), Entry(2, 2), tag, test.out());
  test.Take();
  test.Await(tag);
  return test.disk();
}

void Put(TestDisk& disk, uint64_t offset_bytes, std::span<const std::byte> bytes) {
  const uint64_t size = disk.info().size_bytes;
  if (offset_bytes < size) {
    disk.Overwrite(offset_bytes,
                   bytes.first(std::min<uint64_t>(bytes.size(), size - offset_bytes)));
  }
}

void Change(TestDisk& disk, std::span<const std::byte> input) {
  const Geometry geometry = *ComputeGeometry(kOptions.device_bytes, kOptions.log_bytes);
  const std::optional<Superblock> superblock = DecodeSuperblock(disk.Content(0, kBlockBytes));
  CHECK(superblock.has_value());
  const uint64_t parts[] = {kSuperblockOffset[0],
                            kSuperblockOffset[1],
                            geometry.area_offset(superblock->checkpoint_area),
                            geometry.log_place(superblock->checkpoint_position),
                            geometry.extents_offset(),
                            geometry.log_offset(),
                            geometry.page_maps_offset(),
                            geometry.pages_offset(),
                            geometry.leaf_maps_offset(),
                            geometry.leaves_offset()};
  ByteReader reader(input);
  while (reader.ok() && reader.remaining() >= 5) {
    const uint64_t part = parts[reader.U8() % std::size(parts)];
    uint64_t offset = reader.U8();
    offset |= uint64_t{reader.U16()} << 8;
    const uint8_t wanted = reader.U8();
    const size_t count = std::min<size_t>(wanted, reader.remaining());
    Put(disk, part + offset, reader.Bytes(count));
  }
}

struct Table {
  uint64_t maps_offset = 0;
  uint64_t blocks_offset = 0;
  uint32_t blocks = 0;
};

// The checksums of a table, from its blocks up to the root in the checkpoint. One map is enough for
// so small a device, and the root is its slot and checksum.
void SealTable(TestDisk& disk, const Table& table, uint64_t root) {
  const auto slot_of = [&disk](uint64_t at) {
    return static_cast<uint8_t>(disk.Content(at, 1)[0]);
  };
  const auto put_crc = [&disk](uint64_t at, uint64_t block) {
    std::array<std::byte, sizeof(uint32_t)> crc;
    StoreLe(crc.data(), Crc32c(disk.Content(block, kBlockBytes)));
    disk.Overwrite(at, crc);
  };
  if (slot_of(root) == 0) return;
  const uint64_t map = table.maps_offset + (slot_of(root) == 1 ? 0 : kBlockBytes);
  const uint64_t crcs = map + sizeof(TableBlockHeader);
  for (uint32_t number = 0; number < table.blocks; ++number) {
    const uint8_t slot = slot_of(crcs + kBlocksPerMap * sizeof(uint32_t) + number);
    if (slot == 0) continue;
    const uint64_t at = table.blocks_offset + (number * 2u + (slot == 1 ? 0u : 1u)) * kBlockBytes;
    put_crc(crcs + number * sizeof(uint32_t), at);
  }
  put_crc(root + 1, map);
}

// Directory and pages of homes; their roots are the end of the checkpoint.
void SealTables(TestDisk& disk, const Superblock& superblock) {
  const Geometry geometry = *ComputeGeometry(kOptions.device_bytes, kOptions.log_bytes);
  const uint64_t area = geometry.area_offset(superblock.checkpoint_area % 2);
  if (superblock.checkpoint_bytes < 10 || superblock.checkpoint_bytes > geometry.area_bytes) return;
  const uint64_t end = area + superblock.checkpoint_bytes;
  SealTable(disk,
            {.maps_offset = geometry.leaf_maps_offset(),
             .blocks_offset = geometry.leaves_offset(),
             .blocks = geometry.leaves()},
            end - 10);
  SealTable(disk,
            {.maps_offset = geometry.page_maps_offset(),
             .blocks_offset = geometry.pages_offset(),
             .blocks = geometry.pages()},
            end - 5);
}

void SealSuperblock(TestDisk& disk, uint64_t offset_bytes, bool with_checkpoint) {
  std::vector<std::byte> block = disk.Content(offset_bytes, kBlockBytes);
  Superblock superblock;
  std::memcpy(&superblock, block.data(), sizeof(superblock));
  if (with_checkpoint && superblock.checkpoint_area < 2) {
    const Geometry geometry = superblock.geometry();
    const uint64_t size = disk.info().size_bytes;
    const uint64_t at = geometry.area_offset(superblock.checkpoint_area);
    if (at < size && superblock.checkpoint_bytes <= size - at) {
      SealTables(disk, superblock);
      superblock.checkpoint_crc = Crc32c(disk.Content(at, superblock.checkpoint_bytes));
    }
  }
  EncodeSuperblock(superblock, block);
  disk.Overwrite(offset_bytes, block);
}

void SealBatches(TestDisk& disk) {
  const Geometry geometry = *ComputeGeometry(kOptions.device_bytes, kOptions.log_bytes);
  uint32_t previous = 0;
  for (uint64_t at = geometry.log_offset(); at < geometry.extents_offset(); at += kBlockBytes) {
    const std::vector<std::byte> block = disk.Content(at, kBlockBytes);
    BatchHeader header = ReadBatchHeader(block);
    if (header.magic != kBatchMagic || header.header_bytes % kBlockBytes != 0) continue;
    if (header.header_bytes == 0 || header.header_bytes > geometry.extents_offset() - at) continue;
    std::vector<std::byte> whole = disk.Content(at, header.header_bytes);
    if (previous != 0) header.previous_crc = previous;
    std::memcpy(whole.data(), &header, sizeof(header));
    header.crc = BatchCrc(whole);
    previous = header.crc;
    std::memcpy(whole.data(), &header, sizeof(header));
    disk.Overwrite(at, whole);
  }
}

void ReadEverything(TestStore& test) {
  for (const SliceId slice : test.store().slices()) {
    CHECK(test.store().Find(slice) != nullptr);
    for (const ChunkSummary& chunk : test.store().List(slice, std::nullopt, Epoch(), 100)) {
      test.Read(slice, chunk.key, 0, wire::kBlocksPerChunk);
      test.store().Present(slice, chunk.key, 0, 64);
    }
    for (const wire::EntryHeader& entry : test.store().Tail(slice)) {
      if (entry.kind != wire::EntryKind::kWrite) continue;
      const Slice target = test.pool().Allocate(uint32_t{entry.block_count} * kBlockBytes);
      std::vector<uint32_t> crc(entry.block_count);
      const Tag tag = test.NewTag();
      test.store().ReadEntry(test.now(), slice, entry.id, target, crc, tag, test.out());
      test.Take();
      test.Await(tag);
    }
    test.store().Requests(slice);
  }
  test.store().Dump();
  test.store().capacity();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TestDisk kDevice = MakeDevice();
  if (size == 0) return 0;
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size)).subspan(1);
  TestDisk disk = kDevice;
  Change(disk, input);
  if ((data[0] & 4) != 0) SealBatches(disk);
  if ((data[0] & 1) != 0) {
    for (const uint64_t offset : kSuperblockOffset) {
      SealSuperblock(disk, offset, (data[0] & 2) != 0);
    }
  }
  const DeviceReader reader = [&disk](uint64_t offset_bytes, std::span<std::byte> to) {
    if (offset_bytes + to.size() > disk.info().size_bytes) return false;
    disk.image().Read(offset_bytes, to);
    return true;
  };
  const CheckReport report = CheckDevice(disk.info(), reader);
  const DumpOptions all{.superblocks = true,
                        .log = true,
                        .slices = true,
                        .chunk = {{.slice = kSlice, .key = TestKey(0)}}};
  static_cast<void>(DumpDevice(disk.info(), reader, all, [](std::string_view) {}));
  TestStore test(kOptions, disk);
  const bool opened = test.Open();
  // The offline check sees what Open sees; but whose device it is, it does not ask.
  CHECK(!opened || report.health != Health::kUnusable);
  if (!opened) return 0;
  ReadEverything(test);
  test.Quiesce();
  ReadEverything(test);
  return 0;
}
