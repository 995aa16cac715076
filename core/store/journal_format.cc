#include "core/store/journal_format.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <utility>

#include "core/base/bug.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store::journal {

namespace {

constexpr uint64_t kSealMagic = 0x4c4145534a424147u;   // "GABJSEAL"
constexpr uint64_t kBatchMagic = 0x435441424a424147u;  // "GABJBATC"
constexpr uint32_t kVersion = 1;
constexpr size_t kCrcOffset = 12;

uint32_t CrcOf(std::span<const std::byte> header) {
  std::array<std::byte, kHeaderBytes> copy;
  std::copy_n(header.begin(), kHeaderBytes, copy.begin());
  StoreLe(copy.data() + kCrcOffset, uint32_t{0});
  return Crc32c(copy);
}

// The fields behind magic, version and CRC, when those are right.
Result<std::optional<std::span<const std::byte>>> Open(std::span<const std::byte> block,
                                                       uint64_t magic) {
  if (block.size() < kHeaderBytes || LoadLe<uint64_t>(block.data()) != magic) {
    return std::optional<std::span<const std::byte>>();
  }
  const std::span<const std::byte> header = block.first(kHeaderBytes);
  if (LoadLe<uint32_t>(header.data() + kCrcOffset) != CrcOf(header)) {
    return std::optional<std::span<const std::byte>>();
  }
  const auto version = LoadLe<uint32_t>(header.data() + 8);
  if (version != kVersion) {
    return Err(ErrorCode::kUnsupported, "journal of format version %u; this program knows %u",
               version, kVersion);
  }
  return std::optional(header.subspan(16));
}

uint32_t Close(std::span<std::byte> header, uint64_t magic) {
  StoreLe(header.data(), magic);
  StoreLe(header.data() + 8, kVersion);
  const uint32_t crc = CrcOf(header);
  StoreLe(header.data() + kCrcOffset, crc);
  return crc;
}

// One area's unbroken run.
struct Run {
  bool snapshot_whole = false;
  uint64_t last_offset = 0;  // of its last batch
  Recovered content;
};

struct Area {
  std::span<const std::byte> bytes;
  uint64_t begin = 0;  // on the device
  uint64_t index = 0;
};

// The header at `offset` if it belongs there.
Result<std::optional<DecodedHeader>> HeaderAt(const Area& area, uint64_t offset) {
  Result<std::optional<DecodedHeader>> header = DecodeBatchHeader(area.bytes.subspan(offset));
  if (header && *header && (*header)->header.position != area.begin + offset) {
    return std::optional<DecodedHeader>();
  }
  return header;
}

// Appends the batch's content to the run. False: the batch is not whole.
bool Take(const Area& area, uint64_t offset, const DecodedHeader& batch, Recovered& run) {
  const BatchHeader& header = batch.header;
  const uint64_t size = BatchBytes(header.body_bytes());
  if (size > area.bytes.size() - offset) return false;
  const std::span<const std::byte> body =
      area.bytes.subspan(offset + kHeaderBytes, header.body_bytes());
  if (Crc32c(body) != header.body_crc) return false;
  std::vector<std::vector<std::byte>> records;
  ByteReader reader(body.subspan(header.snapshot_bytes));
  while (reader.ok() && reader.remaining() > 0) {
    const std::span<const std::byte> record = reader.SizedBytes(UINT32_MAX);
    if (reader.ok()) records.emplace_back(record.begin(), record.end());
  }
  if (!reader.done()) return false;
  if (header.snapshot_bytes > 0) {
    run.snapshot.assign(body.begin(), body.begin() + header.snapshot_bytes);
  }
  run.last_sequence = header.first_sequence - 1 + records.size();
  std::move(records.begin(), records.end(), std::back_inserter(run.records));
  run.last_crc = batch.crc;
  run.append_offset = offset + size;
  return true;
}

Result<Run> ReadRun(const Area& area) {
  Run run;
  Recovered& content = run.content;
  while (content.append_offset + kBlock <= area.bytes.size()) {
    const uint64_t offset = content.append_offset;
    const Result<std::optional<DecodedHeader>> batch = HeaderAt(area, offset);
    if (!batch) return tl::unexpected(batch.error());
    if (!*batch) break;
    const BatchHeader& header = (*batch)->header;
    const bool is_first = offset == 0;
    const bool continues = header.previous_crc == content.last_crc ||
                           PLANTED_BUG("S1-journal-predecessor-not-checked");
    if (is_first) {
      const bool belongs = header.generation > 0 && (header.generation - 1) % 2 == area.index;
      if (!belongs || header.previous_crc != 0 || header.first_sequence == 0) break;
    } else if (header.generation != content.generation || !continues ||
               header.snapshot_bytes != 0 || header.first_sequence != content.last_sequence + 1) {
      break;
    }
    if (!Take(area, offset, **batch, content)) break;
    content.generation = header.generation;
    run.snapshot_whole = true;
    run.last_offset = offset;
  }
  return run;
}

// What was certainly durable at some time: records up to `sequence`, and the snapshot of
// `generation`.
struct Proof {
  uint64_t generation = 0;
  uint64_t sequence = 0;

  auto operator<=>(const Proof&) const = default;
};

// The strongest proof among the batches that start at or behind `offset`: none of them is the first
// of its area, so each was written after its area's snapshot was durable.
Result<Proof> ProofBehind(const Area& area, uint64_t offset) {
  Proof proof;
  for (; offset + kBlock <= area.bytes.size(); offset += kBlock) {
    const Result<std::optional<DecodedHeader>> batch = HeaderAt(area, offset);
    if (!batch) return tl::unexpected(batch.error());
    if (!*batch) continue;
    const BatchHeader& header = (*batch)->header;
    proof = std::max(proof, {header.generation, header.durable_sequence});
  }
  return proof;
}

}  // namespace

bool IsZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

void EncodeSeal(const Seal& seal, std::span<std::byte> to) {
  std::fill_n(to.begin(), kHeaderBytes, std::byte{0});
  ByteWriter writer(to.subspan(16, kHeaderBytes - 16));
  writer.U64(seal.number);
  writer.U64(seal.generation);
  writer.U64(seal.durable_sequence);
  writer.U64(seal.area_bytes);
  CHECK(writer.ok());
  Close(to.first(kHeaderBytes), kSealMagic);
}

uint32_t EncodeBatchHeader(const BatchHeader& header, std::span<std::byte> to) {
  ByteWriter writer(to.subspan(16, kHeaderBytes - 16));
  writer.U64(header.generation);
  writer.U64(header.position);
  writer.U64(header.first_sequence);
  writer.U64(header.durable_sequence);
  writer.U32(header.previous_crc);
  writer.U32(header.body_crc);
  writer.U32(header.snapshot_bytes);
  writer.U32(header.record_bytes);
  CHECK(writer.ok());
  CHECK_EQ(writer.size(), kHeaderBytes - 16);
  return Close(to.first(kHeaderBytes), kBatchMagic);
}

Result<std::optional<Seal>> DecodeSeal(std::span<const std::byte> block) {
  const auto fields = Open(block, kSealMagic);
  if (!fields) return tl::unexpected(fields.error());
  if (!*fields) return std::optional<Seal>();
  ByteReader reader(**fields);
  Seal seal;
  seal.number = reader.U64();
  seal.generation = reader.U64();
  seal.durable_sequence = reader.U64();
  seal.area_bytes = reader.U64();
  return std::optional(seal);
}

Result<std::optional<DecodedHeader>> DecodeBatchHeader(std::span<const std::byte> block) {
  const auto fields = Open(block, kBatchMagic);
  if (!fields) return tl::unexpected(fields.error());
  if (!*fields) return std::optional<DecodedHeader>();
  ByteReader reader(**fields);
  DecodedHeader decoded;
  BatchHeader& header = decoded.header;
  header.generation = reader.U64();
  header.position = reader.U64();
  header.first_sequence = reader.U64();
  header.durable_sequence = reader.U64();
  header.previous_crc = reader.U32();
  header.body_crc = reader.U32();
  header.snapshot_bytes = reader.U32();
  header.record_bytes = reader.U32();
  decoded.crc = LoadLe<uint32_t>(block.data() + kCrcOffset);
  return std::optional(decoded);
}

Result<std::optional<Seal>> NewestSeal(std::span<const std::byte> blocks) {
  CHECK_EQ(blocks.size(), 2 * kBlock);
  std::optional<Seal> newest;
  for (const size_t offset : {size_t{0}, size_t{kBlock}}) {
    const Result<std::optional<Seal>> seal = DecodeSeal(blocks.subspan(offset, kBlock));
    if (!seal) return tl::unexpected(seal.error());
    if (*seal && (!newest || (*seal)->number > newest->number)) newest = **seal;
  }
  return newest;
}

Result<Recovered> Recover(const Seal& seal, std::span<const std::byte> area0,
                          std::span<const std::byte> area1) {
  const std::array<Area, 2> areas = {Area{area0, kAreasBegin, 0},
                                     Area{area1, kAreasBegin + area0.size(), 1}};
  Recovered newest;
  uint64_t last_offset = 0;
  Proof proof = {seal.generation, seal.durable_sequence};
  for (const Area& area : areas) {
    Result<Run> run = ReadRun(area);
    if (!run) return tl::unexpected(run.error());
    const Result<Proof> behind =
        ProofBehind(area, run->snapshot_whole ? run->content.append_offset : kBlock);
    if (!behind) return tl::unexpected(behind.error());
    proof = std::max(proof, *behind);
    if (run->snapshot_whole && run->content.generation > newest.generation) {
      newest = std::move(run->content);
      last_offset = run->last_offset;
    }
  }
  for (const Area& area : areas) {
    const bool is_newest = newest.generation > 0 && (newest.generation - 1) % 2 == area.index;
    const uint64_t offset = is_newest ? newest.append_offset : 0;
    if (offset + kBlock > area.bytes.size()) continue;
    const Result<std::optional<DecodedHeader>> torn = HeaderAt(area, offset);
    if (!torn) return tl::unexpected(torn.error());
    const std::span<const std::byte> block = area.bytes.subspan(offset, kBlock);
    const bool is_news = *torn ? (*torn)->header.generation >= newest.generation : !IsZero(block);
    if (is_news) {
      newest.to_erase.push_back(area.begin + offset);
    }
  }
  const Proof held = {newest.generation, newest.last_sequence};
  if (held < proof) {
    return Err(ErrorCode::kCorrupt,
               "journal damaged: generation %" PRIu64 " with records up to %" PRIu64
               " was durable, only generation %" PRIu64 " with records up to %" PRIu64 " is whole",
               proof.generation, proof.sequence, newest.generation, newest.last_sequence);
  }
  newest.unproven_offset = held > proof ? last_offset : newest.append_offset;
  return newest;
}

}  // namespace gabion::store::journal
