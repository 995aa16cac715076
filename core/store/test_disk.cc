#include "core/store/test_disk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"

namespace gabion::store {

DiskImage::DiskImage(uint64_t size_bytes)
    : size_bytes_(size_bytes), pages_((size_bytes + kPageBytes - 1) / kPageBytes) {}

template <class Visit>
void DiskImage::ForEachPiece(uint64_t offset_bytes, uint64_t length_bytes, Visit visit) {
  for (uint64_t done = 0; done < length_bytes;) {
    const uint64_t at = offset_bytes + done;
    const uint64_t bytes = std::min(kPageBytes - at % kPageBytes, length_bytes - done);
    visit(at / kPageBytes, at % kPageBytes, done, bytes);
    done += bytes;
  }
}

void DiskImage::Read(uint64_t offset_bytes, std::span<std::byte> to) const {
  CHECK_LE(offset_bytes + to.size(), size_bytes_);
  ForEachPiece(offset_bytes, to.size(),
               [&](uint64_t page, uint64_t within, uint64_t done, uint64_t bytes) {
                 if (pages_[page] == nullptr) {
                   std::memset(to.data() + done, 0, bytes);
                 } else {
                   std::memcpy(to.data() + done, pages_[page]->data() + within, bytes);
                 }
               });
}

void DiskImage::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  CHECK_LE(offset_bytes + from.size(), size_bytes_);
  ForEachPiece(offset_bytes, from.size(),
               [&](uint64_t index, uint64_t within, uint64_t done, uint64_t bytes) {
                 std::shared_ptr<Page>& page = pages_[index];
                 if (page == nullptr) {
                   page = std::make_shared<Page>();
                 } else if (page.use_count() > 1) {
                   page = std::make_shared<Page>(*page);
                 }
                 std::memcpy(page->data() + within, from.data() + done, bytes);
               });
}

uint64_t DiskImage::Hash() const {
  uint64_t hash = size_bytes_;
  for (const std::shared_ptr<Page>& page : pages_) {
    hash = mix64(hash + (page == nullptr ? 1 : 2 + uint64_t{Crc32c(*page)}));
  }
  return hash;
}

TestDisk::TestDisk(const Options& options)
    : options_(options), cache_(options.size_bytes), durable_(options.size_bytes) {
  CHECK_EQ(options.size_bytes % options.block_bytes, 0u);
}

bool TestDisk::IsWrite(const Pending& operation) {
  return operation.effect.op != DiskOp::kRead && operation.effect.op != DiskOp::kFlush;
}

TestDisk::UnitRange TestDisk::Units(const DiskEffect& write) {
  return {.first = write.offset_bytes / kUnitBytes, .count = write.length_bytes / kUnitBytes};
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
  durable_.Write(unit * kUnitBytes, content);
}

void TestDisk::Apply(const Pending& operation) {
  switch (operation.effect.op) {
    case DiskOp::kRead: {
      uint64_t at = operation.effect.offset_bytes;
      for (const Slice& slice : operation.slices) {
        // The target of a read is its owner's, who waits for the event before it looks.
        cache_.Read(at, {const_cast<std::byte*>(slice.data()), slice.size()});
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
      if (!durable) undecided_writes_[order] = Units(operation.effect);
      ForEachUnit(operation, [&](uint64_t unit, std::span<const std::byte> content) {
        cache_.Write(unit * kUnitBytes, content);
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
      undecided_writes_.erase(undecided_writes_.begin(),
                              undecided_writes_.upper_bound(operation.order));
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

void TestDisk::Undecide(const Pending& write) {
  const uint64_t order = ++order_;
  undecided_writes_[order] = Units(write.effect);
  ForEachUnit(write, [&](uint64_t unit, std::span<const std::byte> content) {
    undecided_[unit].push_back({order, {content.begin(), content.end()}});
  });
}

size_t TestDisk::undecided() const {
  return undecided_writes_.size() +
         static_cast<size_t>(std::count_if(pending_.begin(), pending_.end(), &IsWrite));
}

void TestDisk::PowerCut(std::span<const Fate> fates) {
  CHECK_EQ(fates.size(), undecided());
  for (const Pending& operation : pending_) {
    if (IsWrite(operation)) Undecide(operation);
  }
  pending_.clear();
  std::map<uint64_t, Fate> fate_of;
  for (const auto& [order, units] : undecided_writes_) fate_of[order] = fates[fate_of.size()];
  for (const auto& [unit, versions] : undecided_) {
    for (const Version& version : versions) {
      const UnitRange& units = undecided_writes_.at(version.order);
      const bool in_first_half = unit - units.first < units.count / 2;
      const Fate fate = fate_of.at(version.order);
      const bool kept = fate == Fate::kWhole || (fate == Fate::kFirstHalf && in_first_half) ||
                        (fate == Fate::kSecondHalf && !in_first_half);
      if (kept) SetDurable(unit, version.content);
    }
  }
  undecided_.clear();
  undecided_writes_.clear();
  cache_ = durable_;
}

void TestDisk::PowerCut(RandomStream& random) {
  for (const Pending& operation : pending_) {
    if (IsWrite(operation)) Undecide(operation);
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
  undecided_writes_.clear();
  cache_ = durable_;
}

std::vector<std::byte> TestDisk::Content(uint64_t offset_bytes, uint64_t length_bytes) const {
  std::vector<std::byte> content(length_bytes);
  cache_.Read(offset_bytes, content);
  return content;
}

void TestDisk::Overwrite(uint64_t offset_bytes, std::span<const std::byte> with) {
  cache_.Write(offset_bytes, with);
  durable_.Write(offset_bytes, with);
}

void TestDisk::FlipBit(uint64_t bit_index) {
  const uint64_t at = bit_index / 8;
  const std::byte changed = Content(at, 1)[0] ^ static_cast<std::byte>(1u << (bit_index % 8));
  Overwrite(at, std::span(&changed, 1));
}

}  // namespace gabion::store
