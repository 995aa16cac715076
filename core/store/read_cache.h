// Blocks that clients have read, in memory: one cache for all devices of an SDS, with a budget of
// its own. A block is known by where it is on its device. Who writes there says so (Forget), and
// what is found is compared with the checksum that it had when it came.
//
// What goes is decided by SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): blocks
// stand in a queue in the order in which they came, a hand goes from the oldest to the newest and
// takes out the first one that nobody has asked for since it came by last. What is read only once
// goes soon, and a hit moves nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/role/event.h"
#include "core/wire/data.h"

namespace gabion::store {

class ReadCache {
 public:
  // Of the content of its blocks; 0: nothing is ever kept.
  explicit ReadCache(uint64_t bytes_max);

  // Copies the block at `offset_bytes`, a multiple of 4 KiB, to `to` and gives its CRC32C; nothing:
  // it is not here.
  std::optional<uint32_t> Find(DeviceIndex device, uint64_t offset_bytes, std::byte* to);
  // `block` with the checksum `crc` is at that place.
  void Add(DeviceIndex device, uint64_t offset_bytes, std::span<const std::byte> block,
           uint32_t crc);
  // Something else will be there.
  void Forget(DeviceIndex device, uint64_t offset_bytes, uint64_t length_bytes);
  void Forget(DeviceIndex device);

  bool enabled() const { return frames_max_ > 0; }
  uint64_t bytes_max() const { return uint64_t{frames_max_} * wire::kBlockBytes; }
  uint64_t bytes() const { return frame_of_.size() * wire::kBlockBytes; }
  // Everything agrees with everything; O(size).
  void Check() const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Key {
    DeviceIndex device{};
    uint64_t offset_bytes = 0;
    bool operator==(const Key&) const = default;
    template <class Hash>
    friend Hash AbslHashValue(Hash hash, const Key& key) {
      return Hash::combine(std::move(hash), key.device, key.offset_bytes);
    }
  };
  using Content = std::array<std::byte, wire::kBlockBytes>;
  struct Frame {
    std::unique_ptr<Content> content;  // stays when the frame is free
    Key key;
    uint32_t crc = 0;
    uint32_t newer = kNone;  // in the queue; of a free frame: the next free one
    uint32_t older = kNone;
    bool asked_for = false;  // since the hand came by
  };

  uint32_t TakeFrame();
  void Remove(uint32_t frame);

  uint32_t frames_max_ = 0;
  std::vector<Frame> frames_;
  absl::flat_hash_map<Key, uint32_t> frame_of_;
  uint32_t newest_ = kNone;
  uint32_t oldest_ = kNone;
  uint32_t hand_ = kNone;  // kNone: at the oldest
  uint32_t free_ = kNone;
};

}  // namespace gabion::store
