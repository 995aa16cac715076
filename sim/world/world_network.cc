// Connections, messages, and what goes wrong with them.
#include <algorithm>

#include "core/base/check.h"
#include "core/wire/frame.h"
#include "sim/world/world.h"

namespace gabion::sim {

namespace {

constexpr Duration kRetransmission = std::chrono::milliseconds(200);
constexpr Duration kDialTimeout = std::chrono::seconds(3);
constexpr uint64_t kTailMaxNanos = 500'000'000;

uint32_t IndexOf(ConnId conn) { return static_cast<uint32_t>((conn.value() - 1) / 2); }
uint8_t EndOf(ConnId conn) { return static_cast<uint8_t>((conn.value() - 1) % 2); }

}  // namespace

void World::EndOpened(uint32_t connection, uint8_t end) {
  ConnectionEnd& me = connections_[connection].ends[end];
  me.state = ConnectionEnd::State::kOpen;
  nodes_[me.node]->connections.push_back(2 * connection + end);
}

void World::EndClosed(uint32_t connection, uint8_t end) {
  ConnectionEnd& me = connections_[connection].ends[end];
  if (me.state == ConnectionEnd::State::kOpen) {
    std::erase(nodes_[me.node]->connections, 2 * connection + end);
  }
  me.state = ConnectionEnd::State::kClosed;
}

void World::Connect(NodeIndex from, const ConnectEffect& effect) {
  const uint32_t slot = dials_.Add(
      {.from = from, .boot = nodes_[from]->boot, .tag = effect.dial, .address = effect.address});
  // A SYN takes as long as any small message; the link is known only at the other end.
  const Duration delay = choices_->TailOf(
      schedule_, Site::kLinkDelay, std::chrono::microseconds(60), std::chrono::milliseconds(2));
  Push(now_ + 20'000 + delay.count(), QueueKind::kConnect, from, nodes_[from]->boot, slot);
}

void World::Dialled(uint32_t slot) {
  const Dial dial = dials_.Take(slot);
  Node& from = *nodes_[dial.from];
  if (from.boot != dial.boot || from.role == nullptr) return;
  const ConnectFailedEvent failed{.dial = dial.tag};
  NodeIndex to = 0;
  while (to < nodes_.size() && nodes_[to]->options.address != dial.address) ++to;
  if (to == nodes_.size()) {
    StepLater(dial.from, now_ + kDialTimeout.count(), failed);
    return;
  }
  const LinkState& there = LinkOf(dial.from, to);
  if (there.cuts != 0 || LinkOf(to, dial.from).cuts != 0 || !nodes_[to]->powered) {
    StepLater(dial.from, now_ + kDialTimeout.count(), failed);
    return;
  }
  if (nodes_[to]->role == nullptr) {
    StepLater(dial.from, now_ + 50'000, failed);
    return;
  }
  if (choices_->Chance(there.stream, Site::kLinkDrop, faults_.per_million[Fault::kRefuse],
                       1'000'000)) {
    ++fired_[Fault::kRefuse];
    StepLater(dial.from, now_ + 50'000, failed);
    return;
  }
  const auto index = static_cast<uint32_t>(connections_.size());
  connections_.emplace_back();
  Connection& connection = connections_.back();
  connection.ends[0].node = dial.from;
  connection.ends[0].boot = dial.boot;
  connection.ends[0].dial = dial.tag;
  connection.ends[1].node = to;
  connection.ends[1].boot = nodes_[to]->boot;
  EndOpened(index, 1);
  Address peer = from.options.address;
  peer.port = static_cast<uint16_t>(40'000 + index % 20'000);
  StepLater(to, now_, ConnectedEvent{.conn = ConnOf(index, 1), .dial = 0, .peer = peer});
  connections_[index].ends[1].last_arrival = now_ + 1;
  Transmit(index, 0, InFlight::Kind::kEstablished, {});
  // The dialler gives up when no answer comes.
  At(now_ + kDialTimeout.count(), [this, index] {
    ConnectionEnd& me = connections_[index].ends[0];
    if (me.state != ConnectionEnd::State::kDialling) return;
    EndClosed(index, 0);
    Break(index);
    if (nodes_[me.node]->boot == me.boot && nodes_[me.node]->role != nullptr) {
      StepLater(me.node, now_, ConnectFailedEvent{.dial = me.dial});
    }
  });
}

void World::Transmit(uint32_t connection, uint8_t to, InFlight::Kind kind, wire::Message message) {
  Connection& c = connections_[connection];
  const NodeIndex from_node = c.ends[1 - to].node;
  const NodeIndex to_node = c.ends[to].node;
  LinkState& link = LinkOf(from_node, to_node);
  int64_t delay = link.base_delay.count() + message.payload.size() / 2;  // 2 GB/s
  delay += choices_
               ->TailOf(link.stream, Site::kLinkDelay, std::chrono::microseconds(20),
                        std::chrono::milliseconds(1))
               .count();
  if (choices_->Chance(link.stream, Site::kLinkTail, faults_.per_million[Fault::kDelayTail],
                       1'000'000)) {
    ++fired_[Fault::kDelayTail];
    delay += static_cast<int64_t>(
        choices_->Tail(link.stream, Site::kLinkTail, kTailMaxNanos / 10, kTailMaxNanos));
  }
  if (choices_->Chance(link.stream, Site::kLinkDrop, faults_.per_million[Fault::kDrop],
                       1'000'000)) {
    ++fired_[Fault::kDrop];
    delay += kRetransmission.count() << choices_->Below(link.stream, Site::kLinkDrop, 3);
  }
  TrueTime at = std::max(now_ + delay, link.clogged_until);
  at = std::max(at, c.ends[to].last_arrival + 1);
  c.ends[to].last_arrival = at;
  const uint32_t slot = in_flight_.Add(
      {.connection = connection, .to = to, .kind = kind, .message = std::move(message)});
  PushInOrder(at, QueueKind::kDeliver, to_node, c.ends[to].boot, slot);
}

void World::SendMessage(NodeIndex from, ConnId conn, wire::Message message) {
  const uint32_t index = IndexOf(conn);
  if (!conn.valid() || index >= connections_.size()) return;
  Connection& c = connections_[index];
  const uint8_t end = EndOf(conn);
  ConnectionEnd& me = c.ends[end];
  CHECK_EQ(me.node, from) << "a role used a connection of another node";
  if (me.state != ConnectionEnd::State::kOpen || me.boot != nodes_[from]->boot) return;
  const NodeIndex to_node = c.ends[1 - end].node;
  ++stats_.messages;
  for (Observer* observer : observers_) observer->OnSend(from, to_node, message);
  if (tracer_ != nullptr) {
    Trace(from, "send " + std::string(wire::TypeName(message.type())) + " to " +
                    nodes_[to_node]->options.name + " conn " + std::to_string(conn.value()) +
                    " payload " + std::to_string(message.payload.size()));
  }
  if (c.broken) {
    ++stats_.messages_lost;
    // A reset comes back, when the other machine can be reached and is up.
    if (nodes_[to_node]->powered && LinkOf(from, to_node).cuts == 0) {
      NoticeLater(index, end, std::chrono::microseconds(200));
    }
    return;
  }
  const LinkState& link = LinkOf(from, to_node);
  if (choices_->Chance(link.stream, Site::kLinkReset, faults_.per_million[Fault::kReset],
                       1'000'000)) {
    ++fired_[Fault::kReset];
    Break(index);
    const uint64_t mine = choices_->Tail(link.stream, Site::kNotice, 5'000'000, 1'000'000'000);
    NoticeLater(index, end, Duration(static_cast<int64_t>(mine)));
    if (choices_->Chance(link.stream, Site::kNotice, faults_.per_million[Fault::kHalfOpen],
                         1'000'000)) {
      ++fired_[Fault::kHalfOpen];
    } else {
      const uint64_t other = choices_->Tail(link.stream, Site::kNotice, 5'000'000, 1'000'000'000);
      NoticeLater(index, 1 - end, Duration(static_cast<int64_t>(other)));
    }
  }
  Transmit(index, 1 - end, InFlight::Kind::kMessage, std::move(message));
}

void World::CloseConnection(NodeIndex from, ConnId conn) {
  const uint32_t index = IndexOf(conn);
  if (!conn.valid() || index >= connections_.size()) return;
  const uint8_t end = EndOf(conn);
  ConnectionEnd& me = connections_[index].ends[end];
  CHECK_EQ(me.node, from) << "a role closed a connection of another node";
  if (me.state != ConnectionEnd::State::kOpen || me.boot != nodes_[from]->boot) return;
  EndClosed(index, end);
  StepLater(from, now_, DisconnectedEvent{.conn = conn});
  if (!connections_[index].broken) Transmit(index, 1 - end, InFlight::Kind::kClosing, {});
}

// A message arrives at the machine: behind those that wait for a cut to heal, or at the process.
void World::Arrive(uint32_t slot) {
  const InFlight& message = in_flight_[slot];
  Connection& c = connections_[message.connection];
  ConnectionEnd& me = c.ends[message.to];
  const NodeIndex from = c.ends[1 - message.to].node;
  if (now_ >= me.lost_from) {
    ++stats_.messages_lost;
    in_flight_.Free(slot);
    return;
  }
  LinkState& link = LinkOf(from, me.node);
  if (link.cuts != 0 || !me.held.empty()) {
    me.held.push_back(slot);
    return;
  }
  Deliver(slot);
}

void World::Deliver(uint32_t slot) {
  InFlight message = in_flight_.Take(slot);
  ConnectionEnd& me = connections_[message.connection].ends[message.to];
  const NodeIndex to = me.node;
  if (me.boot != nodes_[to]->boot || nodes_[to]->role == nullptr) return;
  const ConnId conn = ConnOf(message.connection, message.to);
  switch (message.kind) {
    case InFlight::Kind::kEstablished: {
      if (me.state != ConnectionEnd::State::kDialling) return;
      const DialTag dial = me.dial;
      const Address peer = nodes_[connections_[message.connection].ends[1].node]->options.address;
      EndOpened(message.connection, message.to);
      Step(to, ConnectedEvent{.conn = conn, .dial = dial, .peer = peer});
      return;
    }
    case InFlight::Kind::kClosing:
      Notice(message.connection, message.to);
      return;
    case InFlight::Kind::kMessage:
      if (me.state != ConnectionEnd::State::kOpen) return;
      if (options_.through_codec && !RecodeMessage(to, &message.message)) {
        EndClosed(message.connection, message.to);
        Step(to, DisconnectedEvent{.conn = conn});
        return;
      }
      Step(to, MessageEvent{.conn = conn, .message = std::move(message.message)});
      return;
  }
}

void World::Notice(uint32_t connection, uint8_t end) {
  ConnectionEnd& me = connections_[connection].ends[end];
  const NodeIndex node = me.node;
  if (me.boot != nodes_[node]->boot || nodes_[node]->role == nullptr) return;
  const bool was_dialling = me.state == ConnectionEnd::State::kDialling;
  if (me.state == ConnectionEnd::State::kClosed) return;
  EndClosed(connection, end);
  if (was_dialling) {
    Step(node, ConnectFailedEvent{.dial = me.dial});
  } else {
    Step(node, DisconnectedEvent{.conn = ConnOf(connection, end)});
  }
}

void World::NoticeLater(uint32_t connection, uint8_t end, Duration delay) {
  const ConnectionEnd& me = connections_[connection].ends[end];
  Push(now_ + delay.count(), QueueKind::kNotice, me.node, me.boot, 2 * uint64_t{connection} + end);
}

void World::Break(uint32_t connection) {
  Connection& c = connections_[connection];
  if (c.broken) return;
  c.broken = true;
  for (uint8_t end = 0; end < 2; ++end) {
    ConnectionEnd& me = c.ends[end];
    const LinkState& link = LinkOf(c.ends[1 - end].node, me.node);
    // 0: nothing of what is under way is lost.
    const bool loses = choices_->Below(link.stream, Site::kTailLost, 4) != 0;
    if (loses) {
      const uint64_t window =
          me.last_arrival > now_ ? static_cast<uint64_t>(me.last_arrival - now_) : 0;
      me.lost_from =
          now_ + static_cast<TrueTime>(choices_->Below(link.stream, Site::kTailLost, window + 1));
      for (const uint32_t slot : me.held) in_flight_.Free(slot);
      stats_.messages_lost += me.held.size();
      me.held.clear();
    }
  }
}

void World::BreakConnection(NodeIndex a, NodeIndex b, Duration notice_a, Duration notice_b) {
  for (const uint32_t key : nodes_[a]->connections) {
    const uint32_t index = key / 2;
    const auto end = static_cast<uint8_t>(key % 2);
    if (connections_[index].ends[1 - end].node != b || connections_[index].broken) continue;
    Break(index);
    if (notice_a.count() >= 0) NoticeLater(index, end, notice_a);
    if (notice_b.count() >= 0) NoticeLater(index, 1 - end, notice_b);
    return;
  }
}

void World::DisconnectAll(NodeIndex node, bool power) {
  const std::vector<uint32_t> open = nodes_[node]->connections;
  for (const uint32_t key : open) {
    const uint32_t index = key / 2;
    const auto end = static_cast<uint8_t>(key % 2);
    EndClosed(index, end);
    if (connections_[index].broken) continue;
    // The kernel of a dead process closes its connections, behind what it has taken already.
    // Sometimes with a reset, which overtakes them. Nothing comes from a machine without power.
    ConnectionEnd& other = connections_[index].ends[1 - end];
    const LinkState& link = LinkOf(node, other.node);
    const bool loses = choices_->Below(link.stream, Site::kTailLost, 4) == 3;
    if (!power && !loses) Transmit(index, 1 - end, InFlight::Kind::kClosing, {});
    connections_[index].broken = true;
    if (loses) {
      other.lost_from = now_;
      if (!power) NoticeLater(index, 1 - end, std::chrono::microseconds(300));
    }
  }
}

void World::Cut(NodeIndex from, NodeIndex to) { ++LinkOf(from, to).cuts; }

void World::Heal(NodeIndex from, NodeIndex to) {
  LinkState& link = LinkOf(from, to);
  CHECK_GT(link.cuts, 0u);
  if (--link.cuts != 0) return;
  for (uint32_t i = 0; i < connections_.size(); ++i) {
    for (uint8_t end = 0; end < 2; ++end) {
      const ConnectionEnd& me = connections_[i].ends[end];
      if (me.held.empty() || me.node != to || connections_[i].ends[1 - end].node != from) continue;
      const Duration delay =
          choices_->TailOf(link.stream, Site::kLinkDelay, kRetransmission, kRetransmission * 10);
      Push(now_ + delay.count(), QueueKind::kResend, me.node, me.boot, 2 * uint64_t{i} + end);
    }
  }
}

void World::Resend(uint32_t connection, uint8_t to) {
  ConnectionEnd& me = connections_[connection].ends[to];
  const NodeIndex from = connections_[connection].ends[1 - to].node;
  if (LinkOf(from, me.node).cuts != 0) return;
  std::vector<uint32_t> held;
  held.swap(me.held);
  for (const uint32_t slot : held) Deliver(slot);
}

void World::Clog(NodeIndex from, NodeIndex to, TrueTime until) {
  LinkState& link = LinkOf(from, to);
  link.clogged_until = std::max(link.clogged_until, until);
}

bool World::RecodeMessage(NodeIndex to, wire::Message* message) {
  std::array<std::byte, wire::kHeadBytesMax> head;
  const size_t size = wire::EncodeHead(*message, head);
  const auto bytes = std::span<const std::byte>(head).first(size);
  const Result<wire::FrameHeader> header = wire::ParseHeader(bytes.first(wire::kFrameHeaderBytes));
  CHECK(header.has_value()) << "our own header does not parse";
  CHECK_EQ(header->payload_bytes, message->payload.size());
  Slice copy;
  if (!message->payload.empty()) {
    copy = nodes_[to]->pool->Allocate(message->payload.size());
    if (copy.empty()) return false;
    const std::span<const std::byte> from = message->payload.span();
    std::copy(from.begin(), from.end(), copy.mutable_span().begin());
  }
  Result<wire::Message> decoded =
      wire::DecodeFrame(*header, bytes.subspan(wire::kFrameHeaderBytes), std::move(copy));
  if (!decoded.has_value()) {
    Fail("codec", "a role sent a message that its peer cannot decode: " +
                      std::string(wire::TypeName(message->type())) + ": " +
                      decoded.error().message);
    return false;
  }
  *message = std::move(*decoded);
  return true;
}

}  // namespace gabion::sim
