// A simulated disk: pages of real bytes, a volatile cache in front of them, latency, and what a
// crash may do to writes. It keeps no clock and no queue; the world asks when an operation
// completes, and completes it then.
//
// Two images: what reads see, and what survives a power cut. A write goes to the first when it
// completes, a flush takes what had completed when it was submitted to the second, a durable write
// goes to both. Pages are shared between images, never changed in place.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/buffer.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "sim/fault/classes.h"
#include "sim/world/choice.h"
#include "sim/world/event_queue.h"
#include "sim/world/slab.h"

namespace gabion::sim {

inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint32_t kDiskSectorBytes = 512;
inline constexpr uint32_t kSectorsPerPage = kPageBytes / kDiskSectorBytes;

// Reference-counted pages by number. Page 0 is all zeroes and is never freed.
class PageArena {
 public:
  PageArena();
  // A page with unknown content and one reference.
  uint32_t Allocate();
  void Retain(uint32_t page) {
    if (page != 0) ++references_[page];
  }
  void Release(uint32_t page) {
    if (page != 0 && --references_[page] == 0) free_.push_back(page);
  }
  std::byte* Data(uint32_t page) {
    return blocks_[page / kPagesPerBlock].get() + size_t{page % kPagesPerBlock} * kPageBytes;
  }
  size_t in_use() const { return references_.size() - 1 - free_.size(); }

 private:
  static constexpr uint32_t kPagesPerBlock = 256;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::vector<uint32_t> references_;
  std::vector<uint32_t> free_;
};

// The bytes of a disk: a page number for each page. A value that shares pages.
class DiskImage {
 public:
  DiskImage(PageArena* arena, uint64_t size_bytes)
      : arena_(arena), pages_(size_bytes / kPageBytes, 0) {}
  DiskImage(const DiskImage& other);
  DiskImage& operator=(const DiskImage& other);
  ~DiskImage();

  uint64_t size_bytes() const { return uint64_t{pages_.size()} * kPageBytes; }
  uint32_t page(uint32_t index) const { return pages_[index]; }
  // Takes over the caller's reference to `page`.
  void Replace(uint32_t index, uint32_t page) {
    arena_->Release(pages_[index]);
    pages_[index] = page;
  }
  void Read(uint64_t offset_bytes, std::span<std::byte> into) const;
  // Whole sectors, at once.
  void Write(uint64_t offset_bytes, std::span<const std::byte> from);
  PageArena* arena() const { return arena_; }
  // Overlays sectors [first, first + count) of page `index` with those of `source`, by replacing.
  void OverlaySectors(uint32_t index, uint32_t source, uint32_t first, uint32_t count);
  void Clear();

 private:
  PageArena* arena_;
  std::vector<uint32_t> pages_;
};

class Disk {
 public:
  struct Options {
    DeviceInfo info;
    Duration latency_base = std::chrono::microseconds(30);
    Duration latency_mean = std::chrono::microseconds(40);  // of the drawn part
    Duration flush_base = std::chrono::microseconds(200);
  };

  Disk(const Options& options, PageArena* arena, Choices* choices, Stream stream,
       const WorldFaults* faults, PerFault<uint64_t>* fired);
  ~Disk();

  // As it shows itself when it is opened.
  const DeviceInfo& info() const { return options_.info; }

  // Starts an operation; the slot names it. The owner completes it at `*done_at`, in order of time.
  // The operation is within the device and aligned, or CHECK fails: the role is wrong.
  uint32_t Submit(TrueTime now, const DiskEffect& effect, std::span<const Slice> slices,
                  TrueTime* done_at);
  // Carries the operation out; its tag.
  DiskTag Complete(uint32_t slot, DiskStatus* status = nullptr);

  // The process is gone, the machine runs on: operations in flight happen, or not, or in part.
  void OnKill();
  // Operations in flight and what was not flushed happen, or not, or in part.
  void OnPowerCut();
  // Someone swapped in a new, empty disk.
  void Wipe();

  // Takes over what the other disk holds. Nothing is in flight here.
  void CloneFrom(const Disk& other);
  // What survives a power cut now; and back to such an image, as when a machine is restored from a
  // snapshot.
  const DiskImage& durable_image() const { return durable_; }
  void RollBackTo(const DiskImage& image);
  // ---- Faults (disk_faults.cc) ----------------------------------------------------------------
  // What is wrong with the whole of it, until somebody takes it back.
  struct Trouble {
    bool gone = false;          // nothing works, and it cannot be opened
    bool read_only = false;     // writes fail
    bool full = false;          // writes to places that hold nothing fail
    uint32_t write_errors = 0;  // so many writes fail, each perhaps in part done
    uint32_t flush_errors = 0;  // so many flushes fail; what they were to keep is dropped
    // So many durable writes or flushes fail; what the writes brought may be read, and is not kept.
    uint32_t unkept_writes = 0;
    TrueTime stuck_until = 0;  // what is submitted before completes after
  };
  Trouble& trouble() { return trouble_; }
  // The next `count` operations of this kind do nothing and answer an I/O error.
  void FailNext(DiskOp op, uint32_t count) {
    fail_op_ = op;
    fail_count_ = count;
  }
  // What it says of its size; its bytes stay.
  void ShowSize(uint64_t size_bytes) { options_.info.size_bytes = size_bytes; }
  uint64_t true_size_bytes() const { return current_.size_bytes(); }

  // Damage shows when a page is read, until the whole page is written again.
  //
  // One of the pages in [from, to) that hold something is rotten (kRot, kStateRot: bits flip), or
  // cannot be read (kLatent, kStateLatent). False: there is none.
  bool Damage(Fault kind, uint64_t from_bytes, uint64_t to_bytes = UINT64_MAX);
  // Rot in all of them.
  void RotAll(uint64_t from_bytes, uint64_t to_bytes = UINT64_MAX);
  void HealDamage();
  size_t damaged() const { return marks_.size(); }
  // From this byte on it may lie (kMisread, kMiswrite, kPhantom, kStaleRead), at the world's rates.
  void LieFrom(uint64_t from_bytes) { lie_from_ = from_bytes; }

  // A durable write that was acknowledged, and is not in its place. Until the next crash it may
  // come true. Then it stays a lie, for good as soon as something else is written durably; before,
  // healing takes it back.
  enum class LieStays : uint8_t {
    kAlways,
    // Unless a durable write in front of the range follows before the crash.
    kWithoutCheckpoint,
    // Only when, before the crash, an honest write in the range was begun after it and after all
    // that was on its way with it, and is done. Such a lie stays.
    kIfProven,
  };
  struct DurableLie {
    Fault kind{};  // kLogPhantom, kStatePhantom: nowhere; kLogMiswrite: a little further on
    uint64_t from_bytes = 0;
    uint64_t to_bytes = UINT64_MAX;
    uint32_t skip = 0;  // so many writes in the range before it are honest
    LieStays stays = LieStays::kAlways;
    std::function<void()> then{};  // called as it happens; may only plan
  };
  // The next durable write in the range is one.
  void LieOnce(DurableLie lie) { next_lie_ = std::move(lie); }
  // No more; and what may still come true does.
  void StopLying();
  bool may_come_true() const { return !open_lies_.empty(); }

  // Operations take `extra` longer until `until`.
  void SlowDown(TrueTime until, Duration extra) {
    slow_until_ = until;
    slow_extra_ = extra;
  }

  const DiskImage& current() const { return current_; }
  const DiskImage& durable() const { return durable_; }
  uint64_t bytes_written() const { return bytes_written_; }
  // Completed writes that a power cut may lose.
  bool has_unflushed() const { return !dirty_.empty(); }
  uint32_t in_flight() const { return operations_.live(); }

 private:
  // Part of a write within one page: `page` holds the bytes in their place.
  struct Segment {
    uint32_t index = 0;
    uint32_t page = 0;
    uint8_t first_sector = 0;
    uint8_t sector_count = 0;
  };
  struct Operation {
    DiskOp op{};
    bool live = false;
    bool lost = false;  // submitted to a disk that was gone
    DiskTag tag = 0;
    uint64_t offset_bytes = 0;
    uint64_t flush_sequence = 0;
    uint64_t durable_number = 0;  // of durable writes, in order of submission
    uint64_t proves_below = 0;    // those with a lower number were done when it was submitted
    std::vector<Slice> into{};
    std::vector<Segment> segments{};
  };
  // A completed write of one page that no flush has covered.
  struct Dirty {
    uint64_t sequence = 0;
    uint32_t index = 0;
    uint32_t page = 0;
  };

  void TakeSegments(Operation& operation, uint64_t offset_bytes, std::span<const Slice> slices);
  void ApplyToCache(const Segment& segment);
  void ApplyDurably(const Segment& segment);
  void ApplyFlush(uint64_t sequence);
  // What comes of it; nothing is done unless kOk, or in part.
  DiskStatus Carry(Operation& operation);
  void Apply(Operation& operation);
  // A crash while `operation` was in flight.
  void ApplyInPart(Operation& operation, bool power_cut);
  void Drop(Operation& operation);
  void OverlayGarbage(uint32_t index, uint64_t sectors);

  // disk_faults.cc
  struct Mark {
    Fault kind{};
    uint32_t page = 0;  // of a lie: what is shown instead, a reference
    uint64_t lie = 0;   // the durable write
  };
  struct OpenLie {
    uint64_t durable_number = 0;
    uint64_t from_bytes = 0;
    uint64_t to_bytes = 0;
    LieStays stays{};
  };
  std::optional<DiskStatus> FailByTrouble(Operation& operation);
  void DropUnflushed(uint64_t sequence);
  std::vector<uint32_t> PagesInUse(uint64_t from_bytes, uint64_t to_bytes) const;
  void SetMark(uint32_t index, Mark mark);
  void ClearMark(uint32_t index);
  // False: a page of it cannot be read.
  bool ShowDamage(const Operation& operation);
  bool Lies(const Operation& operation) const {
    return operation.offset_bytes >= lie_from_ && operation.op != DiskOp::kFlush;
  }
  bool LiesNow(Fault kind);
  void LieAboutRead(const Operation& operation);
  void LieAboutWrite(Operation& operation);
  void NumberDurableWrite(Operation& operation);
  bool IsNextLie(const Operation& operation);
  void LieAboutDurableWrite(Operation& operation);
  // An honest one was carried out: does it settle a lie?
  void SettleLies(const Operation& operation);
  void SettleLiesInCrash();
  void ComeTrue(uint64_t lie);
  void MakeLiesLast();
  bool IsToKeep(const Operation& operation);
  // What a durable write leaves that failed: perhaps it can be read, until the power is cut.
  void LeaveUnkept(const Operation& operation);
  void RememberPrevious(uint32_t index);
  void ForgetPrevious();

  Options options_;
  PageArena* arena_;
  Choices* choices_;
  Stream stream_;
  const WorldFaults* faults_;
  PerFault<uint64_t>* fired_;
  DiskImage current_;
  DiskImage durable_;
  std::vector<Dirty> dirty_;             // in order of completion
  std::vector<uint16_t> dirty_of_page_;  // how many entries of dirty_ each page has
  uint64_t next_sequence_ = 1;
  Slab<Operation> operations_;
  std::vector<uint32_t> in_flight_;  // slots in order of submission
  TrueTime last_done_ = 0;
  TrueTime slow_until_ = 0;
  Duration slow_extra_{0};
  uint64_t bytes_written_ = 0;
  Trouble trouble_;
  std::map<uint32_t, Mark> marks_;  // by page
  uint64_t lie_from_ = UINT64_MAX;
  uint64_t durable_count_ = 0;
  std::optional<DurableLie> next_lie_;
  std::vector<OpenLie> open_lies_;
  std::vector<uint64_t> left_lies_;                     // by a crash
  std::deque<std::pair<uint32_t, uint32_t>> previous_;  // (index, what it held), newest last
  DiskOp fail_op_{};
  uint32_t fail_count_ = 0;
};

}  // namespace gabion::sim
