#include "core/sds/repair.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

namespace {

// Longer than a reconnect, shorter than what a reader takes for a hang.
constexpr Duration kPatience = std::chrono::seconds(2);

std::string Describe(const store::ChunkKey& key, uint16_t extent) {
  return absl::StrCat("extent ", extent, " of chunk ", key.chunk, " of V-tree ",
                      ToString(key.vtree));
}

// This side's blocks with data, with those of the other copy in place of damaged ones, which must
// all be there; `crc` gets the checksums of the latter. Empty: no memory.
Slice MadeGood(BufferPool& pool, const ExtentRead& own, const wire::ExtentReply& reply,
               const Slice& payload, ExtentCrcs* crc) {
  const auto blocks = static_cast<uint32_t>(std::popcount(own.present()));
  Slice content = pool.Allocate(blocks * wire::kBlockBytes, BufferUse::kPeer);
  if (content.empty()) return content;
  for (uint32_t block = 0; block < wire::kBlocksPerExtent; ++block) {
    if ((own.present() >> block & 1) == 0) continue;
    const bool damaged = (own.damaged() >> block & 1) != 0;
    if (damaged) (*crc)[block] = reply.block_crc[block];
    const Slice from = damaged ? payload.Sub(PackedOffset(reply.good(), block), wire::kBlockBytes)
                               : own.data().Sub(block * wire::kBlockBytes, wire::kBlockBytes);
    content.CopyFrom(PackedOffset(own.present(), block), from.span());
  }
  return content;
}

}  // namespace

bool Repairs::Start(Context& ctx, Primary& primary, const Range& range, Waiter waiter) {
  if (!primary.serving() || !primary.secondary_.active()) return false;
  const uint32_t last = range.first_block + range.block_count - 1;
  Job& job = jobs_.emplace_back();
  job.waiter = waiter;
  job.at.key = range.key;
  job.at.extent = static_cast<uint16_t>(range.first_block / wire::kBlocksPerExtent);
  job.extent_end = static_cast<uint16_t>(last / wire::kBlocksPerExtent + 1);
  job.at.SetPatience(ctx, primary, kPatience);
  LockExtent(ctx, primary, job);
  return true;
}

void Repairs::Release(Context& ctx, Primary& primary) {
  std::vector<Job> jobs = std::exchange(jobs_, {});
  for (Job& job : jobs) {
    primary.Unlock(ctx, &job.at.lock);
    if (job.waiter.kind == Waiter::Kind::kRequest) {
      primary.OnRepaired(ctx, SlotTag(job.waiter.number), Primary::Repaired::kNotTried);
    }
  }
}

void Repairs::LockExtent(Context& ctx, Primary& primary, Job& job) {
  // What is still on its way for the extent before does not find this one.
  job.at.number = next_number_++;
  job.phase = Job::Phase::kAwaitingLock;
  if (job.at.Lock(primary, RangeLock::Mode::kExclusive, RangeLock::Owner::Kind::kRepair)) {
    ReadOwn(ctx, primary, job);
  }
}

void Repairs::OnLockGranted(Context& ctx, Primary& primary, uint64_t number) {
  if (Job* job = FindJob(jobs_, number)) ReadOwn(ctx, primary, *job);
}

void Repairs::ReadOwn(Context& ctx, Primary& primary, Job& job) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  job.phase = Job::Phase::kReading;
  switch (job.at.Read(ctx, primary, *store, OpKind::kRepairRead)) {
    case ExtentRead::Step::kDone:
      return NextExtent(ctx, primary, job);
    case ExtentRead::Step::kRunning:
    case ExtentRead::Step::kFailed:
      return;
    case ExtentRead::Step::kNoMemory:
      return GiveUp(ctx, primary, job, "no memory for it now");
  }
  UNREACHABLE();
}

void Repairs::OnRead(Context& ctx, Primary& primary, const Op& op, store::DoneStatus status) {
  Job* job = FindJob(jobs_, op.a);
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr || job == nullptr || !job->at.own.running()) return;
  if (job->at.own.OnDone(ctx, *store, status) != ExtentRead::Step::kDone) return;
  if (job->at.own.damaged() == 0) return NextExtent(ctx, primary, *job);
  job->phase = Job::Phase::kAwaitingPeer;
  job->at.BeginAsking();
  job->at.Ask(ctx, primary, /*with_content=*/true);
}

void Repairs::OnReply(Context& ctx, Primary& primary, const wire::ExtentReply& reply,
                      const Slice& payload) {
  Job* job = FindJob(jobs_, reply.number);
  if (job == nullptr || job->phase != Job::Phase::kAwaitingPeer) return;
  if (reply.status == wire::Status::kBehind || reply.status == wire::Status::kBusy) {
    return job->at.AskLater(ctx, primary);
  }
  if (reply.status != wire::Status::kOk) {
    return GiveUp(ctx, primary, *job, "the other copy is damaged, too");
  }
  if (!ValidExtent(payload, reply.good(), reply.block_crc)) {
    return GiveUp(ctx, primary, *job, "the other copy came with wrong checksums");
  }
  Device* device = ctx.node.devices.FindUp(primary.key_.device);
  if (device == nullptr) return;
  if (LogRoomForClients(*device) < wire::kExtentBytes + store::kAppendOverheadBytes) {
    return job->at.AskLater(ctx, primary);
  }
  store::Store* store = device->store.get();
  const uint16_t damaged = job->at.own.damaged();
  ExtentCrcs crc = job->at.own.Crcs();
  const auto differs = static_cast<uint16_t>(
      DifferingBlocks(job->at.own.present(), crc, reply.present, reply.block_crc) & ~damaged &
      ~reply.damaged);
  if (differs != 0) {
    ++ctx.node.counters.copies_differ;
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(primary.key_.slice), ": ",
                         Describe(job->at.key, job->at.extent), ": blocks ", absl::Hex(differs),
                         " verify on both copies and differ; nothing is changed"));
  }
  if ((damaged & reply.damaged) != 0) {
    return GiveUp(ctx, primary, *job, "the other copy is damaged, too");
  }
  if ((damaged & ~reply.present) != 0) {
    return GiveUp(ctx, primary, *job, "the other copy has no data there");
  }
  Slice content = MadeGood(*ctx.node.resources.pool, job->at.own, reply, payload, &crc);
  if (content.empty()) return GiveUp(ctx, primary, *job, "no memory for it now");
  const std::optional<store::ChunkSummary> summary =
      FindChunk(*store, primary.key_.slice, job->at.key, Epoch());
  if (!summary.has_value()) return GiveUp(ctx, primary, *job, "the chunk is gone");
  ctx.Log(
      Severity::kWarning,
      absl::StrCat("slice ", ToString(primary.key_.slice), ": ",
                   Describe(job->at.key, job->at.extent), ": ", std::popcount(damaged),
                   " damaged blocks on device ", ToString(primary.key_.device),
                   " replaced by those of device ", ToString(primary.secondary_.member.device)));
  ctx.node.counters.blocks_repaired += static_cast<uint64_t>(std::popcount(damaged));
  job->phase = Job::Phase::kAppending;
  const store::Tag tag = ctx.node.ops.Add({.kind = OpKind::kRepairAppend,
                                           .replica = primary.key_,
                                           .instance = primary.instance_,
                                           .epoch = primary.config_.epoch,
                                           .a = job->at.number});
  // Behind everything that is committed, and so behind everything in this range.
  store->AppendCopy(ctx.now, primary.key_.slice, job->at.key, job->at.extent, job->at.own.present(),
                    summary->modified_epoch, {primary.config_.epoch, Seq(primary.committed_seq())},
                    std::move(content), PackedCrcs(crc, job->at.own.present()), tag,
                    ctx.node.Out(ctx));
}

void Repairs::OnAppended(Context& ctx, Primary& primary, const Op& op) {
  if (Job* job = FindJob(jobs_, op.a)) NextExtent(ctx, primary, *job);
}

void Repairs::NextExtent(Context& ctx, Primary& primary, Job& job) {
  primary.Unlock(ctx, &job.at.lock);
  job.at.own = ExtentRead();
  if (++job.at.extent < job.extent_end) return LockExtent(ctx, primary, job);
  Finish(ctx, primary, job.at.number, /*good=*/true);
}

void Repairs::GiveUp(Context& ctx, Primary& primary, Job& job, std::string_view why) {
  ++ctx.node.counters.repairs_failed;
  ctx.Log(Severity::kError,
          absl::StrCat("slice ", ToString(primary.key_.slice), ": ",
                       Describe(job.at.key, job.at.extent), " is damaged on device ",
                       ToString(primary.key_.device), ": ", std::string(why)));
  Finish(ctx, primary, job.at.number, /*good=*/false);
}

void Repairs::Finish(Context& ctx, Primary& primary, uint64_t number, bool good) {
  const auto at = std::find_if(jobs_.begin(), jobs_.end(),
                               [number](const Job& job) { return job.at.number == number; });
  Job job = std::move(*at);
  jobs_.erase(at);
  primary.Unlock(ctx, &job.at.lock);
  if (job.waiter.kind == Waiter::Kind::kRequest) {
    primary.OnRepaired(ctx, SlotTag(job.waiter.number),
                       good ? Primary::Repaired::kGood : Primary::Repaired::kBad);
  } else if (job.waiter.kind == Waiter::Kind::kCopy) {
    primary.join_.OnRepaired(ctx, primary, job.waiter.number, good);
  } else {
    primary.examinations_.OnRepaired(ctx, primary, job.waiter.number, good);
  }
}

void Repairs::Advance(Context& ctx, Primary& primary) {
  std::vector<uint64_t> late;
  for (Job& job : jobs_) {
    if (ctx.now.boot >= job.at.give_up_at && job.phase != Job::Phase::kAppending) {
      late.push_back(job.at.number);
    } else if (job.phase == Job::Phase::kAwaitingPeer) {
      job.at.Ask(ctx, primary, /*with_content=*/true);
    }
  }
  for (const uint64_t number : late) {
    GiveUp(ctx, primary, *FindJob(jobs_, number), "the other copy does not answer");
  }
}

}  // namespace gabion::sds
