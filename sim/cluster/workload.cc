#include "sim/cluster/workload.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/base/check.h"
#include "core/wire/data.h"

namespace gabion::sim {

namespace {

constexpr Duration kAttachRetry = std::chrono::milliseconds(200);
constexpr uint32_t kReadAllBytes = 64 << 10;
constexpr uint32_t kReadAllDepth = 4;
constexpr uint64_t kStatusBytesMax = uint64_t{4} * wire::kChunkBytes;

// Block status promises that what it calls a hole reads as zeroes: it is a read of those blocks.
std::string CheckHoles(VolumeHistory& history, std::span<const std::byte> bytes, uint64_t first,
                       uint64_t count, TrueTime start, TrueTime end) {
  constexpr uint64_t kChunkSectors = wire::kChunkBytes / kStampSectorBytes;
  constexpr uint64_t kBlockSectors = wire::kBlockBytes / kStampSectorBytes;
  static constexpr std::array<std::byte, wire::kBlockBytes> kZeroes{};
  if (bytes.size() != count / kChunkSectors * sizeof(wire::ChunkPresence)) {
    return "a block status of " + std::to_string(bytes.size()) + " bytes";
  }
  for (uint64_t chunk = first; chunk < first + count; chunk += kChunkSectors) {
    wire::ChunkPresence presence;
    std::memcpy(&presence, bytes.data(), sizeof(presence));
    bytes = bytes.subspan(sizeof(presence));
    for (uint32_t block = 0; block < wire::kBlocksPerChunk; ++block) {
      if (presence.Has(block)) continue;
      std::string wrong = history.ReadEnded(kZeroes, chunk + block * kBlockSectors, start, end);
      if (!wrong.empty()) return "block status says hole: " + wrong;
    }
  }
  return {};
}
// How long a client may take to learn that a volume is its own again.
constexpr Duration kMapNewsMax = std::chrono::seconds(30);

}  // namespace

uint32_t Workload::AddVolume(VolumeId id, uint64_t size_bytes) {
  const auto index = static_cast<uint32_t>(volumes_.size());
  volumes_.push_back({id, VolumeHistory(index + 1, size_bytes)});
  for (uint32_t client = 0; client < clients_.size(); ++client) {
    clients_[client].attached.push_back(false);
    clients_[client].access.emplace_back();
    Attach(client, index);
  }
  return index;
}

uint32_t Workload::AddClient(const ClientOptions& options) {
  const auto index = static_cast<uint32_t>(clients_.size());
  clients_.push_back(
      {.options = options, .stream = world_->choices().Open(StreamKind::kWorkload, index)});
  clients_.back().attached.assign(volumes_.size(), false);
  clients_.back().access.resize(volumes_.size());
  if (world_->Running(options.node)) OnStarted(options.node);
  return index;
}

Workload::Client* Workload::ClientOf(NodeIndex node, uint32_t* index) {
  for (uint32_t i = 0; i < clients_.size(); ++i) {
    if (clients_[i].options.node != node) continue;
    *index = i;
    return &clients_[i];
  }
  return nullptr;
}

bool Workload::Attached(uint32_t client, uint32_t volume) const {
  return clients_[client].attached[volume];
}

void Workload::Attach(uint32_t client, uint32_t volume) {
  Client& c = clients_[client];
  if (!world_->Running(c.options.node) || c.attached[volume]) return;
  const UserTag tag = next_tag_++;
  c.requests[tag] = {.op = UserOp::kAttach, .volume = volume, .start = world_->now()};
  UserRequestEvent event;
  event.tag = tag;
  event.op = UserOp::kAttach;
  event.volume = volumes_[volume].id;
  world_->Submit(c.options.node, std::move(event));
}

void Workload::OnStarted(NodeIndex node) {
  uint32_t index = 0;
  if (ClientOf(node, &index) == nullptr) return;
  // Behind the role's StartEvent.
  world_->After(std::chrono::milliseconds(1), [this, index] {
    for (uint32_t volume = 0; volume < volumes_.size(); ++volume) Attach(index, volume);
  });
}

void Workload::OnStopped(NodeIndex node) {
  uint32_t index = 0;
  Client* client = ClientOf(node, &index);
  if (client == nullptr) return;
  // Their writes may take effect or not: they never finish.
  for (const auto& [tag, request] : client->requests) {
    if (request.stamp != 0) client->lost.push_back(WrittenBy(request));
  }
  client->requests.clear();
  client->attached.assign(volumes_.size(), false);
  client->reading_all = false;
}

void Workload::OnUserNotice(NodeIndex node, const UserNoticeEffect& notice) {
  uint32_t index = 0;
  Client* client = ClientOf(node, &index);
  if (client == nullptr || notice.size_bytes != 0) return;
  for (uint32_t volume = 0; volume < volumes_.size(); ++volume) {
    if (volumes_[volume].id != notice.volume) continue;
    client->attached[volume] = false;
    world_->After(kAttachRetry, [this, index, volume] { Attach(index, volume); });
  }
}

void Workload::Run(TrueTime end) {
  end_ = end;
  for (uint32_t client = 0; client < clients_.size(); ++client) Tick(client);
}

void Workload::Tick(uint32_t client) {
  if (world_->now() >= end_) return;
  Client& c = clients_[client];
  if (world_->Running(c.options.node) && c.requests.size() < c.options.depth) IssueRandom(client);
  const Duration mean = c.options.pause_mean;
  const Duration pause = world_->choices().TailOf(c.stream, Site::kOpPause, mean, mean * 20);
  world_->After(pause + std::chrono::microseconds(1), [this, client] { Tick(client); });
}

void Workload::IssueRandom(uint32_t client) {
  Client& c = clients_[client];
  Choices& choices = world_->choices();
  if (volumes_.empty()) return;
  const auto volume =
      static_cast<uint32_t>(choices.Below(c.stream, Site::kOpPlace, volumes_.size()));
  if (!c.attached[volume]) return;
  const uint64_t size = volumes_[volume].history.size_bytes();
  uint32_t unit = c.options.small_sectors && choices.Chance(c.stream, Site::kOpSize, 1, 4)
                      ? wire::kSectorBytes
                      : wire::kBlockBytes;
  const bool is_large = c.options.large && choices.Chance(c.stream, Site::kOpSize, 1, 3);
  if (is_large) unit = wire::kExtentBytes;
  // Mostly one or a few blocks, now and then the largest.
  const uint64_t units_max = (is_large ? wire::kDataBytesMax : c.options.bytes_max) / unit;
  uint64_t units = 1;
  switch (choices.Below(c.stream, Site::kOpSize, 8)) {
    case 0:
    case 1:
    case 2:
      break;
    case 7:
      units = choices.Range(c.stream, Site::kOpSize, 1, units_max);
      break;
    default:
      units = choices.Range(c.stream, Site::kOpSize, 1, std::min<uint64_t>(units_max, 8));
      break;
  }
  // Half of the requests go to a few hot places: the first blocks, a chunk's end, the volume's end.
  uint64_t at = 0;
  const bool hot = choices.Below(c.stream, Site::kOpPlace, 100) < c.options.hot_percent;
  switch (hot ? 0 : choices.Range(c.stream, Site::kOpPlace, 1, 5)) {
    case 0:
      at = choices.Below(c.stream, Site::kOpPlace, 8) * unit;
      break;
    case 1: {
      const uint64_t chunk = choices.Range(c.stream, Site::kOpPlace, 1, size / wire::kChunkBytes);
      const uint64_t back = choices.Below(c.stream, Site::kOpPlace, units + 1) * unit;
      at = chunk * wire::kChunkBytes - back;
      break;
    }
    case 2:
      at = choices.Below(c.stream, Site::kOpPlace, size / wire::kChunkBytes) * wire::kChunkBytes +
           choices.Below(c.stream, Site::kOpPlace, 4) * unit;
      break;
    default:
      at = choices.Below(c.stream, Site::kOpPlace, size / unit) * unit;
      break;
  }
  const uint64_t length = units * unit;
  if (at + length > size) at = size - length;
  Request request{.volume = volume, .offset_bytes = at, .length_bytes = length};
  const uint64_t kind = choices.Below(c.stream, Site::kOpKind, 100);
  if (kind < c.options.read_percent) {
    request.op = UserOp::kRead;
  } else if (kind < c.options.read_percent + c.options.zero_percent) {
    request.op = kind % 2 == 0 ? UserOp::kTrim : UserOp::kWriteZeroes;
  } else if (kind == 98) {
    request.op = UserOp::kBlockStatus;
    request.offset_bytes -= request.offset_bytes % wire::kChunkBytes;
    request.length_bytes = std::min(kStatusBytesMax, size - request.offset_bytes);
  } else if (kind == 99) {
    request.op = UserOp::kFlush;
    request.offset_bytes = 0;
    request.length_bytes = 0;
  } else {
    request.op = UserOp::kWrite;
  }
  Issue(client, std::move(request));
}

void Workload::Issue(uint32_t client, Request request) {
  Client& c = clients_[client];
  Volume& volume = volumes_[request.volume];
  request.start = world_->now();
  UserRequestEvent event;
  event.tag = next_tag_++;
  event.op = request.op;
  event.volume = volume.id;
  event.offset_bytes = request.offset_bytes;
  event.length_bytes = request.length_bytes;
  const uint64_t first = request.offset_bytes / kStampSectorBytes;
  const uint64_t count = request.length_bytes / kStampSectorBytes;
  switch (request.op) {
    case UserOp::kWrite:
      if (request.stamp == 0) request.stamp = MakeStamp(client, next_operation_++);
      event.payload =
          world_->node(c.options.node).pool->Allocate(static_cast<uint32_t>(request.length_bytes));
      CHECK(!event.payload.empty());
      FillStamped(event.payload.mutable_span(), request.stamp, volume.history.key(), first);
      volume.history.WriteStarted(request.stamp, false, first, count, request.start, OldestIo());
      break;
    case UserOp::kTrim:
    case UserOp::kWriteZeroes:
      request.stamp = MakeStamp(client, next_operation_++);
      volume.history.WriteStarted(request.stamp, true, first, count, request.start, OldestIo());
      break;
    case UserOp::kRead:
    case UserOp::kFlush:
    case UserOp::kAttach:
    case UserOp::kDetach:
    case UserOp::kList:
    case UserOp::kBlockStatus:
      break;
  }
  // It may not know yet that the volume is no longer its own.
  if (request.stamp != 0 && request.start > c.access[request.volume].fenced_at) {
    Fence(c, WrittenBy(request), c.access[request.volume].fenced_at);
  }
  c.requests[event.tag] = std::move(request);
  world_->Submit(c.options.node, std::move(event));
}

Stamp Workload::Write(uint32_t client, uint32_t volume, uint64_t offset_bytes,
                      uint64_t length_bytes, Callback done) {
  const Stamp stamp = MakeStamp(client, next_operation_++);
  Issue(client, {.op = UserOp::kWrite,
                 .volume = volume,
                 .offset_bytes = offset_bytes,
                 .length_bytes = length_bytes,
                 .stamp = stamp,
                 .done = std::move(done)});
  return stamp;
}

void Workload::Read(uint32_t client, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes,
                    Callback done) {
  Issue(client, {.op = UserOp::kRead,
                 .volume = volume,
                 .offset_bytes = offset_bytes,
                 .length_bytes = length_bytes,
                 .done = std::move(done)});
}

void Workload::ReadAll(uint32_t client) {
  Client& c = clients_[client];
  CHECK(world_->Running(c.options.node));
  read_all_complete_ = false;
  c.reading_all = true;
  c.next_volume = 0;
  c.next_offset = 0;
  for (uint32_t i = 0; i < kReadAllDepth; ++i) ContinueReadAll(client);
}

void Workload::ContinueReadAll(uint32_t client) {
  Client& c = clients_[client];
  if (c.next_volume == volumes_.size()) {
    const auto of_read_all = [](const auto& request) { return request.second.of_read_all; };
    if (std::none_of(c.requests.begin(), c.requests.end(), of_read_all)) {
      c.reading_all = false;
      read_all_complete_ = true;
    }
    return;
  }
  const uint64_t size = volumes_[c.next_volume].history.size_bytes();
  Request request{.op = UserOp::kRead,
                  .volume = c.next_volume,
                  .offset_bytes = c.next_offset,
                  .length_bytes = std::min<uint64_t>(kReadAllBytes, size - c.next_offset),
                  .of_read_all = true};
  c.next_offset += request.length_bytes;
  if (c.next_offset == size) {
    c.next_offset = 0;
    ++c.next_volume;
  }
  Issue(client, std::move(request));
}

void Workload::OnUserReply(NodeIndex node, const UserReplyEffect& reply) {
  uint32_t index = 0;
  Client* client = ClientOf(node, &index);
  if (client == nullptr) return;
  if (!client->requests.contains(reply.tag)) {
    world_->Fail("session", "an SDC answered request " + std::to_string(reply.tag) +
                                ", which is not in flight");
    return;
  }
  Finish(index, reply.tag, reply);
}

void Workload::Finish(uint32_t client, UserTag tag, const UserReplyEffect& reply) {
  Client& c = clients_[client];
  const auto at = c.requests.find(tag);
  const Request request = std::move(at->second);
  c.requests.erase(at);
  Volume& volume = volumes_[request.volume];
  const TrueTime now = world_->now();
  if (request.op == UserOp::kAttach) {
    if (reply.error == 0 && reply.size_bytes == volume.history.size_bytes()) {
      c.attached[request.volume] = true;
      // It is registered, so whatever earlier processes had under way is over (R10).
      for (const Written& lost : c.lost) {
        volumes_[lost.volume].history.WriteFailed(lost.stamp, lost.first_sector, lost.sector_count,
                                                  now);
      }
      c.lost.clear();
    } else {
      world_->After(kAttachRetry, [this, client, v = request.volume] { Attach(client, v); });
    }
    return;
  }
  if (request.done) request.done(reply.error, reply.payload);
  const std::string name =
      "request " + std::to_string(tag) + " of client " + std::to_string(client);
  if (reply.error != 0) {
    FinishFailed(c, request, reply.error, name);
    if (request.of_read_all && c.reading_all) ContinueReadAll(client);
    return;
  }
  // A flush asks nobody: what is acknowledged is durable.
  if (request.start > c.access[request.volume].fenced_at && request.op != UserOp::kFlush) {
    world_->Fail("fencing", name + " succeeded, although its volume was not mapped to it any more");
    return;
  }
  const uint64_t first = request.offset_bytes / kStampSectorBytes;
  const uint64_t count = request.length_bytes / kStampSectorBytes;
  std::string wrong;
  switch (request.op) {
    case UserOp::kRead:
      if (reply.payload.size() != request.length_bytes) {
        wrong = "a read of " + std::to_string(request.length_bytes) + " bytes returned " +
                std::to_string(reply.payload.size());
      } else {
        wrong = volume.history.ReadEnded(reply.payload.span(), first, request.start, now);
      }
      if (!request.of_read_all) ++stats_.reads;
      break;
    case UserOp::kBlockStatus:
      wrong = CheckHoles(volume.history, reply.payload.span(), first, count, request.start, now);
      ++stats_.reads;
      break;
    case UserOp::kWrite:
    case UserOp::kTrim:
    case UserOp::kWriteZeroes:
      wrong = volume.history.WriteEnded(request.stamp, first, count, now);
      ++stats_.writes;
      break;
    case UserOp::kFlush:
    case UserOp::kAttach:
    case UserOp::kDetach:
    case UserOp::kList:
      break;
  }
  if (!wrong.empty()) {
    world_->Fail("linearizability", name + ": " + wrong);
    return;
  }
  if (request.of_read_all) {
    if (c.reading_all) ContinueReadAll(client);
    return;
  }
  ++stats_.completed;
  stats_.bytes += request.length_bytes;
  stats_.longest = std::max(stats_.longest, Duration(now - request.start));
}

void Workload::FinishFailed(Client& client, const Request& request, int error,
                            const std::string& name) {
  // A client that stops does not read on.
  const bool read_on = allow_any_error_ && client.reading_all && error != ESHUTDOWN;
  if (request.of_read_all && !read_on) client.reading_all = false;
  const bool is_write = request.stamp != 0;
  // Refused at the door.
  if (error == EBUSY) return;
  // Given up by a clean shutdown: it may take effect or not.
  if (error == ESHUTDOWN) {
    if (is_write) client.lost.push_back(WrittenBy(request));
    return;
  }
  const TrueTime now = world_->now();
  const Duration timeout = client.options.io_timeout;
  // By the client's own clock.
  const bool in_time =
      timeout.count() == 0 || now - request.start < (timeout - timeout / 50).count();
  if (error == ENOSPC && allow_no_space_) {
    ++stats_.no_space;
  } else if (error == EIO && !in_time && now <= time_outs_until_) {
    ++stats_.timed_out;
  } else if (allow_any_error_ || (error == EIO && allow_io_errors_)) {
    ++stats_.io_errors;
  } else if (request.start > client.access[request.volume].may_fail_until && !request.done) {
    world_->Fail("io-error", name + " failed with errno " + std::to_string(error));
    return;
  }
  // Nobody hears of an error before the attempt is fenced (R10).
  if (!is_write) return;
  const Written failed = WrittenBy(request);
  volumes_[failed.volume].history.WriteFailed(failed.stamp, failed.first_sector,
                                              failed.sector_count, now);
}

Workload::Written Workload::WrittenBy(const Request& request) {
  return {.volume = request.volume,
          .stamp = request.stamp,
          .first_sector = request.offset_bytes / kStampSectorBytes,
          .sector_count = request.length_bytes / kStampSectorBytes};
}

void Workload::OnUnmapping(uint32_t client, uint32_t volume) {
  clients_[client].access[volume].may_fail_until = kForever;
}

void Workload::OnUnmapped(uint32_t client, uint32_t volume) {
  Client& c = clients_[client];
  const TrueTime now = world_->now();
  c.access[volume].fenced_at = now;
  c.fenced.clear();
  for (const auto& [tag, request] : c.requests) {
    if (request.volume == volume && request.stamp != 0) Fence(c, WrittenBy(request), now);
  }
  for (const Written& lost : c.lost) {
    if (lost.volume == volume) Fence(c, lost, now);
  }
}

void Workload::Fence(Client& client, const Written& written, TrueTime when) {
  client.fenced.push_back(written);
  volumes_[written.volume].history.WriteFenced(written.stamp, written.first_sector,
                                               written.sector_count, when);
}

void Workload::OnMapping(uint32_t client, uint32_t volume) {
  Client& c = clients_[client];
  c.access[volume].fenced_at = kForever;
  for (const Written& fenced : c.fenced) {
    volumes_[volume].history.WriteAllowed(fenced.stamp, fenced.first_sector, fenced.sector_count);
  }
  c.fenced.clear();
}

void Workload::OnMapped(uint32_t client, uint32_t volume) {
  clients_[client].access[volume].may_fail_until = world_->now() + kMapNewsMax.count();
}

bool Workload::Idle() const {
  return std::all_of(clients_.begin(), clients_.end(), [this](const Client& client) {
    return world_->Running(client.options.node) && !client.reading_all && client.requests.empty() &&
           std::find(client.attached.begin(), client.attached.end(), false) ==
               client.attached.end();
  });
}

TrueTime Workload::OldestStart() const {
  TrueTime oldest = kForever;
  for (const Client& client : clients_) {
    for (const auto& [tag, request] : client.requests) oldest = std::min(oldest, request.start);
  }
  return oldest;
}

// Without those that wait for an attachment, perhaps for long.
TrueTime Workload::OldestIo() const {
  TrueTime oldest = world_->now();
  for (const Client& client : clients_) {
    for (const auto& [tag, request] : client.requests) {
      if (request.op != UserOp::kAttach) oldest = std::min(oldest, request.start);
    }
  }
  return oldest;
}

std::string Workload::DescribeOldest() const {
  const TrueTime oldest = OldestStart();
  for (const Client& client : clients_) {
    for (const auto& [tag, request] : client.requests) {
      if (request.start != oldest) continue;
      return "request " + std::to_string(tag) + " of " +
             world_->node(client.options.node).options.name + " (op " +
             std::to_string(static_cast<int>(request.op)) + ", volume " +
             std::to_string(request.volume) + ", " + std::to_string(request.offset_bytes) + " + " +
             std::to_string(request.length_bytes) + ") has waited since " +
             std::to_string(request.start / 1'000'000) + " ms";
    }
  }
  return "no request is in flight";
}

}  // namespace gabion::sim
