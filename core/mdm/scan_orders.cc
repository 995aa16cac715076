#include "core/mdm/scan_orders.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "core/mdm/admin_answers.h"
#include "core/mdm/registrar.h"

namespace gabion::mdm {

namespace {

// A device is named by its id alone.
const proto::Device* FindDevice(const Repository& repository, const std::string& text) {
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) return nullptr;
  return repository.FindDevice(DeviceId(id));
}

}  // namespace

void ScanOrders::OnReport(DeviceId device, const proto::ScanStatus& scan) {
  if (scan.has_last()) last_[device] = scan.last();
  const auto order = orders_.find(device);
  if (order != orders_.end() && scan.order() >= order->second.order()) orders_.erase(order);
}

void ScanOrders::Forget(DeviceId device) {
  orders_.erase(device);
  last_.erase(device);
}

void ScanOrders::Add(DeviceId device, uint64_t carried_out, uint64_t bytes_per_second,
                     bool cancel) {
  proto::ScanOrder& order = orders_[device];
  order.set_order(std::max(order.order(), carried_out) + 1);
  order.set_device(device.value());
  order.set_bytes_per_second(bytes_per_second);
  order.set_cancel(cancel);
}

void ScanOrders::Tell(DeviceId device, proto::SdsGrant* grant) const {
  const auto order = orders_.find(device);
  if (order != orders_.end()) *grant->add_scans() = order->second;
}

const proto::ScanPass* ScanOrders::LastOf(DeviceId device) const {
  const auto last = last_.find(device);
  return last == last_.end() ? nullptr : &last->second;
}

proto::AdminReply OrderScan(const View& view, const proto::DeviceScan& request,
                            Registrar* registrar) {
  const proto::Device* device = FindDevice(view.repository, request.device());
  if (device == nullptr) return *NotFound("device", request.device(), "device").reply;
  const DeviceId id(device->id());
  if (!registrar->outdated().empty()) {
    return *Refuse(proto::AdminReply::CONFLICT, registrar->outdated()).reply;
  }
  if (!view.IsAble(SdsId(device->sds()), id)) {
    return *Refuse(proto::AdminReply::UNAVAILABLE,
                   absl::StrCat("device ", device->id(), " (", device->path(),
                                ") is not in use just now: `gabion device list` shows why"))
                .reply;
  }
  registrar->OrderScan(id, request.bytes_per_second(), request.cancel());
  proto::AdminReply reply;
  reply.set_id(device->id());
  return reply;
}

std::string ScanNotice(const Repository& repository, const proto::Device& device) {
  const proto::ScanStatus& scan = device.scan();
  uint64_t unresolved = 0;
  uint64_t differing = 0;
  for (const proto::ScanPass* pass : {&scan.pass(), &scan.last()}) {
    unresolved += pass->extents_unresolved();
    differing += pass->blocks_differing();
  }
  if (unresolved + differing == 0) return {};
  const proto::Sds* sds = repository.FindSds(SdsId(device.sds()));
  std::string text =
      absl::StrCat("the scan of device ", device.id(), " (",
                   sds != nullptr ? sds->name() : std::string("?"), " ", device.path(), ")");
  if (unresolved != 0) {
    absl::StrAppend(&text, " found damage in ", unresolved,
                    " extents of 64 KiB that no copy could make good");
  }
  if (differing != 0) {
    absl::StrAppend(&text, unresolved != 0 ? ", and " : " found ", differing,
                    " blocks that are good on both copies and differ");
  }
  if (!scan.last_finding().empty()) absl::StrAppend(&text, ". The newest: ", scan.last_finding());
  return absl::StrCat(text, ". The log of its SDS names each of them");
}

}  // namespace gabion::mdm
