// The content of one extent as it travels between SDSs: the blocks that have data, one after the
// other, with one checksum each.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/buffer.h"
#include "core/store/store.h"
#include "core/wire/data.h"

namespace gabion::sds {

using ExtentCrcs = std::array<uint32_t, wire::kBlocksPerExtent>;

// `data`: the whole extent. `present`: bit i: block i has data. Fills the checksums of those.
// Nothing: the pool's budget is exhausted.
std::optional<Slice> PackExtent(BufferPool& pool, const Slice& data, uint16_t present,
                                ExtentCrcs* crc);

// The checksums of the blocks that are present, in order: what a packed extent comes with.
std::vector<uint32_t> PackedCrcs(const ExtentCrcs& crc, uint16_t present);

// What `store` knows of one chunk, changes counted after `after_epoch`. Nothing: no such chunk.
std::optional<store::ChunkSummary> FindChunk(const store::Store& store, SliceId slice,
                                             const store::ChunkKey& key, Epoch after_epoch);

// Where block `block` lies in a packed extent.
uint32_t PackedOffset(uint16_t present, uint32_t block);

// A packed extent that has the right size and matches its checksums.
bool ValidExtent(const Slice& payload, uint16_t present, const ExtentCrcs& crc);

}  // namespace gabion::sds
