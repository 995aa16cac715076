#include "core/store/superblock.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

namespace {

uint32_t BlockCrc(std::span<const std::byte> block) {
  constexpr size_t kCrcAt = offsetof(Superblock, crc);
  constexpr std::array<std::byte, sizeof(uint32_t)> kZero{};
  const uint32_t before = Crc32c(block.first(kCrcAt));
  return Crc32c(block.subspan(kCrcAt + kZero.size()), Crc32c(kZero, before));
}

// A sane geometry that fits the device, whatever the bytes say.
bool GeometryFits(const Geometry& geometry, const DeviceInfo& info) {
  if (geometry.device_bytes > info.size_bytes) return false;
  if (geometry.area_bytes % kBlockBytes != 0 || geometry.log_bytes % kBlockBytes != 0) return false;
  if (geometry.area_bytes == 0 || geometry.area_bytes > info.size_bytes) return false;
  if (geometry.log_bytes < kLogBytesMin || geometry.log_bytes > info.size_bytes) return false;
  return geometry.extent_offset(geometry.extents_total) <= info.size_bytes;
}

}  // namespace

std::optional<Geometry> ComputeGeometry(uint64_t device_bytes, uint64_t log_bytes) {
  if (log_bytes == 0) {
    // Small devices give more of theirs: a short ring has little room for what is in flight.
    const uint64_t least =
        std::max(kLogBytesDefaultMin, std::min<uint64_t>(device_bytes / 8, 32 << 20));
    log_bytes = std::clamp(device_bytes / 16, least, kLogBytesDefaultMax);
  }
  log_bytes = RoundDown(log_bytes, kExtentBytes);
  if (log_bytes < kLogBytesMin) return std::nullopt;
  // A block in the log takes at most an eighth of its size in a checkpoint; the rest is for slices
  // and request ids, of which a larger device has more.
  constexpr uint64_t kExtentsMax = 0xfffffff0u;
  Geometry geometry{.device_bytes = device_bytes};
  geometry.log_bytes = log_bytes;
  geometry.extents_total =
      static_cast<uint32_t>(std::min(device_bytes / kExtentBytes, kExtentsMax));
  geometry.area_bytes =
      RoundUp(uint64_t{geometry.extents_total} * 16 + log_bytes / 8 + (512 << 10), kExtentBytes);
  // The table is as large as for a device without anything but extents, at first.
  const uint64_t overhead = geometry.extents_offset();
  if (device_bytes < overhead + uint64_t{kExtentsMin} * kExtentBytes) return std::nullopt;
  geometry.extents_total =
      static_cast<uint32_t>(std::min((device_bytes - overhead) / kExtentBytes, kExtentsMax));
  return geometry;
}

void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> block) {
  CHECK_EQ(block.size(), kBlockBytes);
  std::memset(block.data(), 0, block.size());
  Superblock copy = superblock;
  copy.crc = 0;
  std::memcpy(block.data(), &copy, sizeof(copy));
  copy.crc = BlockCrc(block);
  std::memcpy(block.data(), &copy, sizeof(copy));
}

std::optional<Superblock> DecodeSuperblock(std::span<const std::byte> block) {
  CHECK_GE(block.size(), kBlockBytes);
  Superblock superblock;
  std::memcpy(&superblock, block.data(), sizeof(superblock));
  if (superblock.magic != kSuperblockMagic) return std::nullopt;
  if (superblock.crc != BlockCrc(block.first(kBlockBytes))) return std::nullopt;
  return superblock;
}

Result<Superblock> NewestSuperblock(const std::array<std::span<const std::byte>, 2>& blocks,
                                    const DeviceInfo& info) {
  std::optional<Superblock> best;
  bool any_bytes = false;
  for (const std::span<const std::byte> block : blocks) {
    for (const std::byte b : block.first(kBlockBytes)) any_bytes |= b != std::byte{0};
    const std::optional<Superblock> found = DecodeSuperblock(block);
    if (found && (!best || found->sequence > best->sequence)) best = found;
  }
  if (!best) {
    if (!any_bytes) {
      return Err(ErrorCode::kNotFound, "the device is empty; format it to use it");
    }
    return Err(ErrorCode::kCorrupt,
               "no valid superblock: both copies are damaged, or this is no Gabion device");
  }
  if (best->version != kFormatVersion) {
    return Err(
        ErrorCode::kUnsupported,
        "it has format version %u, and this program knows %u only: run the program that "
        "wrote it, or remove the device and add it again with --force (its slices are copied "
        "from the other servers)",
        best->version, kFormatVersion);
  }
  if (best->features != 0) {
    return Err(ErrorCode::kUnsupported, "format features %llx are not known here",
               static_cast<unsigned long long>(best->features));
  }
  if (!GeometryFits(best->geometry(), info)) {
    return Err(ErrorCode::kCorrupt, "the device has %llu bytes, its superblock says %llu",
               static_cast<unsigned long long>(info.size_bytes),
               static_cast<unsigned long long>(best->device_bytes));
  }
  return *best;
}

Result<Superblock> ChooseSuperblock(const std::array<std::span<const std::byte>, 2>& blocks,
                                    const Identity& identity, const DeviceInfo& info) {
  Result<Superblock> best = NewestSuperblock(blocks, info);
  if (!best) return best;
  if (best->cluster != identity.cluster) {
    return Err(ErrorCode::kConflict, "the device belongs to cluster %s, not to %s",
               ToString(best->cluster).c_str(), ToString(identity.cluster).c_str());
  }
  if (best->sds != identity.sds) {
    return Err(ErrorCode::kConflict, "the device belongs to SDS %s, this is SDS %s",
               ToString(best->sds).c_str(), ToString(identity.sds).c_str());
  }
  if (best->device != identity.device) {
    return Err(ErrorCode::kConflict, "this is device %s, expected was device %s",
               ToString(best->device).c_str(), ToString(identity.device).c_str());
  }
  return best;
}

}  // namespace gabion::store
