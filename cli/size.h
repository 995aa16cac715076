// Sizes as people write them: "512M", "10G", "1.5T"; units are powers of 1024.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace gabion::cli {

// A whole, positive number of MiB. Units: M, G, T, and MiB, GiB, TiB.
Result<uint64_t> ParseSize(std::string_view text);

// Three significant digits: "10 GiB", "1.5 TiB", "512 MiB", "0 B".
std::string FormatSize(uint64_t bytes);

}  // namespace gabion::cli
