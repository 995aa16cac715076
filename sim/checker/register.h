// Linearizability of one sector, decided while the run goes on.
//
// A sector is a register whose writes carry unique stamps. For each stamp, over the write and every
// read that returned it: f = first finish, s = last start. If f < s the value was there all through
// [f, s] (a forward zone), otherwise it was there at some instant of [s, f] (a backward zone). The
// history is linearizable exactly when no two forward zones overlap and no backward zone lies
// inside a forward one (Gibbons and Korach, "Testing shared memories", 1997), and no read finishes
// before its write starts. Each finish updates one zone, which is compared with the others: the
// violation is found at the event that makes it.
//
// Zeroes are written by many writes (the first state, WRITE ZEROES, DISCARD), so a read of zeroes
// does not say which one it saw. It is judged alone: one of them must not be certainly overwritten
// before the read began. When only one is possible, it counts as a read of that one.
//
// A write whose client died may take effect or not: it never finishes. One that failed, or whose
// client was replaced, may have taken effect until then, and does not afterwards: a read of it
// later says that it was there by then. The same holds of one whose client lost its mapping, until
// the client gets it back; one that began after that is nowhere until then.
//
// Compared with the definition by exhaustive_test: what stamps tell apart is judged exactly. Two
// things are taken for possible that are not: what several reads of zeroes say together, and that
// a write takes effect while its client's mapping is lost, when the client gets it back.
//
// Versions that no read may return any more, and that no later finish can be compared with, are
// forgotten; a read of one is a read of a stamp that nobody wrote.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/checker/stamp.h"
#include "sim/world/event_queue.h"

namespace gabion::sim {

class SectorRegister {
 public:
  // Holds zeroes since before the beginning.
  SectorRegister() = default;

  // `oldest_start`: of all requests in flight, this write included.
  void OnWriteStart(Stamp stamp, bool zeroes, TrueTime start, TrueTime oldest_start);
  // Empty, or what is wrong. `stamp` has started.
  std::string OnWriteEnd(Stamp stamp, TrueTime end);
  // It took effect before `when`, or never will.
  void OnWriteFailed(Stamp stamp, TrueTime when);
  // The same, until it is allowed again. `when` may be before its start.
  void OnWriteFenced(Stamp stamp, TrueTime when);
  void OnWriteAllowed(Stamp stamp);
  // A read that started at `start`, and now, at `end`, returned `stamp` (kZeroStamp: zeroes).
  std::string OnRead(Stamp stamp, TrueTime start, TrueTime end);

  // Drops what no request may return any more, now that all in flight began at `oldest_start` or
  // later. Writes do it now and then.
  void Forget(TrueTime oldest_start);
  size_t versions() const { return versions_.size(); }

  // Whether a copy may hold `stamp` now as its newest content: it was written, and nothing that is
  // certainly over began after it was certainly there. Empty, or why not.
  std::string MayHold(Stamp stamp) const;

  // All versions, for the report of a violation.
  std::string Describe() const;

 private:
  struct Version {
    Stamp stamp = 0;
    bool zeroes = false;
    TrueTime write_start = -1;
    TrueTime first_finish = INT64_MAX;  // f
    TrueTime last_start = -1;           // s
    TrueTime effect_by = INT64_MAX;     // of a failed write
    TrueTime fenced_at = INT64_MAX;     // of a write that may be allowed again

    // If it took effect, then by this time.
    TrueTime bound() const { return std::min(first_finish, std::min(effect_by, fenced_at)); }
    // It began when its client had lost the right to write.
    bool forbidden() const { return fenced_at < write_start; }
  };

  Version* Find(Stamp stamp);
  void Begin();
  // Some other version began after this one was there for sure, and was there for sure by `when`.
  const Version* OverwrittenBefore(const Version& version, TrueTime when) const;
  // Compares one zone with all others.
  std::string CheckZone(const Version& version) const;

  static constexpr uint32_t kForgetMin = 12;

  // Sorted by write_start. Empty until the first write: then the first one is the zero state.
  std::vector<Version> versions_;
  uint32_t forget_at_ = kForgetMin;  // as many versions
};

}  // namespace gabion::sim
