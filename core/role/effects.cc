#include "core/role/effects.h"

#include <utility>

#include "core/base/check.h"

namespace gabion {

namespace {

// Appends the slices of one disk operation to the step's list.
DiskEffect Transfer(DeviceIndex device, DiskOp op, uint64_t offset_bytes,
                    std::span<const Slice> parts, DiskTag tag, std::vector<Slice>& slices) {
  DiskEffect effect{.device = device,
                    .op = op,
                    .offset_bytes = offset_bytes,
                    .length_bytes = 0,
                    .slice_begin = static_cast<uint32_t>(slices.size()),
                    .slice_count = static_cast<uint32_t>(parts.size()),
                    .tag = tag};
  for (const Slice& part : parts) {
    CHECK(!part.empty()) << "empty part in a transfer at " << offset_bytes;
    effect.length_bytes += part.size();
    slices.push_back(part);
  }
  CHECK_GT(effect.length_bytes, 0u) << "transfer of nothing at " << offset_bytes;
  return effect;
}

}  // namespace

void Effects::Send(ConnId conn, wire::Body body, Slice payload) {
  CHECK(conn.valid());
  sends.push_back({conn, {std::move(body), std::move(payload)}});
}

void Effects::Connect(DialTag dial, const Address& address) {
  CHECK_NE(dial, 0u) << "0 marks accepted connections";
  connects.push_back({dial, address});
}

void Effects::Close(ConnId conn) {
  CHECK(conn.valid());
  closes.push_back(conn);
}

void Effects::Read(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> into,
                   DiskTag tag) {
  disk.push_back(Transfer(device, DiskOp::kRead, offset_bytes, into, tag, slices));
}

void Effects::Write(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> from,
                    DiskTag tag) {
  disk.push_back(Transfer(device, DiskOp::kWrite, offset_bytes, from, tag, slices));
}

void Effects::DurableWrite(DeviceIndex device, uint64_t offset_bytes, std::span<const Slice> from,
                           DiskTag tag) {
  disk.push_back(Transfer(device, DiskOp::kDurableWrite, offset_bytes, from, tag, slices));
}

void Effects::Flush(DeviceIndex device, DiskTag tag) {
  disk.push_back({.device = device, .op = DiskOp::kFlush, .tag = tag});
}

void Effects::Discard(DeviceIndex device, uint64_t offset_bytes, uint64_t length_bytes,
                      DiskTag tag) {
  CHECK_GT(length_bytes, 0u);
  disk.push_back({.device = device,
                  .op = DiskOp::kDiscard,
                  .offset_bytes = offset_bytes,
                  .length_bytes = length_bytes,
                  .tag = tag});
}

void Effects::OpenDevice(DiskTag tag, std::string path) { opens.push_back({tag, std::move(path)}); }

void Effects::CloseDevice(DeviceIndex device) { device_closes.push_back(device); }

void Effects::SetTimer(TimerTag tag, Instant when) { timers.push_back({tag, when}); }

void Effects::CancelTimer(TimerTag tag) { timers.push_back({tag, kNever}); }

void Effects::Reply(UserReplyEffect reply) { replies.push_back(std::move(reply)); }

void Effects::Log(Severity severity, std::string text) {
  logs.push_back({severity, std::move(text)});
}

void Effects::Exit(std::string reason, bool for_good) {
  // The first reason is the cause; what follows from it would hide it.
  if (exit) return;
  exit = true;
  exit_reason = std::move(reason);
  exit_for_good = for_good;
}

void Effects::Clear() {
  sends.clear();
  connects.clear();
  closes.clear();
  disk.clear();
  slices.clear();
  opens.clear();
  device_closes.clear();
  timers.clear();
  replies.clear();
  notices.clear();
  logs.clear();
  exit = false;
  exit_reason.clear();
  exit_for_good = false;
}

bool Effects::empty() const {
  return sends.empty() && connects.empty() && closes.empty() && disk.empty() && opens.empty() &&
         device_closes.empty() && timers.empty() && replies.empty() && notices.empty() &&
         logs.empty() && !exit;
}

}  // namespace gabion
