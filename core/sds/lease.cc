#include "core/sds/lease.h"

#include "core/base/bug.h"

namespace gabion::sds {

void Lease::OnSent(uint64_t number, const Now& now) {
  sent_[number % kRemembered] = {.number = number, .at = now};
  newest_ = number;
}

void Lease::OnGrant(uint64_t number, Duration lease) {
  const Sent& sent = sent_[number % kRemembered];
  if (number == 0 || sent.number != number || number <= given_up_below_) return;
  const Instant end = SaturatingAdd(sent.at.boot, lease);
  if (end <= end_) return;
  end_ = end;
  granted_from_ = sent.at;
}

void Lease::GiveUp() {
  end_ = Instant();
  given_up_below_ = newest_;
}

bool Lease::Valid(const Now& now) const {
  if (PLANTED_BUG("R5-lease-never-ends")) return end_ != Instant();
  if (now.boot >= end_) return false;
  const Duration disagreement = (now.wall - granted_from_.wall) - (now.boot - granted_from_.boot);
  return disagreement <= kWallDisagreementMax && disagreement >= -kWallDisagreementMax;
}

}  // namespace gabion::sds
