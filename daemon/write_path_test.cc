// What a replicated write costs in memory: a cluster of real hosts, each on a thread of this
// process, with real sockets and files, whose malloc and memcpy are counted by what the thread is
// doing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "core/base/random.h"
#include "core/mdm/mdm.h"
#include "core/sdc/sdc.h"
#include "core/sds/sds.h"
#include "daemon/host.h"
#include "daemon/testing/command.h"
#include "daemon/testing/memory_meter.h"
#include "daemon/testing/nbd_client.h"
#include "net/export/nbd_server.h"

namespace gabion::daemon {
namespace {

constexpr uint32_t kBlockBytes = 4096;
constexpr uint64_t kVolumeBytes = uint64_t{32} << 20;
constexpr uint32_t kWrites = 10'000;
constexpr uint32_t kDepth = 32;
constexpr size_t kRounds = 6;
static_assert(kRounds <= MemoryMeter::kRounds);

// Activities of MemoryMeter: 0 is the host's own work; then events by kind, timers by their number
// and messages by their type.
constexpr size_t kEventBase = 1;
constexpr size_t kTimerBase = 16;
constexpr size_t kTimers = 16;
constexpr size_t kMessageBase = kTimerBase + kTimers;
static_assert(std::variant_size_v<Event> < kTimerBase - kEventBase);
static_assert(kMessageBase + std::variant_size_v<wire::Body> <= MemoryMeter::kActivities);

size_t TimerNumber(TimerTag tag) {
  const uint64_t number =
      tag >> 32 != 0 ? tag >> 32 : tag;  // an SDS puts the kind in the high half
  return number < kTimers ? static_cast<size_t>(number) : kTimers - 1;
}

size_t ActivityOf(const Event& event) {
  if (const auto* message = std::get_if<MessageEvent>(&event)) {
    return kMessageBase + message->message.type();
  }
  if (const auto* timer = std::get_if<TimerEvent>(&event)) {
    return kTimerBase + TimerNumber(timer->tag);
  }
  return kEventBase + event.index();
}

size_t ActivityOfMessage(const wire::Body& body) { return kMessageBase + body.index(); }

std::string NameOf(size_t activity) {
  if (activity == 0) return "host";
  if (activity >= kMessageBase) {
    return "message " + std::string(wire::TypeName(static_cast<uint16_t>(activity - kMessageBase)));
  }
  if (activity >= kTimerBase) return "timer " + std::to_string(activity - kTimerBase);
  static constexpr const char* kNames[] = {
      "start",     "connected",     "connect failed", "disconnected", "message",
      "disk done", "device opened", "timer",          "user request", "stop"};
  static_assert(std::size(kNames) == std::variant_size_v<Event>);
  return kNames[activity - kEventBase];
}

// Tells the meter what the role is doing, and ends the role when it is told to.
class MeteredRole final : public Role {
 public:
  MeteredRole(std::unique_ptr<Role> role, MemoryMeter* meter, const std::atomic<bool>* stop)
      : role_(std::move(role)), meter_(meter), stop_(stop) {}

  void Step(const Now& now, const Event& event, Effects& effects) override {
    meter_->Begin(ActivityOf(event));
    role_->Step(now, event, effects);
    meter_->End();
    if (*stop_) effects.Exit("");
  }
  void CheckInvariants() const override { role_->CheckInvariants(); }
  std::string Dump() const override { return role_->Dump(); }
  uint64_t StateHash() const override { return role_->StateHash(); }

 private:
  std::unique_ptr<Role> role_;
  MemoryMeter* meter_;
  const std::atomic<bool>* stop_;
};

// A host on a thread of its own.
class HostThread {
 public:
  using MakeFrontEnd = std::function<std::unique_ptr<net::FrontEnd>(Host&)>;

  HostThread(std::string name, const std::string& folder, bool listens,
             const Host::RoleFactory& make_role, const MakeFrontEnd& make_front_end = nullptr)
      : name_(std::move(name)) {
    Host::Options options;
    if (listens) options.listen = {Address::V4(127, 0, 0, 1, 0)};
    options.state_path = folder + "/" + name_ + ".state";
    options.log = [this](Severity severity, const std::string& text) {
      const std::lock_guard lock(mutex_);
      if (severity >= Severity::kInfo) log_ += name_ + ": " + text + "\n";
    };
    Result<std::unique_ptr<Host>> host = Host::Create(
        options, [&](const RoleResources& resources, const std::vector<Address>& listening) {
          if (!listening.empty()) address_ = listening.front();
          return std::make_unique<MeteredRole>(make_role(resources, listening), &meter_, &stop_);
        });
    CHECK(host.has_value()) << host.error().message;
    host_ = std::move(*host);
    if (make_front_end) {
      front_end_ = make_front_end(*host_);
      host_->SetFrontEnd(front_end_.get());
    }
    thread_ = std::thread([this] {
      MemoryMeter::Attach(&meter_);
      host_->Run();
      MemoryMeter::Attach(nullptr);
    });
  }
  HostThread(const HostThread&) = delete;
  HostThread& operator=(const HostThread&) = delete;
  ~HostThread() { Stop(); }

  // Heartbeats see to it that the role is stepped soon.
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  const std::string& name() const { return name_; }
  const Address& address() const { return address_; }
  // Once stopped.
  const MemoryMeter& meter() const { return meter_; }
  uint64_t payload_bytes_copied() const { return host_->pool().stats().bytes_copied; }
  std::string log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }

 private:
  std::string name_;
  Address address_;
  MemoryMeter meter_;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::string log_;
  std::unique_ptr<Host> host_;
  std::unique_ptr<net::FrontEnd> front_end_;
  std::thread thread_;
};

// What happens so often in a second, not so often per write: management messages are Protobuf.
bool IsPeriodic(const std::string& daemon, size_t activity) {
  constexpr size_t kHeartbeatTimerOfSds = 1;
  constexpr size_t kMdmTimerOfSdc = 2;
  if (activity == ActivityOfMessage(wire::ManagementBody())) return true;
  return activity == kTimerBase + (daemon == "sdc1" ? kMdmTimerOfSdc : kHeartbeatTimerOfSds);
}

class WritePath : public testing::Test {
 protected:
  WritePath() : folder_(MakeFolder()) {
    mdm_ = std::make_unique<HostThread>(
        "mdm1", folder_, true, [](const RoleResources& resources, const std::vector<Address>&) {
          return mdm::MakeMdm({.entropy = 1}, resources);
        });
    const std::vector<Address> mdms = {mdm_->address()};
    for (const char* name : {"sds1", "sds2"}) {
      Run(std::string("sds add ") + name);
      sds_.push_back(std::make_unique<HostThread>(
          name, folder_, true,
          [&](const RoleResources& resources, const std::vector<Address>& listening) {
            sds::Options options;
            options.name = name;
            options.mdms = mdms;
            options.addresses = listening;
            return sds::MakeSds(options, resources);
          }));
    }
    Run("sdc add sdc1");
    sdc_ = std::make_unique<HostThread>(
        "sdc1", folder_, false,
        [&](const RoleResources& resources, const std::vector<Address>&) {
          sdc::Options options;
          options.name = "sdc1";
          options.mdms = mdms;
          return sdc::MakeSdc(options, resources);
        },
        [this](Host& host) {
          auto server = std::make_unique<nbd::NbdServer>(&host.reactor(), &host.pool(),
                                                         nbd::NbdServer::Options{},
                                                         [](Severity, const std::string&) {});
          CHECK(server->ListenUnix(socket()).has_value());
          return server;
        });
    Run("pool add p1 --slices=4");
    for (const char* name : {"sds1", "sds2"}) {
      const std::string device = folder_ + "/" + name + ".device";
      EXPECT_EQ(RunShell("fallocate --length=256MiB " + device).exit_code, 0);
      Run("device add " + device + " --pool=p1 --sds=" + name);
    }
    Run("volume create v1 --pool=p1 --size=" + std::to_string(kVolumeBytes >> 20) + "M");
    Run("volume map v1 --sdc=sdc1");
    Run("wait");
  }
  ~WritePath() override {
    if (HasFailure()) {
      for (HostThread* host : Hosts()) std::fputs(host->log().c_str(), stderr);
    }
    sdc_.reset();
    sds_.clear();
    mdm_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Run(const std::string& command) {
    const CommandResult result = RunShell(Program("cli/gabion") + " " + command +
                                          " --timeout=60 --mdm=" + mdm_->address().ToString());
    EXPECT_EQ(result.exit_code, 0) << command << ": " << result.output;
  }
  std::string socket() const { return folder_ + "/nbd"; }
  std::vector<HostThread*> Hosts() {
    std::vector<HostThread*> hosts = {sdc_.get()};
    for (const auto& sds : sds_) hosts.push_back(sds.get());
    return hosts;
  }

  // Whole blocks at random places of the volume.
  void Write(NbdClient& client, uint32_t count, uint32_t depth, RandomStream& random) {
    std::vector<std::byte> block(kBlockBytes);
    uint32_t started = 0;
    for (uint32_t finished = 0; finished < count; ++finished) {
      for (; started < count && started - finished < depth; ++started) {
        for (size_t i = 0; i < block.size(); i += sizeof(uint64_t)) {
          const uint64_t word = random.Next();
          std::memcpy(&block[i], &word, sizeof(word));
        }
        const uint64_t offset = random.Below(kVolumeBytes / kBlockBytes) * kBlockBytes;
        ASSERT_TRUE(client.StartWrite(offset, block));
      }
      ASSERT_EQ(client.FinishWrite(), 0);
    }
  }

  // Of writes, in all hosts.
  uint64_t Allocations(size_t round) {
    uint64_t allocations = 0;
    for (const HostThread* host : Hosts()) {
      for (size_t i = 0; i < MemoryMeter::kActivities; ++i) {
        if (!IsPeriodic(host->name(), i)) allocations += host->meter().count(round, i).allocations;
      }
    }
    return allocations;
  }
  void PrintTable(size_t round) {
    std::printf("%-6s %-28s %10s %12s %12s %14s\n", "", "", "events", "allocations", "bytes",
                "bytes copied");
    for (const HostThread* host : Hosts()) {
      for (size_t i = 0; i < MemoryMeter::kActivities; ++i) {
        const MemoryMeter::Count& count = host->meter().count(round, i);
        if (count.events + count.allocations + count.copied_bytes == 0) continue;
        std::printf("%-6s %-28s %10lu %12lu %12lu %14lu%s\n", host->name().c_str(),
                    NameOf(i).c_str(), count.events, count.allocations, count.allocated_bytes,
                    count.copied_bytes,
                    IsPeriodic(host->name(), i) ? "  (by the second, not by the write)" : "");
      }
    }
  }
  std::string Sites() {
    std::string text;
    for (const HostThread* host : Hosts()) {
      for (size_t i = 0; i < MemoryMeter::kActivities; ++i) {
        if (IsPeriodic(host->name(), i)) continue;
        const std::string sites = host->meter().Sites(i);
        if (!sites.empty()) text += host->name() + ", " + NameOf(i) + ":\n" + sites;
      }
    }
    return text;
  }

  std::string folder_;
  std::unique_ptr<HostThread> mdm_;
  std::vector<std::unique_ptr<HostThread>> sds_;
  std::unique_ptr<HostThread> sdc_;
};

TEST_F(WritePath, AllocatesNothingAndCopiesThePayloadOncePerHop) {
  NbdClient client(socket(), "v1");
  ASSERT_TRUE(client.ok());
  ASSERT_EQ(client.size_bytes(), kVolumeBytes);
  RandomStream random(1, 0, 0);
  // Deeper than what is measured: queues and tables have then been as long as they get. Not all of
  // them, because that is up to the timing of many threads. So the measurement is repeated: what
  // allocates with every write, or destaging, or checkpoint, does so in every round.
  const std::vector<std::byte> extent(64 << 10);
  for (uint64_t at = 0; at < kVolumeBytes; at += extent.size()) {
    ASSERT_EQ(client.Write(at, extent), 0);
  }
  ASSERT_NO_FATAL_FAILURE(Write(client, kWrites, 2 * kDepth, random));
  for (size_t round = 1; round <= kRounds; ++round) {
    MemoryMeter::SetRound(round);
    ASSERT_NO_FATAL_FAILURE(Write(client, kWrites, kDepth, random));
  }
  MemoryMeter::SetRound(0);
  for (HostThread* host : Hosts()) host->Stop();

  size_t best = 1;
  for (size_t round = 1; round <= kRounds; ++round) {
    std::printf("round %zu: %lu allocations\n", round, Allocations(round));
    if (Allocations(round) < Allocations(best)) best = round;
  }
  PrintTable(best);
  EXPECT_EQ(Allocations(best), 0u) << Sites();

  constexpr uint64_t kPayload = uint64_t{kWrites} * kBlockBytes;
  uint64_t requests = 0;
  uint64_t replicates = 0;
  for (const HostThread* host : Hosts()) {
    const MemoryMeter& meter = host->meter();
    requests += meter.count(best, ActivityOfMessage(wire::WriteRequest())).events;
    replicates += meter.count(best, ActivityOfMessage(wire::Replicate())).events;
    // Received into its buffer, once. All the rest is by reference.
    EXPECT_LE(meter.count(best, 0).copied_bytes, kPayload + kPayload / 100) << host->name();
    EXPECT_LE(host->payload_bytes_copied(), kVolumeBytes + (1 + kRounds) * kPayload)
        << host->name();
    // Records of the log, checkpoints: what a role copies is no payload.
    EXPECT_LE(meter.Total(best).copied_bytes - meter.count(best, 0).copied_bytes, kPayload / 5)
        << host->name();
  }
  // Of one round, but for what was on its way when it began.
  EXPECT_NEAR(static_cast<double>(requests), kWrites, kDepth);
  EXPECT_NEAR(static_cast<double>(replicates), kWrites, kDepth);
}

}  // namespace
}  // namespace gabion::daemon
