// A short test of a device that is being added: what it sustains, and whether it keeps what it is
// given at every address. Nothing of value may be in the range that it is let loose on.
//
//   Writing (1 MiB pieces in a row, then a flush) --> Reading (the same)
//     --> RandomWriting (4 KiB, durable, all over the range) --> RandomReading (the same)
//     --> Done                                                   any error: Failed
//
// Each 4 KiB block carries its own offset and a number of this trial, so a device that pretends to
// be larger than it is, or loses or misplaces writes, shows. A stage ends after kStageTime or when
// there is no more to do; a device that answers nothing is never done.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/wire/data.h"

namespace gabion::sds {

struct TrialFigures {
  uint64_t write_bytes_per_second = 0;  // sequential, on stable storage at the end
  uint64_t read_bytes_per_second = 0;   // sequential
  uint64_t writes_per_second = 0;       // random, durable, 4 KiB, kRandomDepth at a time
  uint64_t reads_per_second = 0;
  bool operator==(const TrialFigures&) const = default;
};

class DeviceTrial {
 public:
  struct Range {
    uint64_t offset_bytes = 0;  // both multiples of 4 KiB; at least kPieceBytes long
    uint64_t length_bytes = 0;
  };
  enum class Stage : uint8_t { kWriting, kReading, kRandomWriting, kRandomReading, kDone, kFailed };

  static constexpr Duration kStageTime = std::chrono::seconds(2);
  static constexpr uint32_t kPieceBytes = 1 << 20;
  static constexpr uint32_t kSequentialDepth = 4;
  static constexpr uint32_t kRandomDepth = 16;
  static constexpr uint64_t kSequentialBytesMax = uint64_t{4} << 30;
  static constexpr uint64_t kRandomCountMax = 50'000;

  // `number`: of this trial, in every block. The owner routes completions of all tags from
  // `tag_base` to `tag_base` + kRandomDepth here.
  DeviceTrial(DeviceIndex device, const Range& range, uint64_t number, DiskTag tag_base,
              BufferPool* pool);

  void Start(const Now& now, Effects& effects);
  void OnDiskDone(const Now& now, const DiskDoneEvent& event, Effects& effects);

  Stage stage() const { return stage_; }
  bool over() const { return stage_ == Stage::kDone || stage_ == Stage::kFailed; }
  const std::string& error() const { return error_; }  // kFailed: for a person
  const TrialFigures& figures() const { return figures_; }

 private:
  struct Slot {
    Slice buffer;
    uint64_t offset_bytes = 0;
    bool active = false;
  };

  bool sequential() const { return stage_ == Stage::kWriting || stage_ == Stage::kReading; }
  bool writing() const { return stage_ == Stage::kWriting || stage_ == Stage::kRandomWriting; }
  uint32_t bytes_each() const { return sequential() ? kPieceBytes : wire::kBlockBytes; }
  uint64_t OffsetOf(uint64_t index) const;
  // How many operations the stage may have: all that fit, or as many as were written.
  uint64_t Limit() const;
  void BeginStage(const Now& now, Stage stage, Effects& effects);
  void EndStage(const Now& now, Effects& effects);
  void Issue(uint32_t slot, Effects& effects);
  void Stamp(Slot& slot) const;
  bool Matches(const Slot& slot) const;
  void Fail(std::string error);

  DeviceIndex device_;
  Range range_;
  uint64_t number_;
  DiskTag tag_base_;
  BufferPool* pool_;
  Stage stage_ = Stage::kWriting;
  std::vector<Slot> slots_;
  Instant began_;
  uint64_t issued_ = 0;
  uint64_t completed_ = 0;
  uint64_t written_ = 0;  // pieces or blocks of the writing stage before
  uint32_t active_ = 0;
  bool flushing_ = false;
  TrialFigures figures_;
  std::string error_;
};

}  // namespace gabion::sds
