#include "daemon/testing/memory_meter.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <sstream>
#include <vector>

#include "core/base/check.h"
#include "daemon/testing/command.h"

extern "C" {
void* __libc_malloc(size_t size);                      // NOLINT: libc's name
void* __libc_calloc(size_t count, size_t size);        // NOLINT
void* __libc_realloc(void* memory, size_t size);       // NOLINT
void* __libc_memalign(size_t alignment, size_t size);  // NOLINT
extern char __executable_start;                        // NOLINT
}

namespace gabion::daemon {

namespace {

constexpr size_t kNameMax = 100;

std::atomic<size_t> current_round = 0;
thread_local MemoryMeter* attached = nullptr;

size_t Round() { return current_round.load(std::memory_order_relaxed); }

void CountAllocation(size_t size) {
  const size_t round = Round();
  if (round != 0 && attached != nullptr) attached->OnAllocation(round, size);
}

void CountCopy(size_t size) {
  const size_t round = Round();
  if (size < MemoryMeter::kCopyBytesMin || round == 0 || attached == nullptr) return;
  attached->OnCopy(round, size);
}

// By hand: a loop would become a call of memcpy.
void CopyForward(void* to, const void* from, size_t size) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

void CopyBackward(void* to, const void* from, size_t size) {
  auto* to_end = static_cast<char*>(to) + size - 1;
  const auto* from_end = static_cast<const char*>(from) + size - 1;
  asm volatile("std\n\trep movsb\n\tcld" : "+D"(to_end), "+S"(from_end), "+c"(size) : : "memory");
}

// Everything is compiled with frame pointers.
template <size_t kCount>
void WalkStack(std::array<uintptr_t, kCount>& frames) {
  const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  for (uintptr_t& address : frames) {
    if (frame == nullptr || frame[1] == 0) return;
    address = frame[1];
    const auto* next = reinterpret_cast<const uintptr_t*>(frame[0]);
    if (next <= frame || next > frame + (1 << 20)) return;
    frame = next;
  }
}

}  // namespace

void MemoryMeter::Attach(MemoryMeter* meter) { attached = meter; }
void MemoryMeter::SetRound(size_t round) {
  CHECK_LE(round, kRounds);
  current_round = round;
}

void MemoryMeter::Begin(size_t activity) {
  CHECK_LT(activity, kActivities);
  activity_ = activity;
  if (const size_t round = Round(); round != 0) ++counts_[round][activity].events;
}

MemoryMeter::Count MemoryMeter::Total(size_t round) const {
  Count total;
  for (const Count& count : counts_[round]) {
    total.events += count.events;
    total.allocations += count.allocations;
    total.allocated_bytes += count.allocated_bytes;
    total.copied_bytes += count.copied_bytes;
  }
  return total;
}

void MemoryMeter::OnAllocation(size_t round, size_t bytes) {
  ++counts_[round][activity_].allocations;
  counts_[round][activity_].allocated_bytes += bytes;
  std::array<uintptr_t, kFrames> frames{};
  WalkStack(frames);
  for (Site& site : sites_) {
    if (site.count > 0 && (site.activity != activity_ || site.frames != frames)) continue;
    site.activity = activity_;
    site.frames = frames;
    ++site.count;
    return;
  }
}

std::string MemoryMeter::Sites(size_t activity) const {
  std::vector<Site> sites;
  for (const Site& site : sites_) {
    if (site.count > 0 && site.activity == activity) sites.push_back(site);
  }
  std::sort(sites.begin(), sites.end(),
            [](const Site& a, const Site& b) { return a.count > b.count; });
  std::string text;
  for (const Site& site : sites) {
    std::string command = "addr2line -Cfse " + Program("/proc/self/exe");
    for (const uintptr_t address : site.frames) {
      if (address == 0) break;
      char number[32];
      std::snprintf(number, sizeof(number), " %#lx",
                    address - 1 - reinterpret_cast<uintptr_t>(&__executable_start));
      command += number;
    }
    text += std::to_string(site.count) + " x\n";
    std::istringstream lines(RunShell(command).output);
    for (std::string line; std::getline(lines, line);) {
      // Names without their arguments: of function, file, function ...
      if (line.find(':') != std::string::npos && line.find("::") == std::string::npos) continue;
      text += "    " + line.substr(0, std::min(line.find('('), kNameMax)) + "\n";
    }
  }
  return text;
}

}  // namespace gabion::daemon

// ---- In place of libc's

using gabion::daemon::CopyBackward;
using gabion::daemon::CopyForward;
using gabion::daemon::CountAllocation;
using gabion::daemon::CountCopy;

extern "C" {

void* malloc(size_t size) {
  CountAllocation(size);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  CountAllocation(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  CountAllocation(size);
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  CountAllocation(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  CountAllocation(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) {
  CountAllocation(size);
  *result = __libc_memalign(alignment, size);
  return *result == nullptr ? ENOMEM : 0;
}

void* memcpy(void* to, const void* from, size_t size) {
  CountCopy(size);
  CopyForward(to, from, size);
  return to;
}
void* memmove(void* to, const void* from, size_t size) {
  CountCopy(size);
  const auto begin = reinterpret_cast<uintptr_t>(from);
  const auto target = reinterpret_cast<uintptr_t>(to);
  if (target > begin && target < begin + size) {
    CopyBackward(to, from, size);
  } else {
    CopyForward(to, from, size);
  }
  return to;
}

}  // extern "C"
