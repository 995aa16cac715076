#include "core/sds/peer_links.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"
#include "core/sds/replica.h"

namespace gabion::sds {

void PeerLinks::Update(Context& ctx) {
  absl::btree_map<SdsId, Incarnation> wanted;
  const auto want = [&](const std::optional<Member>& member) {
    if (!member.has_value() || !member->present) return;
    Incarnation& incarnation = wanted[member->sds];
    incarnation = std::max(incarnation, member->incarnation);
  };
  for (const auto& [key, replica] : ctx.node.replicas) {
    if (replica->primary == nullptr) continue;
    want(replica->config.secondary);
    want(replica->config.joining);
  }
  for (const auto& [sds, incarnation] : wanted) {
    const PeerConfig* config = ctx.node.config.FindPeer(sds);
    auto found = peers_.find(sds);
    if (found == peers_.end()) {
      const uint32_t slot = next_slot_++;
      found = peers_
                  .emplace(sds, Peer{.slot = slot,
                                     .link = Link({.dial_base = DialBase(1 + slot),
                                                   .timer = TimerOf(TimerKind::kPeerLink, slot)})})
                  .first;
    }
    found->second.link.Start(
        ctx.now,
        {.role = wire::PeerRole::kSds,
         .id = sds.value(),
         .incarnation = incarnation,
         .addresses = config == nullptr ? std::vector<Address>() : config->addresses},
        ctx.effects);
  }
  for (auto it = peers_.begin(); it != peers_.end();) {
    if (wanted.contains(it->first)) {
      ++it;
      continue;
    }
    it->second.link.Stop(ctx.effects);
    it = peers_.erase(it);
  }
}

void PeerLinks::StopAll(Context& ctx) {
  for (auto& [sds, peer] : peers_) peer.link.Stop(ctx.effects);
  peers_.clear();
}

ConnId PeerLinks::Conn(const Member& member) const {
  const auto found = peers_.find(member.sds);
  if (found == peers_.end() || !found->second.link.up()) return ConnId();
  if (found->second.link.peer().incarnation != member.incarnation) return ConnId();
  return found->second.link.conn();
}

PeerLinks::Peer* PeerLinks::FindConn(ConnId conn) {
  for (auto& [sds, peer] : peers_) {
    const Link::State state = peer.link.state();
    if (state != Link::State::kAwaitingHello && state != Link::State::kUp) continue;
    if (peer.link.conn() == conn) return &peer;
  }
  return nullptr;
}

SdsId PeerLinks::OwnerOf(ConnId conn) const {
  for (const auto& [sds, peer] : peers_) {
    if (peer.link.up() && peer.link.conn() == conn) return sds;
  }
  return SdsId();
}

bool PeerLinks::OnConnected(Context& ctx, const ConnectedEvent& event) {
  for (auto& [sds, peer] : peers_) {
    if (!peer.link.Owns(event.dial)) continue;
    const wire::Hello hello{.cluster = ctx.node.self.cluster,
                            .sender = ctx.node.self.sds.value(),
                            .incarnation = ctx.node.self.incarnation,
                            .connection = ctx.node.NextConnectionNumber(),
                            .role = wire::PeerRole::kSds};
    peer.link.OnConnected(ctx.now, event, hello, ctx.effects);
    return true;
  }
  return false;
}

bool PeerLinks::OnConnectFailed(Context& ctx, const ConnectFailedEvent& event) {
  for (auto& [sds, peer] : peers_) {
    if (!peer.link.Owns(event.dial)) continue;
    peer.link.OnConnectFailed(ctx.now, event, ctx.effects);
    return true;
  }
  return false;
}

bool PeerLinks::OnDisconnected(Context& ctx, const DisconnectedEvent& event) {
  Peer* peer = FindConn(event.conn);
  if (peer == nullptr) return false;
  peer->link.OnDisconnected(ctx.now, event, ctx.effects);
  ctx.node.MarkPrimariesDirty();
  return true;
}

void PeerLinks::OnHelloReply(Context& ctx, ConnId conn, const wire::HelloReply& reply) {
  Peer* peer = FindConn(conn);
  if (peer == nullptr) return;
  peer->link.OnHelloReply(ctx.now, conn, reply, ctx.effects);
  ctx.node.MarkPrimariesDirty();
}

void PeerLinks::OnTimer(Context& ctx, uint32_t slot) {
  for (auto& [sds, peer] : peers_) {
    if (peer.slot == slot) peer.link.OnTimer(ctx.now, ctx.effects);
  }
  ctx.node.MarkPrimariesDirty();
}

void PeerLinks::CheckInvariants() const {
  for (const auto& [sds, peer] : peers_) peer.link.CheckInvariants();
}

std::string PeerLinks::Dump() const {
  std::string text;
  for (const auto& [sds, peer] : peers_) {
    absl::StrAppend(&text, "  peer ", ToString(sds), " ", peer.link.Dump(), "\n");
  }
  return text;
}

uint64_t PeerLinks::StateHash() const {
  uint64_t hash = 3;
  for (const auto& [sds, peer] : peers_) hash = mix64(hash + sds.value()) + peer.link.StateHash();
  return hash;
}

}  // namespace gabion::sds
