// What the injector does to disks.
#include <algorithm>
#include <utility>

#include "sim/fault/injector.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kLook = milliseconds(200);
constexpr uint32_t kCalmLooks = 10;  // all is well for two seconds
constexpr Duration kCalmMax = seconds(10);
// From a lie about a write of the log to the crash.
constexpr Duration kLieMean = std::chrono::microseconds(500);
constexpr Duration kLieMax = milliseconds(5);

}  // namespace

NodeIndex FaultInjector::DiskVictim(Stream stream) {
  // Always of the same server, so that no block is damaged on both copies.
  if (!plan_.over_budget) return targets_.sdss.back();
  return targets_.sdss[world_->choices().Below(stream, Site::kFaultWhat, targets_.sdss.size())];
}

// Of data, if there is any.
size_t FaultInjector::DrawDisk(NodeIndex victim, Stream stream) {
  const size_t count = DisksOf(victim).size();
  const size_t first = count > 1 ? 1 : 0;
  return first + world_->choices().Below(stream, Site::kFaultWhat, count - first);
}

void FaultInjector::StartLies() {
  for (const NodeIndex node : targets_.sdss) {
    if (!plan_.over_budget && node != targets_.sdss.back()) continue;
    std::vector<Node::NamedDisk>& disks = DisksOf(node);
    for (size_t i = disks.size() > 1 ? 1 : 0; i < disks.size(); ++i) {
      disks[i].disk->LieFrom(targets_.rot_from_bytes);
    }
  }
}

void FaultInjector::HappenToDisk(Fault fault, Stream stream) {
  Choices& choices = world_->choices();
  const NodeIndex victim = DiskVictim(stream);
  const size_t index = DrawDisk(victim, stream);
  Disk& disk = *DisksOf(victim)[index].disk;
  const Duration length =
      choices.TailOf(stream, Site::kFaultLength, seconds(3), seconds(20)) + milliseconds(1);
  if (world_->tracing()) {
    world_->Trace(victim, "DISK " + std::to_string(index) + ": " + std::string(NameOf(fault)));
  }
  Disk::Trouble& trouble = disk.trouble();
  switch (fault) {
    case Fault::kRot:
    case Fault::kLatent: {
      const bool anywhere = plan_.over_budget && choices.Chance(stream, Site::kFaultWhat, 1, 2);
      disk.Damage(fault, anywhere ? 0 : targets_.rot_from_bytes);
      return;
    }
    case Fault::kStuck:
      trouble.stuck_until =
          std::max(trouble.stuck_until, std::min(world_->now() + length.count(), end_));
      RestartSoon(victim, stream, length);
      return;
    case Fault::kVanish:
      trouble.gone = true;
      to_restart_.push_back(victim);  // it may come back only with the healing
      world_->After(length, [this, victim, &disk] {
        disk.trouble().gone = false;
        if (!healed_) RestartSoon(victim, StreamOf(Fault::kVanish), Duration(0));
      });
      return;
    case Fault::kSizeChange:
      return ChangeSize(victim, index, stream);
    case Fault::kSwapped:
      return Swap(victim, stream);
    case Fault::kWriteError:
    case Fault::kFlushError:
    case Fault::kFull:
    case Fault::kReadOnly:
    case Fault::kWiped:
    case Fault::kRolledBack:
      return BeginLoss(fault, victim, index);
    case Fault::kLogPhantom:
    case Fault::kLogMiswrite:
      if (plan_.over_budget) return LieInLog(fault, victim, index);
      return BeginLoss(fault, victim, index);
    default:
      CHECK(false) << "no fault of disks";
  }
}

void FaultInjector::RestartSoon(NodeIndex victim, Stream stream, Duration at_least) {
  to_restart_.push_back(victim);
  Choices& choices = world_->choices();
  if (!choices.Chance(stream, Site::kFaultWhat, 3, 4)) return;
  const Duration pause =
      choices.TailOf(stream, Site::kFaultWhen, seconds(1), seconds(10)) + milliseconds(1);
  world_->After(at_least + pause, [this, victim] {
    if (!Idle() && world_->Running(victim)) world_->Kill(victim);
  });
}

void FaultInjector::ChangeSize(NodeIndex victim, size_t disk, Stream stream) {
  Choices& choices = world_->choices();
  Disk& changed = *DisksOf(victim)[disk].disk;
  if (changed.info().size_bytes != changed.true_size_bytes()) return;
  const uint64_t step = uint64_t{kPageBytes} << choices.Below(stream, Site::kFaultWhat, 8);
  const bool smaller = choices.Chance(stream, Site::kFaultWhat, 1, 2);
  ++world_->fired()[Fault::kSizeChange];
  world_->PowerCut(victim);
  changed.ShowSize(smaller ? changed.true_size_bytes() - step : changed.true_size_bytes() + step);
  const Duration length =
      choices.TailOf(stream, Site::kFaultLength, seconds(3), seconds(20)) + milliseconds(1);
  world_->After(length, [this, victim, &changed] {
    if (healed_ || changed.info().size_bytes == changed.true_size_bytes()) return;
    world_->PowerCut(victim);
    changed.ShowSize(changed.true_size_bytes());
  });
}

// Somebody takes two servers apart, and puts the disks back the wrong way round.
void FaultInjector::Swap(NodeIndex victim, Stream stream) {
  if (swapped_.has_value() || loss_ != Loss::kNo || targets_.sdss.size() < 2) return;
  Choices& choices = world_->choices();
  // Not with the first one, if there are others: its disks may be copied meanwhile.
  std::vector<NodeIndex> others;
  for (const NodeIndex node : targets_.sdss) {
    if (node != victim) others.push_back(node);
  }
  if (others.size() > 1 && others.front() == targets_.sdss.front()) others.erase(others.begin());
  const NodeIndex other = others[choices.Below(stream, Site::kFaultWhat, others.size())];
  swapped_ = Swapped{.a = victim, .b = other};
  ++world_->fired()[Fault::kSwapped];
  world_->PowerCut(victim);
  world_->PowerCut(other);
  std::swap(DisksOf(victim).back().disk, DisksOf(other).back().disk);
  const Duration length =
      choices.TailOf(stream, Site::kFaultLength, seconds(4), seconds(20)) + milliseconds(1);
  world_->After(length, [this] { SwapBack(); });
}

void FaultInjector::SwapBack() {
  if (!swapped_.has_value()) return;
  const Swapped swapped = *std::exchange(swapped_, std::nullopt);
  world_->PowerCut(swapped.a);
  world_->PowerCut(swapped.b);
  std::swap(DisksOf(swapped.a).back().disk, DisksOf(swapped.b).back().disk);
}

// ---- Loss of content
// -----------------------------------------------------------------------------

void FaultInjector::BeginLoss(Fault kind, NodeIndex victim, size_t disk) {
  if (loss_ != Loss::kNo || swapped_.has_value() || (lost_[kind] && !plan_.over_budget)) return;
  if (kind == Fault::kRolledBack && !old_image_.has_value()) {
    // As a power cut now would leave it; the next time it is back at that.
    old_image_ = DisksOf(victim)[disk].disk->durable_image();
    old_image_disk_ = disk;
    return;
  }
  if (kind == Fault::kRolledBack) disk = old_image_disk_;
  if (targets_.may_lose == nullptr) return Lose(kind, victim, disk);
  BecomeLoss(Loss::kCalming);
  world_->faults() = WorldFaults();
  quiet_until_ = kForever;
  AdvanceLoss(kind, victim, disk);
}

void FaultInjector::BecomeLoss(Loss loss) {
  loss_ = loss;
  loss_since_ = world_->now();
  calm_looks_ = 0;
}

void FaultInjector::AdvanceLoss(Fault kind, NodeIndex victim, size_t disk) {
  if (loss_ == Loss::kNo || healed_) return;
  const Duration since(world_->now() - loss_since_);
  calm_looks_ = targets_.may_lose(victim) ? calm_looks_ + 1 : 0;
  const bool calm = calm_looks_ >= kCalmLooks;
  switch (loss_) {
    case Loss::kNo:
      return;
    case Loss::kCalming:
      if (!calm && since > kCalmMax) return EndLoss();
      if (!calm) break;
      fired_before_ = world_->fired()[kind];
      Lose(kind, victim, disk);
      BecomeLoss(Loss::kArmed);
      break;
    case Loss::kArmed:
      if (world_->fired()[kind] != fired_before_) {
        lost_[kind] = true;
        BecomeLoss(Loss::kCopying);
      } else if (since > kCalmMax) {
        DisksOf(victim)[disk].disk->trouble() = Disk::Trouble();
        DisksOf(victim)[disk].disk->StopLying();
        return EndLoss();
      }
      break;
    case Loss::kCopying:
      // However long it takes.
      if (calm) return EndLoss();
      break;
  }
  world_->After(kLook, [this, kind, victim, disk] { AdvanceLoss(kind, victim, disk); });
}

void FaultInjector::Lose(Fault kind, NodeIndex victim, size_t disk) {
  Disk& hit = *DisksOf(victim)[disk].disk;
  Disk::Trouble& trouble = hit.trouble();
  switch (kind) {
    case Fault::kWriteError:
      trouble.write_errors = 1;
      return;
    case Fault::kFlushError:
      trouble.flush_errors = 1;
      return;
    case Fault::kFull:
      trouble.full = true;
      return;
    case Fault::kReadOnly:
      trouble.read_only = true;
      return;
    case Fault::kLogPhantom:
    case Fault::kLogMiswrite:
      return LieInLog(kind, victim, disk);
    default:
      break;
  }
  ++world_->fired()[kind];
  world_->PowerCut(victim);
  if (kind == Fault::kWiped) {
    hit.Wipe();
  } else {
    hit.RollBackTo(*old_image_);
  }
}

// In budget the crash comes at once, or a few batches later: what a checkpoint has taken in is not
// read from the log any more, and a block that it has brought home damaged would stay so when the
// good copy is gone for a while.
void FaultInjector::LieInLog(Fault kind, NodeIndex victim, size_t disk) {
  Disk& hit = *DisksOf(victim)[disk].disk;
  Disk::DurableLie lie{.kind = kind,
                       .from_bytes = targets_.log_from_bytes,
                       .to_bytes = targets_.log_to_bytes,
                       .stays = Disk::LieStays::kIfProven};
  if (!plan_.over_budget) {
    lie.stays = Disk::LieStays::kWithoutCheckpoint;
    lie.then = [this, kind, victim, &hit] {
      Choices& choices = world_->choices();
      const Stream stream = StreamOf(kind);
      const bool later = choices.Chance(stream, Site::kFaultWhen, 1, 2);
      const Duration pause =
          later ? choices.TailOf(stream, Site::kFaultWhen, kLieMean, kLieMax) : Duration(0);
      const bool power = choices.Chance(stream, Site::kFaultWhat, 1, 2);
      world_->After(pause, [this, victim, &hit, power] {
        if (healed_ || !hit.may_come_true()) return;
        power ? world_->PowerCut(victim) : world_->Kill(victim);
      });
    };
  }
  hit.LieOnce(std::move(lie));
}

void FaultInjector::EndLoss() {
  loss_ = Loss::kNo;
  quiet_until_ = world_->now();
  if (!healed_) world_->faults() = plan_.world;
}

void FaultInjector::HealDisks() {
  EndLoss();
  SwapBack();
  for (const NodeIndex node : targets_.sdss) {
    for (Node::NamedDisk& disk : DisksOf(node)) {
      disk.disk->trouble() = Disk::Trouble();
      disk.disk->LieFrom(UINT64_MAX);
      disk.disk->StopLying();
      if (!plan_.over_budget) disk.disk->HealDamage();
      if (disk.disk->info().size_bytes == disk.disk->true_size_bytes()) continue;
      world_->PowerCut(node);
      disk.disk->ShowSize(disk.disk->true_size_bytes());
    }
  }
  HealStates();
  for (const NodeIndex node : to_restart_) world_->Kill(node);
}

}  // namespace gabion::sim
