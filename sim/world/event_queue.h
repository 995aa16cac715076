// The one event queue of a world: a 4-ary heap of small plain values, ordered by (time, band,
// sequence). The sequence makes the order total, so equal runs pop equal events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/check.h"

namespace gabion::sim {

// Nanoseconds of true time since the world began. No node can read it.
using TrueTime = int64_t;

enum class QueueKind : uint8_t {
  kDeliver,   // arg: slot of the message in flight
  kConnect,   // arg: slot of the dial
  kDiskDone,  // arg: slot of the operation
  kTimer,     // arg: slot of the node's timer
  kStep,      // arg: slot of a queued event (start, user request, notices of the host)
  kNotice,    // arg: a connection end that learns that it is broken
  kResend,    // arg: a connection end whose held messages may go
  kAction,    // arg: slot of a function of the harness
};

struct QueuedEvent {
  TrueTime time = 0;
  uint64_t order = 0;  // band in the top 8 bits, then the sequence
  uint64_t arg = 0;
  uint32_t boot = 0;  // the boot of `node` that this is for
  uint16_t node = 0;
  QueueKind kind{};
  uint8_t reserved = 0;
};
static_assert(sizeof(QueuedEvent) == 32);

class EventQueue {
 public:
  bool empty() const { return heap_.empty(); }
  size_t size() const { return heap_.size(); }
  const QueuedEvent& top() const { return heap_.front(); }

  // Sets `order` from the band and the next sequence number.
  void Push(QueuedEvent event, uint8_t band) {
    event.order = (uint64_t{band} << 56) | next_sequence_++;
    heap_.push_back(event);
    size_t child = heap_.size() - 1;
    while (child > 0) {
      const size_t parent = (child - 1) / 4;
      if (!Before(event, heap_[parent])) break;
      heap_[child] = heap_[parent];
      child = parent;
    }
    heap_[child] = event;
  }

  QueuedEvent Pop() {
    CHECK(!heap_.empty());
    const QueuedEvent result = heap_.front();
    const QueuedEvent last = heap_.back();
    heap_.pop_back();
    if (heap_.empty()) return result;
    size_t parent = 0;
    for (;;) {
      const size_t first = parent * 4 + 1;
      if (first >= heap_.size()) break;
      const size_t end = first + 4 < heap_.size() ? first + 4 : heap_.size();
      size_t least = first;
      for (size_t child = first + 1; child < end; ++child) {
        if (Before(heap_[child], heap_[least])) least = child;
      }
      if (!Before(heap_[least], last)) break;
      heap_[parent] = heap_[least];
      parent = least;
    }
    heap_[parent] = last;
    return result;
  }

  void Clear() { heap_.clear(); }

 private:
  static bool Before(const QueuedEvent& a, const QueuedEvent& b) {
    return a.time != b.time ? a.time < b.time : a.order < b.order;
  }

  std::vector<QueuedEvent> heap_;
  uint64_t next_sequence_ = 0;
};

}  // namespace gabion::sim
