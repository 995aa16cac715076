#include "core/store/checkpoint.h"

#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::store {

void SuperblockWriter::Start(const Superblock& superblock, uint32_t first_slot) {
  CHECK(!active_);
  superblock_ = superblock;
  slot_ = first_slot;
  written_ = 0;
  active_ = true;
  in_flight_ = false;
}

bool SuperblockWriter::Advance(DiskTag tag, Effects& effects) {
  if (!active_ || in_flight_) return true;
  Slice block = options_.pool->Allocate(kBlockBytes);
  if (block.empty()) return false;
  EncodeSuperblock(superblock_, block.mutable_span());
  effects.DurableWrite(options_.device, kSuperblockOffset[slot_], std::span(&block, 1), tag);
  in_flight_ = true;
  return true;
}

bool SuperblockWriter::OnWritten() {
  CHECK(active_ && in_flight_);
  in_flight_ = false;
  slot_ = 1 - slot_;
  if (++written_ < 2) return false;
  active_ = false;
  return true;
}

Checkpointer::Checkpointer(const Options& options, DeviceState* state, Log* log, Counters* counters)
    : options_(options), state_(state), log_(log), counters_(counters), writer_(options) {}

void Checkpointer::Open(const Superblock& superblock) {
  superblock_ = superblock;
  records_at_last_ = log_->record_bytes();
}

uint64_t Checkpointer::bytes_estimate() const {
  return superblock_.checkpoint_bytes + (log_->record_bytes() - records_at_last_) * 2;
}

void Checkpointer::Start() {
  CHECK(idle());
  phase_ = Phase::kCutting;
}

bool Checkpointer::Advance(DiskTag tag, Effects& effects, std::string* error) {
  switch (phase_) {
    case Phase::kIdle:
      return true;
    case Phase::kCutting: {
      if (!log_->Cut()) {
        *error = "its log is too small for what is in flight";
        return true;
      }
      content_.clear();
      EncodeState(*state_, &content_);
      if (const uint64_t bytes = content_.size() + state_->root_bytes();
          bytes > superblock_.area_bytes) {
        *error = absl::StrFormat("metadata needs %d bytes, the checkpoint area has %d", bytes,
                                 superblock_.area_bytes);
        return true;
      }
      next_ = superblock_;
      ++next_.sequence;
      ++next_.checkpoint_number;
      next_.flags = 0;
      next_.checkpoint_area = 1 - superblock_.checkpoint_area;
      if (PLANTED_BUG("S8-checkpoint-over-the-last-one")) {
        next_.checkpoint_area = superblock_.checkpoint_area;
      }
      next_.checkpoint_position = log_->head();
      next_.checkpoint_generation = superblock_.recovery_generation;
      next_.tail_position = log_->head();
      if (!state_->by_position().empty()) {
        next_.tail_position =
            std::min(next_.tail_position, state_->by_position().begin()->first.first);
      }
      state_->extents().CheckpointTaken();
      state_->directory().BeginCheckpoint(next_.checkpoint_number);
      state_->homes().BeginCheckpoint(next_.checkpoint_number);
      records_at_last_ = log_->record_bytes();
      phase_ = Phase::kTable;
      return Advance(tag, effects, error);
    }
    case Phase::kTable: {
      while (in_flight_ < kPagesInFlightMax) {
        Slice block = options_.pool->Allocate(kBlockBytes);
        if (block.empty()) return false;
        std::optional<uint64_t> offset = state_->homes().NextToWrite(block.mutable_span());
        if (!offset) offset = state_->directory().NextToWrite(block.mutable_span());
        if (!offset) break;
        effects.Write(options_.device, *offset, std::span(&block, 1), tag);
        counters_->device_bytes += kBlockBytes;
        counters_->checkpoint_bytes += kBlockBytes;
        ++in_flight_;
      }
      if (in_flight_ > 0) return true;
      state_->homes().CheckpointWritten();
      EncodeRoot(*state_, &content_);
      next_.checkpoint_bytes = content_.size();
      next_.checkpoint_crc = Crc32c(content_);
      content_.resize(RoundUp(content_.size(), kBlockBytes));
      written_ = 0;
      phase_ = Phase::kWriting;
      return Advance(tag, effects, error);
    }
    case Phase::kWriting: {
      if (in_flight_ > 0) return true;
      const auto bytes =
          static_cast<uint32_t>(std::min<size_t>(content_.size() - written_, kIoBytesMax));
      Slice piece = options_.pool->Allocate(bytes);
      if (piece.empty()) return false;
      std::memcpy(piece.mutable_span().data(), content_.data() + written_, bytes);
      effects.Write(options_.device,
                    superblock_.geometry().area_offset(next_.checkpoint_area) + written_,
                    std::span(&piece, 1), tag);
      counters_->device_bytes += bytes;
      counters_->checkpoint_bytes += bytes;
      written_ += bytes;
      ++in_flight_;
      return true;
    }
    case Phase::kAwaitingLog:
      if (log_->durable_position() < next_.checkpoint_position) return true;
      next_.previous_crc = log_->cut_crc();
      phase_ = Phase::kFlushing;
      ++in_flight_;
      if (PLANTED_BUG("S8-superblock-before-flush")) {
        const Slice instead = options_.pool->Allocate(kBlockBytes);
        effects.Read(options_.device, 0, std::span(&instead, 1), tag);
        return true;
      }
      effects.Flush(options_.device, tag);
      return true;
    case Phase::kFlushing:
      return true;
    case Phase::kSuperblocks:
      return writer_.Advance(tag, effects);
  }
  UNREACHABLE();
}

void Checkpointer::OnDiskDone() {
  if (in_flight_ > 0) --in_flight_;
  switch (phase_) {
    case Phase::kIdle:
    case Phase::kCutting:
    case Phase::kAwaitingLog:
      UNREACHABLE("no operation was on its way");
    case Phase::kTable:
      return;
    case Phase::kWriting:
      if (written_ < content_.size()) return;
      content_.clear();
      phase_ = Phase::kAwaitingLog;
      return;
    case Phase::kFlushing:
      writer_.Start(next_, 0);
      phase_ = Phase::kSuperblocks;
      return;
    case Phase::kSuperblocks:
      if (!writer_.OnWritten()) {
        if (PLANTED_BUG("S8-log-reused-after-one-superblock")) log_->SetTail(next_.tail_position);
        return;
      }
      counters_->device_bytes += 2 * kBlockBytes;
      counters_->checkpoint_bytes += 2 * kBlockBytes;
      superblock_ = next_;
      phase_ = Phase::kIdle;
      log_->SetTail(superblock_.tail_position);
      state_->extents().CheckpointDurable();
      ++counters_->checkpoints;
      return;
  }
}

}  // namespace gabion::store
