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

// A version V is dead when another one, U, was there later (the write of U began, or a read that
// returned it, when V had taken effect for sure) and was there for sure before all requests in
// flight began. None of them may return V then. And V's zone conflicts with none that can still
// change: those of living versions end behind the last start of V, or V would have killed them.
// Fenced ones live on, because they may be allowed again, and end at the fence: V stays when it was
// there after one of these.
void SectorRegister::Forget(TrueTime oldest_start) {
  const auto certain = [oldest_start](const Version& v) { return v.first_finish < oldest_start; };
  const Version* latest = nullptr;  // of those that are certainly there
  TrueTime second = -1;
  TrueTime oldest_fence = INT64_MAX;
  for (const Version& version : versions_) {
    if (version.first_finish == INT64_MAX) {
      oldest_fence = std::min(oldest_fence, version.fenced_at);
    }
    if (!certain(version)) continue;
    if (latest == nullptr || version.last_start > latest->last_start) {
      if (latest != nullptr) second = std::max(second, latest->last_start);
      latest = &version;
    } else {
      second = std::max(second, version.last_start);
    }
  }
  if (latest != nullptr) {
    const Stamp of_latest = latest->stamp;
    const TrueTime first = latest->last_start;
    std::erase_if(versions_, [&](const Version& version) {
      if (!certain(version) && version.first_finish != INT64_MAX) return false;
      if (version.last_start > oldest_fence) return false;
      const TrueTime bound = std::min(version.first_finish, version.effect_by);
      return bound < (version.stamp == of_latest ? second : first);
    });
  }
  forget_at_ = std::max(kForgetMin, static_cast<uint32_t>(2 * versions_.size()));
}

void SectorRegister::OnWriteStart(Stamp stamp, bool zeroes, TrueTime start, TrueTime oldest_start) {
  Begin();
  CHECK_NE(stamp, kZeroStamp);
  if (versions_.size() >= forget_at_) Forget(oldest_start);
  versions_.push_back(
      {.stamp = stamp, .zeroes = zeroes, .write_start = start, .last_start = start});
}

std::string SectorRegister::OnWriteEnd(Stamp stamp, TrueTime end) {
  Version* version = Find(stamp);
  if (version == nullptr) {
    return "the write of stamp " + HexId(stamp) +
           " succeeded, although it was over before something that was read later";
  }
  version->first_finish = std::min(version->bound(), end);
  return CheckZone(*version);
}

void SectorRegister::OnWriteFailed(Stamp stamp, TrueTime when) {
  Version* version = Find(stamp);
  if (version != nullptr) version->effect_by = std::min(version->effect_by, when);
}

const SectorRegister::Version* SectorRegister::OverwrittenBefore(const Version& version,
                                                                 TrueTime when) const {
  for (const Version& other : versions_) {
    if (other.write_start > version.bound() && other.first_finish < when) return &other;
  }
  return nullptr;
}

void SectorRegister::OnWriteFenced(Stamp stamp, TrueTime when) {
  Version* version = Find(stamp);
  if (version != nullptr) version->fenced_at = std::min(version->fenced_at, when);
}

void SectorRegister::OnWriteAllowed(Stamp stamp) {
  Version* version = Find(stamp);
  if (version != nullptr) version->fenced_at = INT64_MAX;
}

std::string SectorRegister::OnRead(Stamp stamp, TrueTime start, TrueTime end) {
  Begin();
  Version* version = nullptr;
  if (stamp == kZeroStamp) {
    size_t candidates = 0;
    for (Version& candidate : versions_) {
      if (!candidate.zeroes || candidate.write_start > end || candidate.forbidden()) continue;
      if (OverwrittenBefore(candidate, start) != nullptr) continue;
      ++candidates;
      version = &candidate;
    }
    if (candidates == 0) return "a read returned zeroes that were overwritten before it began";
    if (candidates > 1) return {};
  } else {
    version = Find(stamp);
    if (version == nullptr || version->zeroes) {
      return "a read returned stamp " + HexId(stamp) +
             ", which nobody wrote here, or was overwritten long ago";
    }
    if (version->write_start > end) {
      return "a read returned stamp " + HexId(stamp) + " before it was written";
    }
    if (version->forbidden()) {
      return "a read returned stamp " + HexId(stamp) +
             ", which a client wrote when it had no right to";
    }
  }
  version->first_finish = std::min(version->bound(), end);
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
    if (version.forbidden()) continue;
    const Version* by = OverwrittenBefore(version, INT64_MAX);
    if (by == nullptr) return {};
    overwriter = by;
  }
  if (overwriter == nullptr) {
    return "stamp " + HexId(stamp) +
           ", which nobody wrote here or had no right to, or was overwritten long ago";
  }
  return "stamp " + HexId(stamp) + ", although stamp " + HexId(overwriter->stamp) +
         " was acknowledged or read after it";
}

std::string SectorRegister::Describe() const {
  std::string text;
  for (const Version& version : versions_) {
    text += "  stamp " + HexId(version.stamp) + (version.zeroes ? " (zeroes)" : "") +
            ": written from " + TimeText(version.write_start) + ", first finish " +
            TimeText(version.first_finish) + ", last start " + TimeText(version.last_start) +
            (version.effect_by == INT64_MAX ? "" : ", failed " + TimeText(version.effect_by)) +
            (version.fenced_at == INT64_MAX ? "" : ", fenced " + TimeText(version.fenced_at)) +
            "\n";
  }
  return text;
}

}  // namespace gabion::sim
