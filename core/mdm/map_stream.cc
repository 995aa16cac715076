#include "core/mdm/map_stream.h"

#include <algorithm>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/mix.h"
#include "core/wire/management.h"

namespace gabion::mdm {
namespace {

// An SDC that was not heard for this long is shown as down.
constexpr Duration kSilenceMax = std::chrono::seconds(5);
// A client says each second whom it misses. Once is a moment; twice is a complaint, which holds
// until it has not been repeated for a while.
constexpr Duration kMissedMin = std::chrono::milliseconds(500);
constexpr Duration kMissedMemory = std::chrono::milliseconds(2500);
// And for so long it is known that the client has missed it (View::missed_lately).
constexpr Duration kMissedLately = std::chrono::seconds(60);
constexpr size_t kMissedMax = 1024;  // of one client

}  // namespace

std::vector<PoolId> PoolsOf(const Repository& repository, SdcId sdc) {
  absl::btree_set<PoolId> pools;
  for (const auto& [key, mapping] : repository.mappings()) {
    if (key.second == sdc) pools.insert(PoolId(repository.FindVolume(key.first)->pool()));
  }
  return {pools.begin(), pools.end()};
}

bool IsAccessSettled(const Repository& repository, PoolId pool, const ConfigStream& config,
                     const Leases& leases, bool drained, Instant now) {
  for (const SdsId sds : repository.SdssOfPool(pool)) {
    if (!leases.IsOldOver(sds, now)) return false;
    if (leases.IsOver(sds, now)) continue;
    const uint64_t reached = drained ? config.drained(sds) : config.applied(sds);
    if (reached < config.access_version(sds)) return false;
  }
  return true;
}

proto::SliceRoute RouteOf(const Repository& repository, const SliceState& slice) {
  proto::SliceRoute route;
  route.set_slice(slice.id.value());
  route.set_reign(slice.reign.value());
  const Member& primary = slice.primary;
  if (primary.present && primary.incarnation == repository.IncarnationOf(primary.sds)) {
    route.set_sds(primary.sds.value());
    route.set_sds_incarnation(primary.incarnation.value());
    route.set_device(primary.device.value());
  }
  return route;
}

ConnId MapStream::Attach(SdcId sdc, ConnId conn, uint64_t tag, Incarnation incarnation,
                         Instant now) {
  Session& session = sessions_[sdc];
  if (session.conn == conn && session.incarnation == incarnation) {
    session.tag = tag;  // asked again while it waits, or crossed by the answer
    return ConnId();
  }
  const ConnId replaced = session.conn;
  session = Session();
  session.conn = conn;
  session.incarnation = incarnation;
  session.tag = tag;
  session.heard_at = now;
  return replaced;
}

void MapStream::Detach(SdcId sdc) {
  const auto at = sessions_.find(sdc);
  if (at != sessions_.end()) at->second.conn = ConnId();
}

ConnId MapStream::ConnOf(SdcId sdc) const {
  const auto at = sessions_.find(sdc);
  return at == sessions_.end() ? ConnId() : at->second.conn;
}

void MapStream::Send(Session& session, const proto::Management& management, uint64_t tag,
                     Effects& effects) {
  wire::Message message = wire::ToMessage(management, tag, *pool_);
  if (message.payload.empty()) {
    // No memory for it now. A new connection starts anew.
    effects.Close(session.conn);
    session.conn = ConnId();
    return;
  }
  effects.Send(session.conn, message.body, std::move(message.payload));
}

void MapStream::SendUpdate(Session& session, proto::MapUpdate update, Effects& effects) {
  update.set_version(++session.version);
  proto::Management management;
  *management.mutable_map_update() = std::move(update);
  Send(session, management, 0, effects);
}

proto::MapUpdate MapStream::Full(const Repository& repository, SdcId sdc) const {
  proto::MapUpdate update;
  update.set_full(true);
  for (const auto& [key, mapping] : repository.mappings()) {
    if (key.second != sdc) continue;
    *update.add_volumes() = *repository.FindVolume(key.first);
    *update.add_mappings() = mapping;
  }
  const std::vector<PoolId> pools = PoolsOf(repository, sdc);
  absl::btree_set<SdsId> endpoints;
  for (const PoolId pool : pools) {
    *update.add_pools() = *repository.FindPool(pool);
    for (const SdsId sds : repository.SdssOfPool(pool)) endpoints.insert(sds);
  }
  for (const auto& [id, slice] : repository.slices()) {
    if (std::binary_search(pools.begin(), pools.end(), slice.pool)) {
      *update.add_slices() = RouteOf(repository, slice);
    }
  }
  for (const SdsId sds : endpoints) *update.add_endpoints() = *repository.FindSds(sds);
  return update;
}

void MapStream::OnCommitted(const Repository& repository, const Changes& changes,
                            Effects& effects) {
  for (const SdcId sdc : changes.removed_sdcs) {
    const auto at = sessions_.find(sdc);
    if (at == sessions_.end()) continue;
    if (at->second.conn.valid()) effects.Close(at->second.conn);
    sessions_.erase(at);
  }
  for (const auto& [volume, sdc] : changes.mappings) {
    const auto at = sessions_.find(sdc);
    if (at != sessions_.end()) at->second.full_due = true;
  }
  absl::btree_set<SliceId> routes;
  for (const SliceState& before : changes.slices_before) {
    const SliceState* slice = repository.FindSlice(before.id);
    if (slice != nullptr && (slice->reign != before.reign || slice->primary != before.primary)) {
      routes.insert(before.id);
    }
  }
  // A new incarnation makes the old one's routes void.
  for (const SdsId sds : changes.sdss) {
    for (const auto& [id, slice] : repository.slices()) {
      if (slice.primary.sds == sds) routes.insert(id);
    }
  }
  for (auto& [sdc, session] : sessions_) {
    for (const VolumeId volume : changes.volumes) {
      if (repository.mappings().contains({volume, sdc})) session.full_due = true;
    }
    if (!session.conn.valid() || !session.has_map) continue;
    proto::MapUpdate update;
    for (const proto::Mapping& mapping : changes.removed_mappings) {
      if (SdcId(mapping.sdc()) == sdc) update.add_unmapped_volumes(mapping.volume());
    }
    const std::vector<PoolId> pools = PoolsOf(repository, sdc);
    for (const SliceId id : routes) {
      const SliceState* slice = repository.FindSlice(id);
      if (std::binary_search(pools.begin(), pools.end(), slice->pool)) {
        *update.add_slices() = RouteOf(repository, *slice);
      }
    }
    const auto add_endpoints = [&](const std::vector<SdsId>& sdss) {
      for (const SdsId sds : sdss) {
        if (std::any_of(pools.begin(), pools.end(),
                        [&](PoolId pool) { return repository.HasPool(sds, pool); })) {
          *update.add_endpoints() = *repository.FindSds(sds);
        }
      }
    };
    add_endpoints(changes.sdss);
    add_endpoints(changes.pool_sets);
    if (update.ByteSizeLong() != 0) SendUpdate(session, std::move(update), effects);
  }
}

void MapStream::Flush(const Repository& repository, const ConfigStream& config,
                      const Leases& leases, Instant now, Effects& effects) {
  for (auto& [sdc, session] : sessions_) {
    if (!session.conn.valid() || (session.answered && !session.full_due)) continue;
    const std::vector<PoolId> pools = PoolsOf(repository, sdc);
    // Its own lower incarnations are fenced when the SDSs have drained; new rights when they have
    // applied.
    const bool drained = !session.answered;
    if (!std::all_of(pools.begin(), pools.end(), [&](PoolId pool) {
          return IsAccessSettled(repository, pool, config, leases, drained, now);
        })) {
      continue;
    }
    if (!session.answered) {
      proto::Management management;
      proto::SdcRegisterReply* reply = management.mutable_sdc_register_reply();
      reply->set_cluster(repository.cluster().value());
      reply->set_sdc(sdc.value());
      reply->set_generation(repository.generation());
      Send(session, management, session.tag, effects);
      session.answered = true;
      if (!session.conn.valid()) continue;
    }
    session.full_due = false;
    session.has_map = true;
    SendUpdate(session, Full(repository, sdc), effects);
  }
}

bool MapStream::OnHeartbeat(SdcId sdc, ConnId conn, const proto::SdcHeartbeat& heartbeat,
                            Instant now, uint64_t* version) {
  const auto at = sessions_.find(sdc);
  if (at == sessions_.end() || at->second.conn != conn) return false;
  Session& session = at->second;
  session.heard_at = now;
  *version = session.version;
  absl::erase_if(session.missed,
                 [&](const auto& entry) { return now - entry.second.last >= kMissedLately; });
  // Not every heartbeat says it: one that only asks about the map names nobody.
  for (const uint64_t id : heartbeat.unreachable_sds()) {
    if (session.missed.size() >= kMissedMax) break;
    Session::Missed& missed = session.missed.emplace(SdsId(id), Session::Missed{}).first->second;
    if (missed.since == kNever || now - missed.last >= kMissedMemory) missed.since = now;
    missed.last = now;
  }
  return true;
}

void MapStream::AddAccusers(View& view) const {
  for (const auto& [sdc, session] : sessions_) {
    if (!session.conn.valid()) continue;
    for (const auto& [sds, missed] : session.missed) {
      const Accuser accuser{.is_sdc = true, .id = sdc.value()};
      if (view.now - missed.last < kMissedLately) view.missed_lately[sds].insert(accuser);
      if (view.now - missed.last >= kMissedMemory || missed.last - missed.since < kMissedMin) {
        continue;
      }
      view.accusers[sds].insert(accuser);
    }
  }
}

bool MapStream::IsUp(SdcId sdc, Instant now) const {
  const auto at = sessions_.find(sdc);
  return at != sessions_.end() && at->second.conn.valid() && at->second.answered &&
         now - at->second.heard_at < kSilenceMax;
}

std::string MapStream::Dump() const {
  std::string out = "registered SDCs:\n";
  for (const auto& [sdc, session] : sessions_) {
    absl::StrAppend(
        &out, "  sdc ", gabion::ToString(sdc), " incarnation ", session.incarnation.value(),
        ", map version ", session.version, session.conn.valid() ? "" : ", away",
        session.answered ? "" : ", waits for its fence", session.full_due ? ", map due" : "", "\n");
  }
  return out;
}

uint64_t MapStream::StateHash() const {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ mix64(value + 13)); };
  for (const auto& [sdc, session] : sessions_) {
    add(sdc.value()), add(session.conn.value()), add(session.incarnation.value());
    add(session.version), add(session.answered), add(session.full_due), add(session.has_map);
    for (const auto& [sds, missed] : session.missed) {
      add(sds.value()), add(static_cast<uint64_t>(missed.last.time_since_epoch().count()));
    }
  }
  return hash;
}

}  // namespace gabion::mdm
