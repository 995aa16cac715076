#include "sim/checker/register.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/base/ids.h"

namespace gabion::sim {

namespace {

std::string TimeText(TrueTime time) {
  return time == INT64_MAX ? "-" : std::to_string(time / 1'000) + " us";
}

}  // namespace

void SectorRegister::Begin() {
  if (versions_.empty()) {
    versions_.push_back({.zeroes = true, .write_start = -1, .first_finish = -1, .last_start = -1});
  }
}

SectorRegister::Version* SectorRegister::Find(Stamp stamp) {
  for (size_t i = versions_.size(); i-- > 0;) {
    if (versions_[i].stamp == stamp) return &versions_[i];
  }
  return nullptr;
}

void SectorRegister::OnWriteStart(Stamp stamp, bool zeroes, TrueTime start) {
  Begin();
  CHECK_NE(stamp, kZeroStamp);
  versions_.push_back(
      {.stamp = stamp, .zeroes = zeroes, .write_start = start, .last_start = start});
}

std::string SectorRegister::OnWriteEnd(Stamp stamp, TrueTime end) {
  Version* version = Find(stamp);
  CHECK(version != nullptr);
  version->first_finish = std::min(version->first_finish, end);
  return CheckZone(*version);
}

const SectorRegister::Version* SectorRegister::OverwrittenBefore(const Version& version,
                                                                 TrueTime when) const {
  for (const Version& other : versions_) {
    if (other.write_start > version.first_finish && other.first_finish < when) return &other;
  }
  return nullptr;
}

std::string SectorRegister::OnRead(Stamp stamp, TrueTime start, TrueTime end) {
  Begin();
  Version* version = nullptr;
  if (stamp == kZeroStamp) {
    size_t candidates = 0;
    for (Version& candidate : versions_) {
      if (!candidate.zeroes || candidate.write_start > end) continue;
      if (OverwrittenBefore(candidate, start) != nullptr) continue;
      ++candidates;
      version = &candidate;
    }
    if (candidates == 0) return "a read returned zeroes that were overwritten before it began";
    if (candidates > 1) return {};
  } else {
    version = Find(stamp);
    if (version == nullptr || version->zeroes) {
      return "a read returned stamp " + HexId(stamp) + ", which nobody wrote here";
    }
    if (version->write_start > end) {
      return "a read returned stamp " + HexId(stamp) + " before it was written";
    }
  }
  version->first_finish = std::min(version->first_finish, end);
  version->last_start = std::max(version->last_start, start);
  return CheckZone(*version);
}

std::string SectorRegister::CheckZone(const Version& version) const {
  const TrueTime f = version.first_finish;
  const TrueTime s = version.last_start;
  for (const Version& other : versions_) {
    if (&other == &version) continue;
    const TrueTime other_f = other.first_finish;
    const TrueTime other_s = other.last_start;
    const bool forward = f < s;
    const bool other_forward = other_f < other_s;
    bool wrong = false;
    if (forward && other_forward) {
      wrong = f < other_s && other_f < s;
    } else if (forward) {
      wrong = f < other_s && other_f < s;
    } else if (other_forward) {
      wrong = other_f < s && f < other_s;
    }
    if (wrong) {
      return "stamps " + HexId(version.stamp) + " and " + HexId(other.stamp) +
             " were both read in an order that no single copy allows (stale read or lost write)";
    }
  }
  return {};
}

std::string SectorRegister::MayHold(Stamp stamp) const {
  if (versions_.empty()) {
    return stamp == kZeroStamp ? "" : "stamp " + HexId(stamp) + " where nothing was written";
  }
  const Version* overwriter = nullptr;
  for (const Version& version : versions_) {
    if (stamp == kZeroStamp ? !version.zeroes : version.stamp != stamp || version.zeroes) continue;
    const Version* by = OverwrittenBefore(version, INT64_MAX);
    if (by == nullptr) return {};
    overwriter = by;
  }
  if (overwriter == nullptr) return "stamp " + HexId(stamp) + ", which nobody wrote here";
  return "stamp " + HexId(stamp) + ", although stamp " + HexId(overwriter->stamp) +
         " was acknowledged or read after it";
}

std::string SectorRegister::Describe() const {
  std::string text;
  for (const Version& version : versions_) {
    text += "  stamp " + HexId(version.stamp) + (version.zeroes ? " (zeroes)" : "") +
            ": written from " + TimeText(version.write_start) + ", first finish " +
            TimeText(version.first_finish) + ", last start " + TimeText(version.last_start) + "\n";
  }
  return text;
}

}  // namespace gabion::sim
