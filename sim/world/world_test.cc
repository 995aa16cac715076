#include "sim/world/world.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A sender that dials node 1 and sends 1, 2, 3 ... every millisecond; and what node 1 gets.
struct Stream1to0 {
  std::vector<uint64_t> got;
  std::vector<std::string> receiver_events;
  uint64_t sent = 0;
  uint64_t disconnects_at_sender = 0;
};

void AddPair(World& world, Stream1to0& stream) {
  AddScript(world, [&stream, conn = ConnId()](const Now& now, const Event& event,
                                              Effects& effects) mutable {
    if (std::holds_alternative<StartEvent>(event)) effects.Connect(1, ToyAddress(1));
    if (const auto* connected = std::get_if<ConnectedEvent>(&event)) {
      conn = connected->conn;
      effects.SetTimer(1, now.boot + milliseconds(1));
    }
    if (std::holds_alternative<DisconnectedEvent>(event)) {
      ++stream.disconnects_at_sender;
      conn = ConnId();
    }
    if (std::holds_alternative<TimerEvent>(event) && conn.valid()) {
      effects.Send(conn, Numbered(++stream.sent));
      effects.SetTimer(1, now.boot + milliseconds(1));
    }
  });
  AddScript(world, [&stream](const Now&, const Event& event, Effects&) {
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
      stream.got.push_back(NumberOf(message->message));
    }
    if (std::holds_alternative<ConnectedEvent>(event)) stream.receiver_events.push_back("up");
    if (std::holds_alternative<DisconnectedEvent>(event)) stream.receiver_events.push_back("down");
  });
  world.Start(1);
  world.Start(0);
}

bool CountsFromOne(const std::vector<uint64_t>& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] != i + 1) return false;
  }
  return true;
}

struct Fixture {
  explicit Fixture(uint64_t seed = 1) : choices(seed), world({}, &choices, &arena) {}
  PageArena arena;
  Choices choices;
  World world;
};

TEST(World, DeliversEveryMessageInOrderWithoutFaults) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.RunUntil(seconds(1) / std::chrono::nanoseconds(1));
  EXPECT_GT(stream.got.size(), 500u);
  EXPECT_TRUE(CountsFromOne(stream.got));
  EXPECT_EQ(stream.receiver_events, std::vector<std::string>{"up"});
}

TEST(World, DropsAndDelaysKeepTheOrderOfAConnection) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.faults().per_million[Fault::kDrop] = 50'000;
  f.world.faults().per_million[Fault::kDelayTail] = 100'000;
  f.world.RunUntil(2'000'000'000);
  EXPECT_GT(f.world.fired()[Fault::kDrop], 10u);
  EXPECT_GT(f.world.fired()[Fault::kDelayTail], 10u);
  EXPECT_GT(stream.got.size(), 100u);
  EXPECT_TRUE(CountsFromOne(stream.got));
}

TEST(World, AResetLosesATailAndNothingElse) {
  int lost = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Fixture f(seed);
    Stream1to0 stream;
    AddPair(f.world, stream);
    f.world.faults().per_million[Fault::kReset] = 20'000;
    f.world.RunUntil(1'000'000'000);
    EXPECT_TRUE(CountsFromOne(stream.got));
    EXPECT_EQ(stream.disconnects_at_sender, 1u);
    EXPECT_EQ(stream.receiver_events.size(), 2u);
    if (stream.got.size() < stream.sent) ++lost;
  }
  EXPECT_GT(lost, 10);
}

TEST(World, AHalfOpenConnectionIsLearntOnlyBySending) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.faults().per_million[Fault::kReset] = 20'000;
  f.world.faults().per_million[Fault::kHalfOpen] = 1'000'000;
  f.world.RunUntil(1'000'000'000);
  EXPECT_EQ(stream.disconnects_at_sender, 1u);
  EXPECT_EQ(stream.receiver_events, std::vector<std::string>{"up"}) << "the receiver never sends";
}

TEST(World, ACutHoldsMessagesUntilItHeals) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.RunUntil(100'000'000);
  f.world.Cut(0, 1);
  const size_t before = stream.got.size();
  f.world.RunUntil(600'000'000);
  EXPECT_LE(stream.got.size(), before + 1);
  f.world.Heal(0, 1);
  f.world.RunUntil(5'000'000'000);
  EXPECT_GT(stream.got.size(), before + 400);
  EXPECT_TRUE(CountsFromOne(stream.got));
}

TEST(World, APausedProcessGoesOnWithQueuedWork) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.RunUntil(100'000'000);
  f.world.Pause(1, 800'000'000);
  const size_t before = stream.got.size();
  f.world.RunUntil(700'000'000);
  EXPECT_EQ(stream.got.size(), before);
  f.world.RunUntil(900'000'000);
  EXPECT_GT(stream.got.size(), before + 500);
  EXPECT_TRUE(CountsFromOne(stream.got));
}

TEST(World, AKilledProcessDisconnectsAndADialToItIsRefused) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.RunUntil(100'000'000);
  f.world.Kill(1);
  f.world.RunUntil(200'000'000);
  EXPECT_EQ(stream.disconnects_at_sender, 1u);
}

TEST(World, TimersAreNeverEarlyOnADriftingClock) {
  for (const int64_t drift : {-10'000, 0, 10'000}) {
    Fixture f;
    Instant due;
    int fired = 0;
    AddScript(
        f.world,
        [&](const Now& now, const Event& event, Effects& effects) {
          if (std::holds_alternative<TimerEvent>(event)) {
            EXPECT_GE(now.boot, due);
            EXPECT_LE(now.boot, due + milliseconds(5));
            ++fired;
          }
          due = now.boot + milliseconds(77);
          effects.SetTimer(9, due);
        },
        drift);
    f.world.Start(0);
    f.world.RunUntil(10'000'000'000);
    EXPECT_GT(fired, 100);
    EXPECT_LT(fired, 140);
  }
}

TEST(World, ReplacingATimerCancelsTheOldOne) {
  Fixture f;
  std::vector<TimerTag> fired;
  AddScript(f.world, [&](const Now& now, const Event& event, Effects& effects) {
    if (std::holds_alternative<StartEvent>(event)) {
      effects.SetTimer(1, now.boot + milliseconds(10));
      effects.SetTimer(1, now.boot + milliseconds(20));
      effects.SetTimer(2, now.boot + milliseconds(10));
      effects.CancelTimer(2);
    }
    if (const auto* timer = std::get_if<TimerEvent>(&event)) fired.push_back(timer->tag);
  });
  f.world.Start(0);
  f.world.RunUntil(1'000'000'000);
  EXPECT_EQ(fired, std::vector<TimerTag>{1});
}

TEST(World, AnArmedCrashKillsInTheMiddleOfAStep) {
  Fixture f;
  Stream1to0 stream;
  AddPair(f.world, stream);
  f.world.RunUntil(100'000'000);
  const uint64_t sent = stream.sent;
  f.world.ArmCrash(0, 5, false);
  f.world.RunUntil(200'000'000);
  EXPECT_FALSE(f.world.Running(0));
  EXPECT_EQ(stream.sent, sent + 5);
}

RollingHash HashOf(uint64_t seed, const Tape* tape, Tape* recorded) {
  PageArena arena;
  Choices choices = tape == nullptr ? Choices(seed) : Choices(*tape);
  if (recorded != nullptr) choices.Record();
  World world({}, &choices, &arena);
  Stream1to0 stream;
  AddPair(world, stream);
  world.faults().per_million[Fault::kDrop] = 20'000;
  world.faults().per_million[Fault::kReset] = 2'000;
  world.RunUntil(1'000'000'000);
  if (recorded != nullptr) *recorded = choices.RecordedTape();
  return world.hash();
}

TEST(World, ASeedIsTheWholeRun) {
  EXPECT_EQ(HashOf(7, nullptr, nullptr), HashOf(7, nullptr, nullptr));
  EXPECT_NE(HashOf(7, nullptr, nullptr), HashOf(8, nullptr, nullptr));
}

TEST(World, ATapeRepeatsTheRunItWasRecordedFrom) {
  Tape tape;
  const RollingHash recorded = HashOf(7, nullptr, &tape);
  EXPECT_EQ(HashOf(0, &tape, nullptr), recorded);
  Tape parsed;
  ASSERT_TRUE(Tape::FromText(tape.ToText(), &parsed));
  EXPECT_EQ(HashOf(0, &parsed, nullptr), recorded);
}

TEST(Tape, RefusesWhatIsNoTape) {
  Tape tape;
  EXPECT_FALSE(Tape::FromText("", &tape));
  EXPECT_FALSE(Tape::FromText("gabion-tape 2 1\n", &tape));
  EXPECT_FALSE(Tape::FromText("gabion-tape 1 1\n5 0 1 x 1\n", &tape));
  EXPECT_FALSE(Tape::FromText("gabion-tape 1 1\n5 99999999999 1 2 1\n", &tape));
}

TEST(World, FindsARoleForWhichTimeStandsStill) {
  for (const bool stands_still : {false, true}) {
    PageArena arena;
    Choices choices{Tape()};  // without slack a timer rings at its instant
    World world({}, &choices, &arena);
    const Duration pause = stands_still ? Duration(0) : std::chrono::microseconds(1);
    AddScript(world, [pause](const Now& now, const Event&, Effects& effects) {
      effects.SetTimer(1, now.boot + pause);
    });
    world.Start(0);
    world.RunUntil(Duration(milliseconds(200)).count());
    EXPECT_EQ(world.failure().checker, stands_still ? "livelock" : "");
  }
}

}  // namespace
}  // namespace gabion::sim
