// Each fault class of disks hurts: a naive keeper of pages that is right without the class goes
// wrong with it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "sim/fault/injector.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TrueTime kSecond = 1'000'000'000;
constexpr uint32_t kPages = 16;  // that are kept: even ones by durable writes, odd ones by flushes
constexpr uint64_t kFirst = 16 << 10;
constexpr uint64_t kFresh = 512 << 10;
constexpr uint64_t kDiskBytes = 1 << 20;

// What it believes of its disk.
struct Beliefs {
  bool opens = true;
  bool size_stays = true;
  bool mine_is_mine = true;  // the label on it
  bool reads_succeed = true;
  bool reads_are_right = true;
  bool writes_succeed = true;
  bool flushes_succeed = true;
  bool answers_soon = true;
  bool acknowledged_is_there = true;  // after a restart
  bool unfinished_is_undone = true;   // what was on its way at a crash did not happen
  bool crashes_leave_old_or_new = true;
};

// Keeps 16 pages, each with a number that only grows. A flush that failed it gives again, and
// believes the second one.
class Keeper {
 public:
  Keeper(Beliefs* beliefs, PageArena* arena, Choices* choices, const FaultPlan& plan)
      : beliefs_(beliefs), world_({}, choices, arena) {
    for (const char label : {'a', 'b'}) {
      const NodeIndex node =
          AddScript(world_, [this, label](const Now& now, const Event& event, Effects& effects) {
            if (label == 'b') On(now, event, effects);
          });
      world_.AddDisk(node, "/dev/data", ToyDisk(kDiskBytes));
      std::vector<std::byte> page(kPageBytes, static_cast<std::byte>(label));
      DiskImage image = world_.node(node).disks[1].disk->current();
      image.Write(0, page);
      world_.node(node).disks[1].disk->RollBackTo(image);
    }
    injector_ = std::make_unique<FaultInjector>(
        &world_, plan,
        FaultInjector::Targets{.mdms = {0},
                               .sdss = {0, 1},
                               .sdcs = {0},
                               .rot_from_bytes = kFirst,
                               .log_from_bytes = kFirst,
                               .log_to_bytes = kFirst + uint64_t{kPages} * kPageBytes});
  }

  World& Run() {
    world_.Start(0);
    world_.Start(1);
    world_.RunUntil(kSecond);
    injector_->Run(31 * kSecond);
    world_.RunUntil(31 * kSecond);
    return world_;
  }

 private:
  enum class Doing : uint8_t {
    kNothing,
    kLabel,
    kCheck,
    kWrite,
    kFlush,
    kFresh,
    kDiscard,
    kPause,
    kRead
  };

  void On(const Now& now, const Event& event, Effects& effects) {
    if (std::holds_alternative<StartEvent>(event)) {
      doing_ = Doing::kNothing;
      effects.OpenDevice(1, "/dev/data");
    } else if (const auto* opened = std::get_if<DeviceOpenedEvent>(&event)) {
      if (!opened->ok) {
        beliefs_->opens = false;
        effects.SetTimer(1, now.boot + milliseconds(100));
        return;
      }
      if (opened->info.size_bytes != kDiskBytes) beliefs_->size_stays = false;
      device_ = opened->device;
      checked_ = 0;
      Read(now, effects, Doing::kLabel, 0);
    } else if (std::holds_alternative<TimerEvent>(event)) {
      if (doing_ == Doing::kNothing) effects.OpenDevice(1, "/dev/data");
      if (doing_ == Doing::kPause) {
        page_ = (page_ + 5) % kPages;
        Read(now, effects, Doing::kRead, PlaceOf(page_));
      }
    } else if (const auto* done = std::get_if<DiskDoneEvent>(&event)) {
      if (now.boot - began_ > milliseconds(500)) beliefs_->answers_soon = false;
      OnDone(now, *done, effects);
    }
  }

  void OnDone(const Now& now, const DiskDoneEvent& done, Effects& effects) {
    const bool ok = done.status == DiskStatus::kOk;
    switch (doing_) {
      case Doing::kNothing:
      case Doing::kPause:
        return;
      case Doing::kLabel:
        if (!ok || Byte(0) != 'b') beliefs_->mine_is_mine = false;
        Read(now, effects, Doing::kCheck, PlaceOf(0));
        return;
      case Doing::kCheck:
        if (ok) CheckAfterStart(checked_);
        if (++checked_ < kPages) return Read(now, effects, Doing::kCheck, PlaceOf(checked_));
        unfinished_ = kPages;
        return Write(now, effects);
      case Doing::kWrite:
        if (!ok) beliefs_->writes_succeed = false;
        if (page_ % 2 == 0) {
          Acknowledge();
          return WriteFresh(now, effects);
        }
        return Flush(now, effects);
      case Doing::kFlush:
        if (!ok) {
          beliefs_->flushes_succeed = false;
          return Flush(now, effects);
        }
        Acknowledge();
        return WriteFresh(now, effects);
      case Doing::kFresh:
        if (!ok) beliefs_->writes_succeed = false;
        Begin(now, Doing::kDiscard);
        effects.Discard(device_, kFresh, kPageBytes, 1);
        return;
      case Doing::kDiscard:
        doing_ = Doing::kPause;
        effects.SetTimer(1, now.boot + milliseconds(4));
        return;
      case Doing::kRead:
        if (!ok) {
          beliefs_->reads_succeed = false;
        } else if (Byte(0) != Pattern(kept_[page_]) || Byte(kPageBytes - 1) != Byte(0)) {
          beliefs_->reads_are_right = false;
        }
        return Write(now, effects);
    }
  }

  static uint64_t PlaceOf(uint32_t page) { return kFirst + uint64_t{page} * kPageBytes; }
  static uint8_t Pattern(uint64_t number) { return static_cast<uint8_t>(number % 251); }
  uint8_t Byte(size_t at) const { return std::to_integer<uint8_t>(buffer_.span()[at]); }

  void Begin(const Now& now, Doing doing) {
    doing_ = doing;
    began_ = now.boot;
  }
  void Read(const Now& now, Effects& effects, Doing doing, uint64_t place) {
    Begin(now, doing);
    buffer_ = world_.node(1).pool->Allocate(kPageBytes);
    effects.Read(device_, place, {&buffer_, 1}, 1);
  }
  Slice Filled(uint64_t number) {
    Slice page = world_.node(1).pool->Allocate(kPageBytes);
    std::memset(page.mutable_span().data(), Pattern(number), kPageBytes);
    return page;
  }
  void Write(const Now& now, Effects& effects) {
    Begin(now, Doing::kWrite);
    unfinished_ = page_;
    const Slice page = Filled(kept_[page_] + 1);
    if (page_ % 2 == 0) {
      effects.DurableWrite(device_, PlaceOf(page_), {&page, 1}, 1);
    } else {
      effects.Write(device_, PlaceOf(page_), {&page, 1}, 1);
    }
  }
  void Flush(const Now& now, Effects& effects) {
    Begin(now, Doing::kFlush);
    effects.Flush(device_, 1);
  }
  void Acknowledge() {
    ++kept_[page_];
    unfinished_ = kPages;
  }
  void WriteFresh(const Now& now, Effects& effects) {
    Begin(now, Doing::kFresh);
    const Slice page = Filled(1);
    effects.Write(device_, kFresh, {&page, 1}, 1);
  }

  void CheckAfterStart(uint32_t page) {
    const uint8_t before = Pattern(kept_[page]);
    const uint8_t after = Pattern(kept_[page] + 1);
    bool any_other = false;
    bool all_after = true;
    for (size_t at = 0; at < kPageBytes; ++at) {
      any_other = any_other || (Byte(at) != before && Byte(at) != after);
      all_after = all_after && Byte(at) == after;
    }
    if (page != unfinished_) {
      if (any_other || Byte(0) != before) beliefs_->acknowledged_is_there = false;
    } else {
      if (any_other) beliefs_->crashes_leave_old_or_new = false;
      if (all_after && page % 2 == 0) beliefs_->unfinished_is_undone = false;
      if (all_after) ++kept_[page];
    }
  }

  Beliefs* beliefs_;
  World world_;
  std::unique_ptr<FaultInjector> injector_;
  DeviceIndex device_{};
  Doing doing_ = Doing::kNothing;
  Instant began_{};
  Slice buffer_;
  uint32_t page_ = 0;
  uint32_t checked_ = 0;
  // Outside the process: what it was told, and what it was about to write.
  std::array<uint64_t, kPages> kept_{};
  uint32_t unfinished_ = kPages;
};

FaultPlan PlanOf(const std::vector<Fault>& faults) {
  FaultPlan plan;
  plan.world.lose_unflushed = false;
  plan.world.tear_writes = false;
  plan.world.complete_unacknowledged = false;
  for (const Fault fault : faults) {
    plan.enabled[fault] = true;
    plan.mean[fault] = seconds(3);
    plan.world.per_million[fault] = fault >= kFirstOfDisks ? 20'000 : 0;
    if (fault == Fault::kUnflushedLost) plan.world.lose_unflushed = true;
    if (fault == Fault::kTornWrite) plan.world.tear_writes = true;
    if (fault == Fault::kUnacknowledged) plan.world.complete_unacknowledged = true;
    if (fault == Fault::kGarbage) plan.world.leave_garbage = true;
  }
  return plan;
}

// Until `broken` is, over some seeds; how often `fault` happened.
uint64_t Try(const std::vector<Fault>& faults, uint64_t seeds, bool Beliefs::*broken, Fault fault,
             bool* holds) {
  Beliefs beliefs;
  uint64_t fired = 0;
  for (uint64_t seed = 1; seed <= seeds && beliefs.*broken; ++seed) {
    PageArena arena;
    Choices choices(seed);
    Keeper keeper(&beliefs, &arena, &choices, PlanOf(faults));
    fired += keeper.Run().fired()[fault];
  }
  *holds = beliefs.*broken;
  return fired;
}

struct Class {
  Fault fault;
  std::vector<Fault> with;  // classes that it needs to show
  bool Beliefs::*broken;
};

TEST(DiskEfficacy, EveryClassBreaksABeliefThatHoldsWithoutIt) {
  const Class kClasses[] = {
      {Fault::kGarbage, {Fault::kPowerCut, Fault::kTornWrite}, &Beliefs::crashes_leave_old_or_new},
      {Fault::kUnacknowledged, {Fault::kKill}, &Beliefs::unfinished_is_undone},
      {Fault::kRot, {}, &Beliefs::reads_are_right},
      {Fault::kLatent, {}, &Beliefs::reads_succeed},
      {Fault::kMisread, {}, &Beliefs::reads_are_right},
      {Fault::kMiswrite, {}, &Beliefs::reads_are_right},
      {Fault::kPhantom, {}, &Beliefs::reads_are_right},
      {Fault::kStaleRead, {}, &Beliefs::reads_are_right},
      {Fault::kWriteError, {}, &Beliefs::writes_succeed},
      {Fault::kFlushError, {}, &Beliefs::flushes_succeed},
      // The second flush said that it was good.
      {Fault::kFlushError, {Fault::kPowerCut}, &Beliefs::acknowledged_is_there},
      {Fault::kStuck, {}, &Beliefs::answers_soon},
      {Fault::kFull, {}, &Beliefs::writes_succeed},
      {Fault::kReadOnly, {}, &Beliefs::writes_succeed},
      {Fault::kVanish, {}, &Beliefs::writes_succeed},
      {Fault::kVanish, {Fault::kKill}, &Beliefs::opens},
      {Fault::kSizeChange, {}, &Beliefs::size_stays},
      {Fault::kSwapped, {}, &Beliefs::mine_is_mine},
      {Fault::kWiped, {}, &Beliefs::mine_is_mine},
      {Fault::kRolledBack, {}, &Beliefs::acknowledged_is_there},
      {Fault::kLogPhantom, {}, &Beliefs::acknowledged_is_there},
      {Fault::kLogMiswrite, {}, &Beliefs::acknowledged_is_there},
  };
  for (const Class& c : kClasses) {
    bool holds = false;
    EXPECT_EQ(Try(c.with, 3, c.broken, c.fault, &holds), 0u) << NameOf(c.fault);
    EXPECT_TRUE(holds) << NameOf(c.fault) << ": without it";
    std::vector<Fault> faults = c.with;
    faults.push_back(c.fault);
    EXPECT_GT(Try(faults, 16, c.broken, c.fault, &holds), 0u) << NameOf(c.fault);
    EXPECT_FALSE(holds) << NameOf(c.fault);
  }
}

}  // namespace
}  // namespace gabion::sim
