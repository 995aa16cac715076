// What a store says about itself: capacity, invariants, dump, hash.
#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "absl/strings/str_format.h"
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/store/read_cache.h"
#include "core/store/store_impl.h"

namespace gabion::store {

uint64_t StoreImpl::extents_free() const {
  // A checkpoint must always fit its area.
  if (checkpointer_.bytes_estimate() > geometry_.area_bytes / 16 * 15) return 0;
  if (state_.directory().leaves_free() < geometry_.leaves() / 16) return 0;
  const uint64_t free = uint64_t{state_.extents().free()} + destager_.in_transit();
  const uint64_t reserve = PLANTED_BUG("S5-no-reserve") ? 0 : geometry_.reserve();
  const uint64_t taken = reserve + state_.claims();
  return free > taken ? free - taken : 0;
}

Capacity StoreImpl::capacity() const {
  if (phase_ != State::kOpen) return {};
  return {.size_bytes = geometry_.device_bytes,
          .extents_total = geometry_.extents_total,
          .extents_free = extents_free(),
          .log_bytes = geometry_.log_bytes,
          .log_used_bytes = log_.used()};
}

Memory StoreImpl::memory() const {
  const HomeTable& homes = state_.homes();
  Memory memory;
  memory.budget_bytes = budget_bytes();
  memory.directory_bytes = state_.directory().memory_bytes();
  memory.fixed_bytes = homes.index_bytes() + state_.extents().memory_bytes();
  memory.log_bytes = state_.index_reserved_bytes();
  memory.log_bytes_max = index_bytes_max();
  memory.page_bytes = homes.cached_bytes();
  memory.pages = homes.frames();
  memory.pages_max = homes.frames_max();
  if (options_.read_cache != nullptr) {
    memory.cache_bytes = options_.read_cache->bytes();
    memory.cache_bytes_max = options_.read_cache->bytes_max();
  }
  return memory;
}

void DeviceState::Check() const {
  uint64_t claims = 0;
  uint64_t items = 0;
  uint64_t homes = 0;
  uint32_t redirected = 0;
  std::vector<bool> owned(extents_.total());
  for (const auto& [slice, replica] : replicas_) {
    const SliceFacts& facts = replica->facts;
    CHECK_LE(facts.last_durable, facts.last);
    CHECK_LE(facts.last.epoch, facts.started_epoch);
    CHECK_LE(facts.in_sync_epoch, facts.started_epoch);
    uint64_t versions = 0;
    for (const auto& [key, item] : replica->items) {
      CHECK(item->key == key && item->slice == slice && !item->orphan);
      CHECK(item->versions > 0);
      CHECK(key.serial != 0 || key.id <= facts.last || key.id <= replica->floor);
      CHECK(item->position == 0 || by_position_.contains({item->position, item->number}));
      CHECK(item->position != 0 || item->pending > 0);
      const ExtentRange own = item->redirected();
      for (uint32_t extent = own.first; extent < own.end; ++extent) {
        const uint32_t place = item->PlaceOf(extent);
        const VersionKey first{extent * kBlocksPerExtent, key};
        CHECK_EQ(place != kNoPlace, replica->chunks.at(item->chunk()).versions.contains(first));
        if (place == kNoPlace) continue;
        CHECK(extents_.used(place));
        CHECK(!owned[place]) << "extent with two owners: " << place;
        owned[place] = true;
        ++redirected;
      }
      versions += item->versions;
      items += item->position != 0 ? 1 : 0;
    }
    for (const auto& [key, chunk] : replica->chunks) {
      std::array<uint32_t, kExtentsPerChunk> data_versions{};
      for (const auto& [version, item] : chunk.versions) {
        CHECK(item->key == version.item && item->chunk() == key);
        CHECK(replica->items.at(version.item).get() == item);
        if (item->PayloadIndex(version.block) && !item->IsRedirected(version.block)) {
          ++data_versions[version.block / kBlocksPerExtent];
        }
        CHECK_GT(versions, 0u);
        --versions;
      }
      CHECK(data_versions == chunk.data_versions);
      PlacedChunk placed;
      directory_.Find({slice, key}, &placed);
      CHECK_EQ(chunk.homed, placed.extents);
      CHECK(placed.extents == 0 || placed.born == chunk.born);
      uint32_t claimed = 0;
      for (uint32_t extent = 0; extent < kExtentsPerChunk; ++extent) {
        const bool homeless = (chunk.homed >> extent & 1u) == 0;
        if (homeless && data_versions[extent] > 0) claimed |= 1u << extent;
      }
      CHECK_EQ(claimed, chunk.claimed);
      claims += static_cast<uint64_t>(std::popcount(claimed));
      CHECK(!chunk.versions.empty());
    }
    CHECK_EQ(versions, 0u);
  }
  CHECK_EQ(claims, claims_);
  CHECK_EQ(items, by_position_.size());
  directory_.Check();
  homes_.Check();
  for (Directory::Cursor it = directory_.From({}); it.valid(); it.Next()) {
    CHECK(replicas_.contains(it.key().slice));
    const PlacedChunk chunk = it.chunk();
    for (const PlacedExtent& each : chunk.extent) {
      if (each.place == kNoPlace) continue;
      CHECK(extents_.used(each.place));
      CHECK(homes_.exists(HomeTable::PageOf(each.place)));
      CHECK(!owned[each.place]) << "extent with two owners: " << each.place;
      owned[each.place] = true;
      ++homes;
    }
  }
  CHECK_EQ(redirected, redirected_);
  CHECK_LE(homes + redirected + extents_.pending() + extents_.free(), extents_.total());
}

void StoreImpl::CheckInvariants(bool everything) const {
  if (phase_ != State::kOpen) return;
  log_.Check();
  // S8: nothing that is needed lies below the tail.
  const uint64_t tail = log_.head() - log_.used();
  CHECK(state_.by_position().empty() || state_.by_position().begin()->first.first >= tail);
  if (!everything && counters_.batches < checked_batches_ + 32) return;
  checked_batches_ = counters_.batches;
  state_.Check();
  // S6: every extent is free, a home, an entry's own, waiting for a checkpoint, or on its way to
  // become a home.
  uint64_t homes = 0;
  for (Directory::Cursor it = state_.directory().From({}); it.valid(); it.Next()) {
    homes += static_cast<uint64_t>(std::popcount(it.chunk().extents));
  }
  const ExtentTable& extents = state_.extents();
  CHECK_EQ(
      homes + state_.redirected() + extents.pending() + extents.free() + destager_.in_transit(),
      extents.total());
}

std::string StoreImpl::Dump() const {
  static constexpr const char* kPhase[] = {"closed", "formatting", "recovering", "open", "failed"};
  std::string text = absl::StrFormat("store %s %s", ToString(identity_.device),
                                     kPhase[static_cast<size_t>(phase_)]);
  if (!error_.empty()) absl::StrAppendFormat(&text, " (%s)", error_);
  if (phase_ != State::kOpen) return text + "\n";
  absl::StrAppendFormat(
      &text, " log %d..%d of %d, extents %d free + %d pending + %d redirected of %d, %d claimed\n",
      log_.head() - log_.used(), log_.head(), geometry_.log_bytes, state_.extents().free(),
      state_.extents().pending(), state_.redirected(), state_.extents().total(), state_.claims());
  for (const auto& [slice, replica] : state_.replicas()) {
    const SliceFacts& facts = replica->facts;
    absl::StrAppendFormat(
        &text,
        "  slice %s started %s in sync %s committed %s last %s durable %s%s: %d entries, %d "
        "chunks in the log\n",
        ToString(slice), ToString(facts.started_epoch), ToString(facts.in_sync_epoch),
        ToString(facts.commit_point), ToString(facts.last), ToString(facts.last_durable),
        facts.needs_resync ? " NEEDS RESYNC" : "", replica->items.size(), replica->chunks.size());
  }
  return text;
}

uint64_t StoreImpl::StateHash() const {
  uint64_t hash = mix64(static_cast<uint64_t>(phase_) + 1);
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ value) + value; };
  const auto add_id = [&add](EntryId id) {
    add(id.epoch.value());
    add(id.seq.value());
  };
  add(log_.head());
  add(log_.used());
  add(log_.durable_position());
  for (const auto& [slice, replica] : state_.replicas()) {
    const SliceFacts& facts = replica->facts;
    add(slice.value());
    add(facts.started_epoch.value());
    add(facts.issuer);
    add(facts.in_sync_epoch.value());
    add(facts.needs_resync ? 1 : 0);
    add(facts.cursor.epoch.value()), add(facts.cursor.after.value()), add(facts.cursor.chunk);
    add_id(facts.commit_point);
    add_id(facts.last);
    add_id(facts.last_durable);
    add_id(replica->floor);
    for (const auto& [key, item] : replica->items) {
      add_id(key.id);
      add(key.serial);
      add(item->position);
      add(item->versions);
      for (const uint32_t crc : item->crc) add(crc);
      const ExtentRange own = item->redirected();
      for (uint32_t extent = own.first; extent < own.end; ++extent) add(item->PlaceOf(extent));
    }
    for (const auto& [key, chunk] : replica->chunks) {
      add(key.vtree.value());
      add(key.version.value());
      add(key.chunk);
      add(chunk.born.value());
    }
    for (const wire::RequestRecord& record : replica->requests.All()) {
      add(record.client.value());
      add(record.client_incarnation.value());
      add(record.request.value());
      add(record.low_water.value());
      add_id(record.entry);
    }
  }
  for (Directory::Cursor it = state_.directory().From({}); it.valid(); it.Next()) {
    const PlacedChunk chunk = it.chunk();
    add(it.key().slice.value());
    add(it.key().chunk.vtree.value());
    add(it.key().chunk.version.value());
    add(it.key().chunk.chunk);
    add(chunk.born.value());
    for (const PlacedExtent& each : chunk.extent) {
      add(each.place);
      add(each.present);
      add(each.modified.value());
    }
  }
  return hash;
}

}  // namespace gabion::store
