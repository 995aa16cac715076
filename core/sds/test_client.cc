// The client that a test plays.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/sds/test_cluster.h"

namespace gabion::sds {

ConnId TestCluster::Connect(size_t node) {
  const ConnId conn = MakePipe(kClient, static_cast<int>(node));
  nodes_[node].events.push_back(ConnectedEvent{pipes_.at(conn).peer, 0, AddressOf(50)});
  SendRaw(conn, {.body = wire::Hello{.cluster = ClusterId(kTestCluster),
                                     .sender = kTestClient,
                                     .target = node + 1,
                                     .incarnation = Incarnation(client_incarnation_),
                                     .connection = ConnectionNumber(++client_connection_),
                                     .role = wire::PeerRole::kSdc}});
  RunEvents();
  return conn;
}

std::optional<wire::Status> TestCluster::Greeted(ConnId conn) const {
  const auto found = greetings_.find(conn);
  if (found == greetings_.end()) return std::nullopt;
  return found->second;
}

bool TestCluster::Open(ConnId conn) const { return pipes_.contains(conn); }

void TestCluster::SendRaw(ConnId conn, wire::Message message) { Deliver(conn, std::move(message)); }

uint64_t TestCluster::Write(ConnId conn, uint8_t stamp, const Io& io) {
  Slice payload;
  if (io.kind == wire::EntryKind::kWrite) {
    payload = pool_.Allocate(io.length_bytes);
    std::memset(payload.mutable_span().data(), stamp, io.length_bytes);
  }
  wire::WriteRequest request{.target = {.volume = VolumeId(kTestVolume),
                                        .vtree = VtreeId(kTestVtree),
                                        .slice = SliceId(kTestSlice),
                                        .reign = Reign(io.reign == 0 ? reign_ : io.reign),
                                        .chunk = io.chunk,
                                        .offset_bytes = io.offset_bytes,
                                        .length_bytes = io.length_bytes},
                             .tag = ++last_tag_,
                             .snap_number = SnapNumber(1),
                             .request = RequestId(io.request == 0 ? ++last_request_ : io.request),
                             .low_water = RequestId(io.low_water),
                             .kind = io.kind};
  uint32_t at = 0;
  for (size_t piece = 0; at < payload.size(); ++piece) {
    const uint32_t size = std::min(wire::kBlockBytes - (io.offset_bytes + at) % wire::kBlockBytes,
                                   io.length_bytes - at);
    request.piece_crc[piece] = Crc32c(payload.span().subspan(at, size));
    at += size;
  }
  SendRaw(conn, {.body = request, .payload = std::move(payload)});
  RunEvents();
  return last_tag_;
}

uint64_t TestCluster::Read(ConnId conn, const Io& io) {
  SendRaw(conn,
          {.body = wire::ReadRequest{.target = {.volume = VolumeId(kTestVolume),
                                                .vtree = VtreeId(kTestVtree),
                                                .slice = SliceId(kTestSlice),
                                                .reign = Reign(io.reign == 0 ? reign_ : io.reign),
                                                .chunk = io.chunk,
                                                .offset_bytes = io.offset_bytes,
                                                .length_bytes = io.length_bytes},
                                     .tag = ++last_tag_}});
  RunEvents();
  return last_tag_;
}

uint64_t TestCluster::Zero(ConnId conn, const Io& io) {
  const wire::WriteRequest request{
      .target = {.volume = VolumeId(kTestVolume),
                 .vtree = VtreeId(kTestVtree),
                 .slice = SliceId(kTestSlice),
                 .reign = Reign(io.reign == 0 ? reign_ : io.reign),
                 .offset_bytes = io.offset_bytes,
                 .length_bytes = io.length_bytes},
      .tag = ++last_tag_,
      .snap_number = SnapNumber(1),
      .request = RequestId(io.request == 0 ? ++last_request_ : io.request),
      .low_water = RequestId(1),
      .kind = wire::EntryKind::kZero};
  SendRaw(conn, {.body = request, .payload = {}});
  RunEvents();
  return last_tag_;
}

uint64_t TestCluster::AskPresence(ConnId conn, uint32_t count, uint64_t reign) {
  SendRaw(conn,
          {.body = wire::PresenceRequest{.target = {.volume = VolumeId(kTestVolume),
                                                    .vtree = VtreeId(kTestVtree),
                                                    .slice = SliceId(kTestSlice),
                                                    .reign = Reign(reign == 0 ? reign_ : reign),
                                                    .length_bytes = wire::kChunkBytes},
                                         .tag = ++last_tag_,
                                         .chunk_count = count,
                                         .chunk_stride = 1},
           .payload = {}});
  RunEvents();
  return last_tag_;
}

std::optional<wire::ChunkPresence> TestCluster::PresenceOf(uint64_t tag) const {
  const Answer* answer = Find(tag);
  if (answer == nullptr || answer->data.size() < sizeof(wire::ChunkPresence)) return std::nullopt;
  wire::ChunkPresence presence;
  std::memcpy(&presence, answer->data.data(), sizeof(presence));
  return presence;
}

const TestCluster::Answer* TestCluster::Find(uint64_t tag) const {
  const auto found = answers_.find(tag);
  return found == answers_.end() ? nullptr : &found->second;
}

wire::Status TestCluster::StatusOf(uint64_t tag) const {
  const Answer* answer = Find(tag);
  CHECK(answer != nullptr) << "no answer yet\n" << Dump();
  return answer->status;
}

std::optional<uint8_t> TestCluster::StampOf(uint64_t tag) const {
  const Answer* answer = Find(tag);
  if (answer == nullptr || answer->status != wire::Status::kOk || answer->data.empty()) {
    return std::nullopt;
  }
  const auto stamp = static_cast<uint8_t>(answer->data.span()[0]);
  for (const std::byte byte : answer->data.span()) {
    if (static_cast<uint8_t>(byte) != stamp) return std::nullopt;
  }
  return stamp;
}

ConnId TestCluster::Client(size_t node) {
  const ConnId conn = Connect(node);
  CHECK(Greeted(conn) == wire::Status::kOk) << Dump();
  return conn;
}

uint64_t TestCluster::WriteExtent(ConnId conn, uint32_t extent, uint8_t stamp) {
  const uint64_t tag = Write(conn, stamp,
                             {.offset_bytes = extent % wire::kExtentsPerChunk * wire::kExtentBytes,
                              .length_bytes = wire::kExtentBytes,
                              .chunk = extent / wire::kExtentsPerChunk});
  Run(std::chrono::milliseconds(2));
  return tag;
}

}  // namespace gabion::sds
