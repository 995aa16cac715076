// Small files and text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace gabion::cli {

std::optional<std::string> ReadFile(const std::string& path);

// Replaces the file as a whole; readers see the old or the new one.
Result<void> WriteFile(const std::string& path, const std::string& text);

std::string Trim(std::string_view text);

// The last lines of a file, each indented; for messages.
std::string Tail(const std::string& path, size_t lines);

}  // namespace gabion::cli
