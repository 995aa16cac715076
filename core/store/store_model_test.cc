// Random operations on a store and on a model of it, with crashes at any point. The log is a
// prefix: after a crash the store must equal the model as it was after some operation, at or behind
// the last one that was done.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/store/store.h"
#include "core/store/test_compare.h"
#include "core/store/test_model.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

constexpr uint32_t kSlices = 2;
constexpr uint32_t kChunks = 2;
constexpr uint64_t kWindowBytes = 768 << 10;  // together under a quarter of the ring, and some more

// Decisions of a run. An exhausted tape means zeroes.
class Tape {
 public:
  explicit Tape(const std::vector<uint32_t>& tape) : tape_(tape) {}
  bool done() const { return next_ >= tape_.size(); }
  uint64_t Below(uint64_t n) {
    const uint64_t value = done() ? 0 : tape_[next_];
    ++next_;
    return value % n;
  }

 private:
  const std::vector<uint32_t>& tape_;
  size_t next_ = 0;
};

class Run {
 public:
  Run(const std::vector<uint32_t>& choices, uint64_t seed)
      : tape_(choices),
        // The smaller ones are often full.
        test_({.device_bytes = (10 + tape_.Below(2) * 4) << 20,
               .log_bytes = 4 << 20,
               .seed = seed,
               .in_order = false,
               .redirect = true,
               // Half of the time next to nothing: pages of checksums come and go.
               .memory_bytes = seed % 2,
               .read_cache_bytes = (seed % 3) << 17}) {
    CHECK(test_.Format());
    models_.push_back(Model{});
  }

  void Play() {
    while (!tape_.done()) {
      Step();
      Learn();
      if (tape_.Below(8) == 0) test_.store().CheckInvariants(true);
    }
    Compare();
    RC_ASSERT(test_.Close());
    test_.NewProcess();
    Reopen();
    test_.Quiesce();
    test_.store().CheckInvariants(true);
    Compare();
  }

 private:
  struct Mutation {
    Tag tag = 0;
    size_t index = 0;  // of the model that contains it
  };

  Model& model() { return models_.back(); }
  SliceId RandomSlice() { return SliceId(1 + tape_.Below(kSlices)); }

  // The operation that was just given to the store is part of the newest model.
  void Mutated(Tag tag) { waiting_.push_back({tag, first_ + models_.size() - 1}); }
  template <class Change>
  void Mutate(SliceId slice, Change change) {
    models_.push_back(models_.back());
    for (World& world : models_.back().worlds) change(world[slice]);
  }

  // Forgets models that a crash cannot go back to.
  void Learn() {
    while (!waiting_.empty() && test_.IsDone(waiting_.front().tag)) {
      if (test_.Result(waiting_.front().tag) != DoneStatus::kOk) RC_FAIL(test_.store().Dump());
      while (first_ < waiting_.front().index) {
        models_.pop_front();
        ++first_;
      }
      waiting_.pop_front();
    }
  }

  void Step() {
    switch (tape_.Below(32)) {
      case 0:
        if (tape_.Below(4) == 0) Crash();
        return;
      case 1:
        if (tape_.Below(4) == 0) CloseAndOpen();
        return;
      case 2:
      case 3:
        StartEpoch();
        return;
      case 4:
        Void();
        return;
      case 5:
        if (tape_.Below(8) == 0) DropSlice();
        return;
      case 6:
        Copy();
        return;
      case 7:
        Drop();
        return;
      case 8:
        Requests();
        return;
      case 9:
        Facts();
        return;
      case 10:
      case 11:
      case 12:
      case 13:
        Commit();
        return;
      case 14:
        test_.FireTimer();
        return;
      case 15:
      case 16:
      case 17:
        for (uint64_t i = 1 + tape_.Below(12); i > 0; --i) test_.StepDisk();
        return;
      case 18:
        test_.Settle();
        return;
      case 19:
        Read();
        return;
      case 20:
        if (tape_.Below(2) == 0) test_.Quiesce();
        return;
      default:
        Append();
        return;
    }
  }

  ModelSlice* Started(SliceId slice) {
    // Worlds differ only in what cannot be seen.
    World& world = model().worlds.front();
    const auto found = world.find(slice);
    return found == world.end() ? nullptr : &found->second;
  }

  void Append() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    const EntryId id{before->started, before->last.seq.next()};
    RC_ASSERT(before->last.epoch == before->started);
    const auto chunk = static_cast<uint32_t>(tape_.Below(kChunks));
    auto first = static_cast<uint32_t>(tape_.Below(wire::kBlocksPerChunk));
    const uint64_t shape = tape_.Below(8);
    const uint32_t longest = std::min<uint32_t>(shape < 4 ? 4 : 64, wire::kBlocksPerChunk - first);
    auto count = static_cast<uint32_t>(1 + tape_.Below(longest));
    // Whole extents, with ends or without.
    if (shape == 0 || shape >= 5) {
      const uint32_t extent = first / wire::kBlocksPerExtent;
      const auto more = static_cast<uint32_t>(tape_.Below(4));
      const uint32_t end = std::min(extent + 1 + more, wire::kExtentsPerChunk);
      first = extent * wire::kBlocksPerExtent;
      count = end * wire::kBlocksPerExtent - first;
      if (shape == 5 && count > wire::kBlocksPerExtent) {
        const auto off = static_cast<uint32_t>(tape_.Below(wire::kBlocksPerExtent));
        first += off;
        count -= off + tape_.Below(2);
      }
    }
    wire::EntryHeader entry = test_.Write(id, chunk, first, count);
    if (shape == 7) {
      entry.kind = tape_.Below(2) == 0 ? wire::EntryKind::kTrim : wire::EntryKind::kZero;
      entry.first_block = static_cast<uint16_t>(tape_.Below(3) * 64);
      entry.block_count = static_cast<uint16_t>(wire::kBlocksPerChunk - entry.first_block);
    }
    if (test_.store().ExtentsNeeded(slice, entry) > test_.store().capacity().extents_free) return;
    uint64_t window = count * wire::kBlockBytes;
    for (const wire::EntryHeader& each : test_.store().Tail(slice)) {
      window += (each.block_count + 1) * wire::kBlockBytes;
    }
    if (window > kWindowBytes) return;
    if (tape_.Below(2) == 0) {
      entry.client = kModelClient;
      entry.client_incarnation = kModelIncarnation;
      entry.request = RequestId(++requests_);
      const uint64_t mark = requests_ > 20 ? requests_ - 20 : 0;
      entry.low_water = RequestId(mark);
    }
    const uint64_t stamp = NewStamp();
    Mutate(slice, [&](ModelSlice& after) {
      after.ops[{id, 0}] = ModelOp{.entry = entry, .stamp = stamp};
      after.last = id;
      if (!entry.client.valid()) return;
      RequestId& low_water = after.low_water[kModelClient];
      low_water = std::max(low_water, entry.low_water);
    });
    Mutated(test_.Append(slice, entry, stamp));
  }

  void Commit() {
    const SliceId slice = RandomSlice();
    const SliceFacts* facts = test_.store().Find(slice);
    if (facts == nullptr || facts->last_durable <= facts->commit_point) return;
    EntryId id = facts->last_durable;
    if (id.epoch != facts->started_epoch) return;  // the new names are not durable yet
    if (tape_.Below(2) == 0) {
      std::vector<wire::EntryHeader> tail = test_.store().Tail(slice);
      std::erase_if(tail, [&](const auto& entry) { return entry.id > id; });
      if (!tail.empty()) id = tail[tape_.Below(tail.size())].id;
    }
    // A crash may forget it, so it is no operation of its own.
    for (Model& each : models_) {
      for (World& world : each.worlds) {
        const auto found = world.find(slice);
        if (found == world.end() || found->second.started != id.epoch) continue;
        found->second.commit_point = std::max(found->second.commit_point, id);
      }
    }
    test_.Commit(slice, id);
  }

  void StartEpoch() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    EpochStartRecord record;
    record.epoch = before == nullptr ? Epoch(1) : before->started.next();
    record.issuer = NewStamp();
    record.in_sync = true;
    std::vector<wire::HistoryItem> history(tape_.Below(5));
    std::vector<Rename> renames;
    if (before != nullptr) {
      record.end = before->commit_point;
      if (tape_.Below(4) == 0) {
        record.in_sync = false;
        record.start = Seq(tape_.Below(10));
      } else {
        std::vector<EntryId> tail = before->Tail();
        if (tape_.Below(4) == 0) tail.resize(tape_.Below(tail.size() + 1));
        Seq to = record.start;
        for (const EntryId from : tail) {
          to = to.next();
          renames.push_back({.from = from, .to = {record.epoch, to}});
        }
      }
    }
    record.history = history;
    record.renames = renames;
    Mutate(slice, [&](ModelSlice& after) { after.StartEpoch(record); });
    Mutated(test_.Start(slice, record));
  }

  void Void() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    // Below that only what was committed under another name goes; floors are tested elsewhere.
    EntryId end = std::max(before->commit_point, before->start);
    const std::vector<EntryId> tail = before->Tail();
    if (!tail.empty()) end = std::max(end, tail[tape_.Below(tail.size())]);
    Mutate(slice, [&](ModelSlice& after) { after.VoidAbove(end); });
    const Tag tag = test_.NewTag();
    test_.store().VoidAbove(test_.now(), slice, end, tag, test_.out());
    test_.Take();
    Mutated(tag);
  }

  void DropSlice() {
    const SliceId slice = RandomSlice();
    models_.push_back(models_.back());
    for (World& world : models_.back().worlds) world.erase(slice);
    const Tag tag = test_.NewTag();
    test_.store().DropSlice(test_.now(), slice, tag, test_.out());
    test_.Take();
    Mutated(tag);
  }

  void Copy() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    if (test_.store().capacity().extents_free == 0 || waiting_.size() > 8) return;
    const auto chunk = static_cast<uint32_t>(tape_.Below(kChunks));
    const auto extent = static_cast<uint32_t>(tape_.Below(wire::kExtentsPerChunk));
    ModelOp op{
        .is_copy = true,
        .present = static_cast<uint16_t>(tape_.Below(2) == 0 ? 0xffff : tape_.Below(0x10000)),
        .modified = Epoch(1 + tape_.Below(before->started.value())),
        .stamp = NewStamp()};
    op.entry = test_.Write({}, chunk, extent * wire::kBlocksPerExtent, wire::kBlocksPerExtent);
    const EntryId last = before->last;
    Mutate(slice, [&](ModelSlice& after) { after.ops[{last, after.next_serial++}] = op; });
    const Tag tag = test_.NewTag();
    const auto blocks = static_cast<uint32_t>(std::popcount(op.present));
    const Slice data = blocks == 0 ? Slice() : test_.Data(op.stamp, blocks);
    test_.store().AppendCopy(test_.now(), slice, TestKey(chunk), static_cast<uint16_t>(extent),
                             op.present, op.modified, last, data, TestStore::Crcs(data), tag,
                             test_.out());
    test_.Take();
    Mutated(tag);
  }

  void Drop() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    const auto chunk = static_cast<uint32_t>(tape_.Below(kChunks));
    ModelOp op{.is_copy = true, .modified = before->started};
    op.entry = test_.Write({}, chunk, 0, wire::kBlocksPerChunk);
    const EntryId last = before->last;
    Mutate(slice, [&](ModelSlice& after) { after.ops[{last, after.next_serial++}] = op; });
    const Tag tag = test_.NewTag();
    test_.store().AppendDrop(test_.now(), slice, TestKey(chunk), last, tag, test_.out());
    test_.Take();
    Mutated(tag);
  }

  void Requests() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    const RequestId request(++requests_);
    const EntryId last = before->last;
    Mutate(slice, [&](ModelSlice& after) {
      after.copied_requests[{kModelClient, request}] = last;
    });
    const wire::RequestRecord record{.client = kModelClient,
                                     .client_incarnation = kModelIncarnation,
                                     .request = request,
                                     .low_water = {},
                                     .entry = last};
    const Tag tag = test_.NewTag();
    test_.store().AppendRequests(test_.now(), slice, std::span(&record, 1), tag, test_.out());
    test_.Take();
    Mutated(tag);
  }

  void Facts() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    const Tag tag = test_.NewTag();
    if (tape_.Below(2) == 0) {
      const bool value = !before->needs_resync;
      Mutate(slice, [&](ModelSlice& after) { after.needs_resync = value; });
      test_.store().SetNeedsResync(test_.now(), slice, value, tag, test_.out());
    } else {
      const Epoch started = before->started;
      const uint64_t issuer = before->issuer;
      Mutate(slice, [&](ModelSlice& after) { after.in_sync = started; });
      test_.store().SetInSync(test_.now(), slice, started, issuer, tag, test_.out());
    }
    test_.Take();
    Mutated(tag);
  }

  void Read() {
    const SliceId slice = RandomSlice();
    const ModelSlice* before = Started(slice);
    if (before == nullptr) return;
    const ChunkKey key = TestKey(static_cast<uint32_t>(tape_.Below(kChunks)));
    const auto first = static_cast<uint32_t>(tape_.Below(wire::kBlocksPerChunk));
    const auto count = static_cast<uint32_t>(1 + tape_.Below(wire::kBlocksPerChunk - first));
    const auto got = test_.Read(slice, key, first, count);
    RC_ASSERT(got.has_value());
    std::erase_if(model().worlds, [&](const World& world) {
      const ChunkStamps want = world.at(slice).Content(key);
      return !std::equal(got->begin(), got->end(), want.begin() + first);
    });
    RC_ASSERT(!model().worlds.empty());
  }

  void CloseAndOpen() {
    const World want = model().worlds.front();
    RC_ASSERT(test_.Close());
    Learn();
    RC_ASSERT(waiting_.empty());
    test_.NewProcess();
    Reopen();
    Compare();
    // A clean shutdown forgets nothing.
    for (const auto& [slice, each] : want) {
      RC_ASSERT(test_.store().Find(slice)->commit_point == each.commit_point);
    }
  }

  void Crash() {
    const bool power_cut = tape_.Below(2) == 0;
    test_.Crash(power_cut);
    Reopen();
  }

  // Opens, possibly crashing again meanwhile, and finds out how far the log went.
  void Reopen() {
    while (tape_.Below(4) == 3) {
      const Tag tag = test_.NewTag();
      test_.store().Open(test_.now(), test_.disk().info(), test_.identity, tag, test_.out());
      test_.Take();
      for (uint64_t i = tape_.Below(30); i > 0; --i) test_.StepDisk();
      test_.Crash(tape_.Below(2) == 0);
    }
    RC_ASSERT(test_.Open());
    waiting_.clear();
    test_.store().CheckInvariants(true);
    std::string why;
    std::map<std::string, World> matching;
    for (const Model& each : models_) {
      for (const World& world : each.worlds) {
        std::string reason;
        if (Equal(world, &reason)) matching.emplace(Fingerprint(world), world);
        if (!why.ends_with(reason)) why += "; or " + reason;
      }
    }
    if (matching.empty()) RC_FAIL("finds none of what it may be: " + why);
    first_ = 0;
    models_.assign(1, Model());
    model().worlds.clear();
    for (auto& [text, world] : matching) {
      for (auto& [slice, each] : world) {
        const EntryId commit_point = test_.store().Find(slice)->commit_point;
        RC_ASSERT(commit_point <= std::max(each.commit_point, each.start));
        each.commit_point = commit_point;
      }
      model().worlds.push_back(world);
    }
  }

  void Compare() {
    std::string why;
    std::erase_if(model().worlds, [&](const World& world) { return !Equal(world, &why); });
    if (model().worlds.empty()) RC_FAIL(why);
  }

  bool Equal(const World& want, std::string* why) {
    return Looks(test_, want, {.chunks = kChunks, .requests = requests_}, why);
  }

  uint64_t NewStamp() { return stamps_ += 1000; }

  Tape tape_;
  TestStore test_;
  std::deque<Model> models_;  // after each operation that a crash may undo
  size_t first_ = 0;          // index of models_.front()
  std::deque<Mutation> waiting_;
  uint64_t stamps_ = 0;
  uint64_t requests_ = 0;
};

RC_GTEST_PROP(StoreModel, SurvivesCrashesAtAnyPoint, ()) {
  // At full size always: else the first runs would know only a few operations.
  const auto seed = *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<uint32_t>(0, 1u << 30));
  const auto length = *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<size_t>(0, 8000));
  const auto tape = *rc::gen::resize(
      rc::kNominalSize,
      rc::gen::container<std::vector<uint32_t>>(length, rc::gen::inRange<uint32_t>(0, 1u << 30)));
  Run(tape, seed).Play();
}

}  // namespace
}  // namespace gabion::store
