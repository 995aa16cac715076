// Counts what a thread takes from the heap and copies in memory, by what it is doing at the moment.
// A program that links this has its own malloc, memcpy and their kin, which count and then do what
// libc's do. Not under sanitizers, which have theirs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace gabion::daemon {

// One thread's. Attached to a thread, it counts in rounds, each apart.
class MemoryMeter {
 public:
  static constexpr size_t kActivities = 72;
  static constexpr size_t kRounds = 8;  // numbered from 1

  struct Count {
    uint64_t events = 0;  // calls of Begin
    uint64_t allocations = 0;
    uint64_t allocated_bytes = 0;
    uint64_t copied_bytes = 0;  // by memcpy and memmove, in pieces of kCopyBytesMin or more
  };
  // Less is no payload: heads of frames and structs.
  static constexpr size_t kCopyBytesMin = 512;

  // For the thread that calls; null ends it.
  static void Attach(MemoryMeter* meter);
  // Of all meters; 0: nothing is counted.
  static void SetRound(size_t round);

  // What follows is `activity`, until the next call. 0 is what nothing was said of.
  void Begin(size_t activity);
  void End() { activity_ = 0; }

  // Read when the thread has ended.
  const Count& count(size_t round, size_t activity) const { return counts_[round][activity]; }
  Count Total(size_t round) const;

  // For libc's replacements.
  void OnAllocation(size_t round, size_t bytes);
  void OnCopy(size_t round, size_t bytes) { counts_[round][activity_].copied_bytes += bytes; }

  // Where allocations of an activity came from in all rounds, most frequent first: counts and
  // functions.
  std::string Sites(size_t activity) const;

 private:
  static constexpr size_t kFrames = 14;
  static constexpr size_t kSites = 64;  // further ones are counted, not named
  struct Site {
    size_t activity = 0;
    uint64_t count = 0;
    std::array<uintptr_t, kFrames> frames{};
  };

  size_t activity_ = 0;
  std::array<std::array<Count, kActivities>, kRounds + 1> counts_{};
  std::array<Site, kSites> sites_{};
};

}  // namespace gabion::daemon
