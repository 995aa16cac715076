#include "core/store/recovery.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/store/records.h"

namespace gabion::store {

namespace {

// The next header after a broken batch lies within one batch; more is read so that several broken
// ones in a row are seen, too.
constexpr uint64_t kSearchBytes = 16 << 20;

// Whether the numbers of a superblock, whatever wrote it, can be worked with.
bool MakesSense(const Superblock& superblock) {
  constexpr uint64_t kPositionMax = uint64_t{1} << 62;
  if (superblock.checkpoint_area > 1) return false;
  if (superblock.checkpoint_bytes == 0) return false;
  if (superblock.checkpoint_bytes > superblock.area_bytes) return false;
  for (const uint64_t position :
       {superblock.tail_position, superblock.checkpoint_position, superblock.recovery_position}) {
    if (position % kBlockBytes != 0 || position > kPositionMax) return false;
    if (position < superblock.log_bytes) return false;  // 0 is no position, nor is what it leads to
  }
  if (superblock.tail_position > superblock.checkpoint_position) return false;
  return superblock.checkpoint_position - superblock.tail_position <= superblock.log_bytes;
}

// Whether the content of every item of a checkpoint is where the log of that checkpoint was.
bool PlacesMakeSense(const DeviceState& state, const Superblock& superblock) {
  for (const auto& [place, item] : state.by_position()) {
    const uint64_t position = place.first;
    if (position % kBlockBytes != 0 || position < superblock.tail_position) return false;
    const uint64_t bytes = std::max(item->log_blocks(), 1u) * uint64_t{kBlockBytes};
    if (position + bytes > superblock.checkpoint_position) return false;
    if (position % superblock.log_bytes + bytes > superblock.log_bytes) return false;
  }
  return true;
}

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

Recovery::Recovery(const Options& options, DeviceState* state)
    : options_(options), state_(state), writer_(options) {}

void Recovery::Fail(std::string reason) {
  phase_ = Phase::kFailed;
  error_ = std::move(reason);
  buffer_ = Slice();
  checkpoint_ = {};
}

void Recovery::FailDamaged(const char* what) {
  Fail(
      absl::StrFormat("%s is damaged: its replicas must be rebuilt from their other copies, onto "
                      "the device after a forced format",
                      what));
}

void Recovery::StartFormat(const Now& now, const DeviceInfo& info, const Identity& identity,
                           bool force) {
  info_ = info;
  identity_ = identity;
  const std::optional<Geometry> geometry = ComputeGeometry(info.size_bytes, options_.log_bytes);
  if (!geometry) {
    Fail(absl::StrFormat("%d bytes are too few for a device with a log of %d bytes",
                         info.size_bytes, std::max(options_.log_bytes, kLogBytesDefaultMin)));
    return;
  }
  superblock_ = Superblock{};
  superblock_.cluster = identity.cluster;
  superblock_.sds = identity.sds;
  superblock_.device = identity.device;
  superblock_.log_key = mix64(mix64(static_cast<uint64_t>(now.wall.time_since_epoch().count())) ^
                              mix64(identity.device.value() + 1) ^
                              static_cast<uint64_t>(now.boot.time_since_epoch().count()));
  superblock_.device_bytes = geometry->device_bytes;
  superblock_.area_bytes = geometry->area_bytes;
  superblock_.log_bytes = geometry->log_bytes;
  superblock_.extents_total = geometry->extents_total;
  superblock_.sequence = 1;
  superblock_.recovery_generation = 1;
  superblock_.checkpoint_generation = 1;
  superblock_.checkpoint_number = 1;
  // Position 0 is no position.
  superblock_.recovery_position = geometry->log_bytes;
  superblock_.checkpoint_position = geometry->log_bytes;
  superblock_.tail_position = geometry->log_bytes;
  phase_ = force ? Phase::kZeroing : Phase::kReadHead;
}

void Recovery::StartOpen(const DeviceInfo& info, const Identity& identity) {
  info_ = info;
  identity_ = identity;
  if (info.size_bytes < kHeadBytes) {
    Fail(absl::StrFormat("%d bytes are too few for a device", info.size_bytes));
    return;
  }
  // What the last process wrote may still be in the device's cache only.
  phase_ = Phase::kFlushing;
}

bool Recovery::Read(uint64_t offset_bytes, uint64_t length_bytes, DiskTag tag, Effects& effects) {
  if (buffer_.size() < length_bytes) {
    buffer_ = Slice();
    buffer_ = options_.pool->Allocate(static_cast<uint32_t>(length_bytes));
    if (buffer_.empty()) return false;
  }
  const Slice into = buffer_.Sub(0, static_cast<uint32_t>(length_bytes));
  effects.Read(options_.device, offset_bytes, std::span(&into, 1), tag);
  in_flight_ = true;
  return true;
}

bool Recovery::Advance(DiskTag tag, Effects& effects) {
  if (in_flight_) return true;
  switch (phase_) {
    case Phase::kIdle:
    case Phase::kDone:
    case Phase::kFailed:
      return true;
    case Phase::kReadHead:
      return Read(0, kHeadBytes, tag, effects);
    case Phase::kZeroing: {
      const Slice zeroes = BufferPool::Zeroes(kHeadBytes);
      effects.DurableWrite(options_.device, 0, std::span(&zeroes, 1), tag);
      in_flight_ = true;
      return true;
    }
    case Phase::kWritingCheckpoint: {
      state_->Reset(superblock_.geometry(), superblock_.log_key);
      std::vector<std::byte> content;
      EncodeState(*state_, &content);
      EncodeRoot(*state_, &content);
      superblock_.checkpoint_bytes = content.size();
      superblock_.checkpoint_crc = Crc32c(content);
      const auto bytes = static_cast<uint32_t>(RoundUp(content.size(), kBlockBytes));
      Slice block = options_.pool->Allocate(bytes);
      if (block.empty()) return false;
      std::memset(block.mutable_span().data(), 0, bytes);
      std::memcpy(block.mutable_span().data(), content.data(), content.size());
      effects.Write(options_.device, superblock_.geometry().area_offset(0), std::span(&block, 1),
                    tag);
      in_flight_ = true;
      return true;
    }
    case Phase::kFlushingFormat:
    case Phase::kFlushing:
      effects.Flush(options_.device, tag);
      in_flight_ = true;
      return true;
    case Phase::kWritingSuperblocks:
    case Phase::kMarking:
    case Phase::kRaisingGeneration:
      if (!writer_.Advance(tag, effects)) return false;
      in_flight_ = true;
      return true;
    case Phase::kReadSuperblocks:
      return Read(0, kHeadBytes, tag, effects);
    case Phase::kReadCheckpoint:
      return Read(
          superblock_.geometry().area_offset(superblock_.checkpoint_area) + checkpoint_.size(),
          RoundUp(
              std::min<uint64_t>(superblock_.checkpoint_bytes - checkpoint_.size(), kIoBytesMax),
              kBlockBytes),
          tag, effects);
    case Phase::kReadHomes:
      return Read(homes_->offset_bytes, homes_->length_bytes, tag, effects);
    case Phase::kReplayingLog:
    case Phase::kSearchingProof: {
      const Geometry geometry = superblock_.geometry();
      const uint64_t ring_end = RoundUp(want_position_ + 1, geometry.log_bytes);
      const uint64_t bytes = std::min(geometry.batch_bytes_max(), ring_end - want_position_);
      if (!Read(geometry.log_place(want_position_), bytes, tag, effects)) return false;
      buffer_position_ = want_position_;
      buffer_bytes_ = bytes;
      return true;
    }
  }
  UNREACHABLE();
}

void Recovery::OnDiskDone(DiskStatus status) {
  CHECK(in_flight_);
  in_flight_ = false;
  if (status != DiskStatus::kOk) {
    Fail(status == DiskStatus::kDeviceGone ? "the device is gone" : "I/O error");
    return;
  }
  switch (phase_) {
    case Phase::kIdle:
    case Phase::kDone:
    case Phase::kFailed:
      UNREACHABLE("no operation was on its way");
    case Phase::kReadHead:
      OnHead();
      return;
    case Phase::kZeroing:
      phase_ = Phase::kWritingCheckpoint;
      return;
    case Phase::kWritingCheckpoint:
      phase_ = Phase::kFlushingFormat;
      return;
    case Phase::kFlushingFormat:
      writer_.Start(superblock_, 0);
      phase_ = Phase::kWritingSuperblocks;
      return;
    case Phase::kWritingSuperblocks:
      if (writer_.OnWritten()) phase_ = Phase::kFlushing;
      return;
    case Phase::kFlushing:
      phase_ = Phase::kReadSuperblocks;
      return;
    case Phase::kReadSuperblocks:
      OnSuperblocks();
      return;
    case Phase::kMarking:
      if (writer_.OnWritten()) phase_ = Phase::kReadCheckpoint;
      return;
    case Phase::kReadCheckpoint:
      OnCheckpointPiece();
      return;
    case Phase::kReadHomes:
      OnHomes();
      return;
    case Phase::kReplayingLog:
      Replay();
      return;
    case Phase::kSearchingProof:
      SearchProof();
      if (phase_ == Phase::kReplayingLog) Replay();
      return;
    case Phase::kRaisingGeneration:
      if (!writer_.OnWritten()) return;
      if (damaged_) {
        for (auto& [slice, replica] : state_->replicas()) replica->facts.needs_resync = true;
      }
      state_->MarkAllDurable();
      buffer_ = Slice();
      phase_ = Phase::kDone;
      return;
  }
}

void Recovery::OnHead() {
  const std::span<const std::byte> head = buffer_.span().first(kHeadBytes);
  for (const uint64_t offset : kSuperblockOffset) {
    const auto found = DecodeSuperblock(head.subspan(offset, kBlockBytes));
    if (!found) continue;
    Fail(
        absl::StrFormat("it holds a Gabion store (cluster %s, SDS %s, device %s); "
                        "force the format to destroy it",
                        ToString(found->cluster), ToString(found->sds), ToString(found->device)));
    return;
  }
  if (!AllZero(head)) {
    Fail("its first MiB is not empty; force the format to destroy what is there");
    return;
  }
  phase_ = Phase::kZeroing;
}

void Recovery::OnSuperblocks() {
  const std::span<const std::byte> head = buffer_.span();
  const std::array<std::span<const std::byte>, 2> blocks = {
      head.subspan(kSuperblockOffset[0], kBlockBytes),
      head.subspan(kSuperblockOffset[1], kBlockBytes)};
  Result<Superblock> chosen = ChooseSuperblock(blocks, identity_, info_);
  if (!chosen) {
    Fail(chosen.error().message);
    return;
  }
  superblock_ = *chosen;
  const auto first = DecodeSuperblock(blocks[0]);
  // The worse copy is replaced first.
  first_slot_ = first && first->sequence == superblock_.sequence ? 1 : 0;
  damaged_ = (superblock_.flags & kFlagDamaged) != 0;
  if (!MakesSense(superblock_)) {
    Fail("the superblock contradicts itself");
    return;
  }
  state_->Reset(superblock_.geometry(), superblock_.log_key);
  checkpoint_.clear();
  phase_ = Phase::kReadCheckpoint;
  if (!identity_.incarnation.valid()) return;
  const bool is_other_run =
      superblock_.incarnation == identity_.incarnation && superblock_.run != identity_.run;
  const bool is_newer = superblock_.incarnation > identity_.incarnation || is_other_run;
  if (is_newer && !PLANTED_BUG("R22-device-of-another-run-accepted")) {
    newer_incarnation_ = superblock_.incarnation;
    Fail(
        absl::StrFormat("incarnation %s of this SDS has used the device, this is %s%s: the state "
                        "directory is an old copy, or another process has it",
                        ToString(superblock_.incarnation), ToString(identity_.incarnation),
                        is_other_run ? ", but another run" : ""));
    return;
  }
  if (superblock_.incarnation == identity_.incarnation) return;
  superblock_.incarnation = identity_.incarnation;
  superblock_.run = identity_.run;
  ++superblock_.sequence;
  writer_.Start(superblock_, first_slot_);
  phase_ = Phase::kMarking;
}

void Recovery::OnCheckpointPiece() {
  const uint64_t left = superblock_.checkpoint_bytes - checkpoint_.size();
  const auto piece = buffer_.span().first(std::min<uint64_t>(left, kIoBytesMax));
  checkpoint_.insert(checkpoint_.end(), piece.begin(), piece.end());
  if (checkpoint_.size() < superblock_.checkpoint_bytes) return;
  const bool good = Crc32c(checkpoint_) == superblock_.checkpoint_crc &&
                    DecodeState(checkpoint_, *state_) && PlacesMakeSense(*state_, superblock_);
  checkpoint_ = {};
  if (!good) {
    FailDamaged("the checkpoint");
    return;
  }
  homes_ = state_->NextRead();
  phase_ = Phase::kReadHomes;
  if (!homes_) OnHomes();
}

void Recovery::OnHomes() {
  if (homes_) {
    if (!state_->OnRead(*homes_, buffer_.span().first(homes_->length_bytes))) {
      FailDamaged("the directory of homes");
      return;
    }
    homes_ = state_->NextRead();
    if (homes_) return;
  }
  if (!state_->FinishRead()) {
    FailDamaged("the directory of homes");
    return;
  }
  BecomeReplaying();
}

void Recovery::BecomeReplaying() {
  position_ = superblock_.checkpoint_position;
  last_generation_ = superblock_.checkpoint_generation;
  last_crc_ = superblock_.previous_crc;
  proven_ = 0;
  wrapped_ = false;
  buffer_bytes_ = 0;
  want_position_ = position_;
  phase_ = Phase::kReplayingLog;
}

std::span<const std::byte> Recovery::Buffered(uint64_t position, uint64_t bytes) {
  if (position >= buffer_position_ && position + bytes <= buffer_position_ + buffer_bytes_) {
    return buffer_.span().subspan(position - buffer_position_, bytes);
  }
  want_position_ = position;
  return {};
}

bool Recovery::Counts(const BatchHeader& header) const {
  if (header.generation > superblock_.recovery_generation) return false;
  if (header.generation < superblock_.checkpoint_generation) return false;
  // A leftover of an earlier run, beyond what that run's successor found.
  if (PLANTED_BUG("S1-generation-not-checked")) return true;
  return header.position < superblock_.recovery_position ||
         header.generation >= superblock_.recovery_generation;
}

Recovery::Take Recovery::TakeBatch(uint64_t position) {
  const std::span<const std::byte> first = Buffered(position, kBlockBytes);
  if (first.empty()) return Take::kWants;
  const BatchHeader header = ReadBatchHeader(first);
  if (!LooksLikeBatch(header, superblock_, position) || !Counts(header)) return Take::kNone;
  if (header.generation < last_generation_) return Take::kNone;
  if (header.previous_crc != last_crc_ && !PLANTED_BUG("S1-predecessor-not-checked")) {
    return Take::kNone;
  }
  const uint64_t ring_left = RoundUp(position + 1, superblock_.log_bytes) - position;
  if (header.total_bytes() > ring_left) return Take::kNone;
  const std::span<const std::byte> batch = Buffered(position, header.total_bytes());
  if (batch.empty()) return Take::kWants;
  const std::span<const std::byte> header_block = batch.first(header.header_bytes);
  if (BatchCrc(header_block) != header.crc) return Take::kNone;

  const uint64_t end = position + header.total_bytes();
  if (end > proven_) {
    const std::span<const std::byte> crcs = BatchPayloadCrcs(header, header_block);
    for (uint32_t i = 0; i < header.payload_blocks; ++i) {
      const auto crc = LoadLe<uint32_t>(crcs.data() + i * sizeof(uint32_t));
      const uint64_t at = header.header_bytes + uint64_t{i} * kBlockBytes;
      if (Crc32c(batch.subspan(at, kBlockBytes)) != crc) {
        suspect_end_ = end;
        return Take::kNone;
      }
    }
  }
  if (!ReplayBatch(header, header_block, *state_)) {
    Fail(
        absl::StrFormat("the log at %d says what cannot be: force a format and rebuild from the "
                        "other copies",
                        position));
    return Take::kNone;
  }
  position_ = end;
  ++batches_;
  last_generation_ = header.generation;
  last_crc_ = header.crc;
  return Take::kTaken;
}

void Recovery::Replay() {
  while (phase_ == Phase::kReplayingLog) {
    const uint64_t ring_start = RoundUp(position_, superblock_.log_bytes);
    suspect_end_ = 0;
    const Take taken = TakeBatch(wrapped_ ? ring_start : position_);
    if (taken == Take::kWants || phase_ == Phase::kFailed) return;
    if (taken == Take::kTaken) {
      wrapped_ = false;
      continue;
    }
    // A batch that did not fit in front of the ring's end is at its beginning.
    if (!wrapped_ && suspect_end_ == 0 && ring_start != position_) {
      wrapped_ = true;
      continue;
    }
    phase_ = Phase::kSearchingProof;
    search_position_ = position_;
    SearchProof();
  }
}

bool Recovery::ShowsMore(const BatchHeader& header) const {
  if (!LooksLikeBatch(header, superblock_, search_position_)) return false;
  // Of a later generation: the superblocks are older than the log, which must not be.
  const bool counts = header.generation > superblock_.recovery_generation || Counts(header);
  return counts && header.durable_up_to > position_;
}

void Recovery::SearchProof() {
  if (PLANTED_BUG("S2-damage-is-a-torn-tail")) {
    BecomeRaising();
    return;
  }
  const uint64_t end = position_ + std::min(superblock_.log_bytes, kSearchBytes);
  for (; search_position_ < end; search_position_ += kBlockBytes) {
    const std::span<const std::byte> first = Buffered(search_position_, kBlockBytes);
    if (first.empty()) return;
    const BatchHeader header = ReadBatchHeader(first);
    if (!ShowsMore(header)) continue;
    const uint64_t ring_left =
        RoundUp(search_position_ + 1, superblock_.log_bytes) - search_position_;
    if (header.header_bytes > ring_left) continue;
    const std::span<const std::byte> header_block = Buffered(search_position_, header.header_bytes);
    if (header_block.empty()) return;
    if (BatchCrc(header_block) != header.crc) continue;
    if (Counts(header) && suspect_end_ != 0 && header.durable_up_to >= suspect_end_) {
      // Only user data is rotten there: those blocks will not match their checksums when they are
      // read, and everything else counts.
      proven_ = header.durable_up_to;
      phase_ = Phase::kReplayingLog;
      return;
    }
    damaged_ = true;
    break;
  }
  BecomeRaising();
}

void Recovery::BecomeRaising() {
  ++superblock_.sequence;
  ++superblock_.recovery_generation;
  superblock_.recovery_position = position_;
  if (damaged_ && !PLANTED_BUG("S2-verdict-not-kept")) superblock_.flags |= kFlagDamaged;
  writer_.Start(superblock_, first_slot_);
  phase_ = Phase::kRaisingGeneration;
}

}  // namespace gabion::store
