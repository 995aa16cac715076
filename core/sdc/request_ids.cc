#include "core/sdc/request_ids.h"

#include "core/base/check.h"

namespace gabion::sdc {

static_assert(wire::kRequestWindow % 64 == 0, "a word of the bitmap holds whole ids");

RequestId RequestIds::Assign() {
  CHECK(CanAssign());
  CHECK(!IsSettled(next_));
  ++outstanding_;
  return RequestId(next_++);
}

void RequestIds::Settle(RequestId id) {
  CHECK(id.value() >= low_water_ && id.value() < next_) << "id " << id;
  CHECK(!IsSettled(id.value())) << "id " << id << " settled twice";
  CHECK_GT(outstanding_, 0u);
  --outstanding_;
  settled_[Word(id.value())] |= Bit(id.value());
  while (low_water_ < next_ && IsSettled(low_water_)) {
    settled_[Word(low_water_)] &= ~Bit(low_water_);
    ++low_water_;
  }
}

void RequestIds::CheckInvariants() const {
  CHECK_LE(low_water_, next_);
  CHECK_LE(next_ - low_water_, uint64_t{wire::kRequestWindow});
  CHECK(low_water_ == next_ || !IsSettled(low_water_));
  CHECK_EQ(outstanding_ == 0, low_water_ == next_);
}

}  // namespace gabion::sdc
