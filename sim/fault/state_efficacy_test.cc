// Each fault class of state devices hurts: a naive keeper of a journal that is right without the
// class goes wrong with it.
#include <gtest/gtest.h>

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
constexpr uint32_t kRecords = 16;
constexpr Duration kPause = milliseconds(100);

// What it believes of its state device.
struct Beliefs {
  bool reads_succeed = true;
  bool writes_succeed = true;
  bool recorded_is_there = true;  // after a restart
};

// Records a number that only grows, one page for each, round and round, and reads them all at its
// start. When a write fails it looks whether the number is there, and believes what it sees.
class Recorder {
 public:
  Recorder(Beliefs* beliefs, PageArena* arena, Choices* choices, const FaultPlan& plan)
      : beliefs_(beliefs), world_({}, choices, arena) {
    AddScript(world_, [this](const Now& now, const Event& event, Effects& effects) {
      On(now, event, effects);
    });
    injector_ = std::make_unique<FaultInjector>(
        &world_, plan, FaultInjector::Targets{.mdms = {0}, .sdss = {0}, .sdcs = {0}});
  }

  World& Run() {
    world_.Start(0);
    world_.RunUntil(3 * kSecond);
    injector_->Run(63 * kSecond);
    world_.RunUntil(63 * kSecond);
    return world_;
  }

 private:
  enum class Doing : uint8_t { kNothing, kStart, kWrite, kLook, kPause };

  void On(const Now& now, const Event& event, Effects& effects) {
    if (std::holds_alternative<StartEvent>(event)) {
      Read(effects, Doing::kStart, 0);
    } else if (const auto* done = std::get_if<DiskDoneEvent>(&event)) {
      OnDone(now, done->status == DiskStatus::kOk, effects);
    } else if (std::holds_alternative<TimerEvent>(event) && doing_ == Doing::kPause) {
      Write(effects);
    }
  }

  void OnDone(const Now& now, bool ok, Effects& effects) {
    switch (doing_) {
      case Doing::kNothing:
      case Doing::kPause:
        return;
      case Doing::kStart: {
        if (!ok) {
          beliefs_->reads_succeed = false;
        } else if (const uint64_t number = Number(); number < recorded_[page_]) {
          beliefs_->recorded_is_there = false;
        } else {
          recorded_[page_] = number;  // it was on its way when the process ended
        }
        if (page_ + 1 < kRecords) return Read(effects, Doing::kStart, page_ + 1);
        page_ = 0;
        return Write(effects);
      }
      case Doing::kWrite:
        if (!ok) {
          beliefs_->writes_succeed = false;
          return Read(effects, Doing::kLook, page_);
        }
        recorded_[page_] = next_;
        return Pause(now, effects);
      case Doing::kLook:
        if (ok && Number() == next_) recorded_[page_] = next_;
        return Pause(now, effects);
    }
  }

  void Read(Effects& effects, Doing doing, uint32_t page) {
    doing_ = doing;
    page_ = page;
    buffer_ = world_.node(0).pool->Allocate(kPageBytes);
    effects.Read(DeviceIndex::kState, uint64_t{page} * kPageBytes, {&buffer_, 1}, 1);
  }
  void Write(Effects& effects) {
    doing_ = Doing::kWrite;
    ++next_;
    Slice page = world_.node(0).pool->Allocate(kPageBytes);
    for (uint32_t at = 0; at < kPageBytes; at += sizeof(next_)) {
      std::memcpy(page.mutable_span().data() + at, &next_, sizeof(next_));
    }
    effects.DurableWrite(DeviceIndex::kState, uint64_t{page_} * kPageBytes, {&page, 1}, 1);
  }
  void Pause(const Now& now, Effects& effects) {
    doing_ = Doing::kPause;
    page_ = (page_ + 1) % kRecords;
    effects.SetTimer(1, now.boot + kPause);
  }
  uint64_t Number() const {
    uint64_t number = 0;
    std::memcpy(&number, buffer_.data(), sizeof(number));
    return number;
  }

  Beliefs* beliefs_;
  World world_;
  std::unique_ptr<FaultInjector> injector_;
  Doing doing_ = Doing::kNothing;
  Slice buffer_;
  uint32_t page_ = 0;
  // Outside the process: what it has recorded.
  uint64_t next_ = 0;
  std::array<uint64_t, kRecords> recorded_{};
};

FaultPlan PlanOf(const std::vector<Fault>& faults) {
  FaultPlan plan;
  for (const Fault fault : faults) {
    plan.enabled[fault] = true;
    plan.mean[fault] = seconds(3);
  }
  return plan;
}

uint64_t Try(const std::vector<Fault>& faults, uint64_t seeds, bool Beliefs::*broken, Fault fault,
             bool* holds) {
  Beliefs beliefs;
  uint64_t fired = 0;
  for (uint64_t seed = 1; seed <= seeds && beliefs.*broken; ++seed) {
    PageArena arena;
    Choices choices(seed);
    Recorder recorder(&beliefs, &arena, &choices, PlanOf(faults));
    fired += recorder.Run().fired()[fault];
  }
  *holds = beliefs.*broken;
  return fired;
}

struct Class {
  Fault fault;
  std::vector<Fault> with;  // classes that it needs to show
  bool Beliefs::*broken;
};

TEST(StateEfficacy, EveryClassBreaksABeliefThatHoldsWithoutIt) {
  const Class kClasses[] = {
      {Fault::kStateRot, {}, &Beliefs::recorded_is_there},
      {Fault::kStateLatent, {}, &Beliefs::reads_succeed},
      {Fault::kStatePhantom, {}, &Beliefs::recorded_is_there},
      {Fault::kStateFlushError, {}, &Beliefs::writes_succeed},
      // It was there when it looked.
      {Fault::kStateFlushError, {Fault::kPowerCut}, &Beliefs::recorded_is_there},
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
