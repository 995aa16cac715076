// Random servers, networks and maps around one client; a model checks R10 at every message: what is
// sent again, what the low-water mark promises, and what may be reported as failed.
#include "core/base/random.h"

#include <cerrno>
#include <set>
#include <tuple>

#include "core/sdc/test_world.h"

namespace gabion::sdc {
namespace {

using std::chrono::milliseconds;
using wire::Status;

class RandomPeers {
 public:
  explicit RandomPeers(uint64_t seed)
      : random_(seed, 0, 0),
        world_({.io_timeout = random_.Chance(1, 2) ? std::chrono::seconds(3) : Duration(0),
                .requests_max = 64,
                .pieces_max = 32}) {
    world_.Ready();
    reigns_.assign(TestWorld::kSlices, 3);
  }

  void Run() {
    for (int i = 0; i < 400; ++i) {
      Act();
      Observe();
      if (testing::Test::HasFailure()) return;
    }
    Heal();
    for (UserTag tag : submitted_) {
      ASSERT_TRUE(world_.Replied(tag)) << "never answered\n" << world_.role().Dump();
    }
  }

  uint64_t attempts = 0;
  uint64_t repeated = 0;
  uint64_t failed_writes = 0;

 private:
  struct Attempt {
    ConnId conn;
    uint64_t reign = 0;
    wire::WriteRequest request;
    bool answered = false;
    bool final = false;  // answered for good
  };
  struct Connection {
    SdsId sds;
    bool confirmed = false;  // the hello reply was delivered
    bool gone = false;
  };

  void Act() {
    switch (random_.Below(12)) {
      case 0:
      case 1:
      case 2: {
        // Each write has a place of its own, so that its attempts are known by it.
        const uint64_t chunk = random_.Below(8);
        const uint64_t offset = chunk * kMiB + next_offset_;
        next_offset_ += 512;
        const UserTag tag = world_.Write(offset, 512);
        submitted_.push_back(tag);
        tag_of_place_[{static_cast<uint32_t>(chunk), static_cast<uint32_t>(offset % kMiB)}] = tag;
        break;
      }
      case 3:
        submitted_.push_back(world_.Read(random_.Below(60) * kMiB, 4096));
        break;
      case 4:
        if (!world_.dials.empty()) Accept();
        break;
      case 5:
      case 6:
      case 7:
        AnswerOne();
        break;
      case 8:
        if (random_.Chance(1, 3)) BreakOne();
        break;
      case 9: {
        const uint32_t slice = static_cast<uint32_t>(random_.Below(TestWorld::kSlices));
        if (random_.Chance(2, 3)) ++reigns_[slice];  // else only "unavailable now", or the same
        proto::Management message = world_.Increment();
        const SdsId sds = reigns_[slice] % 2 == 1 ? kSds1 : kSds2;
        TestWorld::AddRoute(message.mutable_map_update(), SliceId(TestWorld::kFirstSlice + slice),
                            reigns_[slice], random_.Chance(1, 4) ? SdsId() : sds);
        world_.DeliverManagement(message);
        break;
      }
      case 10:
        if (!world_.Quiet(world_.mdm)) world_.ConfirmMap();
        break;
      case 11:
        // Long enough, now and then, for a connection to be given up as silent.
        world_.Advance(milliseconds(random_.Chance(1, 6) ? 2200 : random_.Below(400)));
        while (!world_.Quiet(world_.mdm)) world_.ConfirmMap();
        break;
    }
  }

  void Accept() {
    const ConnId conn = world_.Accept();
    const SdsId sds = world_.last_address.ip[15] == kSds1.value() ? kSds1 : kSds2;
    connections_[conn] = {.sds = sds};
    if (world_.Closed(conn)) {  // of a dial that was given up
      connections_[conn].gone = true;
      return;
    }
    ASSERT_EQ(world_.sent[conn].size(), 1u) << "only the hello comes before its answer";
    if (random_.Chance(1, 5)) return;  // answered later, or never
    Confirm(conn);
  }
  void Confirm(ConnId conn) {
    // The SDS closes every older connection of this client before it answers.
    for (auto& [other, connection] : connections_) {
      if (other < conn && connection.sds == connections_[conn].sds) connection.gone = true;
    }
    connections_[conn].confirmed = true;
    world_.AnswerHello(conn, wire::PeerRole::kSds, connections_[conn].sds.value());
  }

  void BreakOne() {
    for (auto& [conn, connection] : connections_) {
      if (connection.gone || !random_.Chance(1, 2)) continue;
      connection.gone = true;
      world_.Disconnect(conn);
      return;
    }
  }

  void AnswerOne() {
    static constexpr Status kAnswers[] = {
        Status::kOk,      Status::kOk,         Status::kOk,          Status::kNoLease,
        Status::kBusy,    Status::kWrongReign, Status::kNotPrimary,  Status::kUnavailable,
        Status::kNoSpace, Status::kIoError,    Status::kBadChecksum, Status::kNotMapped};
    std::vector<std::pair<Attempt*, size_t>> open;
    for (auto& [place, list] : attempts_) {
      for (Attempt& attempt : list) {
        const Connection& connection = connections_[attempt.conn];
        if (!attempt.answered && !connection.gone) open.push_back({&attempt, 0});
      }
    }
    if (open.empty() || (!reads_.empty() && random_.Chance(1, 3))) {
      if (reads_.empty()) return;
      const auto [conn, request] = reads_.front();
      reads_.erase(reads_.begin());
      if (connections_[conn].gone) return;
      const Status status = kAnswers[random_.Below(std::size(kAnswers))];
      if (status == Status::kOk) {
        world_.Answer(conn, request, world_.Data(request.target.length_bytes));
      } else {
        world_.Refuse(conn, request, status);
      }
      return;
    }
    Attempt& attempt = *open[random_.Below(open.size())].first;
    const Status status = kAnswers[random_.Below(std::size(kAnswers))];
    attempt.answered = true;
    attempt.final = status == Status::kOk;
    world_.Answer(attempt.conn, attempt.request, status);
  }

  // Nobody can admit it any more.
  bool Fenced(const Attempt& attempt) {
    if (attempt.answered) return true;
    const uint64_t slice = attempt.request.target.slice.value() - TestWorld::kFirstSlice;
    if (attempt.reign < reigns_[slice]) return true;
    const Connection& own = connections_[attempt.conn];
    for (const auto& [conn, connection] : connections_) {
      if (conn > attempt.conn && connection.sds == own.sds && connection.confirmed) return true;
    }
    return false;
  }

  void Observe() {
    for (auto& [conn, connection] : connections_) {
      if (!connection.confirmed) continue;
      while (!world_.Quiet(conn)) {
        const wire::Message& front = world_.sent[conn].front();
        if (std::holds_alternative<wire::WriteRequest>(front.body)) {
          OnWrite(conn, world_.Expect<wire::WriteRequest>(conn));
        } else if (std::holds_alternative<wire::ReadRequest>(front.body)) {
          reads_.emplace_back(conn, world_.Expect<wire::ReadRequest>(conn));
        } else {
          (void)world_.Expect<wire::SessionHeartbeat>(conn);
          if (!connection.gone && random_.Chance(9, 10)) {
            world_.Deliver(conn, wire::SessionHeartbeatReply{});
          }
        }
      }
    }
    for (const auto& [place, tag] : tag_of_place_) {
      if (!world_.Replied(tag) || checked_.contains(tag)) continue;
      checked_.insert(tag);
      const int error = world_.ErrorOf(tag);
      if (error == 0) {
        bool done = false;
        for (const Attempt& attempt : attempts_[place]) done = done || attempt.final;
        EXPECT_TRUE(done) << "a success that nobody gave";
      } else if (error != EBUSY) {
        ++failed_writes;
        for (const Attempt& attempt : attempts_[place]) {
          EXPECT_TRUE(Fenced(attempt)) << "reported as failed while it may still take effect";
        }
      }
    }
  }

  void OnWrite(ConnId conn, const wire::WriteRequest& request) {
    ++attempts;
    const Place place{request.target.chunk, request.target.offset_bytes};
    std::vector<Attempt>& list = attempts_[place];
    for (const Attempt& earlier : list) {
      ++repeated;
      EXPECT_EQ(earlier.request.request, request.request) << "a retry has the same id";
      EXPECT_TRUE(Fenced(earlier)) << "two attempts of one write may be admitted";
      EXPECT_NE(earlier.request.tag, request.tag);
    }
    const auto [it, is_new] =
        place_of_id_.emplace(std::pair(request.target.slice, request.request), place);
    EXPECT_TRUE(is_new || it->second == place) << "an id belongs to one write";
    // The mark promises that everything below is settled.
    for (const auto& [id, other] : place_of_id_) {
      if (id.first != request.target.slice || id.second >= request.low_water) continue;
      EXPECT_TRUE(world_.Replied(tag_of_place_[other])) << "low-water mark above an open write";
    }
    EXPECT_LE(request.low_water, request.request);
    EXPECT_LT(request.request.value(), request.low_water.value() + wire::kRequestWindow);
    EXPECT_LE(request.target.reign.value(),
              reigns_[request.target.slice.value() - TestWorld::kFirstSlice]);
    list.push_back({.conn = conn, .reign = request.target.reign.value(), .request = request});
  }

  // From here on everybody is well and answers.
  void Heal() {
    for (uint32_t slice = 0; slice < TestWorld::kSlices; ++slice) {
      proto::Management message = world_.Increment();
      reigns_[slice] += 2;
      TestWorld::AddRoute(message.mutable_map_update(), SliceId(TestWorld::kFirstSlice + slice),
                          reigns_[slice], reigns_[slice] % 2 == 1 ? kSds1 : kSds2);
      world_.DeliverManagement(message);
    }
    for (int round = 0; round < 100; ++round) {
      Observe();
      for (auto& [conn, connection] : connections_) {
        if (!connection.confirmed && !connection.gone) {
          connection.gone = true;
          world_.Disconnect(conn);
        }
      }
      while (!world_.dials.empty()) {
        const ConnId conn = world_.Accept();
        connections_[conn] = {.sds = world_.last_address.ip[15] == kSds1.value() ? kSds1 : kSds2};
        if (world_.Closed(conn)) {
          connections_[conn].gone = true;
        } else {
          Confirm(conn);
        }
      }
      Observe();
      for (auto& [place, list] : attempts_) {
        for (size_t i = 0; i < list.size(); ++i) {
          if (list[i].answered || connections_[list[i].conn].gone) continue;
          list[i].answered = list[i].final = true;
          const Attempt attempt = list[i];
          world_.Answer(attempt.conn, attempt.request);
        }
      }
      for (const auto& [conn, request] : std::exchange(reads_, {})) {
        if (connections_[conn].gone) continue;
        world_.Answer(conn, request, world_.Data(request.target.length_bytes));
      }
      while (!world_.Quiet(world_.mdm)) world_.ConfirmMap();
      world_.Advance(milliseconds(100));
      while (!world_.Quiet(world_.mdm)) world_.ConfirmMap();
    }
  }

  using Place = std::pair<uint32_t, uint32_t>;  // chunk, offset

  RandomStream random_;
  TestWorld world_;
  std::vector<uint64_t> reigns_;  // as told to the client
  std::map<ConnId, Connection> connections_;
  std::map<Place, std::vector<Attempt>> attempts_;
  std::map<Place, UserTag> tag_of_place_;
  std::map<std::pair<SliceId, RequestId>, Place> place_of_id_;
  std::vector<std::pair<ConnId, wire::ReadRequest>> reads_;
  std::vector<UserTag> submitted_;
  std::set<UserTag> checked_;
  uint64_t next_offset_ = 0;
};

TEST(Random, NoHistoryBreaksTheRulesOfRetries) {
  uint64_t attempts = 0;
  uint64_t repeated = 0;
  uint64_t failed_writes = 0;
  for (uint64_t seed = 0; seed < 200 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomPeers peers(seed);
    peers.Run();
    attempts += peers.attempts;
    repeated += peers.repeated;
    failed_writes += peers.failed_writes;
  }
  // The histories are worth something.
  EXPECT_GT(attempts, 10000u);
  EXPECT_GT(repeated, 5000u);
  EXPECT_GT(failed_writes, 500u);
}

}  // namespace
}  // namespace gabion::sdc
