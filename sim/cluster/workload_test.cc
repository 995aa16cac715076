// Clients of a naive block device that lies in one way at a time: the workload finds every lie,
// and nothing when there is none.
#include "sim/cluster/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/wire/data.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kVolumeBytes = 1 << 20;
constexpr Duration kTimeout = milliseconds(300);

enum class Lie : uint8_t {
  kNone,
  kStaleRead,       // reads from a moment ago
  kLostWrite,       // acknowledges what it does not keep
  kTornSector,      // keeps half of a sector
  kMovedRead,       // reads the next block
  kHole,            // calls data a hole
  kAnswersTwice,    // the same request
  kError,           // fails before the time-out, for nothing
  kLateWrite,       // fails a write, and carries it out afterwards
  kServesUnmapped,  // goes on for a client that has lost the volume
  kWritesUnmapped,  // refuses it, and carries it out
};

struct NaiveVolume {
  Lie lie = Lie::kNone;
  bool unmapped = false;  // the first client has lost it
  std::vector<std::byte> bytes = std::vector<std::byte>(kVolumeBytes);
  std::vector<std::byte> before = bytes;
  Instant before_at{};
  uint64_t requests = 0;
  bool in_time = false;  // from now on no request takes longer than its time-out
};

// Carries a request out at one instant, some milliseconds after it was given.
class NaiveClient : public Role {
 public:
  NaiveClient(NaiveVolume* volume, bool first, BufferPool* pool)
      : volume_(volume), first_(first), pool_(pool) {}

  void Step(const Now& now, const Event& event, Effects& effects) override {
    if (const auto* request = std::get_if<UserRequestEvent>(&event)) {
      if (request->op == UserOp::kAttach) {
        effects.Reply({.tag = request->tag, .volume = request->volume, .size_bytes = kVolumeBytes});
        return;
      }
      const uint64_t number = ++volume_->requests;
      const bool late = number % 64 == 0 && !volume_->in_time;
      Pending& pending = pending_[request->tag];
      pending = {.request = *request, .number = number, .late = late};
      effects.SetTimer(request->tag, now.boot + (late ? kTimeout + milliseconds(5)
                                                      : Duration(milliseconds(1 + number % 5))));
    } else if (const auto* timer = std::get_if<TimerEvent>(&event)) {
      const auto at = pending_.find(timer->tag);
      if (at == pending_.end()) return;
      const Pending pending = std::move(at->second);
      pending_.erase(at);
      Carry(now, pending, effects);
    }
  }
  void CheckInvariants() const override {}
  std::string Dump() const override { return "naive\n"; }
  uint64_t StateHash() const override { return volume_->requests; }

 private:
  struct Pending {
    UserRequestEvent request;
    uint64_t number = 0;
    bool late = false;      // past its time-out
    bool answered = false;  // a lie that is still to be carried out
  };

  bool LiesNow(Lie lie, const Pending& pending) const {
    return volume_->lie == lie && pending.number % 8 == 3;
  }

  void Carry(const Now& now, const Pending& pending, Effects& effects) {
    const UserRequestEvent& request = pending.request;
    if (pending.answered) return Store(pending);
    UserReplyEffect reply{.tag = request.tag};
    const bool refused = first_ && volume_->unmapped && request.op != UserOp::kFlush;
    if (refused && volume_->lie == Lie::kWritesUnmapped) Store(pending);
    const bool late_write = LiesNow(Lie::kLateWrite, pending);
    if ((refused && volume_->lie != Lie::kServesUnmapped) || pending.late || late_write ||
        LiesNow(Lie::kError, pending)) {
      reply.error = EIO;
      effects.Reply(std::move(reply));
      if (!late_write) return;
      Pending again = pending;
      again.answered = true;
      pending_[request.tag] = again;
      effects.SetTimer(request.tag, now.boot + milliseconds(30));
      return;
    }
    if (now.boot - volume_->before_at > milliseconds(200)) {
      volume_->before = volume_->bytes;
      volume_->before_at = now.boot;
    }
    if (request.op == UserOp::kRead) reply.payload = Load(pending);
    if (request.op == UserOp::kBlockStatus) reply.payload = Presence();
    if (!LiesNow(Lie::kLostWrite, pending)) Store(pending);
    if (LiesNow(Lie::kAnswersTwice, pending)) effects.Reply(reply);
    effects.Reply(std::move(reply));
  }

  void Store(const Pending& pending) {
    const UserRequestEvent& request = pending.request;
    std::byte* const to = volume_->bytes.data() + request.offset_bytes;
    switch (request.op) {
      case UserOp::kWrite:
        std::memcpy(to, request.payload.data(),
                    request.length_bytes - (LiesNow(Lie::kTornSector, pending) ? 256 : 0));
        return;
      case UserOp::kTrim:
      case UserOp::kWriteZeroes:
        std::memset(to, 0, request.length_bytes);
        return;
      case UserOp::kRead:
      case UserOp::kFlush:
      case UserOp::kAttach:
      case UserOp::kDetach:
      case UserOp::kList:
      case UserOp::kBlockStatus:
        return;
    }
  }

  Slice Load(const Pending& pending) {
    const UserRequestEvent& request = pending.request;
    const std::vector<std::byte>& from =
        LiesNow(Lie::kStaleRead, pending) ? volume_->before : volume_->bytes;
    uint64_t offset = request.offset_bytes;
    if (LiesNow(Lie::kMovedRead, pending) &&
        offset + request.length_bytes + wire::kBlockBytes <= kVolumeBytes) {
      offset += wire::kBlockBytes;
    }
    Slice payload = pool_->Allocate(static_cast<uint32_t>(request.length_bytes));
    payload.CopyFrom(0, std::span(from).subspan(offset, request.length_bytes));
    return payload;
  }

  Slice Presence() {
    wire::ChunkPresence presence;
    for (uint32_t block = 0; block < wire::kBlocksPerChunk; ++block) {
      const auto bytes =
          std::span(volume_->bytes).subspan(block * wire::kBlockBytes, wire::kBlockBytes);
      const bool holds = std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{0}; });
      if (holds && volume_->lie != Lie::kHole) {
        presence.blocks[block / 64] |= uint64_t{1} << (block % 64);
      }
    }
    Slice payload = pool_->Allocate(sizeof(presence));
    payload.CopyFrom(0, std::as_bytes(std::span(&presence, 1)));
    return payload;
  }

  NaiveVolume* volume_;
  bool first_;
  BufferPool* pool_;
  std::map<UserTag, Pending> pending_;
};

class Bench {
 public:
  explicit Bench(Lie lie) : choices_(7), world_({}, &choices_, &arena_), workload_(&world_) {
    volume_.lie = lie;
    world_.Observe(&workload_);
    for (uint32_t i = 0; i < 2; ++i) {
      NodeOptions options;
      options.name = "client" + std::to_string(i);
      options.address = ToyAddress(i);
      options.state_device = ToyDisk();
      options.make_role = [this, i](const RoleResources& resources) {
        return std::make_unique<NaiveClient>(&volume_, i == 0, resources.pool);
      };
      nodes_.push_back(world_.AddNode(options));
    }
    for (const NodeIndex node : nodes_) {
      world_.Start(node);
      workload_.AddClient({.node = node,
                           .pause_mean = milliseconds(2),
                           .bytes_max = 32 << 10,
                           .hot_percent = 60,
                           .io_timeout = kTimeout});
    }
    workload_.AddVolume(VolumeId(7), kVolumeBytes);
    workload_.AllowTimeOuts(kForever);
    if (lie == Lie::kLateWrite) workload_.AllowIoErrors();
  }

  // Load, an unmap, a client that dies, and everything read back.
  const Failure& Run() {
    RunFor(milliseconds(100));
    workload_.Run(world_.now() + Duration(seconds(6)).count());
    RunFor(seconds(1));
    workload_.OnUnmapping(0, 0);
    volume_.unmapped = true;
    workload_.OnUnmapped(0, 0);
    RunFor(milliseconds(300));
    workload_.OnMapping(0, 0);
    volume_.unmapped = false;
    workload_.OnMapped(0, 0);
    RunFor(seconds(1));
    world_.Kill(nodes_[1]);
    RunFor(milliseconds(100));
    world_.Start(nodes_[1]);
    RunFor(seconds(5));
    if (world_.failure().happened()) return world_.failure();
    EXPECT_TRUE(workload_.Idle()) << workload_.DescribeOldest();
    EXPECT_GT(workload_.stats().completed, 500u);
    EXPECT_GT(workload_.stats().timed_out, 10u);
    volume_.in_time = true;
    workload_.ReadAll(1);
    RunFor(seconds(1));
    EXPECT_TRUE(world_.failure().happened() || workload_.ReadAllComplete());
    return world_.failure();
  }

 private:
  void RunFor(Duration length) { world_.RunUntil(world_.now() + length.count()); }

  PageArena arena_;
  Choices choices_;
  World world_;
  Workload workload_;
  NaiveVolume volume_;
  std::vector<NodeIndex> nodes_;
};

TEST(Workload, SaysNothingAboutADeviceThatDoesNotLie) {
  Bench bench(Lie::kNone);
  const Failure& failure = bench.Run();
  EXPECT_FALSE(failure.happened()) << failure.checker << ": " << failure.message;
}

struct Case {
  Lie lie;
  const char* checker;
  const char* says;
};

TEST(Workload, FindsEveryLie) {
  const Case cases[] = {
      {Lie::kStaleRead, "linearizability", "stamp"},
      {Lie::kLostWrite, "linearizability", "stamp"},
      {Lie::kTornSector, "linearizability", "bytes that nobody wrote here"},
      {Lie::kMovedRead, "linearizability", "bytes that nobody wrote here"},
      {Lie::kHole, "linearizability", "block status says hole"},
      {Lie::kAnswersTwice, "session", "not in flight"},
      {Lie::kError, "io-error", "failed with errno"},
      {Lie::kLateWrite, "linearizability", "stamp"},
      {Lie::kServesUnmapped, "fencing", ""},
      {Lie::kWritesUnmapped, "linearizability", "had no right to"},
  };
  for (const Case& c : cases) {
    Bench bench(c.lie);
    const Failure& failure = bench.Run();
    EXPECT_EQ(failure.checker, c.checker) << static_cast<int>(c.lie) << ": " << failure.message;
    EXPECT_NE(failure.message.find(c.says), std::string::npos) << failure.message;
  }
}

}  // namespace
}  // namespace gabion::sim
