#include "core/mdm/mdm_role.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::mdm {
namespace {

constexpr TimerTag kTick = 1;
// The control loops look at least this often; what happens is noticed at once.
constexpr Duration kTickMax = std::chrono::milliseconds(100);
constexpr Duration kHelloTimeout = std::chrono::seconds(5);

}  // namespace

MdmRole::MdmRole(const Options& options, const RoleResources& resources)
    : options_(options),
      pool_(resources.pool),
      journal_({.device = DeviceIndex::kState,
                .pool = resources.pool,
                .disk_tag_base = 0,
                .area_bytes = 0}),
      leases_({.lease = options.lease, .drift_permille = options.drift_permille}),
      registrar_({.alive = LeaseOnOtherClock(options.lease, options.drift_permille),
                  .deaf = options.lease,
                  .unreachable = options.unreachable}),
      config_(resources.pool),
      maps_(resources.pool),
      rebuild_({.delay = options.rebuild_delay,
                .joins_per_device_max = std::max(1u, options.joins_per_device_max)}),
      role_switch_({.balance_delay = options.balance_delay}) {
  CHECK(pool_ != nullptr);
}

void MdmRole::Step(const Now& now, const Event& event, Effects& effects) {
  CHECK_GE(now.boot, now_);
  now_ = now.boot;
  if (phase_ == Phase::kStopped) return;
  if (const auto* start = std::get_if<StartEvent>(&event)) {
    CHECK(phase_ == Phase::kStarting);
    phase_ = Phase::kRecovering;
    journal_.Open(start->state_device, effects);
    if (journal_.state() == store::Journal::State::kFailed) FailForJournal(effects);
  } else if (const auto* done = std::get_if<DiskDoneEvent>(&event)) {
    bool handled = false;
    const store::Journal::Progress progress = journal_.OnDiskDone(*done, effects, &handled);
    if (journal_.state() == store::Journal::State::kFailed) {
      FailForJournal(effects);
    } else if (progress.opened) {
      Recover(now, effects);
    }
    if (in_flight_ && journal_.durable_sequence() >= in_flight_->sequence) Commit(now, effects);
  } else if (const auto* connected = std::get_if<ConnectedEvent>(&event)) {
    OnConnected(now, *connected, effects);
  } else if (const auto* disconnected = std::get_if<DisconnectedEvent>(&event)) {
    OnDisconnected(*disconnected);
  } else if (const auto* message = std::get_if<MessageEvent>(&event)) {
    OnMessage(now, *message, effects);
  } else if (const auto* timer = std::get_if<TimerEvent>(&event)) {
    if (timer->tag == kTick) {
      timer_at_ = kNever;
      look_again_ = true;
      std::vector<ConnId> silent;
      for (const auto& [conn, connection] : connections_) {
        if (!connection.greeted && now.boot - connection.accepted_at >= kHelloTimeout) {
          silent.push_back(conn);
        }
      }
      for (const ConnId conn : silent) CloseConnection(conn, effects);
    }
  } else if (std::holds_alternative<StopEvent>(event)) {
    // Nothing is owed: a command under way was not answered, and is whole or absent in the journal.
    phase_ = Phase::kStopped;
    effects.Exit("");
    return;
  }
  if (phase_ == Phase::kServing) {
    Pump(now, effects);
    maps_.Flush(repository_, config_, leases_, now.boot, effects);
    AnswerWaiting(now, effects);
    SetTimer(now, effects);
  }
}

void MdmRole::Fail(std::string reason, Effects& effects) {
  phase_ = Phase::kStopped;
  effects.Log(Severity::kCritical, reason);
  effects.Exit(std::move(reason));
}

void MdmRole::FailForJournal(Effects& effects) {
  Fail(absl::StrCat(journal_.error(),
                    ". If it stays so, put the newest copy of the state folder in its place; "
                    "admin.md says how"),
       effects);
}

void MdmRole::Recover(const Now& now, Effects& effects) {
  CHECK(phase_ == Phase::kRecovering);
  if (!journal_.snapshot().empty()) {
    proto::RepositorySnapshot snapshot;
    const std::span<const std::byte> bytes = journal_.snapshot();
    if (!snapshot.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      Fail(
          "the repository's snapshot is not readable, though its checksum is right: was it "
          "written by another program? Restore the state directory from a backup",
          effects);
      return;
    }
    Result<Repository> loaded = Repository::Load(snapshot);
    if (!loaded) {
      Fail(loaded.error().message, effects);
      return;
    }
    repository_ = *std::move(loaded);
  }
  for (const std::vector<std::byte>& record : journal_.records()) {
    proto::Command command;
    if (!command.ParseFromArray(record.data(), static_cast<int>(record.size())) ||
        command.body_case() == proto::Command::BODY_NOT_SET) {
      Fail(absl::StrCat("command ", repository_.applied() + 1,
                        " of the repository is not known to this version: start the version that "
                        "wrote it"),
           effects);
      return;
    }
    repository_.Apply(command);
  }
  journal_.ForgetRecovered();
  phase_ = Phase::kRaising;
  proto::Command command;
  if (repository_.created()) {
    command.mutable_start_mdm();
  } else {
    // Any number but 0, which means "none".
    const uint64_t cluster = mix64(options_.entropy + 0x9e3779b97f4a7c15u);
    command.mutable_create_repository()->set_cluster(cluster == 0 ? 1 : cluster);
  }
  Propose(now, std::move(command), {}, effects);
}

void MdmRole::BecomeServing(const Now& now, Effects& effects) {
  CHECK(phase_ == Phase::kRaising);
  phase_ = Phase::kServing;
  StartServing(now, effects);
  if (!options_.hold) return;
  registrar_.NoteOutdated(
      "this MDM was started with `hold`, because its state folder is an old copy");
  effects.Log(Severity::kCritical, registrar_.outdated());
}

void MdmRole::BeginAnew(const Now& now, ConnId keep, Effects& effects) {
  std::vector<ConnId> others;
  for (const auto& [conn, connection] : connections_) {
    if (conn != keep) others.push_back(conn);
  }
  for (const ConnId conn : others) CloseConnection(conn, effects);
  sds_registrations_.clear();
  sdc_registrations_.clear();
  admin_commands_.clear();
  waiting_.clear();
  taking_.clear();
  sdc_by_name_.clear();
  // Versions, leases and reports of the generation before say nothing about this one.
  MdmRole fresh(options_, {.pool = pool_});
  leases_ = std::move(fresh.leases_);
  registrar_ = std::move(fresh.registrar_);
  config_ = std::move(fresh.config_);
  maps_ = std::move(fresh.maps_);
  rebuild_ = std::move(fresh.rebuild_);
  role_switch_ = std::move(fresh.role_switch_);
  StartServing(now, effects);
}

void MdmRole::StartServing(const Now& now, Effects& effects) {
  started_at_ = positions_at_ = now.boot;
  for (const auto& [sds, state] : repository_.sdss()) {
    if (state.incarnation() != 0) leases_.AssumeGranted(sds, state.lock_changed(), now.boot);  // R3
  }
  registrar_.Start(now.boot);
  config_.Start(repository_);
  look_again_ = true;
  effects.Log(Severity::kInfo,
              absl::StrCat("serving cluster ", gabion::ToString(repository_.cluster()),
                           ", generation ", repository_.generation(), ", incarnation ",
                           repository_.mdm_incarnation().value(), ", ", repository_.applied(),
                           " commands applied"));
}

void MdmRole::Propose(const Now& now, proto::Command command, Origin origin, Effects& effects) {
  CHECK(!in_flight_.has_value());
  if (journal_.needs_snapshot()) {
    const std::string snapshot = repository_.Snapshot().SerializeAsString();
    journal_.WriteSnapshot(AsBytes(snapshot), effects);
  }
  const std::string bytes = command.SerializeAsString();
  InFlight in_flight;
  in_flight.sequence = journal_.Append(AsBytes(bytes), effects);
  in_flight.command = std::move(command);
  in_flight.origin = std::move(origin);
  in_flight_ = std::move(in_flight);
  if (PLANTED_BUG("act-before-durable")) Commit(now, effects);
}

void MdmRole::Commit(const Now& now, Effects& effects) {
  CHECK(in_flight_.has_value());
  InFlight done = *std::exchange(in_flight_, std::nullopt);
  if (phase_ == Phase::kServing) CheckMayTake(now, done.command);
  const Changes changes = repository_.Apply(done.command);
  if (phase_ == Phase::kRaising) {
    if (done.command.has_create_repository()) {
      proto::Command start;
      start.mutable_start_mdm();
      Propose(now, std::move(start), {}, effects);
    } else {
      BecomeServing(now, effects);
    }
    return;
  }
  CHECK(phase_ == Phase::kServing);
  look_again_ = true;
  if (done.command.has_raise_generation()) {
    const auto& admin = std::get<AdminCommand>(done.origin);
    BeginAnew(now, admin.conn, effects);
    effects.Log(Severity::kWarning,
                absl::StrCat("generation ", repository_.generation(), ": ",
                             repository_.closed().size(), " slices wait for their devices"));
    FinishAdminCommand(now, admin, changes.id, effects);
    return;
  }
  if (const auto* sds = std::get_if<SdsRegistration>(&done.origin)) {
    const SdsId id(done.command.register_sds().sds());
    if (sds->is_new_incarnation) {
      leases_.OnNewIncarnation(id, sds->has_same_lock);
      // The older process may say no more.
      if (registrar_.IsAttached(id)) CloseConnection(registrar_.ConnOf(id), effects);
    }
    OnApplied(now, done.command, changes, effects);
    FinishSdsRegistration(now, *sds, id, effects);
  } else if (const auto* sdc = std::get_if<SdcRegistration>(&done.origin)) {
    OnApplied(now, done.command, changes, effects);
    FinishSdcRegistration(now, *sdc, effects);
  } else if (const auto* admin = std::get_if<AdminCommand>(&done.origin)) {
    OnApplied(now, done.command, changes, effects);
    FinishAdminCommand(now, *admin, changes.id, effects);
  } else {
    OnApplied(now, done.command, changes, effects);
  }
}

void MdmRole::OnApplied(const Now& now, const proto::Command& command, const Changes& changes,
                        Effects& effects) {
  for (const SdsId sds : changes.removed_sdss) {
    if (registrar_.IsAttached(sds)) CloseConnection(registrar_.ConnOf(sds), effects);
    leases_.Forget(sds);
    taking_.erase(sds);
  }
  config_.OnCommitted(repository_, changes, now.boot, effects);
  registrar_.OnCommitted(repository_, changes);
  maps_.OnCommitted(repository_, changes, effects);
  if (command.has_add_device()) {
    const SdsId sds(command.add_device().sds());
    registrar_.ArmDevice(sds, DeviceId(changes.id), config_.version(sds));
  }
  for (auto& [sds, version] : taking_) {
    if (version == UINT64_MAX) version = config_.version(sds);
  }
  for (const DeviceId id : changes.devices) {
    const proto::Device* device = repository_.FindDevice(id);
    if (device == nullptr || device->state() != proto::DEVICE_FAILED) continue;
    effects.Log(Severity::kError, absl::StrCat("device ", id.value(), " (", device->path(),
                                               ") failed: ", device->error()));
  }
  if (command.has_change_slices()) {
    uint32_t primaries = 0;
    uint32_t degraded = 0;
    for (const SliceState& before : changes.slices_before) {
      const SliceState* slice = repository_.FindSlice(before.id);
      if (slice->primary != before.primary) ++primaries;
      if (!slice->secondary || !slice->secondary.present) ++degraded;
    }
    effects.Log(Severity::kInfo,
                absl::StrCat(changes.slices_before.size(), " slices have a new epoch: ", primaries,
                             " another primary, ", degraded, " one copy"));
  }
}

void MdmRole::StopRenewing(SdsId primary) {
  taking_[primary] = UINT64_MAX;
  leases_.SetTaking(primary, true);
}

// Whoever was primary by order of the repository that was lost: its lease was granted before.
bool MdmRole::IsEveryOldLeaseOver(const Now& now) const {
  return now.boot - started_at_ >= LeaseOnOtherClock(options_.lease, options_.drift_permille);
}

// R12, checked against the ledger of leases just before an epoch takes effect.
void MdmRole::CheckMayTake(const Now& now, const proto::Command& command) const {
  const bool reopens = command.has_reopen_slices() ||
                       (command.has_force_slice() &&
                        repository_.closed().contains(SliceId(command.force_slice().slice())));
  if (reopens) {
    CHECK(IsEveryOldLeaseOver(now)) << "a primary of the generation before may still act";
    return;
  }
  if (!command.has_change_slices() && !command.has_force_slice()) return;
  if (PLANTED_BUG("R12-promote-before-lease-over")) return;
  const View view = MakeView(now);
  const auto check = [&](SliceId id, const proto::Member& primary) {
    const SliceState* slice = repository_.FindSlice(id);
    CHECK(slice != nullptr);
    const Member& old = slice->primary;
    if (!old.present || (DeviceId(primary.device()) == old.device &&
                         Incarnation(primary.incarnation()) == old.incarnation)) {
      return;
    }
    const bool is_current = old.incarnation == repository_.IncarnationOf(old.sds);
    const bool lease_over =
        is_current ? leases_.IsOver(old.sds, now.boot) : leases_.IsOldOver(old.sds, now.boot);
    const SliceFacts facts = view.facts(id);
    CHECK(lease_over || facts.released || facts.primary_needs_resync ||
          view.device(old.device).released)
        << "slice " << id << ": its primary may still act";
  };
  for (const proto::SliceConfig& config : command.change_slices().slices()) {
    check(SliceId(config.slice()), config.primary());
  }
  if (command.has_force_slice()) {
    check(SliceId(command.force_slice().slice()), command.force_slice().member());
  }
}

void MdmRole::SetTimer(const Now& now, Effects& effects) {
  const Instant when = std::min(now.boot + kTickMax, leases_.NextEnd(now.boot));
  if (when >= timer_at_) return;
  timer_at_ = when;
  effects.SetTimer(kTick, when);
}

void MdmRole::CheckInvariants() const {
  repository_.CheckInvariants();
  config_.CheckInvariants();
  if (in_flight_) {
    CHECK_GT(in_flight_->sequence, journal_.durable_sequence());
  }
  for (const auto& [conn, connection] : connections_) {
    CHECK(!connection.sds.valid() || connection.role == wire::PeerRole::kSds);
    CHECK(!connection.sdc.valid() || connection.role == wire::PeerRole::kSdc);
  }
}

std::string MdmRole::Dump() const {
  static constexpr const char* kPhases[] = {"starting", "recovering", "raising", "serving",
                                            "stopped"};
  std::string out = absl::StrCat(
      "mdm ", options_.name, " ", kPhases[static_cast<size_t>(phase_)], ", cluster ",
      gabion::ToString(repository_.cluster()), ", incarnation ",
      repository_.mdm_incarnation().value(), ", ", repository_.applied(), " commands applied, ",
      in_flight_ ? "one under way" : "none under way", "\n", "connections ", connections_.size(),
      ", waiting answers ", waiting_.size(), ", refused messages ", refused_messages_,
      ", stale reports ", registrar_.stale_reports(), "\n");
  out += leases_.Dump(now_);
  out += registrar_.Dump(now_);
  out += config_.Dump();
  out += maps_.Dump();
  out += absl::StrCat("slices: ", repository_.slices().size(), "\n");
  for (const auto& [id, slice] : repository_.slices()) {
    absl::StrAppend(&out, "  ", gabion::ToString(id), " ", gabion::ToString(slice.epoch), ":");
    const std::pair<const char*, const Member*> members[] = {
        {" P ", &slice.primary}, {" S ", &slice.secondary}, {" T ", &slice.joining}};
    for (const auto& [name, member] : members) {
      if (!*member) continue;
      absl::StrAppend(&out, name, gabion::ToString(member->device), "@",
                      gabion::ToString(member->incarnation), member->present ? "" : " absent");
    }
    absl::StrAppend(&out, slice.release ? " release" : "", "\n");
  }
  return out;
}

uint64_t MdmRole::StateHash() const {
  uint64_t hash = static_cast<uint64_t>(phase_);
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ mix64(value + 17)); };
  add(journal_.StateHash()), add(repository_.StateHash()), add(leases_.StateHash());
  add(registrar_.StateHash()), add(config_.StateHash()), add(maps_.StateHash());
  add(rebuild_.StateHash()), add(role_switch_.StateHash()), add(connections_.size()),
      add(waiting_.size());
  add(in_flight_ ? in_flight_->sequence : 0), add(sds_registrations_.size());
  add(sdc_registrations_.size()), add(admin_commands_.size()), add(look_again_);
  for (const auto& [sds, version] : taking_) add(sds.value()), add(version);
  return hash;
}

std::unique_ptr<Role> MakeMdm(const Options& options, const RoleResources& resources) {
  return std::make_unique<MdmRole>(options, resources);
}

}  // namespace gabion::mdm
