// Real disks: block devices and files through libaio with O_DIRECT, one io_context and one eventfd
// for all devices of a reactor. Effects are queued, then one Submit() per burst.
//
// Durable writes use RWF_DSYNC where the device has a volatile cache; files always do. A device is
// locked while open (flock on files, O_EXCL on block devices), so a second daemon is refused.
#pragma once

#include <libaio.h>
#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/fifo.h"
#include "core/base/result.h"
#include "core/base/slot_table.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::disk {

// Whether `wanted` requests fit beside what others use; else an error that says what to set.
Result<void> CheckAioLimit(uint32_t wanted);

class AioDisks {
 public:
  struct Options {
    uint32_t depth = 512;  // requests in the kernel at once, all devices; further ones wait here
  };
  struct Counters {
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    uint64_t submits = 0;
    uint64_t errors = 0;
  };

  static Result<std::unique_ptr<AioDisks>> Create(const Options& options);
  AioDisks(const AioDisks&) = delete;
  AioDisks& operator=(const AioDisks&) = delete;
  ~AioDisks();  // waits for what is in the kernel

  // `create_bytes` > 0: a file that does not exist is made with that size, zeroed. The error names
  // the path, the reason and the way out.
  Result<DeviceInfo> Open(DeviceIndex index, const std::string& path, uint64_t create_bytes = 0);
  // Requests in flight complete; later ones give kDeviceGone.
  void Close(DeviceIndex index);
  // A number that no open device has, nor one of whose requests is still to be collected.
  DeviceIndex FreeIndex() const;

  // Buffers stay referenced until the completion is collected.
  void Queue(const DiskEffect& effect, std::span<const Slice> slices);
  void Submit();

  int event_fd() const { return event_fd_; }  // readable: call Collect
  // Appends completions; also those that never reached the kernel.
  void Collect(std::vector<DiskDoneEvent>& done);
  bool has_immediate() const { return !immediate_.empty(); }

  const Counters& counters() const { return counters_; }

 private:
  struct Device {
    int fd = -1;
    bool block_device = false;
    DeviceInfo info;
    std::string path;
  };
  struct Operation {
    iocb control{};
    DiskEffect effect;
    uint32_t slices = kNone;  // first of a list in held_
    uint32_t slice_count = 0;
  };
  // Slices of all requests, in lists: so none has memory of its own that must grow with it.
  struct Held {
    Slice slice;
    uint32_t next = kNone;
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  AioDisks() = default;
  Device* Find(DeviceIndex index);
  void Hold(Operation& operation, std::span<const Slice> slices);
  void LetGo(Operation& operation);
  // The first requests that wait, with the vectors that the kernel copies at io_submit.
  void PrepareBatch(size_t count);
  void Discard(const Device& device, const DiskEffect& effect);
  void Finish(Operation& operation, int64_t result);

  io_context_t context_ = nullptr;
  int event_fd_ = -1;
  uint32_t in_kernel_ = 0;
  std::vector<Device> devices_;                         // by DeviceIndex
  std::vector<uint32_t> outstanding_;                   // by DeviceIndex: queued, not collected
  std::vector<std::unique_ptr<Operation>> operations_;  // all that there ever were
  std::vector<Operation*> free_;
  Fifo<Operation*> waiting_;  // not yet submitted, in order
  std::vector<Held> held_;
  uint32_t free_held_ = kNone;
  std::vector<iovec> vectors_;  // of the requests being submitted
  std::vector<iocb*> batch_;
  std::vector<io_event> events_;
  std::vector<DiskDoneEvent> immediate_;
  Counters counters_;
};

}  // namespace gabion::disk
