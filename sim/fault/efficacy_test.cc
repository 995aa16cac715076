// Each fault class hurts: a naive victim that is right without the class goes wrong with it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "sim/fault/injector.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TrueTime kSecond = 1'000'000'000;

// Everything a naive program believes about its surroundings, in one role pair: node 0 asks node 1
// something every 10 ms, node 1 answers, and node 0 keeps a counter on its disk.
struct Beliefs {
  bool answers_within_50_ms = true;
  bool everything_arrives = true;
  bool losing_a_connection_is_noticed = true;
  bool dials_succeed = true;
  bool timers_are_on_time = true;
  bool memory_lasts = true;
  bool written_is_written = true;  // a completed write is there after a restart
  bool writes_are_atomic = true;   // a record of 8 KiB is all old or all new
  bool writes_complete_in_order = true;
  bool disks_are_fast = true;
  bool disks_keep_what_they_hold = true;
  bool clocks_agree = true;  // boot clocks run alike
  bool wall_clocks_agree = true;
};

class Naive {
 public:
  explicit Naive(Beliefs* beliefs, PageArena* arena, Choices* choices, const FaultPlan& plan)
      : beliefs_(beliefs), world_({}, choices, arena) {
    const auto drift = static_cast<int64_t>(plan.drift_ppm_max);
    asker_ = AddScript(
        world_, [this](const Now& n, const Event& e, Effects& f) { Ask(n, e, f); }, drift);
    answerer_ = AddScript(
        world_, [this](const Now& n, const Event& e, Effects& f) { Answer(n, e, f); }, -drift);
    if (plan.wall_offset_max.count() != 0) {
      world_.node(asker_).clock.wall_offset = plan.wall_offset_max.count();
    }
    injector_ = std::make_unique<FaultInjector>(
        &world_, plan, FaultInjector::Targets{.mdms = {1}, .sdss = {1, 0}, .sdcs = {0}});
  }

  World& Run() {
    world_.Start(answerer_);
    world_.Start(asker_);
    world_.RunUntil(kSecond / 10);
    injector_->Run(world_.now() + 60 * kSecond);
    world_.RunUntil(world_.now() + 60 * kSecond);
    return world_;
  }

 private:
  void Ask(const Now& now, const Event& event, Effects& effects) {
    if (std::holds_alternative<StartEvent>(event)) {
      if (starts_++ != 0) {
        beliefs_->memory_lasts = false;
        CheckDisk();
      }
      conn_ = ConnId();
      writing_.clear();
      next_tick_ = kNever;
      effects.Connect(1, ToyAddress(1));
      kept_.clear();
      reading_ = true;  // when it is there
      Slice page = world_.node(asker_).pool->Allocate(4096);
      std::memset(page.mutable_span().data(), 7, 4096);
      effects.DurableWrite(DeviceIndex::kState, kKeptAt, {&page, 1}, kKeepTag);
    }
    if (const auto* connected = std::get_if<ConnectedEvent>(&event)) {
      conn_ = connected->conn;
      last_answer_ = asked_;
      Tick(now, effects);
    }
    if (std::holds_alternative<ConnectFailedEvent>(event)) {
      if (world_.Running(answerer_)) beliefs_->dials_succeed = false;
      effects.Connect(1, ToyAddress(1));
    }
    if (std::holds_alternative<DisconnectedEvent>(event)) {
      if (asked_ != last_answer_) beliefs_->everything_arrives = false;
      conn_ = ConnId();
      effects.Connect(1, ToyAddress(1));
    }
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
      const uint64_t number = NumberOf(message->message);
      if (number != last_answer_ + 1) beliefs_->everything_arrives = false;
      last_answer_ = number;
      const auto& reply = std::get<wire::SessionHeartbeat>(message->message.body);
      const Duration skew = Duration(std::abs((now.boot - boot_start_).count() -
                                              static_cast<int64_t>(reply.count) * 1'000'000));
      if (skew > seconds(1) / 10 + milliseconds(60) && beliefs_->answers_within_50_ms) {
        beliefs_->clocks_agree = false;
      }
      if (reply.reserved != now.wall.time_since_epoch() / std::chrono::hours(1)) {
        beliefs_->wall_clocks_agree = false;
      }
      if (now.boot - asked_at_ > milliseconds(50)) beliefs_->answers_within_50_ms = false;
    }
    const auto* done = std::get_if<DiskDoneEvent>(&event);
    if (done != nullptr && (done->tag == kKeepTag || done->tag == kReadTag)) {
      for (const Slice& page : kept_) {
        for (const std::byte b : page.span()) {
          if (b != std::byte{7}) beliefs_->disks_keep_what_they_hold = false;
        }
      }
      reading_ = false;
    } else if (done != nullptr) {
      if (writing_.empty() || writing_.front() != done->tag) {
        beliefs_->writes_complete_in_order = false;
      }
      if (now.boot - wrote_at_ > milliseconds(20)) beliefs_->disks_are_fast = false;
      std::erase(writing_, done->tag);
      if (done->tag % 2 == 0) durable_count_ = std::max(durable_count_, done->tag / 2);
    }
    if (std::holds_alternative<TimerEvent>(event)) {
      if (now.boot - next_tick_ > milliseconds(5)) beliefs_->timers_are_on_time = false;
      Tick(now, effects);
    }
  }

  void Tick(const Now& now, Effects& effects) {
    if (boot_start_ == Instant()) boot_start_ = now.boot;
    if (asked_ == last_answer_ && conn_.valid()) {
      effects.Send(conn_, Numbered(++asked_));
      asked_at_ = now.boot;
    } else if (asked_ > last_answer_) {
      if (now.boot - asked_at_ > milliseconds(50)) beliefs_->answers_within_50_ms = false;
      // The other side forgot us, and nobody said so.
      if (now.boot - asked_at_ > seconds(8)) beliefs_->losing_a_connection_is_noticed = false;
    }
    if (writing_.empty()) {
      // A record of two pages, and a small one behind it.
      ++count_;
      Slice record = world_.node(asker_).pool->Allocate(8192);
      std::memset(record.mutable_span().data(), static_cast<int>(count_ % 251), 8192);
      effects.Write(DeviceIndex::kState, 0, {&record, 1}, 2 * count_);
      Slice small = record.Sub(0, 512);
      effects.Write(DeviceIndex::kState, 65536, {&small, 1}, 2 * count_ + 1);
      writing_ = {2 * count_, 2 * count_ + 1};
      wrote_at_ = now.boot;
    }
    if (!reading_) {
      reading_ = true;
      kept_.assign(1, world_.node(asker_).pool->Allocate(4096));
      effects.Read(DeviceIndex::kState, kKeptAt, kept_, kReadTag);
    }
    next_tick_ = now.boot + milliseconds(10);
    effects.SetTimer(1, next_tick_);
  }

  void CheckDisk() {
    std::vector<std::byte> record(8192);
    world_.node(asker_).disks[0].disk->current().Read(0, record);
    const auto is_first = [&](std::byte b) { return b == record[0]; };
    if (!std::all_of(record.begin(), record.end(), is_first)) beliefs_->writes_are_atomic = false;
    const auto found = std::to_integer<uint64_t>(record[0]);
    if (found != durable_count_ % 251 && found != (durable_count_ + 1) % 251) {
      beliefs_->written_is_written = false;
    }
  }

  void Answer(const Now& now, const Event& event, Effects& effects) {
    if (std::holds_alternative<StartEvent>(event)) answer_start_ = now.boot;
    const auto* message = std::get_if<MessageEvent>(&event);
    if (message == nullptr) return;
    wire::SessionHeartbeat reply;
    reply.tag = NumberOf(message->message);
    reply.count = static_cast<uint32_t>(ToMillis(now.boot - answer_start_));
    reply.reserved = static_cast<uint32_t>(now.wall.time_since_epoch() / std::chrono::hours(1));
    effects.Send(message->conn == ConnId() ? ConnId() : message->conn, reply);
  }

  static constexpr uint64_t kKeptAt = 128 << 10;
  static constexpr DiskTag kKeepTag = UINT64_MAX;
  static constexpr DiskTag kReadTag = UINT64_MAX - 1;

  Beliefs* beliefs_;
  World world_;
  NodeIndex asker_ = 0;
  NodeIndex answerer_ = 1;
  std::unique_ptr<FaultInjector> injector_;
  int starts_ = 0;
  ConnId conn_;
  uint64_t asked_ = 0;
  uint64_t last_answer_ = 0;
  uint64_t count_ = 0;
  uint64_t durable_count_ = 0;
  Instant asked_at_;
  Instant wrote_at_;
  Instant next_tick_ = kNever;
  Instant boot_start_;
  Instant answer_start_;
  std::vector<DiskTag> writing_;
  std::vector<Slice> kept_;  // read back all the time
  bool reading_ = false;
};

struct Class {
  Fault fault;
  std::vector<Fault> with;  // classes that it needs to show
  bool Beliefs::*broken;
};

FaultPlan PlanOf(const std::vector<Fault>& faults) {
  FaultPlan plan;
  plan.world.lose_unflushed = false;
  plan.world.tear_writes = false;
  for (const Fault fault : faults) {
    plan.enabled[fault] = true;
    plan.mean[fault] = seconds(3);
    if (fault <= Fault::kRefuse) plan.world.per_million[fault] = 20'000;
    if (fault == Fault::kHalfOpen || fault == Fault::kRefuse) {
      plan.world.per_million[fault] = 700'000;
    }
    if (fault == Fault::kReorder) plan.world.reorder_disk = true;
    if (fault == Fault::kUnflushedLost) plan.world.lose_unflushed = true;
    if (fault == Fault::kTornWrite) plan.world.tear_writes = true;
    if (fault == Fault::kClockDrift) plan.drift_ppm_max = 9'900;
    if (fault == Fault::kWallOffset) plan.wall_offset_max = std::chrono::hours(24);
  }
  return plan;
}

Beliefs Try(const std::vector<Fault>& faults, bool Beliefs::*until_broken, uint64_t* fired) {
  Beliefs beliefs;
  for (uint64_t seed = 1; seed <= 10 && (until_broken == nullptr || beliefs.*until_broken);
       ++seed) {
    PageArena arena;
    Choices choices(seed);
    Naive naive(&beliefs, &arena, &choices, PlanOf(faults));
    World& world = naive.Run();
    for (const Fault fault : faults) *fired += world.fired()[fault];
  }
  return beliefs;
}

TEST(Efficacy, WithoutFaultsEveryBeliefHolds) {
  uint64_t fired = 0;
  const Beliefs b = Try({}, nullptr, &fired);
  EXPECT_TRUE(b.answers_within_50_ms && b.everything_arrives && b.losing_a_connection_is_noticed);
  EXPECT_TRUE(b.dials_succeed && b.timers_are_on_time && b.memory_lasts);
  EXPECT_TRUE(b.written_is_written && b.writes_are_atomic && b.writes_complete_in_order);
  EXPECT_TRUE(b.disks_are_fast && b.disks_keep_what_they_hold && b.clocks_agree &&
              b.wall_clocks_agree);
  EXPECT_EQ(fired, 0u);
}

TEST(Efficacy, EveryClassBreaksABelief) {
  const Class kClasses[] = {
      {Fault::kDrop, {}, &Beliefs::answers_within_50_ms},
      {Fault::kDelayTail, {}, &Beliefs::answers_within_50_ms},
      {Fault::kReset, {}, &Beliefs::everything_arrives},
      {Fault::kHalfOpen, {Fault::kReset}, &Beliefs::losing_a_connection_is_noticed},
      {Fault::kRefuse, {Fault::kReset}, &Beliefs::dials_succeed},
      {Fault::kClog, {}, &Beliefs::answers_within_50_ms},
      {Fault::kCutOneWay, {}, &Beliefs::answers_within_50_ms},
      {Fault::kCutTwoWay, {}, &Beliefs::answers_within_50_ms},
      {Fault::kIsolate, {}, &Beliefs::answers_within_50_ms},
      {Fault::kSplit, {}, &Beliefs::answers_within_50_ms},
      {Fault::kKill, {}, &Beliefs::memory_lasts},
      {Fault::kPowerCut, {}, &Beliefs::memory_lasts},
      {Fault::kPowerCutAll, {}, &Beliefs::memory_lasts},
      {Fault::kPause, {}, &Beliefs::timers_are_on_time},
      {Fault::kUnflushedLost, {Fault::kPowerCut}, &Beliefs::written_is_written},
      {Fault::kTornWrite, {Fault::kKill}, &Beliefs::writes_are_atomic},
      {Fault::kReorder, {}, &Beliefs::writes_complete_in_order},
      {Fault::kSlowDisk, {}, &Beliefs::disks_are_fast},
      {Fault::kRot, {}, &Beliefs::disks_keep_what_they_hold},
      {Fault::kClockDrift, {}, &Beliefs::clocks_agree},
      {Fault::kWallOffset, {}, &Beliefs::wall_clocks_agree},
  };
  for (const Class& c : kClasses) {
    std::vector<Fault> faults = c.with;
    faults.push_back(c.fault);
    uint64_t fired = 0;
    const Beliefs beliefs = Try(faults, c.broken, &fired);
    EXPECT_FALSE(beliefs.*c.broken) << NameOf(c.fault);
    if (c.fault != Fault::kClockDrift && c.fault != Fault::kWallOffset) {
      EXPECT_GT(fired, 0u) << NameOf(c.fault);
    }
  }
}

}  // namespace
}  // namespace gabion::sim
