// Clients that read and write volumes through SDC roles, at random places that overlap often, and
// the histories of what they did and saw.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/time.h"
#include "sim/checker/volume_history.h"
#include "sim/world/world.h"

namespace gabion::sim {

class Workload : public Observer {
 public:
  struct ClientOptions {
    NodeIndex node = 0;
    Duration pause_mean = std::chrono::milliseconds(60);  // between two requests
    uint32_t depth = 4;                                   // requests in flight
    uint32_t bytes_max = 64 << 10;
    uint32_t read_percent = 40;
    uint32_t zero_percent = 5;  // trims and write zeroes
    uint32_t hot_percent = 15;  // of requests that go to the first blocks
    bool small_sectors = true;  // requests that are no multiples of 4 KiB
    bool large = false;         // a third of the requests are whole extents, one or several
    Duration io_timeout{0};     // of the SDC; 0: requests never fail for time
  };

  struct Stats {
    uint64_t completed = 0;
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t bytes = 0;
    uint64_t no_space = 0;
    uint64_t timed_out = 0;
    uint64_t io_errors = 0;
    Duration longest{0};
  };

  explicit Workload(World* world) : world_(world) {}

  // `key` names the volume in stamps and messages; `id` is what the MDM gave.
  uint32_t AddVolume(VolumeId id, uint64_t size_bytes);
  uint32_t AddClient(const ClientOptions& options);

  // Clients attach what is there as soon as their node runs, and again after every start.
  // Random requests from now on, until `end`.
  void Run(TrueTime end);
  // Reads every volume from front to back by this client, besides whatever else goes on.
  void ReadAll(uint32_t client);
  // Whether the last ReadAll came to its end; a client that stops in between has not read all.
  bool ReadAllComplete() const { return read_all_complete_; }
  // Every client runs, has attached everything, and has nothing in flight.
  bool Idle() const;
  // When the oldest request in flight was given; kForever: none is.
  TrueTime OldestStart() const;
  std::string DescribeOldest() const;
  const Stats& stats() const { return stats_; }
  // ENOSPC is a failure of the run unless this is set.
  void AllowNoSpace() { allow_no_space_ = true; }
  // Until then requests may meet their time-out.
  void AllowTimeOuts(TrueTime until) { time_outs_until_ = until; }

  // A client's right to use a volume, as the administrator sees it: being taken; taken (the command
  // was answered: from now on nothing that it does takes effect); being given back; given.
  void OnUnmapping(uint32_t client, uint32_t volume);
  void OnUnmapped(uint32_t client, uint32_t volume);
  void OnMapping(uint32_t client, uint32_t volume);
  void OnMapped(uint32_t client, uint32_t volume);
  // So is EIO: a block may be rotten on the only copy that is there.
  void AllowIoErrors() { allow_io_errors_ = true; }
  // Over budget: so is every error, and ReadAll goes on behind one.
  void AllowAnyError() { allow_any_error_ = true; }

  size_t volume_count() const { return volumes_.size(); }
  VolumeId volume_id(uint32_t volume) const { return volumes_[volume].id; }
  const VolumeHistory& history(uint32_t volume) const { return volumes_[volume].history; }

  // One request now, for scenarios. `done` gets the error and what was read.
  using Callback = std::function<void(int error, const Slice& payload)>;
  Stamp Write(uint32_t client, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes,
              Callback done = nullptr);
  void Read(uint32_t client, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes,
            Callback done = nullptr);
  bool Attached(uint32_t client, uint32_t volume) const;

  void OnUserReply(NodeIndex node, const UserReplyEffect& reply) override;
  void OnUserNotice(NodeIndex node, const UserNoticeEffect& notice) override;
  void OnStarted(NodeIndex node) override;
  void OnStopped(NodeIndex node) override;

 private:
  struct Volume {
    VolumeId id;
    VolumeHistory history;
  };
  struct Request {
    UserOp op{};
    uint32_t volume = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    Stamp stamp = 0;
    TrueTime start = 0;
    bool of_read_all = false;
    Callback done{};
  };
  // A write whose fate its client does not know, or will not.
  struct Written {
    uint32_t volume = 0;
    Stamp stamp = 0;
    uint64_t first_sector = 0;
    uint64_t sector_count = 0;
  };
  struct Access {
    TrueTime fenced_at = kForever;  // what starts later does not succeed
    TrueTime may_fail_until = -1;   // requests that start until then
  };
  struct Client {
    ClientOptions options;
    Stream stream;
    std::vector<bool> attached{};
    std::vector<Access> access{};
    std::vector<Written> lost{};    // by an end of the process; a new one's registration fences it
    std::vector<Written> fenced{};  // by an unmap, until the volume is mapped again
    std::map<UserTag, Request> requests{};
    // ReadAll in progress: the next place.
    bool reading_all = false;
    uint32_t next_volume = 0;
    uint64_t next_offset = 0;
  };

  Client* ClientOf(NodeIndex node, uint32_t* index);
  void Attach(uint32_t client, uint32_t volume);
  void Tick(uint32_t client);
  void IssueRandom(uint32_t client);
  void Issue(uint32_t client, Request request);
  void ContinueReadAll(uint32_t client);
  void Finish(uint32_t client, UserTag tag, const UserReplyEffect& reply);
  static Written WrittenBy(const Request& request);
  // It does not take effect after `when`, until the volume is the client's again.
  void Fence(Client& client, const Written& written, TrueTime when);
  void FinishFailed(Client& client, const Request& request, int error, const std::string& name);
  TrueTime OldestIo() const;

  World* world_;
  std::vector<Volume> volumes_;
  std::vector<Client> clients_;
  uint64_t next_operation_ = 1;
  UserTag next_tag_ = 1;
  TrueTime end_ = 0;
  bool allow_no_space_ = false;
  TrueTime time_outs_until_ = kForever;
  bool allow_io_errors_ = false;
  bool allow_any_error_ = false;
  bool read_all_complete_ = false;
  Stats stats_;
};

}  // namespace gabion::sim
