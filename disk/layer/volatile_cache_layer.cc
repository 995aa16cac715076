#include "disk/layer/volatile_cache_layer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "core/base/check.h"

namespace gabion::disk {

VolatileCacheLayer::VolatileCacheLayer(BlockLayer* below, const Options& options)
    : PassingLayer(below),
      options_(options),
      random_(options.seed, 0, 0),
      pool_(BufferPool::Options{.bytes_max = size_t{1} << 30}) {}

DeviceInfo VolatileCacheLayer::info() const {
  DeviceInfo info = below().info();
  info.volatile_cache = true;
  return info;
}

void VolatileCacheLayer::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  switch (effect.op) {
    case DiskOp::kRead:
      Read(effect, slices);
      break;
    case DiskOp::kWrite:
      Hold(effect, slices);
      Answer(effect, DiskStatus::kOk);
      break;
    case DiskOp::kDurableWrite:
      Hold(effect, slices);
      StartBarrier(effect);
      break;
    case DiskOp::kFlush:
      StartBarrier(effect);
      break;
    case DiskOp::kDiscard:
      // A hint, and one that this cache does not take.
      Answer(effect, DiskStatus::kOk);
      break;
  }
  if (!held_.empty() && random_.Chance(options_.write_back_percent, 100)) {
    const uint64_t first = held_.begin()->first;
    const uint64_t last = std::prev(held_.end())->first;
    WriteBack(held_.lower_bound(random_.Range(first, last))->first);
  }
  AdvanceBarriers();
}

void VolatileCacheLayer::Hold(const DiskEffect& effect, std::span<const Slice> slices) {
  CHECK_EQ(effect.offset_bytes % kBlockBytes, 0u);
  uint64_t block = effect.offset_bytes / kBlockBytes;
  for (const Slice& slice : slices) {
    CHECK_EQ(slice.size() % kBlockBytes, 0u);
    for (uint32_t at = 0; at < slice.size(); at += kBlockBytes, ++block) {
      Held& held = held_[block];
      // A copy: the writer may fill its buffer anew once it has its answer. The old content may be
      // on its way.
      held.content = pool_.Allocate(kBlockBytes);
      CHECK(!held.content.empty());
      held.content.CopyFrom(0, slice.span().subspan(at, kBlockBytes));
      held.version = next_version_++;
    }
  }
}

void VolatileCacheLayer::Read(const DiskEffect& effect, std::span<const Slice> slices) {
  auto read = std::make_unique<ReadOperation>();
  read->effect = effect;
  read->slices.assign(slices.begin(), slices.end());
  const uint64_t first = effect.offset_bytes / kBlockBytes;
  const uint64_t end = first + effect.length_bytes / kBlockBytes;
  for (auto it = held_.lower_bound(first); it != held_.end() && it->first < end; ++it) {
    read->from_cache.emplace(it->first, it->second.content);
  }
  DiskEffect request = effect;
  request.tag = next_tag_++;
  below_requests_[request.tag].read = std::move(read);
  below().Queue(request, slices);
}

void VolatileCacheLayer::Finish(const ReadOperation& read) const {
  uint64_t block = read.effect.offset_bytes / kBlockBytes;
  for (const Slice& slice : read.slices) {
    for (uint32_t at = 0; at < slice.size(); at += kBlockBytes, ++block) {
      const auto cached = read.from_cache.find(block);
      if (cached == read.from_cache.end()) continue;
      std::memcpy(const_cast<std::byte*>(slice.data()) + at, cached->second.data(), kBlockBytes);
    }
  }
}

void VolatileCacheLayer::StartBarrier(const DiskEffect& effect) {
  Barrier& barrier = barriers_[next_version_++];
  barrier.effect = effect;
  const bool all = effect.op == DiskOp::kFlush;
  const uint64_t first = all ? 0 : effect.offset_bytes / kBlockBytes;
  const uint64_t end = all ? UINT64_MAX : first + effect.length_bytes / kBlockBytes;
  std::vector<uint64_t> order;
  for (auto it = held_.lower_bound(first); it != held_.end() && it->first < end; ++it) {
    barrier.blocks.emplace(it->first, it->second.version);
    order.push_back(it->first);
  }
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.Below(i)]);
  for (const uint64_t block : order) WriteBack(block);
}

void VolatileCacheLayer::WriteBack(uint64_t block) {
  Held& held = held_.at(block);
  if (held.writing != 0) return;  // one at a time, or the older one might arrive last
  held.writing = held.version;
  DiskEffect request;
  request.op = DiskOp::kWrite;
  request.offset_bytes = block * kBlockBytes;
  request.length_bytes = kBlockBytes;
  request.tag = next_tag_++;
  Below& write = below_requests_[request.tag];
  write.block = block;
  write.version = held.version;
  below().Queue(request, std::span(&held.content, 1));
}

void VolatileCacheLayer::OnWrittenBack(uint64_t block, uint64_t version) {
  bool wanted = false;
  for (auto& [number, barrier] : barriers_) {
    const auto waits = barrier.blocks.find(block);
    if (waits == barrier.blocks.end()) continue;
    if (waits->second <= version) {
      barrier.blocks.erase(waits);
    } else {
      wanted = true;
    }
  }
  const auto held = held_.find(block);
  CHECK(held != held_.end());
  held->second.writing = 0;
  if (held->second.version == version) {
    held_.erase(held);
  } else if (wanted) {
    WriteBack(block);
  }
}

void VolatileCacheLayer::AdvanceBarriers() {
  for (auto& [number, barrier] : barriers_) {
    if (barrier.flushing || !barrier.blocks.empty()) continue;
    barrier.flushing = true;
    DiskEffect request;
    request.op = DiskOp::kFlush;
    request.tag = next_tag_++;
    below_requests_[request.tag].barrier = number;
    below().Queue(request, {});
  }
}

void VolatileCacheLayer::Collect(std::vector<DiskDoneEvent>& done) {
  std::vector<DiskDoneEvent> events;
  below().Collect(events);
  for (const DiskDoneEvent& event : events) {
    const auto found = below_requests_.find(event.tag);
    CHECK(found != below_requests_.end());
    Below request = std::move(found->second);
    below_requests_.erase(found);
    if (request.read != nullptr) {
      if (event.status == DiskStatus::kOk) Finish(*request.read);
      Answer(request.read->effect, event.status);
    } else if (request.barrier != 0) {
      const auto barrier = barriers_.find(request.barrier);
      Answer(barrier->second.effect, event.status);
      barriers_.erase(barrier);
    } else {
      // A cache that cannot write back has no way to say whose write it was.
      CHECK(event.status == DiskStatus::kOk) << "block " << request.block;
      OnWrittenBack(request.block, request.version);
    }
  }
  AdvanceBarriers();
  below().Submit();
  done.insert(done.end(), answers_.begin(), answers_.end());
  answers_.clear();
}

void VolatileCacheLayer::Wait(Duration limit) {
  if (answers_.empty()) below().Wait(limit);
}

void VolatileCacheLayer::Answer(const DiskEffect& effect, DiskStatus status) {
  answers_.push_back({.device = effect.device, .tag = effect.tag, .status = status});
}

}  // namespace gabion::disk
