#include "core/sds/examine.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/sds/node.h"
#include "core/sds/primary.h"

namespace gabion::sds {

namespace {

// The range is held so long at most, and a write to it waits. A copy that says nothing may be gone:
// then the write has the whole fail-over still before it.
constexpr Duration kPatience = std::chrono::milliseconds(300);

uint32_t Count(uint16_t blocks) { return static_cast<uint32_t>(std::popcount(blocks)); }

}  // namespace

bool Examinations::Start(Context& ctx, Primary& primary, const store::ChunkKey& key,
                         uint16_t extent, bool for_scan) {
  if (!primary.MayExamine(ctx) || jobs_.size() >= kJobsMax) return false;
  if (!for_scan) {
    for (const Job& job : jobs_) {
      if (job.at.key == key && job.at.extent == extent) return true;  // as good
    }
  }
  Job& job = jobs_.emplace_back();
  job.at.number = next_number_++;
  job.at.key = key;
  job.at.extent = extent;
  job.for_scan = for_scan;
  ctx.node.MarkDirty(primary.key_);
  return true;
}

void Examinations::Release(Context& ctx, Primary& primary) {
  std::vector<Job> jobs = std::exchange(jobs_, {});
  for (Job& job : jobs) {
    primary.Unlock(ctx, &job.at.lock);
    if (!job.for_scan) continue;
    job.result.compared = false;
    job.result.unresolved = job.result.damaged + job.result.differing > job.result.repaired;
    if (Device* device = ctx.node.devices.FindUp(primary.key_.device)) {
      device->scan.OnExamined(ctx, *device, job.result);
    }
  }
}

void Examinations::Advance(Context& ctx, Primary& primary) {
  if (jobs_.empty()) return;
  if (!primary.MayExamine(ctx)) return Release(ctx, primary);
  Job& job = jobs_.front();
  if (job.phase == Job::Phase::kWaiting) {
    job.at.SetPatience(ctx, primary, kPatience);
    return Lock(ctx, primary, job);
  }
  if (job.phase == Job::Phase::kRepairing) return;  // has a patience of its own
  if (ctx.now.boot >= job.at.give_up_at) {
    return GiveUp(ctx, primary, job, "the other copy does not answer");
  }
  if (job.phase == Job::Phase::kExamining && !job.peer_read) {
    job.at.Ask(ctx, primary, /*with_content=*/false);
  }
  if (job.phase == Job::Phase::kFixing && !Send(ctx, primary, job)) {
    GiveUp(ctx, primary, job, "no memory for it now");
  }
}

void Examinations::Lock(Context& ctx, Primary& primary, Job& job) {
  job.phase = Job::Phase::kAwaitingLock;
  if (job.at.Lock(primary, RangeLock::Mode::kShared, RangeLock::Owner::Kind::kExamination)) {
    OnLocked(ctx, primary, job);
  }
}

void Examinations::OnLockGranted(Context& ctx, Primary& primary, uint64_t number) {
  if (Job* job = FindJob(jobs_, number)) OnLocked(ctx, primary, *job);
}

void Examinations::OnLocked(Context& ctx, Primary& primary, Job& job) {
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return;
  if (PLANTED_BUG("scan-without-lock")) primary.Unlock(ctx, &job.at.lock);
  job.phase = Job::Phase::kExamining;
  job.own_read = false;
  job.peer_read = false;
  job.at.BeginAsking();
  switch (job.at.Read(ctx, primary, *store, OpKind::kExamineRead)) {
    case ExtentRead::Step::kDone:
      job.own_read = true;
      break;
    case ExtentRead::Step::kRunning:
      break;
    case ExtentRead::Step::kNoMemory:
      return GiveUp(ctx, primary, job, "no memory for it now");
    case ExtentRead::Step::kFailed:
      return;
  }
  job.result.blocks_read = Count(job.at.own.present());
  job.at.Ask(ctx, primary, /*with_content=*/false);
}

void Examinations::OnRead(Context& ctx, Primary& primary, const Op& op, store::DoneStatus status) {
  Job* job = FindJob(jobs_, op.a);
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr || job == nullptr || !job->at.own.running()) return;
  if (job->at.own.OnDone(ctx, *store, status) != ExtentRead::Step::kDone) return;
  job->own_read = true;
  Decide(ctx, primary, *job);
}

void Examinations::OnReply(Context& ctx, Primary& primary, const wire::ExtentReply& reply) {
  Job* job = FindJob(jobs_, reply.number);
  if (job == nullptr || job->phase != Job::Phase::kExamining || job->peer_read) return;
  if (reply.status == wire::Status::kBehind || reply.status == wire::Status::kBusy) {
    return job->at.AskLater(ctx, primary);
  }
  if (reply.status != wire::Status::kOk) {
    return GiveUp(ctx, primary, *job, "the other copy cannot be compared with");
  }
  job->peer_read = true;
  job->peer = reply;
  Decide(ctx, primary, *job);
}

// Both copies have been read, or nothing happens yet.
void Examinations::Decide(Context& ctx, Primary& primary, Job& job) {
  if (job.phase != Job::Phase::kExamining || !job.own_read || !job.peer_read) return;
  const uint16_t damaged = job.at.own.damaged();
  if (damaged != 0 && !PLANTED_BUG("scan-trusts-damaged-copy")) {
    if (job.repaired) return GiveUp(ctx, primary, job, "it is damaged again");
    job.result.damaged += Count(damaged);
    Report(ctx, primary, job, Severity::kWarning,
           absl::StrCat(Count(damaged), " damaged blocks on device ", primary.key_.device.value()));
    // In the way that reads take, under a lock that keeps these out.
    job.phase = Job::Phase::kRepairing;
    job.repaired = true;
    primary.Unlock(ctx, &job.at.lock);
    const uint64_t number = job.at.number;
    const Repairs::Range range{.key = job.at.key,
                               .first_block = uint32_t{job.at.extent} * wire::kBlocksPerExtent,
                               .block_count = wire::kBlocksPerExtent};
    if (!primary.repairs_.Start(ctx, primary, range, {Repairs::Waiter::Kind::kExamine, number})) {
      GiveUp(ctx, primary, job, "there is no other copy to ask");
    }
    return;
  }
  const uint16_t there = job.peer.damaged;
  const auto differing =
      static_cast<uint16_t>(DifferingBlocks(job.at.own.present(), job.at.own.Crcs(),
                                            job.peer.good(), job.peer.block_crc) &
                            ~there);
  job.result.compared = true;
  job.peer_bad = static_cast<uint16_t>(there | differing);
  if (job.peer_bad == 0) return Finish(ctx, primary, job);
  const uint64_t other = primary.secondary_.member.device.value();
  // Nothing is taken away for ever: data that only the other copy has stays.
  const auto only_there = static_cast<uint16_t>(differing & ~job.at.own.present());
  job.result.damaged += Count(there);
  job.result.differing += Count(differing);
  if (there != 0) {
    Report(ctx, primary, job, Severity::kWarning,
           absl::StrCat(Count(there), " damaged blocks on device ", other));
  }
  if (differing != 0) {
    ++ctx.node.counters.copies_differ;
    Report(ctx, primary, job, Severity::kCritical,
           absl::StrCat(
               "blocks ", absl::Hex(differing), " verify on device ", primary.key_.device.value(),
               " and on device ", other, ", and differ; ",
               only_there == 0 ? "the latter takes what clients read" : "clients read zeroes"));
  }
  if (only_there != 0) {
    return GiveUp(ctx, primary, job, "only the copy that clients do not read has data there");
  }
  job.phase = Job::Phase::kFixing;
  job.at.BeginAsking();
  if (!Send(ctx, primary, job)) GiveUp(ctx, primary, job, "no memory for it now");
}

// False: no memory.
bool Examinations::Send(Context& ctx, Primary& primary, Job& job) {
  const ConnId conn = job.at.ConnToAsk(ctx, primary);
  if (!conn.valid()) return true;
  store::Store* store = primary.StoreOf(ctx);
  if (store == nullptr) return true;
  // A replica that comes back is sent what changed: where a content was replaced by another one
  // that is now.
  const std::optional<store::ChunkSummary> summary =
      FindChunk(*store, primary.key_.slice, job.at.key, Epoch());
  const bool replaced = (job.peer_bad & ~job.peer.damaged) != 0 || !summary.has_value();
  wire::ScanFix fix{
      .pair = primary.PairOf(primary.secondary_),
      .number = job.at.number,
      .vtree = job.at.key.vtree,
      .version = job.at.key.version,
      .modified_epoch = replaced ? primary.config_.epoch : summary->modified_epoch,
      .after = {primary.config_.epoch, Seq(primary.committed_seq())},
      .chunk = job.at.key.chunk,
      .extent = job.at.extent,
      .present = job.at.own.present(),
  };
  std::optional<Slice> packed =
      PackExtent(*ctx.node.resources.pool, job.at.own.data(), fix.present, &fix.block_crc);
  if (!packed.has_value()) return false;
  job.at.asked = conn;
  ctx.effects.Send(conn, fix, std::move(*packed));
  return true;
}

void Examinations::OnFixed(Context& ctx, Primary& primary, const wire::ScanFixReply& reply) {
  Job* job = FindJob(jobs_, reply.number);
  if (job == nullptr || job->phase != Job::Phase::kFixing) return;
  if (reply.status == wire::Status::kBehind || reply.status == wire::Status::kBusy) {
    return job->at.AskLater(ctx, primary);
  }
  if (reply.status != wire::Status::kOk) {
    return GiveUp(ctx, primary, *job, "the other copy does not take it");
  }
  job->result.repaired += Count(job->peer_bad);
  ctx.node.counters.blocks_repaired += Count(job->peer_bad);
  ctx.Log(Severity::kInfo,
          absl::StrCat("slice ", ToString(primary.key_.slice), ": ", Count(job->peer_bad),
                       " blocks on device ", ToString(primary.secondary_.member.device),
                       " replaced by those of device ", ToString(primary.key_.device)));
  Finish(ctx, primary, *job);
}

void Examinations::OnRepaired(Context& ctx, Primary& primary, uint64_t number, bool good) {
  Job* job = FindJob(jobs_, number);
  if (job == nullptr || job->phase != Job::Phase::kRepairing) return;
  if (!good) return GiveUp(ctx, primary, *job, "it could not be made good");
  job->result.repaired += job->result.damaged;
  job->at.SetPatience(ctx, primary, kPatience);
  Lock(ctx, primary, *job);
}

void Examinations::Report(Context& ctx, Primary& primary, Job& job, Severity severity,
                          std::string_view text) {
  job.result.finding =
      DescribeFinding(ctx.node, primary.key_.slice, job.at.key, job.at.extent, text);
  ctx.Log(severity, absl::StrCat("scan: ", job.result.finding));
}

void Examinations::GiveUp(Context& ctx, Primary& primary, Job& job, std::string_view why) {
  if (job.result.damaged + job.result.differing > job.result.repaired) {
    job.result.unresolved = true;
    absl::StrAppend(&job.result.finding, "; not made good: ", std::string(why));
    ctx.Log(Severity::kError, absl::StrCat("scan: ", job.result.finding));
  }
  job.result.compared = false;
  Finish(ctx, primary, job);
}

void Examinations::Finish(Context& ctx, Primary& primary, Job& job) {
  primary.Unlock(ctx, &job.at.lock);
  const bool for_scan = job.for_scan;
  const Examined result = std::move(job.result);
  jobs_.erase(jobs_.begin() + (&job - jobs_.data()));
  ctx.node.MarkDirty(primary.key_);
  Device* device = ctx.node.devices.FindUp(primary.key_.device);
  if (device == nullptr) return;
  if (for_scan) {
    device->scan.OnExamined(ctx, *device, result);
  } else {
    device->scan.OnHintExamined(result);
  }
}

}  // namespace gabion::sds
