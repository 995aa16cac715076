#include "core/sds/entry_check.h"

#include "core/base/checksum.h"

namespace gabion::sds {

bool ChecksumsMatch(const Slice& payload, std::span<const uint32_t> block_crc) {
  const std::span<const std::byte> bytes = payload.span();
  for (size_t at = 0; at < bytes.size(); at += wire::kBlockBytes) {
    const size_t block = at / wire::kBlockBytes;
    if (block >= block_crc.size()) return false;
    if (Crc32c(bytes.subspan(at, wire::kBlockBytes)) != block_crc[block]) return false;
  }
  return true;
}

uint64_t ExtentsTouched(const wire::EntryHeader& entry) {
  if (entry.kind != wire::EntryKind::kWrite) return 0;
  const uint32_t last = entry.first_block + entry.block_count - 1u;
  return last / wire::kBlocksPerExtent - entry.first_block / wire::kBlocksPerExtent + 1;
}

bool ValidEntry(const wire::EntryHeader& entry, const Slice& payload,
                std::span<const uint32_t> block_crc) {
  if (entry.block_count == 0) return false;
  if (uint32_t{entry.first_block} + entry.block_count > wire::kBlocksPerChunk) return false;
  if (!entry.id.epoch.valid() || !entry.id.seq.valid() || !entry.vtree.valid()) return false;
  switch (entry.kind) {
    case wire::EntryKind::kWrite:
      if (entry.block_count > wire::kDataBlocksMax) return false;
      if (payload.size() != uint32_t{entry.block_count} * wire::kBlockBytes) return false;
      return ChecksumsMatch(payload, block_crc);
    case wire::EntryKind::kZero:
    case wire::EntryKind::kTrim:
      return payload.empty();
  }
  return false;  // a kind from outside that is none
}

}  // namespace gabion::sds
