#include "core/store/test_disk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/base/check.h"

namespace gabion::store {

TestDisk::TestDisk(const Options& options)
    : options_(options), cache_(options.size_bytes), durable_(options.size_bytes) {
  CHECK_EQ(options.size_bytes % options.block_bytes, 0u);
}

DeviceInfo TestDisk::info() const {
  return {.size_bytes = options_.size_bytes,
          .block_bytes = options_.block_bytes,
          .volatile_cache = options_.volatile_cache,
          .discard = true};
}

void TestDisk::Submit(const Effects& effects) {
  for (const DiskEffect& effect : effects.disk) {
    if (effect.device != options_.device) continue;
    CHECK_EQ(effect.offset_bytes % options_.block_bytes, 0u);
    CHECK_EQ(effect.length_bytes % options_.block_bytes, 0u);
    CHECK_LE(effect.offset_bytes + effect.length_bytes, options_.size_bytes);
    Pending operation{.effect = effect, .slices = {}, .order = order_};
    for (uint32_t i = 0; i < effect.slice_count; ++i) {
      operation.slices.push_back(effects.slices.at(effect.slice_begin + i));
    }
    pending_.push_back(std::move(operation));
  }
}

template <class Visit>
void TestDisk::ForEachUnit(const Pending& write, Visit visit) const {
  std::vector<std::byte> content(write.effect.length_bytes);
  size_t at = 0;
  for (const Slice& slice : write.slices) {
    std::memcpy(content.data() + at, slice.data(), slice.size());
    at += slice.size();
  }
  // Without slices: a discard, which leaves zeroes.
  for (uint64_t i = 0; i < content.size(); i += kUnitBytes) {
    visit((write.effect.offset_bytes + i) / kUnitBytes,
          std::span<const std::byte>(content).subspan(i, kUnitBytes));
  }
}

void TestDisk::SetDurable(uint64_t unit, std::span<const std::byte> content) {
  std::memcpy(durable_.data() + unit * kUnitBytes, content.data(), kUnitBytes);
}

void TestDisk::Apply(const Pending& operation) {
  switch (operation.effect.op) {
    case DiskOp::kRead: {
      uint64_t at = operation.effect.offset_bytes;
      for (const Slice& slice : operation.slices) {
        // The target of a read is its owner's, who waits for the event before it looks.
        std::memcpy(const_cast<std::byte*>(slice.data()), cache_.data() + at, slice.size());
        at += slice.size();
      }
      return;
    }
    case DiskOp::kWrite:
    case DiskOp::kDurableWrite:
    case DiskOp::kDiscard: {
      ++writes_;
      const bool durable = operation.effect.op == DiskOp::kDurableWrite || !options_.volatile_cache;
      const uint64_t order = ++order_;
      ForEachUnit(operation, [&](uint64_t unit, std::span<const std::byte> content) {
        std::memcpy(cache_.data() + unit * kUnitBytes, content.data(), kUnitBytes);
        if (durable) {
          SetDurable(unit, content);
          undecided_.erase(unit);
        } else {
          undecided_[unit].push_back({order, {content.begin(), content.end()}});
        }
      });
      return;
    }
    case DiskOp::kFlush:
      for (auto& [unit, versions] : undecided_) {
        const auto later = std::find_if(versions.begin(), versions.end(), [&](const Version& v) {
          return v.order > operation.order;
        });
        if (later != versions.begin()) SetDurable(unit, std::prev(later)->content);
        versions.erase(versions.begin(), later);
      }
      std::erase_if(undecided_, [](const auto& entry) { return entry.second.empty(); });
      return;
  }
}

DiskDoneEvent TestDisk::Complete(size_t index, DiskStatus status) {
  CHECK_LT(index, pending_.size());
  const Pending operation = std::move(pending_[index]);
  pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(index));
  if (status == DiskStatus::kOk) Apply(operation);
  return {.device = options_.device, .tag = operation.effect.tag, .status = status};
}

void TestDisk::Kill(RandomStream& random) {
  for (Pending& operation : pending_) {
    if (operation.effect.op == DiskOp::kRead || !random.Chance(1, 2)) continue;
    // It reached the device, but nobody learnt that it became durable.
    if (operation.effect.op == DiskOp::kDurableWrite) operation.effect.op = DiskOp::kWrite;
    if (operation.effect.op == DiskOp::kFlush) continue;
    Apply(operation);
  }
  pending_.clear();
}

void TestDisk::PowerCut(RandomStream& random) {
  for (const Pending& operation : pending_) {
    const DiskOp op = operation.effect.op;
    if (op == DiskOp::kRead || op == DiskOp::kFlush) continue;
    ForEachUnit(operation, [&](uint64_t unit, std::span<const std::byte> content) {
      undecided_[unit].push_back({++order_, {content.begin(), content.end()}});
    });
  }
  pending_.clear();
  // Some cuts lose nearly everything, some nearly nothing.
  const uint64_t keep_percent = random.Below(101);
  for (const auto& [unit, versions] : undecided_) {
    if (options_.garbage && random.Chance(1, 50)) {
      std::array<std::byte, kUnitBytes> garbage;
      for (std::byte& b : garbage) b = static_cast<std::byte>(random.Next());
      SetDurable(unit, garbage);
    } else if (random.Chance(keep_percent, 100)) {
      SetDurable(unit, random.Pick(versions).content);
    }
  }
  undecided_.clear();
  cache_ = durable_;
}

void TestDisk::Overwrite(uint64_t offset_bytes, std::span<const std::byte> with) {
  CHECK_LE(offset_bytes + with.size(), options_.size_bytes);
  std::memcpy(cache_.data() + offset_bytes, with.data(), with.size());
  std::memcpy(durable_.data() + offset_bytes, with.data(), with.size());
}

void TestDisk::FlipBit(uint64_t bit_index) {
  const uint64_t at = bit_index / 8;
  CHECK_LT(at, options_.size_bytes);
  const std::byte changed = cache_[at] ^ static_cast<std::byte>(1u << (bit_index % 8));
  Overwrite(at, std::span(&changed, 1));
}

}  // namespace gabion::store
