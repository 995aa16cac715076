// Every decision of a run that is not the product's: drawn from counter-based streams, or taken
// from a tape. A record is (stream, site, arity, value); value 0 is always the benign one (no
// fault, least delay, first in first out). A tape is kept per stream, so that a change to one
// stream (a draw added, a span dropped) leaves all others where they were; a stream that is
// exhausted says zero.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/random.h"
#include "core/base/time.h"

namespace gabion::sim {

// What a stream decides about. With a node (or a pair of nodes) it names the stream.
enum class StreamKind : uint8_t {
  kPlan = 1,      // shape of the cluster, which fault classes are on
  kSchedule = 2,  // order of events at one instant, order of effects
  kLink = 3,      // one per ordered pair of nodes
  kDevice = 4,
  kClock = 5,
  kWorkload = 6,
  kFault = 7,    // one per fault class
  kEntropy = 8,  // what the product gets as random numbers
};

// Where in the code a choice is made; for traces and the minimiser.
enum class Site : uint16_t {
  kShape = 1,
  kSwarm,
  kRate,
  kBand,
  kEffectOrder,
  kLinkDelay,
  kLinkTail,
  kLinkDrop,
  kLinkReset,
  kTailLost,
  kNotice,
  kDiskLatency,
  kDiskTail,
  kTornSector,
  kCrashPoint,
  kFaultWhen,
  kFaultWhat,
  kFaultLength,
  kClockOffset,
  kClockDrift,
  kTimerSlack,
  kOpKind,
  kOpPlace,
  kOpSize,
  kOpPause,
  kEntropyDraw,
};

struct ChoiceRecord {
  uint32_t stream = 0;
  uint16_t site = 0;
  uint16_t reserved = 0;
  uint64_t arity = 0;  // 0: all of 64 bits
  uint64_t value = 0;

  friend bool operator==(const ChoiceRecord&, const ChoiceRecord&) = default;
};

// All choices of a run in the order they were made. Text: a line "gabion-tape 1 seed" and a line
// per record that is not zero, each with its index in its stream.
struct Tape {
  uint64_t seed = 0;
  std::vector<ChoiceRecord> records;

  std::string ToText() const;
  // False when the text is no tape.
  static bool FromText(std::string_view text, Tape* tape);
};

// Names a stream in Choices; cheap to copy.
struct Stream {
  uint32_t index = 0;
};

class Choices {
 public:
  explicit Choices(uint64_t seed) : seed_(seed) {}
  // Replays `tape`. Borrowed during construction only.
  explicit Choices(const Tape& tape);

  // The stream of (kind, a, b); the same one every time.
  Stream Open(StreamKind kind, uint32_t a = 0, uint32_t b = 0);

  // Uniform in [0, n); n > 0.
  uint64_t Below(Stream stream, Site site, uint64_t n);
  // [lo, hi], both ends included; lo is the benign one.
  uint64_t Range(Stream stream, Site site, uint64_t lo, uint64_t hi) {
    return lo + Below(stream, site, hi - lo + 1);
  }
  // False is benign.
  bool Chance(Stream stream, Site site, uint64_t numerator, uint64_t denominator);
  // RandomStream::Tail: mostly about `mean`, at most `max`; 0 is benign.
  uint64_t Tail(Stream stream, Site site, uint64_t mean, uint64_t max);
  Duration TailOf(Stream stream, Site site, Duration mean, Duration max) {
    return Duration(static_cast<int64_t>(Tail(stream, site, static_cast<uint64_t>(mean.count()),
                                              static_cast<uint64_t>(max.count()))));
  }
  uint64_t Bits(Stream stream, Site site);

  // From here on every choice is kept.
  void Record() { recording_ = true; }
  uint64_t seed() const { return seed_; }
  uint64_t count() const { return count_; }
  // Mixed over all choices so far.
  uint64_t digest() const { return digest_; }
  // What was recorded so far.
  Tape RecordedTape() const { return {.seed = seed_, .records = recorded_}; }

 private:
  struct StreamState {
    uint32_t name = 0;
    RandomStream random{0, 0, 0};
    std::vector<uint64_t> replay{};  // values still to come start at `next`
    size_t next = 0;
  };

  static uint32_t NameOf(StreamKind kind, uint32_t a, uint32_t b) {
    return (static_cast<uint32_t>(kind) << 24) | (a << 12) | b;
  }
  uint32_t IndexOf(uint32_t name);
  uint64_t Settle(StreamState& state, Site site, uint64_t arity, uint64_t value);
  // A value of the tape, brought into [0, arity).
  uint64_t Replayed(StreamState& state, uint64_t arity);

  uint64_t seed_;
  bool replaying_ = false;
  bool recording_ = false;
  uint64_t count_ = 0;
  uint64_t digest_ = 0;
  std::vector<StreamState> streams_;  // sorted insertion order; found through names_
  std::vector<std::pair<uint32_t, uint32_t>> names_;  // (name, index), ascending
  std::vector<ChoiceRecord> recorded_;
};

}  // namespace gabion::sim
