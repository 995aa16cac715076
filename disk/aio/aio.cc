#include "disk/aio/aio.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/base/check.h"

namespace gabion::disk {
namespace {

constexpr size_t kVectorsMax = IOV_MAX;

uint64_t ReadNumber(const char* path, uint64_t fallback) {
  FILE* file = std::fopen(path, "re");
  if (file == nullptr) return fallback;
  unsigned long long value = 0;
  const bool read = std::fscanf(file, "%llu", &value) == 1;
  std::fclose(file);
  return read ? value : fallback;
}

// "write back" in sysfs; what cannot be asked is taken for volatile.
bool HasVolatileCache(dev_t device) {
  char path[96];
  for (const char* pattern :
       {"/sys/dev/block/%u:%u/queue/write_cache", "/sys/dev/block/%u:%u/../queue/write_cache"}) {
    std::snprintf(path, sizeof(path), pattern, major(device), minor(device));
    FILE* file = std::fopen(path, "re");
    if (file == nullptr) continue;
    char text[32] = {};
    const bool read = std::fgets(text, sizeof(text), file) != nullptr;
    std::fclose(file);
    if (read) return std::strncmp(text, "write through", 13) != 0;
  }
  return true;
}

const char* WayOut(int error) {
  switch (error) {
    case EACCES:
    case EPERM:
      return "run the daemon as a user who may read and write it";
    case ENOENT:
      return "check the path";
    case EBUSY:
    case EWOULDBLOCK:
      return "it is in use: stop the other daemon, or unmount it";
    case EINVAL:
      return "it does not support direct I/O: use a block device or a file on ext4 or xfs";
    case ENOSPC:
      return "make room in its file system";
    default:
      return "see dmesg";
  }
}

tl::unexpected<Error> OpenError(const std::string& path, int error) {
  const ErrorCode code = error == ENOENT                          ? ErrorCode::kNotFound
                         : error == EACCES || error == EPERM      ? ErrorCode::kPermission
                         : error == EBUSY || error == EWOULDBLOCK ? ErrorCode::kConflict
                         : error == ENOSPC                        ? ErrorCode::kNoSpace
                                                                  : ErrorCode::kIoError;
  return Err(code, "cannot open %s: %s; %s", path.c_str(), std::strerror(error), WayOut(error));
}

// Makes a file of `bytes` zeroes that really has its blocks: an unwritten extent would cost a file
// system transaction at each first write, and a hole could run out of space.
int CreateZeroed(const std::string& path, uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  int error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  ::close(fd);
  if (error != 0) ::unlink(path.c_str());
  return error;
}

}  // namespace

Result<void> CheckAioLimit(uint32_t wanted) {
  const uint64_t limit = ReadNumber("/proc/sys/fs/aio-max-nr", 65536);
  const uint64_t used = ReadNumber("/proc/sys/fs/aio-nr", 0);
  if (used + wanted <= limit) return {};
  return Err(ErrorCode::kLimit,
             "this daemon needs %u asynchronous disk requests, but %llu of the machine's %llu are "
             "taken; raise it: sysctl fs.aio-max-nr=%llu",
             wanted, static_cast<unsigned long long>(used), static_cast<unsigned long long>(limit),
             static_cast<unsigned long long>(std::max(limit * 2, used + 16 * uint64_t{wanted})));
}

Result<std::unique_ptr<AioDisks>> AioDisks::Create(const Options& options) {
  if (Result<void> limit = CheckAioLimit(options.depth); !limit) {
    return tl::unexpected(limit.error());
  }
  std::unique_ptr<AioDisks> disks(new AioDisks());
  const int error = -::io_setup(static_cast<int>(options.depth), &disks->context_);
  if (error != 0) {
    return Err(ErrorCode::kLimit, "io_setup for %u requests: %s; raise fs.aio-max-nr by sysctl",
               options.depth, std::strerror(error));
  }
  disks->event_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (disks->event_fd_ < 0) {
    return Err(ErrorCode::kLimit, "eventfd: %s; raise the limit of open files (LimitNOFILE)",
               std::strerror(errno));
  }
  disks->operations_.reserve(options.depth);
  for (uint32_t i = 0; i < options.depth; ++i) {
    disks->operations_.push_back(std::make_unique<Operation>());
    disks->free_.push_back(disks->operations_.back().get());
  }
  disks->events_.resize(options.depth);
  disks->immediate_.reserve(options.depth);
  return disks;
}

AioDisks::~AioDisks() {
  if (context_ != nullptr) {
    while (in_kernel_ > 0) {
      const int got =
          ::io_getevents(context_, 1, static_cast<long>(events_.size()), events_.data(), nullptr);
      if (got == -EINTR) continue;
      if (got <= 0) break;
      in_kernel_ -= static_cast<uint32_t>(got);
    }
    ::io_destroy(context_);
  }
  for (Device& device : devices_) {
    if (device.fd >= 0) ::close(device.fd);
  }
  if (event_fd_ >= 0) ::close(event_fd_);
}

AioDisks::Device* AioDisks::Find(DeviceIndex index) {
  const auto i = static_cast<size_t>(index);
  return i < devices_.size() && devices_[i].fd >= 0 ? &devices_[i] : nullptr;
}

DeviceIndex AioDisks::FreeIndex() const {
  const size_t used = std::max(devices_.size(), outstanding_.size());
  for (size_t i = 1; i < used; ++i) {
    const bool open = i < devices_.size() && devices_[i].fd >= 0;
    if (!open && (i >= outstanding_.size() || outstanding_[i] == 0)) {
      return static_cast<DeviceIndex>(i);
    }
  }
  return static_cast<DeviceIndex>(std::max<size_t>(used, 1));
}

Result<DeviceInfo> AioDisks::Open(DeviceIndex index, const std::string& path,
                                  uint64_t create_bytes) {
  if (create_bytes > 0 && ::access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
    if (const int error = CreateZeroed(path, create_bytes); error != 0) {
      return OpenError(path, error);
    }
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return OpenError(path, errno);
  const bool block_device = S_ISBLK(status.st_mode);
  if (!block_device && !S_ISREG(status.st_mode)) {
    return Err(ErrorCode::kInvalidArgument,
               "cannot use %s: it is neither a block device nor a file", path.c_str());
  }
  // O_EXCL on a block device without O_CREAT: refused while mounted or claimed.
  const int fd = ::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | (block_device ? O_EXCL : 0));
  if (fd < 0) return OpenError(path, errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(fd);
    return OpenError(path, error);
  }
  DeviceInfo info;
  if (block_device) {
    int sector = 512;
    if (::ioctl(fd, BLKGETSIZE64, &info.size_bytes) != 0 || ::ioctl(fd, BLKSSZGET, &sector) != 0) {
      const int error = errno;
      ::close(fd);
      return OpenError(path, error);
    }
    info.block_bytes = static_cast<uint32_t>(sector);
    info.volatile_cache = HasVolatileCache(status.st_rdev);
    info.discard = true;
  } else {
    info.size_bytes = static_cast<uint64_t>(status.st_size);
    info.volatile_cache = true;
    info.discard = true;
  }
  const auto i = static_cast<size_t>(index);
  if (devices_.size() <= i) devices_.resize(i + 1);
  CHECK(devices_[i].fd < 0);
  devices_[i] = Device{fd, block_device, info, path};
  return info;
}

void AioDisks::Close(DeviceIndex index) {
  Device* device = Find(index);
  if (device == nullptr) return;
  // What waits must not meet a later file under the same descriptor. Requests in the kernel hold
  // their own reference to this one.
  waiting_.EraseIf([&](Operation* operation) {
    if (operation->effect.device != index) return false;
    Finish(*operation, -EBADF);
    return true;
  });
  ::close(device->fd);
  *device = Device{};
}

void AioDisks::Queue(const DiskEffect& effect, std::span<const Slice> slices) {
  CHECK_LE(slices.size(), kVectorsMax);
  const auto index = static_cast<size_t>(effect.device);
  if (outstanding_.size() <= index) outstanding_.resize(index + 1);
  ++outstanding_[index];
  Device* device = Find(effect.device);
  if (device == nullptr) {
    immediate_.push_back({effect.device, effect.tag, DiskStatus::kDeviceGone});
    return;
  }
  if (effect.op == DiskOp::kDiscard) {
    Discard(*device, effect);
    return;
  }
  Operation* operation = nullptr;
  if (free_.empty()) {
    operations_.push_back(std::make_unique<Operation>());
    operation = operations_.back().get();
  } else {
    operation = free_.back();
    free_.pop_back();
  }
  operation->effect = effect;
  Hold(*operation, slices);
  uint64_t bytes = 0;
  for (const Slice& slice : slices) bytes += slice.size();
  const auto offset = static_cast<long long>(effect.offset_bytes);
  iocb* control = &operation->control;
  switch (effect.op) {
    case DiskOp::kRead:
      ::io_prep_preadv(control, device->fd, nullptr, 0, offset);  // vectors: Submit
      ++counters_.reads;
      counters_.bytes_read += bytes;
      break;
    case DiskOp::kWrite:
    case DiskOp::kDurableWrite:
      ::io_prep_pwritev(control, device->fd, nullptr, 0, offset);
      if (effect.op == DiskOp::kDurableWrite && device->info.volatile_cache) {
        control->aio_rw_flags = RWF_DSYNC;
      }
      ++counters_.writes;
      counters_.bytes_written += bytes;
      break;
    case DiskOp::kFlush:
      ::io_prep_fdsync(control, device->fd);
      break;
    case DiskOp::kDiscard:
      UNREACHABLE();
  }
  ::io_set_eventfd(control, event_fd_);
  control->data = operation;
  operation->effect.length_bytes = bytes;
  waiting_.push_back(operation);
}

void AioDisks::Hold(Operation& operation, std::span<const Slice> slices) {
  operation.slices = kNone;
  operation.slice_count = static_cast<uint32_t>(slices.size());
  for (size_t i = slices.size(); i-- > 0;) {
    if (free_held_ == kNone) {
      free_held_ = static_cast<uint32_t>(held_.size());
      held_.emplace_back();
    }
    const uint32_t place = free_held_;
    free_held_ = held_[place].next;
    held_[place] = {slices[i], operation.slices};
    operation.slices = place;
  }
}

void AioDisks::LetGo(Operation& operation) {
  while (operation.slices != kNone) {
    const uint32_t place = operation.slices;
    operation.slices = held_[place].next;
    held_[place] = {Slice(), free_held_};
    free_held_ = place;
  }
}

void AioDisks::Discard(const Device& device, const DiskEffect& effect) {
  int error = 0;
  if (device.block_device) {
    uint64_t range[2] = {effect.offset_bytes, effect.length_bytes};
    if (::ioctl(device.fd, BLKDISCARD, range) != 0) error = errno;
  } else if (::fallocate(device.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(effect.offset_bytes),
                         static_cast<off_t>(effect.length_bytes)) != 0) {
    error = errno;
  }
  // A discard is a hint: a device that has none keeps the old bytes, which nobody reads.
  if (error == EOPNOTSUPP) error = 0;
  if (error != 0) ++counters_.errors;
  immediate_.push_back(
      {effect.device, effect.tag, error == 0 ? DiskStatus::kOk : DiskStatus::kIoError});
}

void AioDisks::PrepareBatch(size_t count) {
  batch_.clear();
  vectors_.clear();
  size_t vectors = 0;
  for (size_t i = 0; i < count; ++i) vectors += waiting_[i]->slice_count;
  if (vectors_.capacity() < vectors) vectors_.reserve(2 * vectors);  // they do not move below
  for (size_t i = 0; i < count; ++i) {
    Operation& operation = *waiting_[i];
    batch_.push_back(&operation.control);
    if (operation.slice_count == 0) continue;  // a flush must have none
    operation.control.u.c.buf = vectors_.data() + vectors_.size();
    operation.control.u.c.nbytes = operation.slice_count;
    for (uint32_t place = operation.slices; place != kNone; place = held_[place].next) {
      // Reads fill the slice: the role gave it for that and shows it to nobody before the
      // completion.
      const Slice& slice = held_[place].slice;
      vectors_.push_back({const_cast<std::byte*>(slice.data()), slice.size()});
    }
  }
}

void AioDisks::Submit() {
  while (!waiting_.empty() && in_kernel_ < events_.size()) {
    PrepareBatch(std::min(events_.size() - in_kernel_, waiting_.size()));
    const int submitted = ::io_submit(context_, static_cast<long>(batch_.size()), batch_.data());
    ++counters_.submits;
    if (submitted > 0) {
      in_kernel_ += static_cast<uint32_t>(submitted);
      for (int i = 0; i < submitted; ++i) waiting_.pop_front();
      continue;
    }
    if (submitted == -EAGAIN && in_kernel_ > 0) return;  // again after the next completion
    if (submitted == -EINTR) continue;
    // The first of the batch is refused (closed descriptor, bad alignment): it alone fails.
    Finish(*waiting_.pop_front(), submitted == 0 ? -EIO : submitted);
  }
}

void AioDisks::Finish(Operation& operation, int64_t result) {
  const bool whole = operation.effect.op == DiskOp::kFlush
                         ? result == 0
                         : result == static_cast<int64_t>(operation.effect.length_bytes);
  if (!whole) ++counters_.errors;
  const DiskStatus status = whole              ? DiskStatus::kOk
                            : result == -EBADF ? DiskStatus::kDeviceGone
                                               : DiskStatus::kIoError;
  immediate_.push_back({operation.effect.device, operation.effect.tag, status});
  LetGo(operation);
  free_.push_back(&operation);
}

void AioDisks::Collect(std::vector<DiskDoneEvent>& done) {
  uint64_t signalled = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(event_fd_, &signalled, sizeof(signalled));
  while (in_kernel_ > 0) {
    timespec no_wait{};
    const int got =
        ::io_getevents(context_, 0, static_cast<long>(events_.size()), events_.data(), &no_wait);
    if (got <= 0) break;
    in_kernel_ -= static_cast<uint32_t>(got);
    for (int i = 0; i < got; ++i) {
      Finish(*static_cast<Operation*>(events_[i].data), static_cast<int64_t>(events_[i].res));
    }
  }
  done.reserve(events_.size());
  for (const DiskDoneEvent& event : immediate_) --outstanding_[static_cast<size_t>(event.device)];
  done.insert(done.end(), immediate_.begin(), immediate_.end());
  immediate_.clear();
}

}  // namespace gabion::disk
