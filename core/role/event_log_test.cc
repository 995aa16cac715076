#include "core/role/event_log.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/check.h"

namespace gabion {
namespace {

class VectorSink : public ByteSink {
 public:
  void Write(std::span<const std::byte> more) override {
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  std::vector<std::byte> bytes;
};

// Adds up what it is told, and answers every event with the sum in every kind of effect. A read
// into memory of its own is the only thing it waits for.
class SumRole : public Role {
 public:
  explicit SumRole(BufferPool* pool, uint64_t start = 0) : pool_(pool), sum_(start) {}

  void Step(const Now& now, const Event& event, Effects& effects) override {
    sum_ = sum_ * 31 + event.index() + static_cast<uint64_t>(now.boot.time_since_epoch().count());
    std::visit([&](const auto& e) { On(e, effects); }, event);
    effects.SetTimer(sum_, now.boot + std::chrono::milliseconds(1));
    effects.Log(Severity::kInfo, std::to_string(sum_));
  }
  void CheckInvariants() const override { ++checks_; }
  std::string Dump() const override { return std::to_string(sum_); }
  uint64_t StateHash() const override { return sum_; }
  int checks() const { return checks_; }

 private:
  void Add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) sum_ = sum_ * 131 + static_cast<uint64_t>(b);
  }
  void Add(std::string_view text) { Add(AsBytes(text)); }

  void On(const StartEvent& e, Effects& effects) {
    sum_ += e.state_device.size_bytes + e.state_device.block_bytes + e.state_device.discard;
    target_ = pool_->Allocate(4096);
    effects.Read(DeviceIndex::kState, 8192, std::span(&target_, 1), 77);
    effects.OpenDevice(78, "/dev/a");
  }
  void On(const ConnectedEvent& e, Effects& effects) {
    Add(e.peer.ToString());
    effects.Send(e.conn, wire::SessionHeartbeatReply{.tag = sum_});
  }
  void On(const ConnectFailedEvent& e, Effects& effects) {
    effects.Connect(e.dial, Address::V4(10, 0, 0, 1, 7));
  }
  void On(const DisconnectedEvent& e, Effects& effects) { effects.Close(e.conn); }
  void On(const MessageEvent& e, Effects& effects) {
    Add(e.message.payload.span());
    effects.Send(e.conn, e.message.body, e.message.payload);
  }
  void On(const DiskDoneEvent& e, Effects& effects) {
    CHECK(target_.unique()) << "somebody still holds what was read";
    if (e.status == DiskStatus::kOk) Add(target_.span());
    effects.Write(DeviceIndex::kState, 0, std::span(&target_, 1), 79);
    effects.Flush(e.device, 80);
  }
  void On(const DeviceOpenedEvent& e, Effects&) { Add(e.content + e.error); }
  void On(const TimerEvent& e, Effects&) { sum_ += e.tag; }
  void On(const UserRequestEvent& e, Effects& effects) {
    Add(e.payload.span());
    Add(e.name);
    effects.Reply({.tag = e.tag, .payload = e.payload, .volume = e.volume});
    effects.notices.push_back({e.volume, sum_});
  }
  void On(const StopEvent&, Effects& effects) { effects.Exit("asked to"); }

  BufferPool* pool_;
  Slice target_;
  uint64_t sum_;
  mutable int checks_ = 0;
};

Slice Filled(BufferPool& pool, std::string_view text) {
  Slice slice = pool.Allocate(static_cast<uint32_t>(text.size()));
  std::memcpy(slice.mutable_span().data(), text.data(), text.size());
  return slice;
}

// Plays host to a role for one event of every kind, and logs it. Returns the role's last state.
uint64_t RunAndLog(ByteSink& sink) {
  BufferPool pool({});
  SumRole role(&pool);
  EventLogWriter log("a sum", sink);
  Effects effects;
  Now now{Instant(std::chrono::seconds(5)), WallTime(std::chrono::hours(24))};
  const auto step = [&](Event event) {
    log.BeforeStep(now, event);
    effects.Clear();
    role.Step(now, event, effects);
    log.AfterStep(effects);
    now.boot += std::chrono::microseconds(1);
  };
  step(StartEvent{{.size_bytes = 1 << 20, .block_bytes = 512, .volatile_cache = true}});
  // The host carries out the read.
  const Slice& target = effects.slices.at(0);
  std::memset(const_cast<std::byte*>(target.data()), 0x5a, target.size());
  effects.Clear();
  step(DiskDoneEvent{DeviceIndex::kState, 77, DiskStatus::kOk});
  step(ConnectedEvent{ConnId(1), 3, Address::V4(127, 0, 0, 1, 80)});
  step(ConnectFailedEvent{9});
  wire::Hello hello;
  hello.role = wire::PeerRole::kSds;
  step(MessageEvent{ConnId(1), {hello, {}}});
  step(MessageEvent{ConnId(1), {wire::ManagementBody{4}, Filled(pool, "some payload")}});
  step(DisconnectedEvent{ConnId(1)});
  step(DiskDoneEvent{DeviceIndex{2}, 79, DiskStatus::kIoError});
  step(DeviceOpenedEvent{78, false, DeviceIndex{0}, {}, "a cat", "no such file"});
  step(TimerEvent{12});
  step(UserRequestEvent{.tag = 1,
                        .op = UserOp::kWrite,
                        .volume = VolumeId(6),
                        .offset_bytes = 512,
                        .length_bytes = 4,
                        .payload = Filled(pool, "data"),
                        .name = "volume"});
  step(StopEvent{});
  return role.StateHash();
}

TEST(EventLog, AReplayGoesThroughTheSameStates) {
  VectorSink sink;
  const uint64_t last = RunAndLog(sink);
  EXPECT_EQ(ReadLabel(sink.bytes).value(), "a sum");
  BufferPool pool({});
  SumRole fresh(&pool);
  const Result<ReplayReport> report = Replay(sink.bytes, fresh, pool);
  ASSERT_TRUE(report.has_value()) << ToString(report.error());
  EXPECT_EQ(report->steps, 12u);
  EXPECT_FALSE(report->cut_off);
  EXPECT_EQ(fresh.StateHash(), last);
  EXPECT_EQ(fresh.checks(), 12);
}

TEST(EventLog, NamesTheFirstStepThatAnswersOtherwise) {
  VectorSink sink;
  RunAndLog(sink);
  BufferPool pool({});
  SumRole other(&pool, 1);
  const Result<ReplayReport> report = Replay(sink.bytes, other, pool);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::kConflict);
  EXPECT_NE(report.error().message.find("step 1 at 5.000000000 s (Start)"), std::string::npos)
      << report.error().message;
}

TEST(EventLog, ALogCutOffAnywhereReplaysUpToThere) {
  VectorSink sink;
  RunAndLog(sink);
  uint64_t steps = 0;
  for (size_t size = 17; size < sink.bytes.size(); ++size) {
    BufferPool pool({});
    SumRole fresh(&pool);
    const Result<ReplayReport> report =
        Replay(std::span<const std::byte>(sink.bytes).first(size), fresh, pool);
    ASSERT_TRUE(report.has_value()) << size << ": " << ToString(report.error());
    EXPECT_GE(report->steps, steps);
    steps = report->steps;
  }
  EXPECT_EQ(steps, 12u);
}

TEST(EventLog, ADamagedLogIsRefused) {
  VectorSink sink;
  RunAndLog(sink);
  for (size_t at = 0; at < sink.bytes.size(); at += 7) {
    std::vector<std::byte> damaged = sink.bytes;
    damaged[at] ^= std::byte{0x10};
    BufferPool pool({});
    SumRole fresh(&pool);
    const Result<ReplayReport> report = Replay(damaged, fresh, pool);
    // A damaged size may look like a log that was cut off; a damaged label harms nobody.
    EXPECT_TRUE(!report || report->cut_off || (at >= 12 && at < 17)) << at;
  }
}

TEST(EventLog, TheHashCoversEveryKindOfEffect) {
  BufferPool pool({});
  std::vector<Effects> all(15);
  all[1].Send(ConnId(1), wire::TailQuery{});
  all[2].Send(ConnId(1), wire::ManagementBody{1}, Filled(pool, "a"));
  all[3].Send(ConnId(1), wire::ManagementBody{1}, Filled(pool, "b"));
  all[4].Connect(1, Address::V4(1, 2, 3, 4, 5));
  all[5].Close(ConnId(1));
  all[6].Write(DeviceIndex{1}, 0, std::array{Filled(pool, "x")}, 1);
  all[7].DurableWrite(DeviceIndex{1}, 0, std::array{Filled(pool, "x")}, 1);
  all[8].Write(DeviceIndex{1}, 0, std::array{Filled(pool, "y")}, 1);
  all[9].OpenDevice(1, "a");
  all[10].CloseDevice(DeviceIndex{1});
  all[11].CancelTimer(1);
  all[12].Reply({.tag = 1});
  all[13].Log(Severity::kInfo, "a");
  all[14].Exit("");
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_NE(HashEffects(all[i]), HashEffects(all[j])) << i << " and " << j;
    }
  }
}

TEST(EventLog, TheHashIgnoresWhatATargetOfAReadHolds) {
  BufferPool pool({});
  Effects a;
  a.Read(DeviceIndex{1}, 0, std::array{Filled(pool, "old")}, 1);
  Effects b;
  b.Read(DeviceIndex{1}, 0, std::array{Filled(pool, "new")}, 1);
  EXPECT_EQ(HashEffects(a), HashEffects(b));
}

}  // namespace
}  // namespace gabion
