// Everything that the components of one SDS share. The role owns one; components get it in their
// Context. What happens to a message is decided here once: who it is for, and whether it may come.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "core/sds/config.h"
#include "core/sds/context.h"
#include "core/sds/device_set.h"
#include "core/sds/lease.h"
#include "core/sds/ops.h"
#include "core/sds/peer_links.h"
#include "core/sds/registration.h"
#include "core/sds/requests.h"
#include "core/sds/sds.h"
#include "core/sds/sessions.h"
#include "core/store/read_cache.h"

namespace gabion::sds {

struct Replica;
class Primary;
class Secondary;

// Free extents that new data may take: a part stays for what new epochs carry over.
uint64_t FreeExtents(const store::Store& store);
// Less what is promised to primaries elsewhere (R24).
uint64_t UnpromisedExtents(const Device& device);
// Bytes of uncommitted entries that each slice on the device may have (R9, R24).
uint64_t WindowBytes(const Device& device);
// One of the largest requests.
inline constexpr uint64_t kWindowBytesMin = wire::kDataBytesMax + 2 * wire::kBlockBytes;
// Bytes, store::kAppendOverheadBytes for each entry included, that the log has room for (R24): a
// part stays for what asks nobody (epoch starts, ids, the store's own records). Of the rest
// - clients and copies leave two eighths of the ring,
uint64_t LogRoomForClients(const Device& device);
// - credits are at most one of these eighths, and leave the other
CreditRoom CreditRoomOf(const Device& device);
// - to entries of ended epochs, that are fetched (R14) or carried over (R18).
uint64_t LogRoomForTail(const Device& device);

struct Counters {
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t refused = 0;
  uint64_t extents_copied = 0;
  uint64_t blocks_repaired = 0;
  uint64_t repairs_failed = 0;
  uint64_t copies_differ = 0;    // extents in which both copies verify and differ
  uint64_t promises_broken = 0;  // replicates that found no room although it was promised
};

struct Node {
  Node(const Options& options, const RoleResources& resources);
  ~Node();

  Options options;
  RoleResources resources;
  Identity self;
  Registration registration;
  Lease lease;
  Config config;
  DeviceSet devices;
  Sessions sessions;
  PeerLinks peers;
  RequestTable requests;
  Outstanding outstanding;
  OpTable ops;
  Counters counters;
  store::ReadCache read_cache;  // of all devices
  absl::btree_map<ReplicaKey, std::unique_ptr<Replica>> replicas;
  // Replicas to forget, until that is durable.
  struct Drop {
    Epoch up_to;             // one that has started a later epoch stays (R23)
    uint64_t operation = 0;  // that does it; 0: none, because the device is away, or it stays
    Epoch ahead{};           // the later epoch
  };
  absl::btree_map<ReplicaKey, Drop> drops;
  // R23: the MDM wants to know what devices hold; those that have not been reported since.
  bool survey_wanted = false;
  absl::btree_set<DeviceId> surveys_due;
  bool stopping = false;

  // ---- Work of this step
  std::vector<store::Done> done;
  std::vector<ReplicaKey> dirty;
  bool heartbeat_soon = false;
  absl::btree_set<std::pair<Instant, ReplicaKey>> wakes;
  std::vector<std::pair<ConnId, wire::CommitItem>> commit_items;
  bool commit_timer_armed = false;
  uint64_t last_connection_number = 0;
  uint64_t last_instance = 0;

  store::Output Out(Context& ctx) { return {ctx.effects, done}; }
  ConnectionNumber NextConnectionNumber() { return ConnectionNumber(++last_connection_number); }
  void MarkDirty(const ReplicaKey& key);
  void MarkPrimariesDirty();
  void WakeAt(const ReplicaKey& key, Instant when);
  void HeartbeatSoon(Context&) { heartbeat_soon = true; }
  void ArmCommitTimer(Context& ctx);
  void AddCommitPoint(ConnId conn, const wire::CommitItem& item);

  void RefillCredits(Context& ctx);
  // Primaries elsewhere wait for log bytes on the device: the others are to give back theirs.
  void RecallCredits(Context& ctx, Device& device);

  // ---- node_config.cc: what the configuration and the devices make of replicas
  // False: the update does not follow the last one.
  bool ApplyConfig(Context& ctx, const proto::ConfigUpdate& update);
  void OnDeviceChange(Context& ctx, DeviceId device);
  proto::SdsSurvey SurveyOf(const Device& device) const;
  void Reconfigure(Context& ctx, SliceId slice);
  void DropReplica(Context& ctx, const ReplicaKey& key, Epoch up_to);
  void CarryOutDrop(Context& ctx, const ReplicaKey& key);
  void OnDropped(const Op& op, store::DoneStatus status);
  void EndReplicas(Context& ctx);
  void CountActing();
  void AddReports(Context& ctx, proto::SdsHeartbeat* heartbeat);

  // ---- node_clients.cc: requests
  void OnWriteRequest(Context& ctx, ConnId conn, const wire::WriteRequest& message,
                      const Slice& payload);
  void OnReadRequest(Context& ctx, ConnId conn, const wire::ReadRequest& message);
  // presence.cc
  void OnPresenceRequest(Context& ctx, ConnId conn, const wire::PresenceRequest& message);
  void OnSessionHeartbeat(Context& ctx, ConnId conn, const wire::SessionHeartbeat& message,
                          const Slice& payload);
  // Volume, mapping, range, slice, snapshot number, incarnation of the client.
  wire::Status CheckTarget(const Request& request, bool* hold) const;
  VolumeVersion VersionOf(VolumeId volume) const;
  void AnswerWrite(Context& ctx, SlotTag tag, wire::Status status, Reign reign);
  void AnswerRead(Context& ctx, SlotTag tag, wire::Status status, Reign reign, Slice data,
                  std::span<const uint32_t> piece_crc);
  void DiscardRequestsOf(Context& ctx, ConnId conn);
  // The lease ran out, or this SDS stops: everything that is not admitted is refused.
  void RefuseUnadmitted(Context& ctx, wire::Status status);
  bool HasAdmittedBelow(SdcId client, Incarnation incarnation);
  void DropClientIds(Context& ctx, SdcId client, Incarnation below);

  // ---- node_messages.cc: messages between SDSs
  // kOk, and then the replica that is meant: R20.
  wire::Status CheckPair(const wire::PairHeader& pair, ConnId conn, Secondary** secondary);
  void OnPeerMessage(Context& ctx, ConnId conn, const wire::Message& message);
  // Answers of replicas to the primaries here.
  void OnFollowerMessage(Context& ctx, SdsId peer, const wire::Message& message);

  Primary* FindPrimary(SliceId slice);
  Replica* FindReplica(const ReplicaKey& key);
};

}  // namespace gabion::sds
