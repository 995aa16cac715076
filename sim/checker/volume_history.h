// What clients did to one volume and what they saw: a register for each 512 B sector.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sim/checker/register.h"
#include "sim/checker/stamp.h"

namespace gabion::sim {

class VolumeHistory {
 public:
  // `key` names the volume in stamped sectors.
  VolumeHistory(uint64_t key, uint64_t size_bytes)
      : key_(key), sectors_(size_bytes / kStampSectorBytes) {}

  uint64_t key() const { return key_; }
  uint64_t size_bytes() const { return sectors_.size() * kStampSectorBytes; }

  // Sectors [first, first + count). Answers are empty, or say what is wrong, sector included.
  // `oldest_start`: of all requests in flight (sim/checker/register.h).
  void WriteStarted(Stamp stamp, bool zeroes, uint64_t first, uint64_t count, TrueTime start,
                    TrueTime oldest_start);
  std::string WriteEnded(Stamp stamp, uint64_t first, uint64_t count, TrueTime end);
  // It took effect before `when`, or never will; or not before it is allowed again.
  void WriteFailed(Stamp stamp, uint64_t first, uint64_t count, TrueTime when);
  void WriteFenced(Stamp stamp, uint64_t first, uint64_t count, TrueTime when);
  void WriteAllowed(Stamp stamp, uint64_t first, uint64_t count);
  std::string ReadEnded(std::span<const std::byte> bytes, uint64_t first, TrueTime start,
                        TrueTime end);
  // What a replica holds now: may it? Whole sectors from `first`.
  std::string CheckCopy(std::span<const std::byte> bytes, uint64_t first) const;

 private:
  std::string Report(uint64_t sector, const std::string& what) const;

  uint64_t key_;
  std::vector<SectorRegister> sectors_;
};

}  // namespace gabion::sim
