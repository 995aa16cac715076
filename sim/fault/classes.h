// The classes of faults: each has a rate that a run draws (0: off), a counter of how often it
// happened, and a naive victim that fails because of it (sim/fault/efficacy_test.cc).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gabion::sim {

enum class Fault : uint8_t {
  // Network.
  kDrop,       // a message is lost and retransmitted after 200 ms or more
  kDelayTail,  // a long delay
  kReset,      // a connection breaks, the tail is lost, both ends learn it
  kHalfOpen,   // a connection breaks, one end does not learn it
  kRefuse,     // a dial fails
  kClog,       // a link stands still, then bursts
  kCutOneWay,
  kCutTwoWay,
  kIsolate,  // one node is cut from all others
  kSplit,    // two groups of nodes are cut from each other
  // Processes.
  kKill,      // the process dies; device caches live
  kPowerCut,  // the machine dies; device caches are lost
  kPowerCutAll,
  kPause,         // the process stands still, and goes on with queued work
  kCleanRestart,  // clean shutdown, then start
  // Disks.
  kUnflushedLost,  // a power cut loses completed writes that were not flushed
  kTornWrite,      // a write in flight at a crash is partly there
  kReorder,        // operations complete in another order than they were submitted
  kSlowDisk,
  kRot,  // a page reads back damaged until it is written again
  // Clocks.
  kClockDrift,
  kWallOffset,
  // More of disks. A disk that damages, lies or breaks is one of one server's (injector.h).
  kGarbage,         // what a crash tore holds garbage in some sectors, neither old nor new
  kUnacknowledged,  // a write in flight at a crash is all there, and nobody was told
  kLatent,          // a page cannot be read until it is written again
  kMisread,         // a read brings the bytes of another place
  kMiswrite,        // a page lands in another place
  kPhantom,         // a write is acknowledged, and the old bytes stay
  kStaleRead,       // a read brings what the place held before
  kWriteError,      // a write fails, perhaps in part done
  kFlushError,      // a flush fails; what it was to keep is dropped, and the next one succeeds
  kStuck,           // nothing completes for a while
  kFull,            // places that hold nothing take no writes
  kReadOnly,        // no writes at all
  kVanish,          // gone for a while
  kSizeChange,      // shows another size after the next start
  kSwapped,         // has changed places with another server's
  kWiped,           // another, empty disk is in its place
  kRolledBack,      // holds what it held a while ago
  // Of the log of a store: a durable write was acknowledged, and is not there.
  kLogPhantom,
  kLogMiswrite,  // it is a little further on in the log
  // Of state devices, where the journals of SDSs and of the MDM are.
  kStateRot,         // a page reads back damaged
  kStateLatent,      // a page cannot be read
  kStatePhantom,     // a durable write was acknowledged, and is not there
  kStateFlushError,  // a durable write or a flush fails; what was to be kept is read, and not kept
  kCount,
};

// From here on classes have draws of their own in a plan.
inline constexpr Fault kFirstOfDisks = Fault::kGarbage;

inline constexpr size_t kFaultCount = static_cast<size_t>(Fault::kCount);

inline constexpr std::array<std::string_view, kFaultCount> kFaultNames = {
    "drop",           "delay-tail",  "reset",        "half-open",      "refuse",
    "clog",           "cut-1way",    "cut-2way",     "isolate",        "split",
    "kill",           "power-cut",   "power-all",    "pause",          "clean-restart",
    "unflushed-lost", "torn-write",  "reorder",      "slow-disk",      "rot",
    "drift",          "wall-offset", "garbage",      "unacknowledged", "latent",
    "misread",        "miswrite",    "phantom",      "stale-read",     "write-error",
    "flush-error",    "stuck",       "full",         "read-only",      "vanish",
    "size-change",    "swapped",     "wiped",        "rolled-back",    "log-phantom",
    "log-miswrite",   "state-rot",   "state-latent", "state-phantom",  "state-flush-error",
};

inline std::string_view NameOf(Fault fault) { return kFaultNames[static_cast<size_t>(fault)]; }

// One number per class.
template <class T>
struct PerFault {
  std::array<T, kFaultCount> values{};
  T& operator[](Fault fault) { return values[static_cast<size_t>(fault)]; }
  const T& operator[](Fault fault) const { return values[static_cast<size_t>(fault)]; }
};

// What the network and the disks of a world do by themselves. Rates are per million messages or
// operations; 0 is off.
struct WorldFaults {
  PerFault<uint32_t> per_million;
  bool reorder_disk = false;  // Fault::kReorder
  bool lose_unflushed = true;
  bool tear_writes = true;
  bool complete_unacknowledged = true;  // Fault::kUnacknowledged
  bool leave_garbage = false;           // Fault::kGarbage
};

}  // namespace gabion::sim
