// The right of this SDS to act on its configuration (replication.md, R1, R4, R5).
#pragma once

#include <array>
#include <cstdint>

#include "core/base/time.h"

namespace gabion::sds {

class Lease {
 public:
  // A heartbeat leaves. Its grant counts from here, never from the answer's arrival (R1).
  void OnSent(uint64_t number, const Now& now);
  // The grant of heartbeat `number`. Unknown and old numbers change nothing.
  void OnGrant(uint64_t number, Duration lease);
  // Handed back, refused, or the connection belongs to another registration now.
  void GiveUp();

  bool Valid(const Now& now) const;
  // When it runs out by the clock; the past when there is none.
  Instant end() const { return end_; }

 private:
  // Wall time that disagrees with the monotonic clock by more ends the lease early (R4).
  static constexpr Duration kWallDisagreementMax = std::chrono::milliseconds(100);
  static constexpr size_t kRemembered = 32;

  struct Sent {
    uint64_t number = 0;
    Now at;
  };
  std::array<Sent, kRemembered> sent_{};  // heartbeat n at n % kRemembered
  uint64_t given_up_below_ = 0;           // grants of these numbers are void
  uint64_t newest_ = 0;
  Now granted_from_;
  Instant end_{};
};

}  // namespace gabion::sds
