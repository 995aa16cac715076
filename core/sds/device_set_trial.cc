// A device that is to be tested when it is added: between being formatted and being used it has no
// store, and its extents are tested (trial.h).
#include <memory>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/mix.h"
#include "core/sds/device_set.h"
#include "core/sds/node.h"
#include "core/store/layout.h"

namespace gabion::sds {

namespace {

// Beyond all tags of a store.
constexpr DiskTag kTrialTags = DiskTag{0xffff} << 48;
constexpr DiskTag kEraseTag = kTrialTags + (1 << 16);

}  // namespace

bool DeviceSet::WantsTrial(const Device& device) {
  return device.config.state == proto::DEVICE_ADDING && device.config.test != proto::TEST_NONE &&
         !device.figures && device.store->slices().empty();
}

void DeviceSet::CloseForTrial(Context& ctx, Device& device) {
  device.phase = Device::Phase::kTesting;
  // None of its extents is in use.
  device.trial_range = {
      .offset_bytes = device.store->extents_offset(),
      .length_bytes = device.store->capacity().extents_total * wire::kExtentBytes};
  const store::Tag tag = ctx.node.ops.Add(
      {.kind = OpKind::kDeviceClose, .replica = {SliceId(), device.config.id}, .a = device.slot});
  device.store->Close(ctx.now, tag, ctx.node.Out(ctx));
}

void DeviceSet::StartTrial(Context& ctx, Device& device) {
  ctx.effects.CancelTimer(TimerOf(TimerKind::kDeviceStore, device.slot));
  device.credits.SetStore(nullptr);
  device.store.reset();
  device.trial = std::make_unique<DeviceTrial>(device.index, device.trial_range,
                                               mix64(ctx.node.self.run + device.config.id.value()),
                                               kTrialTags, ctx.node.resources.pool);
  ctx.Log(Severity::kInfo, absl::StrCat("device ", ToString(device.config.id), " ",
                                        device.config.path, " is being tested"));
  device.trial->Start(ctx.now, ctx.effects);
}

void DeviceSet::OnTrialDiskDone(Context& ctx, Device& device, const DiskDoneEvent& event) {
  if (event.tag == kEraseTag) {
    if (event.status != DiskStatus::kOk) {
      BackOff(ctx, device, "it cannot be erased after its test");
      return;
    }
    Close(ctx, device, Device::Phase::kTested);
    return;
  }
  device.trial->OnDiskDone(ctx.now, event, ctx.effects);
  if (!device.trial->over()) return;
  if (device.trial->stage() == DeviceTrial::Stage::kFailed) {
    const std::string error = device.trial->error();
    ctx.Log(Severity::kError, absl::StrCat("device ", ToString(device.config.id), " ",
                                           device.config.path, ": ", error));
    Close(ctx, device, Device::Phase::kFailed);
    device.error = error;
    return;
  }
  device.figures = device.trial->figures();
  if (device.config.test == proto::TEST_ONLY) {
    // Without its head it is no store's.
    const Slice zeroes = BufferPool::Zeroes(store::kHeadBytes);
    ctx.effects.DurableWrite(device.index, 0, std::span(&zeroes, 1), kEraseTag);
    return;
  }
  device.trial.reset();
  StartStore(ctx, device, /*format=*/false);
}

}  // namespace gabion::sds
