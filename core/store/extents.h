// Which extents of the device are free. A freed extent is used again only after both superblocks
// name a checkpoint that no longer needs it (S8); until then it is pending.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace gabion::store {

class ExtentTable {
 public:
  void Reset(uint32_t total);

  // Nearest free extent at or after the last one handed out, so that neighbours stay neighbours.
  std::optional<uint32_t> Allocate();
  // An extent whose owner is in no checkpoint.
  void FreeNow(uint32_t place);
  // An extent that a checkpoint may still name.
  void FreeAfterCheckpoint(uint32_t place);
  // What a planted bug does: gives it to the next one who asks.
  void FreeTooEarly(uint32_t place);
  // Recovery: an owner was found. False when the place is out of range or has another owner.
  [[nodiscard]] bool Claim(uint32_t place);

  // What is pending now waits for the checkpoint that is taken now; CheckpointDurable ends it.
  void CheckpointTaken();
  void CheckpointDurable();

  uint32_t total() const { return static_cast<uint32_t>(used_.size()); }
  uint32_t free() const { return free_; }
  uint32_t pending() const { return static_cast<uint32_t>(pending_.size() + waiting_.size()); }
  uint64_t memory_bytes() const {
    return used_.size() / 8 + (pending_.capacity() + waiting_.capacity()) * sizeof(uint32_t);
  }
  bool used(uint32_t place) const { return used_[place]; }

 private:
  std::vector<bool> used_;         // pending ones included
  std::vector<uint32_t> pending_;  // freed since the last checkpoint was taken
  std::vector<uint32_t> waiting_;  // freed before the checkpoint that is being written
  uint32_t free_ = 0;
  uint32_t next_ = 0;
};

}  // namespace gabion::store
