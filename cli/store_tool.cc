#include "cli/store_tool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "cli/commands.h"
#include "core/store/offline.h"

namespace gabion::cli {

namespace {

using store::CheckReport;
using store::Finding;
using store::Health;

// A file or block device, opened for reading only.
class DeviceFile {
 public:
  static Result<DeviceFile> Open(const std::string& path) {
    DeviceFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.fd_ < 0) {
      const ErrorCode code = errno == EACCES ? ErrorCode::kPermission : ErrorCode::kNotFound;
      return Err(code, "%s: %s", path.c_str(), std::strerror(errno));
    }
    // A store in use changes while it is read, and would look damaged.
    if (::flock(file.fd_, LOCK_SH | LOCK_NB) != 0) {
      return Err(ErrorCode::kConflict, "%s is in use: stop its data server first", path.c_str());
    }
    const off_t size = ::lseek(file.fd_, 0, SEEK_END);
    if (size < 0) return Err(ErrorCode::kIoError, "%s: %s", path.c_str(), std::strerror(errno));
    file.info_ = {.size_bytes = static_cast<uint64_t>(size), .block_bytes = 4096};
    return file;
  }

  DeviceFile(DeviceFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)), info_(other.info_) {}
  DeviceFile& operator=(DeviceFile&&) = delete;
  ~DeviceFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  const DeviceInfo& info() const { return info_; }
  bool Read(uint64_t offset_bytes, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t got = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset_bytes));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      to = to.subspan(static_cast<size_t>(got));
      offset_bytes += static_cast<uint64_t>(got);
    }
    return true;
  }

 private:
  explicit DeviceFile(int fd) : fd_(fd) {}

  int fd_;
  DeviceInfo info_;
};

int ExitCodeOf(Health health) {
  switch (health) {
    case Health::kGood:
      return kExitOk;
    case Health::kWorn:
      return kExitStoreWorn;
    case Health::kDamaged:
      return kExitStoreDamaged;
    case Health::kUnusable:
      return kExitStoreUnusable;
  }
  return kExitStoreUnusable;
}

const char* NameOf(Health health) {
  switch (health) {
    case Health::kGood:
      return "note";
    case Health::kWorn:
      return "worn";
    case Health::kDamaged:
      return "damaged";
    case Health::kUnusable:
      return "unusable";
  }
  return "";
}

const char* VerdictOf(Health health) {
  switch (health) {
    case Health::kGood:
      return "The store is good.";
    case Health::kWorn:
      return "No data is lost; what is damaged is there twice, and gets repaired when the store is "
             "opened.";
    case Health::kDamaged:
      return "Some data on this device is lost. Where the other copies are good, the cluster "
             "repairs "
             "it.";
    case Health::kUnusable:
      return "A data server will not open this device. Its data must come from the other copies.";
  }
  return "";
}

void PrintReport(const CheckReport& report) {
  if (report.superblock) {
    std::printf("cluster %s, SDS %s, device %s\n", ToString(report.superblock->cluster).c_str(),
                ToString(report.superblock->sds).c_str(),
                ToString(report.superblock->device).c_str());
    std::printf("log: %" PRIu64 " batches (%" PRIu64 " bytes) since checkpoint %" PRIu64 "\n",
                report.log_batches, report.log_bytes, report.superblock->checkpoint_number);
    std::printf("slices: %" PRIu64 ", of which %" PRIu64 " need resync\n", report.slices,
                report.slices_that_need_resync);
    std::printf("extents: %" PRIu64 " of %" PRIu32 " used\n", report.extents_used,
                report.superblock->extents_total);
    std::printf("blocks checked: %" PRIu64 " in homes, %" PRIu64 " in the log; bad: %" PRIu64 "\n",
                report.home_blocks, report.log_blocks, report.bad_blocks);
  }
  for (const Finding& finding : report.findings) {
    std::printf("%s: %s\n", NameOf(finding.health), finding.text.c_str());
  }
  if (report.findings_left_out > 0) {
    std::printf("... and %" PRIu64 " more\n", report.findings_left_out);
  }
  std::printf("%s\n", VerdictOf(report.health));
}

// "SLICE:VTREE:CHUNK", ids in hexadecimal as they are printed elsewhere.
std::optional<store::DumpOptions::Chunk> ParseChunk(const std::string& text) {
  unsigned long long slice = 0;
  unsigned long long vtree = 0;
  unsigned int chunk = 0;
  int end = 0;
  if (std::sscanf(text.c_str(), "%llx:%llx:%u%n", &slice, &vtree, &chunk, &end) != 3 ||
      static_cast<size_t>(end) != text.size()) {
    return std::nullopt;
  }
  return store::DumpOptions::Chunk{
      .slice = SliceId(slice),
      .key = {.vtree = VtreeId(vtree), .version = VolumeVersion(0), .chunk = chunk}};
}

}  // namespace

int RunStoreCheck(const StoreOptions& options) {
  const Result<DeviceFile> file = DeviceFile::Open(options.path);
  if (!file) {
    PrintError(file.error().message);
    return kExitRefused;
  }
  const CheckReport report = store::CheckDevice(
      file->info(),
      [&](uint64_t offset_bytes, std::span<std::byte> to) { return file->Read(offset_bytes, to); });
  PrintReport(report);
  return ExitCodeOf(report.health);
}

int RunStoreDump(const StoreOptions& options) {
  store::DumpOptions what{.superblocks = options.superblocks,
                          .log = options.log,
                          .slices = options.slices,
                          .chunk = {}};
  if (!options.chunk.empty()) {
    what.chunk = ParseChunk(options.chunk);
    if (!what.chunk) {
      PrintError("\"" + options.chunk + "\" is no SLICE:VTREE:CHUNK, such as 1f:7:3");
      return kExitUsage;
    }
  }
  if (!what.log && !what.slices && !what.chunk) what.superblocks = true;
  const Result<DeviceFile> file = DeviceFile::Open(options.path);
  if (!file) {
    PrintError(file.error().message);
    return kExitRefused;
  }
  const Result<void> shown = store::DumpDevice(
      file->info(),
      [&](uint64_t offset_bytes, std::span<std::byte> to) { return file->Read(offset_bytes, to); },
      what, [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); });
  if (shown) return kExitOk;
  PrintError(shown.error().message);
  return kExitRefused;
}

}  // namespace gabion::cli
