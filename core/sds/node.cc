#include "core/sds/node.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/sds/replica.h"

namespace gabion::sds {

namespace {

constexpr Duration kCommitPointDelay = std::chrono::milliseconds(50);
constexpr uint64_t kExtentMarginMax = 2048;

}  // namespace

uint64_t FreeExtents(const store::Store& store) {
  const store::Capacity capacity = store.capacity();
  const uint64_t margin = std::min(capacity.extents_total / 16, kExtentMarginMax);
  return capacity.extents_free > margin ? capacity.extents_free - margin : 0;
}

uint64_t UnpromisedExtents(const Device& device) {
  const uint64_t free = FreeExtents(*device.store);
  const uint64_t promised = device.credits.extents_promised();
  return free > promised ? free - promised : 0;
}

uint64_t WindowBytes(const Device& device) {
  const uint64_t share = device.store->capacity().log_bytes / 4 / std::max(1u, device.acting);
  return std::min(device.store->slice_window_bytes(), std::max(share, kWindowBytesMin));
}

namespace {

uint64_t Less(uint64_t room, uint64_t kept) { return room > kept ? room - kept : 0; }

// Of the ring: credits, and as much for what uses those of ended epochs.
uint64_t LogEighth(const Device& device) { return device.store->capacity().log_bytes / 8; }

uint64_t LogRoom(const Device& device) {
  if (PLANTED_BUG("R24-log-room-not-asked")) return UINT64_MAX;
  return Less(device.store->append_room(), LogEighth(device) / 2);
}

}  // namespace

uint64_t LogRoomForClients(const Device& device) {
  return Less(LogRoom(device), 2 * LogEighth(device));
}

CreditRoom CreditRoomOf(const Device& device) {
  const uint64_t log_bytes_max = LogEighth(device);
  return {.extents = FreeExtents(*device.store),
          .log_bytes = std::min(Less(LogRoom(device), LogEighth(device)), log_bytes_max),
          .log_bytes_max = log_bytes_max};
}

uint64_t LogRoomForTail(const Device& device) {
  return Less(LogRoom(device), device.credits.log_promised() - device.credits.log_debts());
}

Node::Node(const Options& the_options, const RoleResources& the_resources)
    : options(the_options),
      resources(the_resources),
      registration(the_options, the_resources.pool),
      requests(the_options.requests_max),
      read_cache(the_options.read_cache_bytes) {}

Node::~Node() = default;

Replica* Node::FindReplica(const ReplicaKey& key) {
  const auto found = replicas.find(key);
  return found == replicas.end() ? nullptr : found->second.get();
}

Primary* Node::FindPrimary(SliceId slice) {
  for (auto it = replicas.lower_bound(ReplicaKey{slice, DeviceId()});
       it != replicas.end() && it->first.slice == slice; ++it) {
    if (it->second->primary != nullptr) return it->second->primary.get();
  }
  return nullptr;
}

void Node::MarkDirty(const ReplicaKey& key) {
  Replica* replica = FindReplica(key);
  if (replica == nullptr || replica->dirty) return;
  replica->dirty = true;
  dirty.push_back(key);
}

void Node::MarkPrimariesDirty() {
  for (const auto& [key, replica] : replicas) {
    if (replica->primary != nullptr) MarkDirty(key);
  }
}

// Space may have become free while nothing went to and fro.
void Node::RefillCredits(Context& ctx) {
  for (const auto& [key, replica] : replicas) {
    if (replica->secondary != nullptr) replica->secondary->RefillCredits(ctx);
  }
}

void Node::RecallCredits(Context& ctx, Device& device) {
  if (!device.credits.MayRecall(ctx.now.boot)) return;
  for (const auto& [key, replica] : replicas) {
    if (key.device == device.config.id && replica->secondary != nullptr) {
      replica->secondary->RecallCredits(ctx);
    }
  }
}

void Node::WakeAt(const ReplicaKey& key, Instant when) { wakes.insert({when, key}); }

void Node::ArmCommitTimer(Context& ctx) {
  if (commit_timer_armed) return;
  commit_timer_armed = true;
  ctx.effects.SetTimer(TimerOf(TimerKind::kCommitPoints),
                       SaturatingAdd(ctx.now.boot, kCommitPointDelay));
}

void Node::AddCommitPoint(ConnId conn, const wire::CommitItem& item) {
  commit_items.emplace_back(conn, item);
}

}  // namespace gabion::sds
