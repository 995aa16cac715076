#include "core/store/destage.h"

#include <algorithm>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/store/block_crc.h"
#include "core/store/read_cache.h"

namespace gabion::store {

namespace {

constexpr uint32_t kAttemptsMax = 3;
// Of one pass: an extent that only changes hands takes no disk operation, so nothing else gets its
// turn in between.
constexpr size_t kTargetsMax = 4096;
// In the place of a checksum that is lost: hardly any block matches it.
constexpr uint32_t kLostCrc = 0x4c4f5354;

// Calls `visit(begin, end)` for every longest run in which `joined(i)` says that i continues i - 1.
template <class Joined, class Visit>
void ForEachRun(size_t count, Joined joined, Visit visit) {
  for (size_t begin = 0; begin < count;) {
    size_t end = begin + 1;
    while (end < count && joined(end)) ++end;
    visit(begin, end);
    begin = end;
  }
}

}  // namespace

Destager::Destager(const Options& options, DeviceState* state, Log* log, Counters* counters)
    : options_(options), state_(state), log_(log), counters_(counters), jobs_(kJobsMax) {
  for (Job& job : jobs_) job.sources.reserve(kBlocksPerExtent);
}

void Destager::Job::Reset() {
  Job empty;
  empty.versions.swap(versions);
  empty.sources.swap(sources);
  empty.versions.clear();
  empty.sources.clear();
  *this = std::move(empty);
}

// Floors go ahead of the queue: a number that the log does not know yet is none for it.
EntryId Destager::NextFloor(const Replica& replica) {
  return replica.renumber_pending > 0 ? replica.floor : replica.CommittedUpTo();
}

bool Destager::HasWork() const {
  for (const auto& [slice, replica] : state_->replicas()) {
    if (replica->items.empty()) continue;
    if (replica->items.begin()->first.id <= std::max(replica->floor, NextFloor(*replica))) {
      return true;
    }
  }
  return false;
}

void Destager::Start(uint64_t bytes_max, uint64_t relocate_below) {
  CHECK(idle());
  bytes_max_ = bytes_max;
  relocate_below_ = relocate_below;
  relocated_bytes_ = 0;
  out_of_extents_ = false;
  out_of_pages_ = false;
  destaged_ = false;
  for (const auto& [slice, replica] : state_->replicas()) {
    const EntryId floor = NextFloor(*replica);
    if (floor <= replica->floor || replica->items.empty()) continue;
    if (replica->items.begin()->first.id > floor) continue;
    RecordWriter writer = log_->Control();
    writer.Floor(slice, floor);
    log_->ControlQueued({});
    state_->SetFloor(slice, floor);
  }
  phase_ = Phase::kAwaitingFloor;
}

void Destager::BecomeDestaging() {
  phase_ = Phase::kDestaging;
  targets_.clear();
  next_target_ = 0;
  uint64_t bytes = 0;
  for (const auto& [place, item] : state_->by_position()) {
    if (bytes >= bytes_max_ || targets_.size() >= kTargetsMax) break;
    const Replica* replica = state_->Find(item->slice);
    CHECK(replica != nullptr);
    if (item->key.id > replica->floor || !item->durable) continue;
    // What has an extent of its own costs hardly anything.
    bytes += uint64_t{item->log_blocks() + item->redirected().count() + 1} * kBlockBytes;
    for (uint32_t extent = item->header.first_block / kBlocksPerExtent;
         extent * kBlocksPerExtent < item->end_block(); ++extent) {
      targets_.push_back({.slice = item->slice,
                          .key = item->chunk(),
                          .extent = extent,
                          .uid = replica->uid,
                          .home = {}});
    }
  }
  const auto owner = [](const Target& target) { return DirectoryKey{target.slice, target.key}; };
  const auto extent = [&owner](const Target& target) {
    return std::pair(owner(target), target.extent);
  };
  std::ranges::sort(targets_, {}, extent);
  const auto twice = std::ranges::unique(targets_, {}, extent);
  targets_.erase(twice.begin(), twice.end());
  ForEachRun(
      targets_.size(), [&](size_t i) { return owner(targets_[i]) == owner(targets_[i - 1]); },
      [&](size_t begin, size_t end) {
        PlacedChunk homes;
        state_->directory().Find(owner(targets_[begin]), &homes);
        for (size_t i = begin; i < end; ++i) targets_[i].home = homes.extent[targets_[i].extent];
      });
  // Over the device in one sweep; what has no home yet comes last, neighbours one after the other,
  // and gets the free places in order.
  std::ranges::sort(targets_, {}, [&extent](const Target& target) {
    return std::pair(target.home.place, extent(target));
  });
}

bool Destager::StartJob(uint32_t slot, const Target& target, DiskTag tag, Effects& effects) {
  Replica* replica = state_->Find(target.slice);
  if (replica == nullptr || replica->uid != target.uid) return true;
  const auto found = replica->chunks.find(target.key);
  if (found == replica->chunks.end()) return true;
  const Chunk& chunk = found->second;

  Job& job = jobs_[slot];
  job.Reset();
  job.target = target;
  const EntryId undecided{Epoch(UINT64_MAX), Seq(UINT64_MAX)};
  const ItemKey limit{PLANTED_BUG("R15a-uncommitted-overwrites") ? undecided : replica->floor,
                      UINT64_MAX};
  job.place = target.home.place;
  job.home.present = target.home.present;
  job.home.slice = target.slice;
  job.home.vtree = target.key.vtree;
  job.home.version = target.key.version;
  job.home.chunk = target.key.chunk;
  job.home.extent = static_cast<uint8_t>(target.extent);
  const uint32_t first = target.extent * kBlocksPerExtent;
  // The newest whose own extent can become the home: it covers all blocks, so what is newer in some
  // of them is in the log, and what is older does not count.
  const Item* base = nullptr;
  for (uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    const Item* newest = nullptr;
    for (auto it = chunk.versions.lower_bound(VersionKey{first + block, ItemKey{}});
         it != chunk.versions.end() && it->first.block == first + block && it->first.item <= limit;
         ++it) {
      if (!it->second->durable) return true;  // the next pass finds it durable
      job.versions.push_back(it->first);
      newest = it->second;
      if (block == 0 && newest->IsRedirected(first)) base = newest;
    }
    if (newest == nullptr) continue;
    const auto bit = static_cast<uint16_t>(1u << block);
    const std::optional<uint32_t> index = newest->PayloadIndex(first + block);
    job.changed |= bit;
    if (!index) {
      job.home.present &= static_cast<uint16_t>(~bit);
      continue;
    }
    job.home.present |= bit;
    job.home.crc[block] = newest->crc[*index];
    if (newest->IsRedirected(first + block)) {
      CHECK(newest == base);
      continue;
    }
    job.sources.push_back({.block = block,
                           .offset_bytes = newest->OffsetOf(*index, geometry_),
                           .crc = newest->crc[*index]});
  }
  if (job.versions.empty()) return true;
  job.home.modified = chunk.ModifiedUpTo(target.extent, limit, target.home);

  if (!job.sources.empty()) {
    job.buffer = options_.pool->Allocate(kExtentBytes);
    if (job.buffer.empty()) return false;
  }
  const Got got = GetPlace(job, base == nullptr ? kNoPlace : base->PlaceOf(target.extent));
  if (got != Got::kAll) {
    job.Reset();
    return got != Got::kNoMemory;
  }
  job.active = true;
  ++active_;
  ReadSources(job, tag, effects);
  ReadPage(job, tag, effects);
  if (job.outstanding == 0) AfterReads(job, tag, effects);
  return true;
}

Destager::Got Destager::GetPlace(Job& job, uint32_t own) {
  // Every job may take one more.
  if (state_->directory().leaves_free() <= active_) {
    out_of_extents_ = true;
    return Got::kNotAll;
  }
  if (job.home.present == 0) {
    job.place = kNoPlace;
    return Got::kAll;
  }
  if (own != kNoPlace) {
    job.place = own;
  } else if (job.place == kNoPlace) {
    const std::optional<uint32_t> place = state_->extents().Allocate();
    if (!place) {
      out_of_extents_ = true;
      return Got::kNotAll;
    }
    job.new_place = *place;
    job.place = *place;
  }
  const Got got = GetPage(job);
  if (job.new_place == kNoPlace) return got;
  if (got == Got::kAll) {
    ++in_transit_;
  } else {
    state_->extents().FreeNow(job.new_place);
  }
  return got;
}

Destager::Got Destager::GetPage(Job& job) {
  HomeTable& homes = state_->homes();
  const uint32_t page = HomeTable::PageOf(job.place);
  if (!homes.is_dirty(page) && homes.dirty_pages() + active_ >= homes.dirty_max()) {
    out_of_pages_ = true;
    return Got::kNotAll;
  }
  if (!homes.cached(page) && homes.exists(page)) {
    job.page = options_.pool->Allocate(kBlockBytes);
    if (job.page.empty()) return Got::kNoMemory;
    job.page_read = homes.ToRead(page);
    return Got::kAll;
  }
  if (!homes.cached(page)) homes.AddEmpty(page);
  homes.Pin(page);
  return Got::kAll;
}

void Destager::ReadPage(Job& job, DiskTag tag, Effects& effects) {
  if (!job.page_read) return;
  effects.Read(options_.device, job.page_read->offset_bytes, std::span(&job.page, 1), tag);
  ++job.outstanding;
}

bool Destager::TakePage(Job& job) {
  if (!job.page_read) return true;
  HomeTable& homes = state_->homes();
  const uint32_t page = job.page_read->page;
  const bool good = homes.OnPageRead(*job.page_read, job.page.span());
  if (!homes.cached(page)) {
    CHECK(!good) << "a page moved while nothing writes pages";
    if (job.attempts < kAttemptsMax) return false;
    // The checksums in it are lost: what they belong to reads as corrupt until it is written anew.
    ++counters_->checksum_errors;
    homes.AddEmpty(page);
  }
  homes.Pin(page);
  job.page_read.reset();
  job.page = Slice();
  return true;
}

void Destager::KeepChecksums(Job& job) {
  const auto kept = static_cast<uint16_t>(job.home.present & ~job.changed);
  if (kept == 0) return;
  const Home& before = state_->homes().at(job.place);
  const bool is_of = before.slice == job.target.slice && before.key() == job.target.key &&
                     before.extent == job.target.extent;
  if (!is_of) ++counters_->checksum_errors;
  for (uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if ((kept >> block & 1u) != 0) job.home.crc[block] = is_of ? before.crc[block] : kLostCrc;
  }
}

void Destager::ReadSources(Job& job, DiskTag tag, Effects& effects) {
  ++job.attempts;
  job.failed_read = false;
  const std::vector<Source>& sources = job.sources;
  ForEachRun(
      sources.size(),
      [&sources](size_t i) {
        return sources[i].block == sources[i - 1].block + 1 &&
               sources[i].offset_bytes == sources[i - 1].offset_bytes + kBlockBytes;
      },
      [&](size_t begin, size_t end) {
        const Slice into = job.buffer.Sub(sources[begin].block * kBlockBytes,
                                          static_cast<uint32_t>(end - begin) * kBlockBytes);
        effects.Read(options_.device, sources[begin].offset_bytes, std::span(&into, 1), tag);
        ++job.outstanding;
      });
}

void Destager::AfterReads(Job& job, DiskTag tag, Effects& effects) {
  const bool has_page = TakePage(job);
  bool good = !job.failed_read || job.sources.empty();
  for (const Source& source : job.sources) {
    if (!good) break;
    const auto bytes = job.buffer.span().subspan(source.block * kBlockBytes, kBlockBytes);
    const uint32_t block = job.target.extent * kBlocksPerExtent + source.block;
    good = BindCrc(Crc32c(bytes), job.target.key, block) == source.crc;
  }
  if (!(good && has_page) && job.attempts < kAttemptsMax) {
    ReadSources(job, tag, effects);
    ReadPage(job, tag, effects);
    return;
  }
  // What is rotten goes home with the checksum that it should have, and so reads as corrupt there.
  if (!good) ++counters_->checksum_errors;
  KeepChecksums(job);
  WriteHome(job, tag, effects);
}

void Destager::WriteHome(Job& job, DiskTag tag, Effects& effects) {
  job.writing = true;
  const std::vector<Source>& sources = job.sources;
  ForEachRun(
      sources.size(), [&sources](size_t i) { return sources[i].block == sources[i - 1].block + 1; },
      [&](size_t begin, size_t end) {
        const uint32_t at = sources[begin].block * kBlockBytes;
        const auto bytes = static_cast<uint32_t>(end - begin) * kBlockBytes;
        const Slice from = job.buffer.Sub(at, bytes);
        const uint64_t offset_bytes = geometry_.extent_offset(job.place) + at;
        if (options_.read_cache != nullptr) {
          options_.read_cache->Forget(options_.device, offset_bytes, bytes);
        }
        effects.Write(options_.device, offset_bytes, std::span(&from, 1), tag);
        counters_->device_bytes += bytes;
        ++job.outstanding;
      });
  counters_->destaged_blocks += sources.size();
  if (job.outstanding == 0) FinishJob(job);
}

void Destager::FinishJob(Job& job) {
  CHECK(job.active && job.outstanding == 0);
  Replica* replica = state_->Find(job.target.slice);
  if (job.new_place != kNoPlace) --in_transit_;
  if (replica != nullptr && replica->uid == job.target.uid) {
    state_->SetHome(*replica, job.home, job.place, job.versions);
    destaged_ = true;
  } else if (job.new_place != kNoPlace) {
    // The slice was dropped meanwhile.
    if (!PLANTED_BUG("S6-extent-without-owner")) state_->extents().FreeNow(job.new_place);
  }
  if (job.place != kNoPlace) state_->homes().Unpin(HomeTable::PageOf(job.place));
  job.Reset();
  --active_;
}

Item* Destager::NextToRelocate() {
  const uint64_t bytes_max = geometry_.log_bytes / 32;
  if (relocated_bytes_ >= bytes_max) return nullptr;
  for (const auto& [place, item] : state_->by_position()) {
    if (place.first >= relocate_below_) return nullptr;
    const Replica* replica = state_->Find(item->slice);
    CHECK(replica != nullptr);
    // Its name may change under a record that is queued behind ours.
    if (!item->durable || replica->renumber_pending > 0) continue;
    if (item->key.id <= replica->floor) continue;
    return item;
  }
  return nullptr;
}

Item* Destager::FindMoving() {
  const auto found =
      std::find_if(state_->by_position().begin(), state_->by_position().end(),
                   [this](const auto& entry) { return entry.first.second == moving_number_; });
  return found == state_->by_position().end() ? nullptr : found->second;
}

bool Destager::AdvanceRelocation(DiskTag tag, Effects& effects) {
  while (true) {
    if (moving_number_ == 0) {
      Item* item = NextToRelocate();
      if (item == nullptr) {
        phase_ = Phase::kAwaitingLog;
        return true;
      }
      if (item->log_blocks() > 0) {
        Slice into = options_.pool->Allocate(item->log_blocks() * kBlockBytes);
        if (into.empty()) return false;
        effects.Read(options_.device, geometry_.log_place(item->position), std::span(&into, 1),
                     tag);
        moving_ = std::move(into);
        moving_read_ = true;
      }
      moving_number_ = item->number;
    }
    if (moving_read_) return true;
    Item* item = FindMoving();
    const Replica* replica = item == nullptr ? nullptr : state_->Find(item->slice);
    if (replica != nullptr && replica->renumber_pending == 0) {
      QueuedRecord record;
      record.item = item;
      record.payload = std::move(moving_);
      for (uint32_t i = 0; i < item->log_blocks(); ++i) {
        record.crc.push_back(
            Crc32c(record.payload.span().subspan(size_t{i} * kBlockBytes, kBlockBytes)));
      }
      RecordWriter writer = log_->Control();
      writer.Relocate(item->slice, item->key, item->log_blocks());
      log_->ControlQueued(std::move(record));
      item->durable = false;  // no second time in this pass
    }
    if (item != nullptr) counters_->relocated_blocks += item->log_blocks();
    relocated_bytes_ += uint64_t{item == nullptr ? 1 : item->log_blocks() + 1} * kBlockBytes;
    moving_ = Slice();
    moving_number_ = 0;
  }
}

bool Destager::Advance(DiskTag tag_base, Effects& effects) {
  switch (phase_) {
    case Phase::kIdle:
      return true;
    case Phase::kAwaitingFloor:
      if (!log_->control_durable()) return true;
      BecomeDestaging();
      return Advance(tag_base, effects);
    case Phase::kDestaging: {
      for (uint32_t slot = 0; slot < jobs_.size(); ++slot) {
        Job& job = jobs_[slot];
        if (job.active && job.outstanding == 0) {
          if (job.writing) {
            FinishJob(job);
          } else {
            AfterReads(job, tag_base + slot, effects);
          }
        }
        while (!job.active && !out_of_pages_ && next_target_ < targets_.size()) {
          if (!StartJob(slot, targets_[next_target_], tag_base + slot, effects)) return false;
          ++next_target_;
        }
      }
      if (active_ > 0) return true;
      targets_.clear();
      phase_ = Phase::kRelocating;
      return Advance(tag_base, effects);
    }
    case Phase::kRelocating:
      if (!AdvanceRelocation(tag_base, effects)) return false;
      return phase_ == Phase::kRelocating || Advance(tag_base, effects);
    case Phase::kAwaitingLog:
      if (log_->control_durable()) phase_ = Phase::kIdle;
      return true;
  }
  UNREACHABLE();
}

bool Destager::OnDiskDone(uint64_t slot, DiskStatus status) {
  if (phase_ == Phase::kRelocating) {
    CHECK(moving_read_);
    moving_read_ = false;
    // Unread blocks keep their checksums, and so read as corrupt at the new place, too.
    if (status != DiskStatus::kOk) ++counters_->checksum_errors;
    return true;
  }
  CHECK_LT(slot, jobs_.size());
  Job& job = jobs_[slot];
  CHECK(job.active && job.outstanding > 0);
  --job.outstanding;
  if (status == DiskStatus::kOk) return true;
  job.failed_read = true;
  return !job.writing || PLANTED_BUG("S3-failed-home-write-believed");
}

}  // namespace gabion::store
