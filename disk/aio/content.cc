#include "disk/aio/content.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace gabion::disk {
namespace {

constexpr int kAmbivalent = -2;

std::string ValueOf(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  if (::blkid_probe_lookup_value(probe, name, &value, nullptr) != 0) return {};
  std::string text(value);
  // A label is whatever somebody wrote there.
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~' || c == '"'; }, '?');
  return text;
}

std::string Describe(blkid_probe probe) {
  const std::string type = ValueOf(probe, "TYPE");
  const std::string usage = ValueOf(probe, "USAGE");
  const std::string label = ValueOf(probe, "LABEL");
  const std::string named = label.empty() ? "" : " \"" + label + "\"";
  if (usage == "filesystem") return type + " file system" + named;
  if (usage == "raid") return "a member of an array or volume group (" + type + ")" + named;
  if (usage == "crypto") return "an encrypted volume (" + type + ")" + named;
  if (!type.empty()) return type + " data" + named;
  const std::string partitions = ValueOf(probe, "PTTYPE");
  return partitions.empty() ? "" : "a partition table (" + partitions + ")";
}

}  // namespace

std::string DescribeContent(const std::string& path) {
  // Buffered: libblkid reads what is not aligned.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string content;
  const std::unique_ptr<struct blkid_struct_probe, decltype(&::blkid_free_probe)> probe(
      ::blkid_new_probe(), &::blkid_free_probe);
  if (probe != nullptr && ::blkid_probe_set_device(probe.get(), fd, 0, 0) == 0) {
    ::blkid_probe_enable_superblocks(probe.get(), 1);
    ::blkid_probe_set_superblocks_flags(
        probe.get(), BLKID_SUBLKS_LABEL | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
    ::blkid_probe_enable_partitions(probe.get(), 1);
    const int result = ::blkid_do_safeprobe(probe.get());
    if (result == 0) content = Describe(probe.get());
    if (result == kAmbivalent) content = "signatures of several file systems";
  }
  ::close(fd);
  return content;
}

}  // namespace gabion::disk
