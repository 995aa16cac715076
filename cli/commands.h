// Commands that are one question to the MDM, or the same question until the answer pleases.
#pragma once

#include "cli/client.h"
#include "cli/invocation.h"

namespace gabion::cli {

// Each prints and returns the exit code.
int RunCommand(const Common& common, proto::AdminRequest request);
int RunList(const Common& common, Kind kind);
int RunShowDevice(const Common& common, const std::string& id);
int RunStatus(const Common& common, bool slices);
// Until every slice has two copies, or common.timeout has passed.
int RunWait(const Common& common);

// "gabion: ..." on stderr.
void PrintError(const std::string& message);
int ExitCodeOf(const Error& error);

// The status of the cluster, or why not; also for `gabion dev`.
Result<proto::ClusterStatus> AskStatus(MdmClient& client, bool slices);

}  // namespace gabion::cli
