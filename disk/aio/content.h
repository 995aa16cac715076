// What a device holds already, by the signatures that libblkid knows: file systems, partition
// tables, members of arrays, wherever on the device they are.
#pragma once

#include <string>

namespace gabion::disk {

// For a person: `ext4 file system "data"`; empty when nothing is recognised, or the device cannot
// be read.
std::string DescribeContent(const std::string& path);

}  // namespace gabion::disk
