#include "sim/checker/replica_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"

namespace gabion::sim {

namespace {

constexpr DeviceIndex kDevice = static_cast<DeviceIndex>(1);
constexpr store::Tag kTag = 1;
constexpr int kRoundsMax = 1'000'000;

store::Options StoreOptions(BufferPool* pool) {
  store::Options options;
  options.device = kDevice;
  options.timer = 1;
  options.pool = pool;
  return options;
}

}  // namespace

ReplicaReader::ReplicaReader(const DiskImage& image, const DeviceInfo& info, BufferPool* pool)
    : image_(image), arena_(image.arena()), info_(info), store_(StoreOptions(pool)) {
  now_.boot = Instant(std::chrono::seconds(1));
}

bool ReplicaReader::Settle(store::Tag tag, store::DoneStatus* status) {
  for (int round = 0; round < kRoundsMax; ++round) {
    for (const store::Done& done : done_) {
      if (done.tag != tag) continue;
      *status = done.status;
      return true;
    }
    if (effects_.disk.empty()) return false;
    const std::vector<DiskEffect> disk = std::move(effects_.disk);
    const std::vector<Slice> slices = std::move(effects_.slices);
    effects_.Clear();
    for (const DiskEffect& effect : disk) {
      uint64_t offset = effect.offset_bytes;
      for (uint32_t i = 0; i < effect.slice_count; ++i) {
        const Slice& slice = slices[effect.slice_begin + i];
        if (effect.op == DiskOp::kRead) {
          image_.Read(offset, {const_cast<std::byte*>(slice.data()), slice.size()});
        } else {
          image_.Write(offset, slice.span());
        }
        offset += slice.size();
      }
      store_.OnDiskDone(now_, {.device = kDevice, .tag = effect.tag, .status = DiskStatus::kOk},
                        {.effects = effects_, .done = done_});
    }
  }
  return false;
}

std::string ReplicaReader::Open(const store::Identity& identity) {
  done_.clear();
  store_.Open(now_, info_, identity, kTag, {.effects = effects_, .done = done_});
  store::DoneStatus status{};
  if (!Settle(kTag, &status)) return "the store does not finish its recovery";
  if (status != store::DoneStatus::kOk) return "the store does not open: " + store_.error();
  return {};
}

std::string ReplicaReader::ReadChunk(SliceId slice, const store::ChunkKey& key, Slice target) {
  constexpr uint32_t kBlocksAtOnce = 64;
  for (uint32_t block = 0; block < wire::kBlocksPerChunk; block += kBlocksAtOnce) {
    done_.clear();
    store_.Read(now_, slice, key, block, kBlocksAtOnce,
                target.Sub(block * wire::kBlockBytes, kBlocksAtOnce * wire::kBlockBytes), kTag,
                {.effects = effects_, .done = done_});
    store::DoneStatus status{};
    if (!Settle(kTag, &status)) return "the store does not finish a read";
    if (status != store::DoneStatus::kOk) {
      return "the store fails a read of blocks " + std::to_string(block) + "..., status " +
             std::to_string(static_cast<int>(status));
    }
  }
  return {};
}

}  // namespace gabion::sim
