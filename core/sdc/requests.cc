// User requests: taken, split into parts, put together again.
#include <cerrno>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/sdc/io.h"
#include "core/sdc/piece_crc.h"
#include "core/sdc/split.h"

namespace gabion::sdc {
namespace {

// Largest data of one request; a front end splits before.
constexpr uint64_t kRequestBytesMax = uint64_t{32} << 20;
// ... and the longest range whose block status is asked for at once.
constexpr uint64_t kStatusBytesMax = uint64_t{4} << 30;
constexpr Duration kMemoryPause = std::chrono::milliseconds(20);

bool HasData(UserOp op) { return op == UserOp::kRead || op == UserOp::kWrite; }

wire::EntryKind KindOf(UserOp op) {
  switch (op) {
    case UserOp::kWrite:
      return wire::EntryKind::kWrite;
    case UserOp::kTrim:
      return wire::EntryKind::kTrim;
    case UserOp::kWriteZeroes:
      return wire::EntryKind::kZero;
    case UserOp::kRead:
    case UserOp::kAttach:
    case UserOp::kDetach:
    case UserOp::kFlush:
    case UserOp::kList:
    case UserOp::kBlockStatus:
      break;
  }
  UNREACHABLE("not an entry");
}

// What is wrong with a request whatever the map says.
int CheckAlone(const UserRequestEvent& event) {
  const uint64_t length = event.length_bytes;
  if (length == 0 || length > UINT64_MAX - event.offset_bytes) return EINVAL;
  if (event.offset_bytes % wire::kSectorBytes != 0 || length % wire::kSectorBytes != 0) {
    return EINVAL;
  }
  if (HasData(event.op) && length > kRequestBytesMax) return EINVAL;
  if (event.op == UserOp::kBlockStatus) {
    if (length > kStatusBytesMax) return EINVAL;
    // There is room to round the end up to whole chunks.
    if (event.offset_bytes + length > UINT64_MAX - wire::kChunkBytes) return EINVAL;
  }
  if (event.op == UserOp::kWrite && event.payload.size() != length) return EINVAL;
  return 0;
}

}  // namespace

void Io::Submit(Context& context, const UserRequestEvent& event) {
  int error = CheckAlone(event);
  if (error == 0 && requests_.full()) error = EBUSY;
  if (error != 0) {
    context.effects.Reply({.tag = event.tag, .error = error});
    return;
  }
  Request request;
  request.tag = event.tag;
  request.op = event.op;
  request.volume = event.volume;
  request.submitted = context.now.boot;
  request.begin = request.cursor = event.offset_bytes;
  request.end = event.offset_bytes + event.length_bytes;
  if (request.op == UserOp::kBlockStatus) {
    // Whole chunks, as volumes are.
    request.begin = request.cursor = request.begin - request.begin % wire::kChunkBytes;
    request.end = (request.end - 1) / wire::kChunkBytes * wire::kChunkBytes + wire::kChunkBytes;
  }
  request.payload = event.payload;
  if (options_.io_timeout.count() > 0) {
    request.deadline = SaturatingAdd(context.now.boot, options_.io_timeout);
  }
  const std::optional<SlotTag> tag = requests_.Insert(std::move(request));
  CHECK(tag.has_value());
  if (unissued_.size() == options_.requests_max) ForgetFinished();
  unissued_.push_back(*tag);
  ArmWatch(context);
  Pump(context);
}

void Io::ForgetFinished() {
  unissued_.EraseIf([this](SlotTag tag) { return requests_.Find(tag) == nullptr; });
}

void Io::Pump(Context& context) {
  while (!opened_.empty() || !unissued_.empty()) {
    if (!opened_.empty()) {
      const SliceId slice = opened_.back();
      opened_.pop_back();
      if (slices_[slice].awaiting_id == 0) continue;
      const std::vector<SlotTag> waiting = Collect([&](const Part& part) {
        return part.state == PartState::kAwaitingId && part.message.target.slice == slice;
      });
      for (SlotTag tag : waiting) {
        if (!slices_[slice].ids.CanAssign()) break;
        TrySend(context, tag);
      }
    } else {
      if (!Issue(context, unissued_.front())) return;
      unissued_.pop_front();
    }
  }
}

bool Io::Issue(Context& context, SlotTag tag) {
  const MapCache& map = context.mdm.map();
  if (!map.ready()) return false;
  // Looked up anew each time: parts that cannot be sent settle at once, and the last of them ends
  // the request.
  for (Request* request; (request = requests_.Find(tag)) != nullptr;) {
    if (request->cursor == request->end) return true;
    if (request->error == 0) request->error = CheckAgainstMap(*request, map);
    if (request->error != 0) {
      request->cursor = request->end;
      FinishIfSettled(context, tag);
      return true;
    }
    if (parts_.full()) return false;
    if (!request->checked && !Prepare(context, *request)) return false;
    const VolumeInfo* volume = map.FindVolume(request->volume);
    CHECK(volume != nullptr);
    if (request->op == UserOp::kBlockStatus) {
      AddPresencePart(context, tag, *volume);
    } else {
      AddPart(context, tag, *volume);
    }
  }
  return true;
}

bool Io::Prepare(Context& context, Request& request) {
  uint64_t length = request.end - request.begin;
  if (request.op == UserOp::kBlockStatus) {
    request.gathers = true;
    length = length / wire::kChunkBytes * sizeof(wire::ChunkPresence);
  } else {
    const ChunkRange first = FirstRange(request.begin, request.end, HasData(request.op));
    request.gathers = request.op == UserOp::kRead && first.length_bytes < length;
  }
  if (request.gathers) {
    request.payload = options_.pool->Allocate(static_cast<uint32_t>(length), BufferUse::kClient);
    if (request.payload.empty()) {
      ArmPauseTimer(context, context.now.boot + kMemoryPause);
      return false;
    }
  }
  request.checked = true;
  return true;
}

void Io::AddPresencePart(Context& context, SlotTag tag, const VolumeInfo& volume) {
  Request& request = *requests_.Find(tag);
  // A map names a volume's pool; without it the part waits for a route like any other.
  if (request.stride == 0) request.stride = std::max(context.mdm.map().SliceCountOf(volume), 1u);
  // A stretch is what one part for each slice covers: `stride` lanes of at most kPresenceChunksMax
  // chunks.
  const uint64_t stretch = uint64_t{request.stride} * wire::kPresenceChunksMax;
  const uint64_t at = (request.cursor - request.begin) / wire::kChunkBytes;
  const uint64_t total = (request.end - request.begin) / wire::kChunkBytes;
  const uint64_t stretch_end = std::min(total, (at / stretch + 1) * stretch);
  Part part;
  part.is_read = true;
  part.request = tag;
  part.sequence = ++last_sequence_;
  part.request_offset = request.cursor - request.begin;
  part.chunk_count = static_cast<uint32_t>((stretch_end - at - 1) / request.stride + 1);
  wire::IoTarget& target = part.message.target;
  target.volume = volume.id;
  target.vtree = volume.vtree;
  target.chunk = static_cast<uint32_t>(request.cursor / wire::kChunkBytes);
  target.length_bytes = wire::kChunkBytes;
  const bool last_lane = at % stretch == request.stride - 1 || at + 1 == stretch_end;
  request.cursor = request.begin + (last_lane ? stretch_end : at + 1) * wire::kChunkBytes;
  ++request.parts_open;
  const std::optional<SlotTag> part_tag = parts_.Insert(std::move(part));
  CHECK(part_tag.has_value());
  TrySend(context, *part_tag);
}

int Io::CheckAgainstMap(const Request& request, const MapCache& map) const {
  const VolumeInfo* volume = map.FindVolume(request.volume);
  if (volume == nullptr) return request.checked ? EIO : ENODEV;
  if (request.end > volume->size_bytes) return EINVAL;
  if (!request.has_answer() && volume->read_only) return EROFS;
  return 0;
}

void Io::AddPart(Context& context, SlotTag tag, const VolumeInfo& volume) {
  Request* request = requests_.Find(tag);
  CHECK(request != nullptr);
  const ChunkRange range = FirstRange(request->cursor, request->end, HasData(request->op));
  Part part;
  part.is_read = request->op == UserOp::kRead;
  part.request = tag;
  part.sequence = ++last_sequence_;
  part.request_offset = request->cursor - request->begin;
  wire::IoTarget& target = part.message.target;
  target.volume = volume.id;
  target.vtree = volume.vtree;
  target.chunk = range.chunk;
  target.offset_bytes = range.offset_bytes;
  target.length_bytes = range.length_bytes;
  if (!part.is_read) {
    part.message.kind = KindOf(request->op);
    if (request->op == UserOp::kWrite) {
      part.payload =
          request->payload.Sub(static_cast<uint32_t>(part.request_offset), range.length_bytes);
      FillPieceCrcs(range.offset_bytes, part.payload.span(), part.message.piece_crc);
    }
  }
  request->cursor += range.length_bytes;
  ++request->parts_open;
  const std::optional<SlotTag> part_tag = parts_.Insert(std::move(part));
  CHECK(part_tag.has_value());
  TrySend(context, *part_tag);
}

void Io::Settle(Context& context, SlotTag tag, int error, Slice data) {
  std::optional<Part> part = parts_.Take(tag);
  CHECK(part.has_value());
  CHECK(!part->attempt_out());
  CHECK(part->state != PartState::kAwaitingId);
  if (part->message.request.valid()) {
    const SliceId slice = part->message.target.slice;
    SliceState& state = slices_[slice];
    state.ids.Settle(part->message.request);
    if (state.awaiting_id > 0) opened_.push_back(slice);
  }
  Request* request = requests_.Find(part->request);
  CHECK(request != nullptr);
  CHECK_GT(request->parts_open, 0u);
  --request->parts_open;
  if (request->error == 0 || PLANTED_BUG("sdc-error-does-not-stick")) request->error = error;
  if (request->error == 0 && part->is_read) TakeData(*request, *part, std::move(data));
  FinishIfSettled(context, part->request);
}

void Io::TakePresence(Request& request, const Part& part, const Slice& data) {
  constexpr size_t kSize = sizeof(wire::ChunkPresence);
  CHECK_EQ(data.size(), part.chunk_count * kSize);
  const std::span<std::byte> target = request.payload.mutable_span();
  for (size_t i = 0; i < part.chunk_count; ++i) {
    const size_t at = (part.request_offset / wire::kChunkBytes + i * request.stride) * kSize;
    CHECK_LE(at + kSize, target.size());
    std::memcpy(target.data() + at, data.span().data() + i * kSize, kSize);
  }
}

void Io::TakeData(Request& request, const Part& part, Slice data) {
  if (part.chunk_count > 0) return TakePresence(request, part, data);
  CHECK_EQ(data.size(), part.message.target.length_bytes);
  if (!request.gathers) {
    request.payload = std::move(data);
    return;
  }
  request.payload.CopyFrom(static_cast<uint32_t>(part.request_offset), data.span());
}

void Io::FinishIfSettled(Context& context, SlotTag tag) {
  Request* request = requests_.Find(tag);
  CHECK(request != nullptr);
  if (request->parts_open > 0 || request->cursor < request->end) return;
  UserReplyEffect reply;
  reply.tag = request->tag;
  reply.error = request->error;
  if (request->has_answer() && request->error == 0) {
    reply.payload = std::move(request->payload);
  }
  IoStats& stats = stats_[StatsKindOf(request->op)];
  stats.latency.Add(context.now.boot - request->submitted);
  if (request->error == 0) {
    stats.bytes += request->end - request->begin;
  } else {
    ++stats.errors;
  }
  requests_.Erase(tag);
  context.effects.Reply(std::move(reply));
}

void Io::Doom(Context& context, SlotTag tag, int error) {
  Part* part = parts_.Find(tag);
  CHECK(part != nullptr);
  if (part->doom == 0) part->doom = error;
  if (part->attempt_out()) {
    // A late answer to a read harms nobody. A write could still take effect.
    if (!part->is_read && !PLANTED_BUG("sdc-fails-timeout-unfenced")) return;
    RetireAttempt(*part);
  }
  TrySend(context, tag);
}

void Io::ExpireRequests(Context& context) {
  const Instant now = context.now.boot;
  const std::vector<SlotTag> parts =
      Collect([&](const Part& part) { return requests_.Find(part.request)->deadline <= now; });
  std::vector<SlotTag> partless;
  requests_.ForEach([&](SlotTag tag, Request& request) {
    if (request.deadline > now) return;
    ++counters_.timeouts;
    request.deadline = kNever;
    if (request.cursor == request.end) return;  // its parts decide
    request.cursor = request.end;
    if (request.error == 0) request.error = EIO;
    if (request.parts_open == 0) partless.push_back(tag);
  });
  for (SlotTag tag : partless) FinishIfSettled(context, tag);
  for (SlotTag tag : parts) {
    if (parts_.Find(tag) != nullptr) Doom(context, tag, EIO);
  }
  // What is still out must be fenced: the SDS confirms the end of the connection that carried it.
  for (SdsSession& session : sessions_) {
    bool carries = false;
    parts_.ForEach([&](SlotTag, const Part& part) {
      carries = carries ||
                (part.fails() && part.state == PartState::kSent && part.session == session.index);
    });
    if (carries) GiveUp(context, session, "a write met its time-out");
  }
}

}  // namespace gabion::sdc
