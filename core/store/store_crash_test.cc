// Each core operation on a store, cut off at every single point: before and after every disk
// operation, with every combination of the writes that were not durable yet lost or kept, and each
// of them torn. Then once more, while the store recovers from the first cut. What is found must be
// the state before or after an operation, after it when that was acknowledged, and the second
// recovery must find what the first one did.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/store/layout.h"
#include "core/store/test_compare.h"
#include "core/store/test_model.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Fate = TestDisk::Fate;

constexpr SliceId kSlice{1};
constexpr SliceId kOther{2};
// Memory for a single page of checksums.
constexpr TestStore::Options kOptions{
    .device_bytes = 10 << 20, .log_bytes = 4 << 20, .redirect = true, .memory_bytes = 1};
constexpr View kView{.chunks = 2, .requests = 40};
// Up to so many writes at stake all their subsets are tried.
constexpr size_t kSubsetsMax = 6;

// A store and the model of it, step by step.
class Scene {
 public:
  Scene() : test_(kOptions) {
    EXPECT_TRUE(test_.Format()) << test_.store().error();
    worlds_.emplace_back();
  }

  void StartEpoch(SliceId slice, EpochStartRecord record) {
    Change([&](World& world) { world[slice].StartEpoch(record); });
    tags_.push_back(test_.Start(slice, record));
  }
  void Write(SliceId slice, uint32_t chunk, uint32_t first, uint32_t count,
             wire::EntryKind kind = wire::EntryKind::kWrite) {
    const ModelSlice& before = worlds_.back()[slice];
    const EntryId id{before.started, before.last.seq.next()};
    wire::EntryHeader entry = test_.Write(id, chunk, first, count);
    entry.kind = kind;
    entry.client = kModelClient;
    entry.client_incarnation = kModelIncarnation;
    entry.request = RequestId(++requests_);
    const uint64_t stamp = (stamps_ += 1000);
    Change([&](World& world) {
      world[slice].ops[{id, 0}] = ModelOp{.entry = entry, .stamp = stamp};
      world[slice].last = id;
      world[slice].low_water[kModelClient];
    });
    tags_.push_back(test_.Append(slice, entry, stamp));
  }
  // Everything that is durable.
  void Commit(SliceId slice) { Commit(slice, test_.store().Find(slice)->last_durable); }
  void Commit(SliceId slice, EntryId id) {
    for (World& world : worlds_) {
      if (world.contains(slice) && world[slice].last >= id) world[slice].commit_point = id;
    }
    test_.Commit(slice, id);
  }
  void Void(SliceId slice, EntryId end) {
    Change([&](World& world) { world[slice].VoidAbove(end); });
    test_.store().VoidAbove(test_.now(), slice, end, NewTag(), test_.out());
    test_.Take();
  }
  // 30 blocks that cover no extent whole, and so go to the log.
  void WriteToLog(SliceId slice, uint32_t chunk, uint32_t extent) {
    Write(slice, chunk, extent * kBlocksPerExtent + 1, 2 * kBlocksPerExtent - 2);
  }
  void Copy(SliceId slice, uint32_t chunk, uint16_t extent, uint16_t present) {
    ModelOp op{.is_copy = true, .present = present, .modified = Epoch(1), .stamp = stamps_ += 1000};
    op.entry = test_.Write({}, chunk, extent * kBlocksPerExtent, kBlocksPerExtent);
    const EntryId after = worlds_.back()[slice].last;
    Change([&](World& world) { world[slice].ops[{after, world[slice].next_serial++}] = op; });
    const Slice data = test_.Data(op.stamp, static_cast<uint32_t>(std::popcount(present)));
    test_.store().AppendCopy(test_.now(), slice, TestKey(chunk), extent, present, op.modified,
                             after, data, TestStore::Crcs(data), NewTag(), test_.out());
    test_.Take();
  }
  void Drop(SliceId slice, uint32_t chunk) {
    ModelOp op{.is_copy = true, .modified = worlds_.back()[slice].started};
    op.entry = test_.Write({}, chunk, 0, kBlocksPerChunk);
    const EntryId after = worlds_.back()[slice].last;
    Change([&](World& world) { world[slice].ops[{after, world[slice].next_serial++}] = op; });
    test_.store().AppendDrop(test_.now(), slice, TestKey(chunk), after, NewTag(), test_.out());
    test_.Take();
  }
  void Requests(SliceId slice) {
    const wire::RequestRecord record{.client = kModelClient,
                                     .client_incarnation = kModelIncarnation,
                                     .request = RequestId(++requests_),
                                     .low_water = {},
                                     .entry = worlds_.back()[slice].last};
    Change([&](World& world) {
      world[slice].copied_requests[{kModelClient, record.request}] = record.entry;
    });
    test_.store().AppendRequests(test_.now(), slice, std::span(&record, 1), NewTag(), test_.out());
    test_.Take();
  }
  void SetNeedsResync(SliceId slice, bool value) {
    Change([&](World& world) { world[slice].needs_resync = value; });
    test_.store().SetNeedsResync(test_.now(), slice, value, NewTag(), test_.out());
    test_.Take();
  }
  void SetInSync(SliceId slice, Epoch epoch) {
    Change([&](World& world) { world[slice].in_sync = epoch; });
    test_.store().SetInSync(test_.now(), slice, epoch, 9, NewTag(), test_.out());
    test_.Take();
  }
  void DropSlice(SliceId slice) {
    Change([&](World& world) { world.erase(slice); });
    test_.store().DropSlice(test_.now(), slice, NewTag(), test_.out());
    test_.Take();
  }
  void Close() {
    Change([](World&) {});
    test_.store().Close(test_.now(), NewTag(), test_.out());
    test_.Take();
  }

  // Until everything is done and nothing is left to do; only the last world is possible then.
  void Rest() {
    test_.Quiesce();
    for (const Tag tag : tags_) ASSERT_EQ(test_.Result(tag), DoneStatus::kOk);
    tags_.clear();
    worlds_.erase(worlds_.begin(), worlds_.end() - 1);
  }
  // All of the calls since the last Rest are done.
  bool done() const { return acknowledged() == tags_.size(); }
  size_t acknowledged() const {
    size_t count = 0;
    while (count < tags_.size() && test_.IsDone(tags_[count])) ++count;
    return count;
  }

  TestStore& test() { return test_; }
  // Before the first call since the last Rest, after it, ...
  const std::vector<World>& worlds() const { return worlds_; }

 private:
  template <class Apply>
  void Change(Apply apply) {
    worlds_.push_back(worlds_.back());
    apply(worlds_.back());
  }
  Tag NewTag() {
    tags_.push_back(test_.NewTag());
    return tags_.back();
  }

  TestStore test_;
  std::vector<World> worlds_;
  std::vector<Tag> tags_;
  uint64_t stamps_ = 0;
  uint64_t requests_ = 0;
};

struct Story {
  const char* name;
  std::function<void(Scene&)> prepare;
  std::function<void(Scene&)> act;
  std::function<void(Scene&)> when_done = nullptr;  // of the calls of `act`
};

void PrepareNothing(Scene& scene) { scene.StartEpoch(kSlice, {.epoch = Epoch(1), .issuer = 9}); }

// Homes in two chunks, one of them half empty, and an entry that is not committed.
void PrepareHomes(Scene& scene) {
  PrepareNothing(scene);
  scene.Write(kSlice, 0, 8, 16);
  scene.Write(kSlice, 1, 0, 16);
  scene.Rest();
  scene.Commit(kSlice);
  scene.Rest();
  scene.Write(kSlice, 0, 12, 2);
}

std::vector<Rename> RenameTail(Scene& scene, Epoch to) {
  std::vector<Rename> renames;
  Seq seq;
  for (const EntryId from : scene.worlds().back().at(kSlice).Tail()) {
    seq = seq.next();
    renames.push_back({.from = from, .to = {to, seq}});
  }
  return renames;
}

// A batch of such a write does not fit in front of the ring's end.
void PrepareRingEnd(Scene& scene) {
  PrepareNothing(scene);
  scene.Rest();
  constexpr uint64_t kBatchBytes = (2 * kBlocksPerExtent - 1) * kBlockBytes;
  const auto left = [&scene] {
    return kOptions.log_bytes - scene.test().store().log_position() % kOptions.log_bytes;
  };
  for (uint32_t i = 0; i < 200 && left() >= kBatchBytes; ++i) {
    scene.WriteToLog(kSlice, 0, i % 2 * 4);
    scene.Rest();
    scene.Commit(kSlice);
    scene.Rest();
  }
  EXPECT_LT(left(), kBatchBytes);
}

// Homes in a chunk, and a large write on top that is not committed.
void PrepareRedirect(Scene& scene) {
  PrepareHomes(scene);
  scene.Write(kSlice, 0, 5, 40);
}

// An entry of another slice at the tail of the log, uncommitted, so that it has to be moved: with
// extents of its own, and ends in the log. Behind it, as much as makes the store begin.
void PrepareRelocation(Scene& scene) {
  scene.StartEpoch(kOther, {.epoch = Epoch(1), .issuer = 9});
  scene.Write(kOther, 1, 5, 40);
  scene.Write(kOther, 1, 64, 16);
  PrepareNothing(scene);
  for (uint32_t i = 0; i < 8; ++i) scene.WriteToLog(kSlice, 0, 2 * (i % 4));
}

const Story kStories[] = {
    {"CreateReplica", [](Scene&) {},
     [](Scene& scene) {
       scene.StartEpoch(kSlice, {.epoch = Epoch(1), .issuer = 9});
       scene.Write(kSlice, 0, 0, 1);
     }},
    {"Write", PrepareHomes,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 14, 4);
       scene.Write(kSlice, 1, 0, 1);
     }},
    {"WriteSeveralBatches", PrepareHomes,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 14, 1);
       scene.Write(kSlice, 0, 0, 16);
       scene.Write(kSlice, 1, 8, 32);
       EXPECT_EQ(scene.test().disk().pending(), 3u);
     }},
    {"WriteAndDestage", PrepareHomes,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 14, 4);
       scene.Write(kSlice, 1, 32, 2);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"TrimAndDestage", PrepareHomes,
     [](Scene& scene) { scene.Write(kSlice, 0, 0, 20, wire::EntryKind::kTrim); },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"ZeroAndDestage", PrepareHomes,
     [](Scene& scene) { scene.Write(kSlice, 1, 3, 5, wire::EntryKind::kZero); },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"Rename", PrepareHomes,
     [](Scene& scene) {
       const std::vector<Rename> renames = RenameTail(scene, Epoch(2));
       scene.StartEpoch(kSlice, {.epoch = Epoch(2),
                                 .issuer = 9,
                                 .end = scene.worlds().back().at(kSlice).commit_point,
                                 .renames = renames});
       scene.Write(kSlice, 0, 13, 1);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"Void", PrepareHomes,
     [](Scene& scene) {
       const ModelSlice& slice = scene.worlds().back().at(kSlice);
       scene.Void(kSlice, slice.commit_point);
       scene.Write(kSlice, 0, 11, 2);
     }},
    {"VoidAboveWhatIsHome",
     [](Scene& scene) {
       PrepareHomes(scene);
       scene.Write(kSlice, 0, 13, 2);
       scene.Rest();
       scene.Commit(kSlice, Entry(1, 3));
       scene.Rest();
     },
     [](Scene& scene) {
       scene.Void(kSlice, Entry(1, 3));
       scene.Write(kSlice, 0, 14, 2);
     }},
    {"Join", PrepareHomes,
     [](Scene& scene) {
       scene.StartEpoch(kSlice, {.epoch = Epoch(2),
                                 .end = scene.worlds().back().at(kSlice).commit_point,
                                 .in_sync = false,
                                 .start = Seq(7)});
       scene.Drop(kSlice, 1);
       scene.Copy(kSlice, 0, 0, 0x0ff0);
       scene.Requests(kSlice);
     }},
    {"BecomeInSync", PrepareHomes,
     [](Scene& scene) {
       scene.SetNeedsResync(kSlice, true);
       scene.SetInSync(kSlice, Epoch(1));
       scene.SetNeedsResync(kSlice, false);
     }},
    {"DropSlice", PrepareHomes,
     [](Scene& scene) {
       scene.StartEpoch(kOther, {.epoch = Epoch(1), .issuer = 9});
       scene.Write(kOther, 1, 0, 3);
       scene.DropSlice(kSlice);
     },
     [](Scene& scene) { scene.Commit(kOther); }},
    {"WriteAroundTheRingsEnd", PrepareRingEnd,
     [](Scene& scene) {
       scene.WriteToLog(kSlice, 0, 6);
       scene.Write(kSlice, 1, 0, 3);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"RedirectOverHomes", PrepareHomes, [](Scene& scene) { scene.Write(kSlice, 0, 0, 32); },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"RedirectWithEnds", PrepareHomes,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 5, 40);
       scene.Write(kSlice, 0, 9, 1);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"VoidOfARedirect", PrepareRedirect,
     [](Scene& scene) {
       scene.Void(kSlice, scene.worlds().back().at(kSlice).commit_point);
       scene.Write(kSlice, 1, 0, 32);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"RenameOfARedirect", PrepareRedirect,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 16, 16);
       const std::vector<Rename> renames = RenameTail(scene, Epoch(2));
       scene.StartEpoch(kSlice, {.epoch = Epoch(2),
                                 .issuer = 9,
                                 .end = scene.worlds().back().at(kSlice).commit_point,
                                 .renames = renames});
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"SmallWritesOnARedirect", PrepareRedirect,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 18, 3);
       scene.Write(kSlice, 0, 40, 2, wire::EntryKind::kTrim);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"TwoRedirectsOfOneExtent", PrepareRedirect,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 16, 32);
       scene.Write(kSlice, 1, 0, 16);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"RedirectUnderAnUncommittedOne", PrepareRedirect,
     [](Scene& scene) { scene.Write(kSlice, 0, 16, 32); },
     [](Scene& scene) { scene.Commit(kSlice, Entry(1, 4)); }},
    {"DropOfASliceThatIsRedirecting", PrepareRedirect,
     [](Scene& scene) {
       scene.StartEpoch(kOther, {.epoch = Epoch(1), .issuer = 9});
       scene.Write(kSlice, 0, 32, 32);
       scene.DropSlice(kSlice);
       scene.Write(kOther, 1, 0, 32);
     },
     [](Scene& scene) { scene.Commit(kOther); }},
    {"CopyOfAWholeExtent", PrepareRedirect,
     [](Scene& scene) {
       scene.Copy(kSlice, 0, 1, 0xffff);
       scene.Drop(kSlice, 1);
       scene.Copy(kSlice, 1, 2, 0xffff);
     },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"RelocateRedirects", PrepareRelocation, [](Scene& scene) { scene.WriteToLog(kSlice, 0, 9); },
     [](Scene& scene) { scene.Commit(kSlice); }},
    {"Close", PrepareHomes,
     [](Scene& scene) {
       scene.Write(kSlice, 0, 60, 1);
       scene.Close();
     }},
};

std::vector<std::vector<Fate>> FatesOf(size_t writes) {
  std::vector<std::vector<Fate>> all;
  const auto add = [&](Fate rest, size_t index, Fate one) {
    std::vector<Fate> fates(writes, rest);
    if (index < writes) fates[index] = one;
    all.push_back(std::move(fates));
  };
  if (writes <= kSubsetsMax) {
    for (uint32_t kept = 0; kept < 1u << writes; ++kept) {
      std::vector<Fate> fates(writes, Fate::kLost);
      for (size_t i = 0; i < writes; ++i) {
        if ((kept >> i & 1u) != 0) fates[i] = Fate::kWhole;
      }
      all.push_back(std::move(fates));
    }
  } else {
    add(Fate::kLost, writes, {});
    add(Fate::kWhole, writes, {});
  }
  for (size_t i = 0; i < writes; ++i) {
    if (writes > kSubsetsMax) {
      add(Fate::kLost, i, Fate::kWhole);
      add(Fate::kWhole, i, Fate::kLost);
    }
    for (const Fate torn : {Fate::kFirstHalf, Fate::kSecondHalf}) {
      add(Fate::kLost, i, torn);
      add(Fate::kWhole, i, torn);
    }
  }
  return all;
}

class StoreCrashAt : public ::testing::TestWithParam<size_t> {
 protected:
  // Plays on until there is nothing left to do; `at_each` sees every point in between.
  template <class AtEach>
  void PlayOut(Scene& scene, const Story& story, AtEach at_each) {
    bool told = false;
    for (int i = 0; i < 1000; ++i) {
      at_each();
      if (!told && scene.done()) {
        told = true;
        if (story.when_done) story.when_done(scene);
        continue;
      }
      if (scene.test().StepDisk()) continue;
      if (scene.test().timer() == kNever) return;
      scene.test().FireTimer();
    }
    FAIL() << "no end";
  }

  // Opens what a cut left and returns which of the worlds it may be.
  std::vector<const World*> Judge(TestDisk disk, std::span<const World* const> worlds) {
    TestStore test(kOptions, std::move(disk));
    std::vector<const World*> matching;
    if (!test.Open()) {
      ADD_FAILURE() << test.store().error();
      return matching;
    }
    test.store().CheckInvariants(true);
    std::string why;
    for (const World* world : worlds) {
      if (Looks(test, *world, kView, &why)) matching.push_back(world);
    }
    EXPECT_FALSE(matching.empty()) << why << "\n" << test.store().Dump();
    return matching;
  }

  // Cuts off the recovery of `disk`, and the round that follows it, at every durable write and
  // flush.
  void CutAgain(const TestDisk& disk, std::span<const World* const> worlds,
                std::set<uint64_t>& seen) {
    TestStore test(kOptions, disk);
    const Tag tag = test.NewTag();
    test.store().Open(test.now(), test.disk().info(), test.identity, tag, test.out());
    test.Take();
    for (int i = 0; i < 1000; ++i) {
      const bool is_boundary =
          test.disk().pending() > 0 && (test.disk().pending_op(0) == DiskOp::kDurableWrite ||
                                        test.disk().pending_op(0) == DiskOp::kFlush);
      for (const Fate fate : {Fate::kLost, Fate::kWhole}) {
        if (!is_boundary) break;
        TestDisk cut = test.disk();
        cut.PowerCut(std::vector<Fate>(cut.undecided(), fate));
        if (!seen.insert(cut.image().Hash()).second) continue;
        ++pairs_;
        Judge(std::move(cut), worlds);
        if (HasFailure()) return;
      }
      if (test.StepDisk()) continue;
      if (test.timer() == kNever) return;
      test.FireTimer();
    }
    FAIL() << "no end";
  }

  uint64_t pairs_ = 0;
};

TEST_P(StoreCrashAt, EveryPoint) {
  const Story& story = kStories[GetParam()];
  Scene scene;
  story.prepare(scene);
  scene.Rest();
  story.act(scene);
  std::set<uint64_t> seen;
  std::set<uint64_t> seen_again;
  uint64_t points = 0;
  PlayOut(scene, story, [&] {
    if (HasFailure()) return;
    ++points;
    std::vector<const World*> possible;
    for (size_t i = scene.acknowledged(); i < scene.worlds().size(); ++i) {
      possible.push_back(&scene.worlds()[i]);
    }
    // What was acknowledged does not show in the bytes.
    const uint64_t salt = scene.acknowledged();
    for (const std::vector<Fate>& fates : FatesOf(scene.test().disk().undecided())) {
      TestDisk cut = scene.test().disk();
      cut.PowerCut(fates);
      if (!seen.insert(cut.image().Hash() + salt).second) continue;
      const std::vector<const World*> found = Judge(cut, possible);
      if (!HasFailure()) CutAgain(cut, found, seen_again);
      if (HasFailure()) {
        ADD_FAILURE() << story.name << ", point " << points;
        return;
      }
    }
  });
  ASSERT_FALSE(HasFailure());
  Judge(scene.test().disk(), std::vector<const World*>{&scene.worlds().back()});
  // Fewer, and something is not tried any more.
  EXPECT_GE(points, 7u);
  EXPECT_GE(seen.size(), 6u);
  EXPECT_GE(pairs_, 12u);
  RecordProperty("states", static_cast<int>(seen.size()));
  RecordProperty("pairs", static_cast<int>(pairs_));
}

INSTANTIATE_TEST_SUITE_P(Operations, StoreCrashAt, ::testing::Range(size_t{0}, std::size(kStories)),
                         [](const auto& info) { return std::string(kStories[info.param].name); });

}  // namespace
}  // namespace gabion::store
