// A client role among scripted peers: tests accept its dials, read what it sends and answer by
// hand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/role/role.h"
#include "core/sdc/piece_crc.h"
#include "core/sdc/reaction.h"
#include "core/sdc/sdc.h"
#include "core/store/test_disk.h"
#include "core/wire/management.h"

namespace gabion::sdc {

inline constexpr uint64_t kMiB = 1 << 20;
inline constexpr VolumeId kVolume{100};
inline constexpr VtreeId kVtree{7};
inline constexpr SdsId kSds1{11};
inline constexpr SdsId kSds2{12};

class TestWorld {
 public:
  static constexpr uint32_t kSlices = 4;
  static constexpr uint64_t kFirstSlice = 1000;

  explicit TestWorld(Options options = {}) : options_(std::move(options)) {
    options_.name = "client";
    options_.mdms = {*Address::Parse("10.0.0.1:7000")};
    StartRole();
  }

  // A new run of the process over the same state device.
  void StartRole() {
    role_ = MakeSdc(options_, {.pool = &pool_});
    Step(StartEvent{.state_device = disk_.info()});
  }

  void Step(const Event& event) {
    Effects effects;
    role_->Step(now_, event, effects);
    Take(effects);
    while (disk_.pending() > 0) {
      const DiskDoneEvent done = disk_.Complete(0);
      Effects more;
      role_->Step(now_, done, more);
      Take(more);
    }
    role_->CheckInvariants();
  }

  // Time passes; timers that fall due fire in order.
  void Advance(Duration duration) {
    const Instant end = now_.boot + duration;
    while (true) {
      auto next = timers_.end();
      for (auto it = timers_.begin(); it != timers_.end(); ++it) {
        if (it->second <= end && (next == timers_.end() || it->second < next->second)) next = it;
      }
      if (next == timers_.end()) break;
      now_.boot = std::max(now_.boot, next->second);
      const TimerTag tag = next->first;
      timers_.erase(next);
      Step(TimerEvent{tag});
    }
    now_.boot = end;
  }

  // Accepts the oldest dial. The client's hello is then the first message of the connection.
  ConnId Accept() {
    EXPECT_FALSE(dials.empty());
    if (dials.empty()) return ConnId();
    const ConnectEffect dial = dials.front();
    dials.pop_front();
    const ConnId conn(++last_conn_);
    last_address = dial.address;
    Step(ConnectedEvent{.conn = conn, .dial = dial.dial, .peer = dial.address});
    return conn;
  }
  void AnswerHello(ConnId conn, wire::PeerRole role, uint64_t id,
                   wire::Status status = wire::Status::kOk,
                   Incarnation incarnation = Incarnation(1)) {
    const auto hello = Expect<wire::Hello>(conn);
    wire::HelloReply reply;
    reply.cluster = ClusterId(5);
    reply.responder = id;
    reply.incarnation = incarnation;
    reply.status = status;
    reply.version = wire::kVersionMax;
    reply.role = role;
    EXPECT_EQ(hello.role, wire::PeerRole::kSdc);
    last_hello = hello;
    Deliver(conn, reply);
  }
  ConnId AcceptSds(SdsId sds, Incarnation incarnation = Incarnation(1)) {
    const ConnId conn = Accept();
    AnswerHello(conn, wire::PeerRole::kSds, sds.value(), wire::Status::kOk, incarnation);
    return conn;
  }
  void Disconnect(ConnId conn) { Step(DisconnectedEvent{conn}); }

  void Deliver(ConnId conn, wire::Body body, Slice payload = {}) {
    Step(MessageEvent{conn, {std::move(body), std::move(payload)}});
  }
  void DeliverManagement(const proto::Management& management) {
    Step(MessageEvent{mdm, wire::ToMessage(management, 0, pool_)});
  }

  // The next message on `conn`, which must be a T.
  template <class T>
  T Expect(ConnId conn, Slice* payload = nullptr) {
    std::deque<wire::Message>& queue = sent[conn];
    EXPECT_FALSE(queue.empty()) << "nothing sent";
    if (queue.empty()) return T{};
    wire::Message message = std::move(queue.front());
    queue.pop_front();
    EXPECT_TRUE(std::holds_alternative<T>(message.body)) << wire::TypeName(message.type());
    if (!std::holds_alternative<T>(message.body)) return T{};
    if (payload != nullptr) *payload = message.payload;
    return std::get<T>(message.body);
  }
  proto::Management ExpectManagement() {
    std::deque<wire::Message>& queue = sent[mdm];
    EXPECT_FALSE(queue.empty()) << "nothing sent to the MDM";
    if (queue.empty()) return {};
    const wire::Message message = std::move(queue.front());
    queue.pop_front();
    return wire::ParseManagement(message).value_or(proto::Management());
  }
  bool Quiet(ConnId conn) { return sent[conn].empty(); }

  // Connects and registers with the MDM; the map is still missing.
  void Register() {
    mdm = Accept();
    AnswerHello(mdm, wire::PeerRole::kMdm, 1);
    const proto::Management request = ExpectManagement();
    EXPECT_TRUE(request.has_sdc_register());
    last_register = request.sdc_register();
    proto::Management reply;
    reply.mutable_sdc_register_reply()->set_cluster(5);
    reply.mutable_sdc_register_reply()->set_sdc(77);
    DeliverManagement(reply);
  }
  // A full map: volume 100 of 64 MiB on 4 slices, all at SDS 11 under reign 3.
  proto::Management FullMap() {
    proto::Management message;
    proto::MapUpdate* map = message.mutable_map_update();
    map->set_version(++version);
    map->set_full(true);
    AddVolume(map, 64 * kMiB);
    proto::Pool* pool = map->add_pools();
    pool->set_id(1);
    pool->set_slice_count(kSlices);
    pool->set_first_slice(kFirstSlice);
    for (uint32_t i = 0; i < kSlices; ++i) AddRoute(map, SliceId(kFirstSlice + i), 3, kSds1);
    for (SdsId sds : {kSds1, kSds2}) {
      proto::Sds* endpoint = map->add_endpoints();
      endpoint->set_id(sds.value());
      endpoint->add_addresses("10.0.1." + std::to_string(sds.value()) + ":7100");
    }
    return message;
  }
  static void AddVolume(proto::MapUpdate* map, uint64_t size_bytes, uint64_t snap_number = 1,
                        bool read_only = false) {
    proto::Volume* volume = map->add_volumes();
    volume->set_id(kVolume.value());
    volume->set_name("vol");
    volume->set_pool(1);
    volume->set_vtree(kVtree.value());
    volume->set_size_bytes(size_bytes);
    volume->set_snap_number(snap_number);
    proto::Mapping* mapping = map->add_mappings();
    mapping->set_volume(kVolume.value());
    mapping->set_sdc(77);
    mapping->set_read_only(read_only);
  }
  static void AddRoute(proto::MapUpdate* map, SliceId slice, uint64_t reign, SdsId sds) {
    proto::SliceRoute* route = map->add_slices();
    route->set_slice(slice.value());
    route->set_reign(reign);
    route->set_sds(sds.value());
  }
  proto::Management Increment() {
    proto::Management message;
    message.mutable_map_update()->set_version(++version);
    return message;
  }
  // All slices move to `sds` under `reign`.
  void MoveAll(uint64_t reign, SdsId sds) {
    proto::Management message = Increment();
    for (uint32_t i = 0; i < kSlices; ++i) {
      AddRoute(message.mutable_map_update(), SliceId(kFirstSlice + i), reign, sds);
    }
    DeliverManagement(message);
  }
  void Unmap() {
    proto::Management message = Increment();
    message.mutable_map_update()->add_unmapped_volumes(kVolume.value());
    DeliverManagement(message);
  }
  void Ready() {
    Register();
    DeliverManagement(FullMap());
  }
  // Answers the heartbeat that must be under way: the map is what the client has.
  void ConfirmMap() {
    const proto::Management message = ExpectManagement();
    ASSERT_TRUE(message.has_sdc_heartbeat());
    proto::Management reply;
    reply.mutable_sdc_heartbeat_reply()->set_number(message.sdc_heartbeat().number());
    reply.mutable_sdc_heartbeat_reply()->set_map_version(version);
    DeliverManagement(reply);
  }

  Slice Data(uint32_t size, uint8_t seed = 1) {
    Slice slice = pool_.Allocate(size);
    const std::span<std::byte> bytes = slice.mutable_span();
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>((i / 512) * 31 + i + seed);
    }
    return slice;
  }
  UserTag Submit(UserOp op, uint64_t offset, uint64_t length, Slice payload = {}) {
    const UserTag tag = ++last_tag_;
    Step(UserRequestEvent{.tag = tag,
                          .op = op,
                          .volume = kVolume,
                          .offset_bytes = offset,
                          .length_bytes = length,
                          .payload = std::move(payload),
                          .name = {}});
    return tag;
  }
  UserTag Write(uint64_t offset, uint32_t length, uint8_t seed = 1) {
    return Submit(UserOp::kWrite, offset, length, Data(length, seed));
  }
  UserTag Read(uint64_t offset, uint32_t length) { return Submit(UserOp::kRead, offset, length); }
  UserTag Attach(std::string name) {
    const UserTag tag = ++last_tag_;
    Step(
        UserRequestEvent{.tag = tag, .op = UserOp::kAttach, .volume = {}, .name = std::move(name)});
    return tag;
  }
  UserTag Attach(VolumeId volume) {
    const UserTag tag = ++last_tag_;
    Step(UserRequestEvent{.tag = tag, .op = UserOp::kAttach, .volume = volume, .name = {}});
    return tag;
  }

  void Answer(ConnId conn, const wire::WriteRequest& request,
              wire::Status status = wire::Status::kOk) {
    wire::WriteReply reply;
    reply.tag = request.tag;
    reply.slice = request.target.slice;
    reply.request = request.request;
    reply.reign = request.target.reign;
    reply.status = status;
    Deliver(conn, reply);
  }
  void Answer(ConnId conn, const wire::ReadRequest& request, Slice data) {
    wire::ReadReply reply = Reply(request, wire::Status::kOk);
    reply.length_bytes = data.size();
    FillPieceCrcs(request.target.offset_bytes, data.span(), reply.piece_crc);
    Deliver(conn, reply, std::move(data));
  }
  void Refuse(ConnId conn, const wire::ReadRequest& request, wire::Status status) {
    Deliver(conn, Reply(request, status));
  }
  static wire::ReadReply Reply(const wire::ReadRequest& request, wire::Status status) {
    wire::ReadReply reply;
    reply.tag = request.tag;
    reply.slice = request.target.slice;
    reply.reign = request.target.reign;
    reply.status = status;
    return reply;
  }

  bool Replied(UserTag tag) const { return replies.contains(tag); }
  // The error of the reply; -1 without one.
  int ErrorOf(UserTag tag) const {
    const auto it = replies.find(tag);
    return it == replies.end() ? -1 : it->second.error;
  }
  bool Logged(std::string_view text) const {
    for (const LogEffect& log : logs) {
      if (log.text.find(text) != std::string::npos) return true;
    }
    return false;
  }
  bool Closed(ConnId conn) const {
    return std::find(closes.begin(), closes.end(), conn) != closes.end();
  }

  BufferPool& pool() { return pool_; }
  Role& role() { return *role_; }

  std::deque<ConnectEffect> dials;
  std::map<ConnId, std::deque<wire::Message>> sent;
  std::vector<ConnId> closes;
  std::map<UserTag, UserReplyEffect> replies;
  std::vector<UserNoticeEffect> notices;
  std::vector<LogEffect> logs;
  std::optional<std::string> exit_reason;
  ConnId mdm;
  Address last_address;
  wire::Hello last_hello;
  proto::SdcRegister last_register;
  uint64_t version = 0;

 private:
  void Take(Effects& effects) {
    disk_.Submit(effects);
    for (SendEffect& send : effects.sends) sent[send.conn].push_back(std::move(send.message));
    for (const ConnectEffect& dial : effects.connects) dials.push_back(dial);
    for (ConnId conn : effects.closes) closes.push_back(conn);
    for (const TimerEffect& timer : effects.timers) {
      timers_.erase(timer.tag);
      if (timer.when != kNever) timers_[timer.tag] = timer.when;
    }
    for (UserReplyEffect& reply : effects.replies) {
      EXPECT_FALSE(replies.contains(reply.tag)) << "answered twice";
      replies[reply.tag] = std::move(reply);
    }
    for (const UserNoticeEffect& notice : effects.notices) notices.push_back(notice);
    for (LogEffect& log : effects.logs) logs.push_back(std::move(log));
    if (effects.exit) exit_reason = effects.exit_reason;
  }

  Options options_;
  BufferPool pool_{{.bytes_max = size_t{256} << 20}};
  store::TestDisk disk_{{.size_bytes = 1 << 20}};
  std::unique_ptr<Role> role_;
  Now now_{Instant(std::chrono::seconds(1)), {}};
  std::map<TimerTag, Instant> timers_;
  uint64_t last_conn_ = 0;
  UserTag last_tag_ = 0;
};

}  // namespace gabion::sdc
