#include "core/sds/held_extent.h"

#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

namespace {

constexpr Duration kPause = std::chrono::milliseconds(10);

}  // namespace

void HeldExtent::SetPatience(Context& ctx, const Primary& primary, Duration patience) {
  give_up_at = SaturatingAdd(ctx.now.boot, patience);
  ctx.node.WakeAt(primary.key_, give_up_at);
}

bool HeldExtent::Lock(Primary& primary, RangeLock::Mode mode, RangeLock::Owner::Kind owner) {
  const RangeLock::Range range{
      .vtree = key.vtree,
      .chunk = key.chunk,
      .first_block = static_cast<uint16_t>(extent * wire::kBlocksPerExtent),
      .block_count = wire::kBlocksPerExtent};
  return primary.locks_.Acquire(range, mode, {number, owner}, &lock);
}

ExtentRead::Step HeldExtent::Read(Context& ctx, const Primary& primary, store::Store& store,
                                  OpKind kind) {
  return own.Begin(ctx, store,
                   {.kind = kind,
                    .replica = primary.key_,
                    .instance = primary.instance_,
                    .epoch = primary.config_.epoch,
                    .number = number},
                   key, extent);
}

void HeldExtent::BeginAsking() {
  asked = ConnId();
  ask_at = Instant();
}

ConnId HeldExtent::ConnToAsk(const Context& ctx, const Primary& primary) const {
  const Follower& secondary = primary.secondary_;
  const ConnId conn = ctx.node.peers.Conn(secondary.member);
  const bool may = secondary.active() && conn == secondary.conn && conn != asked;
  return may && ctx.now.boot >= ask_at ? conn : ConnId();
}

void HeldExtent::Ask(Context& ctx, const Primary& primary, bool with_content) {
  const ConnId conn = ConnToAsk(ctx, primary);
  if (!conn.valid()) return;
  asked = conn;
  ctx.effects.Send(conn, wire::ExtentQuery{
                             .pair = primary.PairOf(primary.secondary_),
                             .number = number,
                             .vtree = key.vtree,
                             .version = key.version,
                             .after = {primary.config_.epoch, Seq(primary.committed_seq())},
                             .chunk = key.chunk,
                             .extent = extent,
                             .with_content = with_content,
                         });
}

void HeldExtent::AskLater(Context& ctx, const Primary& primary) {
  asked = ConnId();
  ask_at = SaturatingAdd(ctx.now.boot, kPause);
  ctx.node.WakeAt(primary.key_, ask_at);
}

}  // namespace gabion::sds
