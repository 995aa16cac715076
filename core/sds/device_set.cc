#include "core/sds/device_set.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/sds/node.h"

namespace gabion::sds {

namespace {

constexpr Duration kRetryMin = std::chrono::seconds(1);
constexpr Duration kRetryMax = std::chrono::seconds(30);

void ReportMemory(const store::Store& store, proto::StoreMemory* report) {
  const store::Memory memory = store.memory();
  report->set_budget_bytes(memory.budget_bytes);
  report->set_directory_bytes(memory.directory_bytes);
  report->set_fixed_bytes(memory.fixed_bytes);
  report->set_log_bytes(memory.log_bytes);
  report->set_page_bytes(memory.page_bytes);
  report->set_cache_bytes(memory.cache_bytes);
  report->set_cache_budget_bytes(memory.cache_bytes_max);
}

}  // namespace

const char* ToString(Device::Phase phase) {
  switch (phase) {
    case Device::Phase::kWaiting:
      return "waiting";
    case Device::Phase::kOpening:
      return "opening";
    case Device::Phase::kRecovering:
      return "recovering";
    case Device::Phase::kFormatting:
      return "formatting";
    case Device::Phase::kTesting:
      return "testing";
    case Device::Phase::kTested:
      return "tested";
    case Device::Phase::kUp:
      return "up";
    case Device::Phase::kBackoff:
      return "backoff";
    case Device::Phase::kFailed:
      return "failed";
    case Device::Phase::kClosing:
      return "closing";
    case Device::Phase::kClosed:
      return "closed";
  }
  UNREACHABLE();
}

void DeviceSet::OpenKnown(Context& ctx) {
  for (const KnownDevice& known : ctx.node.self.devices) {
    Device& device = devices_[known.id];
    if (device.slot != 0) continue;  // twice in the list
    device.slot = next_slot_++;
    device.config = {.id = known.id, .path = known.path, .state = proto::DEVICE_UP};
    Open(ctx, device);
  }
}

bool DeviceSet::all_marked() const {
  for (const auto& [id, device] : devices_) {
    if (device.phase == Device::Phase::kOpening) return false;
    if (device.phase == Device::Phase::kRecovering && !device.store->marked()) return false;
  }
  return true;
}

void DeviceSet::Apply(Context& ctx) {
  const auto& wanted = ctx.node.config.devices();
  for (const auto& [id, config] : wanted) {
    Device& device = devices_[id];
    if (device.slot == 0) device.slot = next_slot_++;
    const bool is_other = device.config != config;
    device.config = config;
    // What never was up may be tried anew; the MDM then says so.
    const bool again =
        device.phase == Device::Phase::kTested ||
        (device.phase == Device::Phase::kFailed && config.state == proto::DEVICE_ADDING);
    const bool retry = is_other && (again || device.phase == Device::Phase::kBackoff);
    if ((device.phase == Device::Phase::kWaiting || retry) && IsWanted(config)) {
      Open(ctx, device);
    } else if (device.up() && WantsTrial(device)) {
      // It was opened before the MDM said that it is new.
      CloseForTrial(ctx, device);
      ctx.node.OnDeviceChange(ctx, id);
    }
  }
  for (auto& [id, device] : devices_) {
    const auto found = wanted.find(id);
    if (found != wanted.end() && IsWanted(found->second)) continue;
    if (device.phase == Device::Phase::kFailed || device.phase == Device::Phase::kClosed) continue;
    if (device.phase == Device::Phase::kTested && found != wanted.end()) continue;
    Close(ctx, device, Device::Phase::kClosed);
  }
}

void DeviceSet::Open(Context& ctx, Device& device) {
  device.phase = Device::Phase::kOpening;
  device.figures.reset();
  ctx.effects.OpenDevice(device.slot, device.config.path);
}

void DeviceSet::OnOpened(Context& ctx, const DeviceOpenedEvent& event) {
  Device* device = FindSlot(static_cast<uint32_t>(event.tag));
  if (device == nullptr || device->phase != Device::Phase::kOpening) {
    if (event.ok) ctx.effects.CloseDevice(event.device);
    return;
  }
  if (!event.ok) {
    BackOff(ctx, *device, event.error);
    return;
  }
  device->index = event.device;
  device->info = event.info;
  device->content = event.content;
  device->host_open = true;
  hang_watch_.OnOpened(event.device);
  StartStore(ctx, *device, /*format=*/false);
}

void DeviceSet::StartStore(Context& ctx, Device& device, bool format) {
  device.store = std::make_unique<store::Store>(
      store::Options{.device = device.index,
                     .timer = TimerOf(TimerKind::kDeviceStore, device.slot),
                     .pool = ctx.node.resources.pool,
                     .log_bytes = ctx.node.options.log_bytes,
                     .memory_bytes = ctx.node.options.store_memory_bytes,
                     .read_cache = &ctx.node.read_cache});
  device.credits.SetStore(device.store.get());
  const store::Identity identity{.cluster = ctx.node.self.cluster,
                                 .sds = ctx.node.self.sds,
                                 .device = device.config.id,
                                 .incarnation = ctx.node.self.incarnation,
                                 .run = ctx.node.self.run};
  const OpKind kind = format ? OpKind::kDeviceFormat : OpKind::kDeviceOpen;
  const store::Tag tag =
      ctx.node.ops.Add({.kind = kind, .replica = {SliceId(), device.config.id}, .a = device.slot});
  device.phase = format ? Device::Phase::kFormatting : Device::Phase::kRecovering;
  if (format) {
    device.store->Format(ctx.now, device.info, identity, device.config.force, tag,
                         ctx.node.Out(ctx));
  } else {
    device.store->Open(ctx.now, device.info, identity, tag, ctx.node.Out(ctx));
  }
}

void DeviceSet::OnDone(Context& ctx, const Op& op, store::DoneStatus status) {
  Device* device = FindSlot(static_cast<uint32_t>(op.a));
  if (device == nullptr) return;
  if (op.kind == OpKind::kDeviceClose) {
    if (device->phase == Device::Phase::kClosing) Close(ctx, *device, Device::Phase::kClosed);
    if (device->phase == Device::Phase::kTesting) {
      if (status == store::DoneStatus::kOk) {
        StartTrial(ctx, *device);
      } else {
        BackOff(ctx, *device, device->store->error());
      }
    }
    return;
  }
  const bool was_format = op.kind == OpKind::kDeviceFormat;
  const Device::Phase expected =
      was_format ? Device::Phase::kFormatting : Device::Phase::kRecovering;
  if (device->phase != expected) return;
  if (status == store::DoneStatus::kOk && WantsTrial(*device)) {
    CloseForTrial(ctx, *device);
    return;
  }
  if (status == store::DoneStatus::kOk) {
    device->phase = Device::Phase::kUp;
    device->error.clear();
    device->retry_pause = Duration();
    device->scan.OnUp(ctx, *device);
    ctx.Log(Severity::kInfo,
            absl::StrCat("device ", ToString(device->config.id), " ", device->config.path,
                         was_format ? " formatted and up" : " up"));
    ctx.node.OnDeviceChange(ctx, device->config.id);
    return;
  }
  if (!was_format && device->config.state == proto::DEVICE_ADDING) {
    if (!device->content.empty() && !device->config.force) {
      BackOff(ctx, *device,
              absl::StrCat("it holds ", device->content,
                           ", which was not touched; if nobody needs that, remove the device, and "
                           "add it again after `wipefs --all ",
                           device->config.path, "`, or with --force"));
      return;
    }
    StartStore(ctx, *device, /*format=*/true);
    return;
  }
  const Incarnation newer = device->store->newer_incarnation();
  BackOff(ctx, *device, device->store->error());
  if (newer.valid()) ctx.node.registration.OnNewerIncarnation(ctx, newer, device->error);
}

void DeviceSet::BackOff(Context& ctx, Device& device, std::string error) {
  if (device.error != error) {
    ctx.Log(Severity::kWarning, absl::StrCat("device ", ToString(device.config.id), " ",
                                             device.config.path, ": ", error));
  }
  Close(ctx, device, Device::Phase::kBackoff);
  device.error = std::move(error);
  device.retry_pause = std::clamp<Duration>(2 * device.retry_pause, kRetryMin, kRetryMax);
  ctx.effects.SetTimer(TimerOf(TimerKind::kDeviceRetry, device.slot),
                       SaturatingAdd(ctx.now.boot, device.retry_pause));
}

void DeviceSet::Close(Context& ctx, Device& device, Device::Phase phase) {
  const bool was_up = device.up() || device.phase == Device::Phase::kClosing;
  if (device.store != nullptr) {
    device.scan.OnDown(ctx, device);
    ctx.effects.CancelTimer(TimerOf(TimerKind::kDeviceStore, device.slot));
    device.credits.SetStore(nullptr);
    device.store.reset();
  }
  device.trial.reset();
  if (device.host_open) ctx.effects.CloseDevice(device.index);
  device.host_open = false;
  device.phase = phase;
  if (was_up) ctx.node.OnDeviceChange(ctx, device.config.id);
}

void DeviceSet::OnRetryTimer(Context& ctx, uint32_t slot) {
  Device* device = FindSlot(slot);
  if (device == nullptr || device->phase != Device::Phase::kBackoff) return;
  if (IsWanted(device->config)) Open(ctx, *device);
}

void DeviceSet::OnScanTimer(Context& ctx, uint32_t slot) {
  Device* device = FindSlot(slot);
  if (device != nullptr && device->up()) device->scan.OnTimer(ctx, *device);
}

void DeviceSet::OnScanOrder(Context& ctx, const proto::ScanOrder& order) {
  if (Device* device = FindUp(DeviceId(order.device()))) device->scan.OnOrder(ctx, *device, order);
}

void DeviceSet::OnDiskDone(Context& ctx, const DiskDoneEvent& event) {
  hang_watch_.OnDone(event.device);
  for (auto& [id, device] : devices_) {
    if (!device.host_open || device.index != event.device) continue;
    if (event.status == DiskStatus::kDeviceGone) device.may_return = true;
    if (device.trial != nullptr) {
      OnTrialDiskDone(ctx, device, event);
      return;
    }
    if (device.store == nullptr) continue;
    device.store->OnDiskDone(ctx.now, event, ctx.node.Out(ctx));
    return;
  }
}

void DeviceSet::OnStoreTimer(Context& ctx, uint32_t slot) {
  Device* device = FindSlot(slot);
  if (device == nullptr || device->store == nullptr) return;
  device->store->OnTimer(ctx.now, ctx.node.Out(ctx));
}

void DeviceSet::FindFailures(Context& ctx) {
  for (auto& [id, device] : devices_) {
    if (!device.up() && device.phase != Device::Phase::kClosing) continue;
    if (device.store->state() != store::State::kFailed) continue;
    device.error = device.store->error();
    ctx.Log(Severity::kError, absl::StrCat("device ", ToString(id), " ", device.config.path,
                                           " failed: ", device.error));
    Close(ctx, device, Device::Phase::kFailed);
  }
}

void DeviceSet::FindHanging(Context& ctx) {
  hang_watch_.Look(ctx.now.boot);
  for (auto& [id, device] : devices_) {
    if (!device.host_open) continue;
    const Duration silent = hang_watch_.SilentFor(device.index);
    if (silent < ctx.node.options.device_timeout) continue;
    std::string error = absl::StrCat("it has completed nothing for ", gabion::ToString(silent));
    if (!device.up() && device.phase != Device::Phase::kClosing) {
      BackOff(ctx, device, std::move(error));
      continue;
    }
    ctx.Log(Severity::kError,
            absl::StrCat("device ", ToString(id), " ", device.config.path, " failed: ", error));
    device.error = std::move(error);
    device.may_return = true;
    Close(ctx, device, Device::Phase::kFailed);
  }
}

void DeviceSet::CloseAll(Context& ctx) {
  for (auto& [id, device] : devices_) {
    if (device.phase == Device::Phase::kFailed || device.phase == Device::Phase::kClosing) continue;
    if (!device.up()) {
      Close(ctx, device, Device::Phase::kClosed);
      continue;
    }
    device.phase = Device::Phase::kClosing;
    const store::Tag tag = ctx.node.ops.Add(
        {.kind = OpKind::kDeviceClose, .replica = {SliceId(), id}, .a = device.slot});
    device.store->Close(ctx.now, tag, ctx.node.Out(ctx));
    ctx.node.OnDeviceChange(ctx, id);
  }
}

bool DeviceSet::all_closed() const {
  for (const auto& [id, device] : devices_) {
    if (device.phase != Device::Phase::kClosed && device.phase != Device::Phase::kFailed) {
      return false;
    }
  }
  return true;
}

Device* DeviceSet::FindUp(DeviceId id) {
  const auto found = devices_.find(id);
  if (found == devices_.end() || !found->second.up()) return nullptr;
  return found->second.store->state() == store::State::kOpen ? &found->second : nullptr;
}

Device* DeviceSet::FindAny(DeviceId id) {
  const auto found = devices_.find(id);
  return found == devices_.end() ? nullptr : &found->second;
}

const Device* DeviceSet::Find(DeviceId id) const {
  const auto found = devices_.find(id);
  return found == devices_.end() ? nullptr : &found->second;
}

Device* DeviceSet::FindSlot(uint32_t slot) {
  for (auto& [id, device] : devices_) {
    if (device.slot == slot) return &device;
  }
  return nullptr;
}

void DeviceSet::Report(const Device& device, proto::DeviceReport* report) {
  report->set_device(device.config.id.value());
  report->set_error(device.error);
  if (device.figures) {
    proto::DeviceFigures* figures = report->mutable_figures();
    figures->set_write_bytes_per_second(device.figures->write_bytes_per_second);
    figures->set_read_bytes_per_second(device.figures->read_bytes_per_second);
    figures->set_writes_per_second(device.figures->writes_per_second);
    figures->set_reads_per_second(device.figures->reads_per_second);
    figures->set_volatile_cache(device.info.volatile_cache);
    figures->set_block_bytes(device.info.block_bytes);
  }
  switch (device.phase) {
    case Device::Phase::kUp: {
      const store::Capacity capacity = device.store->capacity();
      report->set_state(proto::DEVICE_UP);
      report->set_size_bytes(capacity.size_bytes);
      report->set_used_bytes((capacity.extents_total - capacity.extents_free) * wire::kExtentBytes);
      report->set_log_position(device.store->log_position());
      device.scan.Report(report->mutable_scan());
      ReportMemory(*device.store, report->mutable_memory());
      return;
    }
    case Device::Phase::kTested:
      report->set_state(proto::DEVICE_TESTED);
      report->set_size_bytes(device.info.size_bytes);
      return;
    case Device::Phase::kFailed:
      report->set_state(device.may_return ? proto::DEVICE_DOWN : proto::DEVICE_FAILED);
      return;
    case Device::Phase::kBackoff:
    case Device::Phase::kClosing:
    case Device::Phase::kClosed:
      report->set_state(proto::DEVICE_DOWN);
      return;
    case Device::Phase::kWaiting:
    case Device::Phase::kOpening:
    case Device::Phase::kRecovering:
    case Device::Phase::kFormatting:
    case Device::Phase::kTesting:
      // Nothing to say yet: the MDM keeps the state that it knows.
      report->set_state(proto::DEVICE_UNKNOWN);
      return;
  }
  UNREACHABLE();
}

void DeviceSet::AddReports(proto::SdsHeartbeat* heartbeat) const {
  for (const auto& [id, device] : devices_) Report(device, heartbeat->add_devices());
}

void DeviceSet::AddReports(proto::SdsRegister* message) const {
  for (const auto& [id, device] : devices_) {
    proto::DeviceReport* report = message->add_devices();
    Report(device, report);
    report->set_path(device.config.path);
  }
}

void DeviceSet::CheckInvariants() const {
  for (const auto& [id, device] : devices_) {
    CHECK(device.config.id == id);
    if (!device.up()) continue;
    CHECK(device.store != nullptr && device.host_open);
    device.store->CheckInvariants();
    CHECK_EQ(device.store->extents_promised(), device.credits.extents_promised());
  }
}

}  // namespace gabion::sds
