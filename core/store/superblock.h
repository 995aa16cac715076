// Superblocks as bytes, and the choice between the two.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "core/base/result.h"
#include "core/store/layout.h"
#include "core/store/store.h"

namespace gabion::store {

// Fills one block.
void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> block);

// Not valid: another magic or a wrong checksum. Version and features are not judged.
std::optional<Superblock> DecodeSuperblock(std::span<const std::byte> block);

// The newer valid one of `blocks`, whosever it is: known version and features, a geometry that
// fits.
Result<Superblock> NewestSuperblock(const std::array<std::span<const std::byte>, 2>& blocks,
                                    const DeviceInfo& info);

// The newer valid one of `blocks`, when this store may open the device: same identity, known
// version and features, a geometry that fits.
Result<Superblock> ChooseSuperblock(const std::array<std::span<const std::byte>, 2>& blocks,
                                    const Identity& identity, const DeviceInfo& info);

}  // namespace gabion::store
