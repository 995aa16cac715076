// Where the MDM is: --mdm, else --dir, else GABION_MDM, else ~/.config/gabion/gabion.conf.
#pragma once

#include <string>
#include <vector>

#include "cli/invocation.h"
#include "core/base/result.h"

namespace gabion::cli {

// At least one "HOST:PORT". Errors say what to set.
Result<std::vector<std::string>> FindEndpoints(const Common& common);

// The values of `mdm = HOST:PORT` lines; other keys are refused with their line.
Result<std::vector<std::string>> ParseClientConfig(const std::string& file,
                                                   const std::string& text);

}  // namespace gabion::cli
