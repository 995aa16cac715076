#include "core/sds/extent_read.h"

#include "core/base/checksum.h"
#include "core/sds/node.h"

namespace gabion::sds {

ExtentRead::Step ExtentRead::Begin(Context& ctx, store::Store& store, const Asker& asker,
                                   const store::ChunkKey& key, uint16_t extent) {
  asker_ = asker;
  key_ = key;
  extent_ = extent;
  damaged_ = 0;
  running_ = false;
  block_ = kWhole;
  const uint32_t first = uint32_t{extent} * wire::kBlocksPerExtent;
  present_ =
      static_cast<uint16_t>(store.Present(asker.replica.slice, key, first, wire::kBlocksPerExtent));
  if (present_ == 0) {
    data_ = Slice();
    return Step::kDone;
  }
  data_ = ctx.node.resources.pool->Allocate(wire::kExtentBytes, BufferUse::kPeer);
  if (data_.empty()) return Step::kNoMemory;
  Submit(ctx, store);
  return Step::kRunning;
}

void ExtentRead::Submit(Context& ctx, store::Store& store) {
  running_ = true;
  const bool whole = block_ == kWhole;
  const uint32_t index = whole ? 0 : block_;
  const uint32_t count = whole ? wire::kBlocksPerExtent : 1;
  const store::Tag tag =
      ctx.node.ops.Add({.kind = asker_.kind,
                        .replica = asker_.replica,
                        .instance = asker_.instance,
                        .epoch = asker_.epoch,
                        .a = asker_.number,
                        .target = data_.Sub(index * wire::kBlockBytes, count * wire::kBlockBytes)});
  store.ReadFromDevice(ctx.now, asker_.replica.slice, key_,
                       uint32_t{extent_} * wire::kBlocksPerExtent + index, count,
                       ctx.node.ops.At(tag).target, tag, ctx.node.Out(ctx));
}

void ExtentRead::ToNextPresent() {
  while (block_ < wire::kBlocksPerExtent && (present_ >> block_ & 1) == 0) ++block_;
}

ExtentRead::Step ExtentRead::OnDone(Context& ctx, store::Store& store, store::DoneStatus status) {
  running_ = false;
  if (status == store::DoneStatus::kFailed) return Step::kFailed;
  const bool good = status == store::DoneStatus::kOk;
  if (block_ == kWhole) {
    if (good) return Step::kDone;
    block_ = 0;
  } else {
    if (!good) damaged_ = static_cast<uint16_t>(damaged_ | 1u << block_);
    ++block_;
  }
  ToNextPresent();
  if (block_ >= wire::kBlocksPerExtent) return Step::kDone;
  Submit(ctx, store);
  return Step::kRunning;
}

ExtentCrcs ExtentRead::Crcs() const {
  ExtentCrcs crc{};
  for (uint32_t block = 0; block < wire::kBlocksPerExtent; ++block) {
    if ((good() >> block & 1) == 0) continue;
    crc[block] = Crc32c(data_.span().subspan(size_t{block} * wire::kBlockBytes, wire::kBlockBytes));
  }
  return crc;
}

uint16_t DifferingBlocks(uint16_t present_a, const ExtentCrcs& a, uint16_t present_b,
                         const ExtentCrcs& b) {
  if (present_a == present_b && a == b) return 0;
  const uint32_t zero = Crc32c(BufferPool::Zeroes(wire::kBlockBytes).span());
  uint16_t differing = 0;
  for (uint32_t block = 0; block < wire::kBlocksPerExtent; ++block) {
    const uint32_t of_a = (present_a >> block & 1) != 0 ? a[block] : zero;
    const uint32_t of_b = (present_b >> block & 1) != 0 ? b[block] : zero;
    if (of_a != of_b) differing = static_cast<uint16_t>(differing | 1u << block);
  }
  return differing;
}

}  // namespace gabion::sds
