// A process that writes to a store on a real file is killed at drawn moments. After each kill every
// block must show what was acknowledged, or a later write that was on its way, whole.
//
// The child and this test share memory: what was asked and what was answered for each block is
// known up to the last instruction before the kill. GABION_KILLS: how many
// on a file; half as many over a cache.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/base/fifo.h"
#include "core/base/mix.h"
#include "core/base/random.h"
#include "core/store/layout.h"
#include "disk/harness/store_runner.h"
#include "disk/layer/aio_layer.h"
#include "disk/layer/counting_layer.h"
#include "disk/layer/volatile_cache_layer.h"

namespace gabion::disk {
namespace {

constexpr uint32_t kBlock = wire::kBlockBytes;
constexpr uint64_t kDeviceBytes = 48 << 20;
constexpr uint64_t kLogBytes = 4 << 20;
constexpr uint32_t kChunks = 12;
constexpr uint32_t kBlocks = kChunks * wire::kBlocksPerChunk;
constexpr uint32_t kSlices = 3;
constexpr uint32_t kBlocksPerWriteMax = 8;
constexpr size_t kInFlight = 24;
constexpr size_t kInFlightMin = 8;

// A version is the number of its write, times 2, plus 1 if it wrote zeroes. They only grow.
struct Block {
  std::atomic<uint64_t> acknowledged;
  std::atomic<uint64_t> submitted;
  std::atomic<uint64_t> submitted_zero;  // the newest that is zeroes
};
struct Shared {
  std::atomic<uint64_t> versions;  // ever
  std::atomic<uint64_t> acknowledged_writes;
  std::atomic<uint64_t> in_flight;
  std::atomic<uint64_t> destaging;  // homes were written that no checkpoint holds yet
  std::atomic<uint64_t> checkpoints;
  std::array<Block, kBlocks> blocks;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// Every 8 bytes of a block tell its number and version.
uint64_t WordOf(uint32_t block, uint64_t version, size_t index) {
  return mix64(version * kBlocks + block) + index;
}

void Fill(std::span<std::byte> bytes, uint32_t block, uint64_t version) {
  for (size_t i = 0; i < kBlock / 8; ++i) StoreLe(&bytes[i * 8], WordOf(block, version, i));
  StoreLe(bytes.data(), version);
}

// The version that these bytes are, 0 for zeroes; nothing when they are none whole.
std::optional<uint64_t> VersionIn(std::span<const std::byte> bytes, uint32_t block) {
  const auto version = LoadLe<uint64_t>(bytes.data());
  for (size_t i = 1; i < kBlock / 8; ++i) {
    const uint64_t want = version == 0 ? 0 : WordOf(block, version, i);
    if (LoadLe<uint64_t>(&bytes[i * 8]) != want) return std::nullopt;
  }
  return version;
}

enum class Kind { kFile, kForgetfulCache };

// The child: writes until it is killed. Ends by itself only when something is wrong.
class Victim {
 public:
  Victim(const std::string& path, Kind kind, uint64_t seed, Shared* shared)
      : shared_(*shared), random_(seed, 1, 0) {
    Result<std::unique_ptr<AioLayer>> file = AioLayer::Open(path, 0);
    if (!file) Die(file.error().message);
    file_ = std::move(*file);
    const std::optional<store::Geometry> geometry = store::ComputeGeometry(kDeviceBytes, kLogBytes);
    BlockLayer* top = file_.get();
    if (kind == Kind::kForgetfulCache) {
      cache_ = std::make_unique<VolatileCacheLayer>(
          top, VolatileCacheLayer::Options{.seed = seed, .write_back_percent = 50});
      top = cache_.get();
    }
    counting_ = std::make_unique<CountingLayer>(top, geometry->extents_offset());
    runner_ = std::make_unique<StoreRunner>(counting_.get(),
                                            StoreRunner::Options{.log_bytes = kLogBytes});
    writer_ = std::make_unique<SliceWriter>(
        runner_.get(), SliceWriter::Options{.slices = kSlices, .commit_every = 4});
  }

  [[noreturn]] void Run() {
    if (Result<void> open = runner_->Open(); !open) Die(open.error().message);
    if (!writer_->StartEpochs()) Die("epochs cannot start");
    while (true) {
      while (writer_->in_flight() < kInFlight && Write()) {
      }
      NoteDestaging();
      runner_->Turn();
      for (const store::Done& done : runner_->done()) Acknowledge(done);
      runner_->done().clear();
      shared_.in_flight = writer_->in_flight();
      NoteDestaging();
    }
  }

 private:
  struct WriteOnItsWay {
    uint32_t block = 0;
    uint32_t count = 0;
    uint64_t version = 0;
  };

  [[noreturn]] static void Die(const std::string& reason) {
    std::fprintf(stderr, "the writing process: %s\n", reason.c_str());
    ::_exit(3);
  }

  void NoteDestaging() {
    const uint64_t checkpoints = runner_->store().counters().checkpoints;
    if (shared_.checkpoints != checkpoints) home_writes_before_ = counting_->home_writes();
    shared_.checkpoints = checkpoints;
    shared_.destaging = counting_->home_writes() > home_writes_before_ ? 1 : 0;
  }

  bool Write() {
    if (!next_) {
      auto count = static_cast<uint32_t>(random_.Range(1, kBlocksPerWriteMax));
      const auto chunk = static_cast<uint32_t>(random_.Below(kChunks));
      auto first = static_cast<uint32_t>(random_.Below(wire::kBlocksPerChunk - count + 1));
      if (random_.Chance(1, 8)) {
        // A whole extent, which does not go through the log, and sometimes ends, which do. Two
        // would be more than half a window, which the writer need not commit.
        const uint32_t ends = random_.Chance(1, 2) ? 1 : 0;
        const auto extent = static_cast<uint32_t>(random_.Range(1, wire::kExtentsPerChunk - 2));
        first = extent * wire::kBlocksPerExtent - ends;
        count = wire::kBlocksPerExtent + 2 * ends;
      }
      const uint64_t zero = random_.Chance(1, 10) ? 1 : 0;
      next_ = WriteOnItsWay{.block = chunk * wire::kBlocksPerChunk + first,
                            .count = count,
                            .version = ++shared_.versions * 2 + zero};
    }
    const uint32_t chunk = next_->block / wire::kBlocksPerChunk;
    const uint32_t first = next_->block % wire::kBlocksPerChunk;
    if (!writer_->Fits(chunk, first, next_->count)) return false;
    const bool zero = (next_->version & 1) != 0;
    Slice data;
    std::vector<uint32_t> crcs;
    if (!zero) {
      data = runner_->pool().Allocate(next_->count * kBlock);
      if (data.empty()) Die("no memory");
    }
    for (uint32_t i = 0; i < next_->count; ++i) {
      Block& block = shared_.blocks[next_->block + i];
      block.submitted = next_->version;
      if (zero) {
        block.submitted_zero = next_->version;
      } else {
        const std::span<std::byte> bytes = data.mutable_span().subspan(size_t{i} * kBlock, kBlock);
        Fill(bytes, next_->block + i, next_->version);
        crcs.push_back(Crc32c(bytes));
      }
    }
    writer_->Write(chunk, first, next_->count, std::move(data), crcs, next_->version);
    on_their_way_.push_back(*next_);
    next_.reset();
    shared_.in_flight = writer_->in_flight();
    return true;
  }

  void Acknowledge(const store::Done& done) {
    if (done.status != store::DoneStatus::kOk) Die(runner_->store().error());
    const WriteOnItsWay write = on_their_way_.pop_front();
    for (uint32_t i = 0; i < write.count; ++i) {
      shared_.blocks[write.block + i].acknowledged = write.version;
    }
    ++shared_.acknowledged_writes;
    writer_->OnDone(done.tag);
  }

  Shared& shared_;
  RandomStream random_;
  std::unique_ptr<AioLayer> file_;
  std::unique_ptr<VolatileCacheLayer> cache_;
  std::unique_ptr<CountingLayer> counting_;
  std::unique_ptr<StoreRunner> runner_;
  std::unique_ptr<SliceWriter> writer_;
  std::optional<WriteOnItsWay> next_;
  Fifo<WriteOnItsWay> on_their_way_;
  uint64_t home_writes_before_ = 0;  // the last checkpoint
};

class StoreKillTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "gabion-kill-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    void* const memory =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared();
  }
  void TearDown() override {
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
    std::filesystem::remove_all(folder_);
  }

  std::string path() const { return folder_ + "/device"; }

  void Format() {
    Result<std::unique_ptr<AioLayer>> file = AioLayer::Open(path(), kDeviceBytes);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    StoreRunner runner(file->get(), {.log_bytes = kLogBytes});
    const Result<void> formatted = runner.Format(/*force=*/false);
    ASSERT_TRUE(formatted.has_value()) << formatted.error().message;
  }

  // Starts a child, lets it acknowledge a drawn number of writes, and kills it.
  void Kill(uint64_t seed, uint64_t acknowledgements) {
    shared_->in_flight = 0;
    shared_->destaging = 0;
    shared_->checkpoints = 0;
    const uint64_t target = shared_->acknowledged_writes + acknowledgements;
    const pid_t test = ::getpid();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != test) ::_exit(4);
      Victim(path(), GetParam(), seed, shared_).Run();
    }
    int status = 0;
    while (shared_->acknowledged_writes < target || shared_->in_flight < kInFlightMin) {
      if (::waitpid(child, &status, WNOHANG) == child) FAIL() << "the writing process has ended";
      ::sched_yield();
    }
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }

  // Opens the store as the next process does and reads everything.
  void Check() {
    Result<std::unique_ptr<AioLayer>> file = AioLayer::Open(path(), 0);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    StoreRunner runner(file->get(), {.log_bytes = kLogBytes});
    const Result<void> open = runner.Open();
    ASSERT_TRUE(open.has_value()) << open.error().message;
    runner.store().CheckInvariants(true);
    constexpr uint32_t kBlocksPerRead = 64;
    const Slice into = runner.pool().Allocate(kBlocksPerRead * kBlock);
    const SliceWriter writer(&runner, {.slices = kSlices});
    for (uint32_t first = 0; first < kBlocks; first += kBlocksPerRead) {
      const uint32_t chunk = first / wire::kBlocksPerChunk;
      const store::Tag tag = runner.NewTag();
      runner.store().Read(runner.now(), writer.SliceOf(chunk), SliceWriter::KeyOf(chunk),
                          first % wire::kBlocksPerChunk, kBlocksPerRead, into, tag, runner.out());
      ASSERT_EQ(runner.Await(tag), store::DoneStatus::kOk) << runner.store().error();
      for (uint32_t i = 0; i < kBlocksPerRead; ++i) {
        CheckBlock(first + i, into.span().subspan(size_t{i} * kBlock, kBlock));
        if (HasFatalFailure()) return;
      }
    }
  }

  void CheckBlock(uint32_t number, std::span<const std::byte> bytes) {
    Block& block = shared_->blocks[number];
    const uint64_t acknowledged = block.acknowledged;
    const uint64_t submitted = block.submitted;
    const std::optional<uint64_t> version = VersionIn(bytes, number);
    ASSERT_TRUE(version.has_value()) << "block " << number << " is no version as a whole";
    uint64_t found = *version;
    if (found == 0) {
      // Never written, or the newest zeroes that can be meant.
      const uint64_t zero = block.submitted_zero;
      const bool acknowledged_zero = acknowledged == 0 || (acknowledged & 1) != 0;
      ASSERT_TRUE(acknowledged_zero || zero > acknowledged)
          << "block " << number << " has lost version " << acknowledged;
      found = zero > acknowledged ? zero : acknowledged;
    }
    ASSERT_GE(found, acknowledged) << "block " << number << " has lost version " << acknowledged;
    ASSERT_LE(found, submitted) << "block " << number << " shows what was never written";
    if (found > acknowledged) ++unacknowledged_but_there_;
    // What was found must stay, and nothing else may come back.
    block.acknowledged = found;
    block.submitted = found;
    block.submitted_zero = (found & 1) != 0 ? found : 0;
  }

  std::string folder_;
  Shared* shared_ = nullptr;
  uint64_t unacknowledged_but_there_ = 0;
};

TEST_P(StoreKillTest, EveryAcknowledgedBlockIsThereAfterSigkill) {
  const char* wanted_text = std::getenv("GABION_KILLS");
  uint64_t wanted = wanted_text == nullptr ? 100 : std::strtoull(wanted_text, nullptr, 10);
  if (GetParam() == Kind::kForgetfulCache) wanted = (wanted + 1) / 2;
  ASSERT_GT(wanted, 0u);
  Format();
  if (HasFatalFailure()) return;
  RandomStream random(4711, static_cast<uint64_t>(GetParam()), 0);
  uint64_t kills = 0;
  uint64_t busy = 0;
  uint64_t destaging = 0;
  uint64_t checkpoints = 0;
  // The moment of a kill is drawn, so some find fewer writes on their way, on a busy machine most.
  // They are checked too.
  while (busy < wanted && kills < wanted * 10) {
    Kill(++kills, random.Range(1, 300));
    if (HasFatalFailure()) return;
    if (shared_->in_flight >= kInFlightMin) {
      ++busy;
      if (shared_->destaging != 0) ++destaging;
      checkpoints += shared_->checkpoints;
    }
    Check();
    ASSERT_FALSE(HasFatalFailure()) << "after kill " << kills;
  }
  std::printf(
      "%llu kills, %llu of them with >= %zu writes in flight, %llu of those in the middle of a "
      "destage; %llu writes acknowledged, %llu checkpoints; %llu blocks of writes on their way "
      "were there\n",
      static_cast<unsigned long long>(kills), static_cast<unsigned long long>(busy), kInFlightMin,
      static_cast<unsigned long long>(destaging),
      static_cast<unsigned long long>(shared_->acknowledged_writes.load()),
      static_cast<unsigned long long>(checkpoints),
      static_cast<unsigned long long>(unacknowledged_but_there_));
  EXPECT_GE(busy, wanted);
  EXPECT_GE(destaging * 4, busy) << "too few kills while a destage runs";
  EXPECT_GT(unacknowledged_but_there_, 0u) << "no kill hit between a write and its answer";
}

INSTANTIATE_TEST_SUITE_P(, StoreKillTest, testing::Values(Kind::kFile, Kind::kForgetfulCache),
                         [](const testing::TestParamInfo<Kind>& kind) {
                           return kind.param == Kind::kFile ? "OnAFile" : "OverACacheThatForgets";
                         });

}  // namespace
}  // namespace gabion::disk
