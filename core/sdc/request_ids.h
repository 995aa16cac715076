// The ids of one slice's writes (R10): given in order from 1, settled in any order.
#pragma once

#include <array>
#include <cstdint>

#include "core/base/ids.h"
#include "core/wire/data.h"

namespace gabion::sdc {

// At most wire::kRequestWindow ids at or above the low-water mark exist at any time. A value.
class RequestIds {
 public:
  // Without it Assign() must wait for the oldest id to settle.
  bool CanAssign() const { return next_ - low_water_ < wire::kRequestWindow; }
  RequestId Assign();

  // The write was answered, or given up behind a fence. An id settles once.
  void Settle(RequestId id);

  // Every id below it is settled; the next id when nothing is outstanding.
  RequestId low_water() const { return RequestId(low_water_); }
  // Ids assigned and not settled.
  uint32_t outstanding() const { return outstanding_; }
  uint64_t next() const { return next_; }

  void CheckInvariants() const;

 private:
  bool IsSettled(uint64_t id) const { return (settled_[Word(id)] & Bit(id)) != 0; }
  static size_t Word(uint64_t id) { return id % wire::kRequestWindow / 64; }
  static uint64_t Bit(uint64_t id) { return uint64_t{1} << (id % 64); }

  uint64_t low_water_ = 1;
  uint64_t next_ = 1;
  uint32_t outstanding_ = 0;
  std::array<uint64_t, wire::kRequestWindow / 64> settled_{};  // of ids in [low_water_, next_)
};

}  // namespace gabion::sdc
