#include "sim/checker/volume_history.h"

#include "core/base/check.h"

namespace gabion::sim {

std::string VolumeHistory::Report(uint64_t sector, const std::string& what) const {
  return "volume " + std::to_string(key_) + " sector " + std::to_string(sector) + " (chunk " +
         std::to_string(sector / 2048) + " block " + std::to_string(sector % 2048 / 8) +
         "): " + what + "\n" + sectors_[sector].Describe();
}

void VolumeHistory::WriteStarted(Stamp stamp, bool zeroes, uint64_t first, uint64_t count,
                                 TrueTime start, TrueTime oldest_start) {
  CHECK_LE(first + count, sectors_.size());
  for (uint64_t i = first; i < first + count; ++i) {
    sectors_[i].OnWriteStart(stamp, zeroes, start, oldest_start);
  }
}

std::string VolumeHistory::WriteEnded(Stamp stamp, uint64_t first, uint64_t count, TrueTime end) {
  for (uint64_t i = first; i < first + count; ++i) {
    const std::string wrong = sectors_[i].OnWriteEnd(stamp, end);
    if (!wrong.empty()) return Report(i, wrong);
  }
  return {};
}

void VolumeHistory::WriteFailed(Stamp stamp, uint64_t first, uint64_t count, TrueTime when) {
  for (uint64_t i = first; i < first + count; ++i) sectors_[i].OnWriteFailed(stamp, when);
}

void VolumeHistory::WriteFenced(Stamp stamp, uint64_t first, uint64_t count, TrueTime when) {
  for (uint64_t i = first; i < first + count; ++i) sectors_[i].OnWriteFenced(stamp, when);
}

void VolumeHistory::WriteAllowed(Stamp stamp, uint64_t first, uint64_t count) {
  for (uint64_t i = first; i < first + count; ++i) sectors_[i].OnWriteAllowed(stamp);
}

std::string VolumeHistory::ReadEnded(std::span<const std::byte> bytes, uint64_t first,
                                     TrueTime start, TrueTime end) {
  CHECK_LE(first + bytes.size() / kStampSectorBytes, sectors_.size());
  for (uint64_t i = first; !bytes.empty(); ++i) {
    const std::optional<Stamp> stamp = ReadStamp(bytes.first(kStampSectorBytes), key_, i);
    if (!stamp.has_value()) return Report(i, "a read returned bytes that nobody wrote here");
    const std::string wrong = sectors_[i].OnRead(*stamp, start, end);
    if (!wrong.empty()) return Report(i, wrong);
    bytes = bytes.subspan(kStampSectorBytes);
  }
  return {};
}

std::string VolumeHistory::CheckCopy(std::span<const std::byte> bytes, uint64_t first) const {
  for (uint64_t i = first; !bytes.empty(); ++i) {
    const std::optional<Stamp> stamp = ReadStamp(bytes.first(kStampSectorBytes), key_, i);
    if (!stamp.has_value()) return Report(i, "a copy holds bytes that nobody wrote here");
    const std::string wrong = sectors_[i].MayHold(*stamp);
    if (!wrong.empty()) return Report(i, "a copy holds " + wrong);
    bytes = bytes.subspan(kStampSectorBytes);
  }
  return {};
}

}  // namespace gabion::sim
