// What the three daemons share: from the command line to a clean end.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "daemon/config.h"
#include "daemon/host.h"
#include "daemon/log.h"

namespace gabion::daemon {

struct DaemonParts {
  Program program{};
  // Builds the role. `listening`: where the host listens.
  std::function<std::unique_ptr<Role>(const Config&, const RoleResources&,
                                      const std::vector<Address>& listening)>
      make_role;
  // Where block I/O comes from; null for daemons without one. The result must outlive Run.
  std::function<Result<std::unique_ptr<net::FrontEnd>>(const Config&, Host&, const Logger&)>
      make_front_end;
};

// Returns the exit code: 0 clean, 1 failed (the reason is on stderr), 2 usage.
int RunDaemon(const DaemonParts& parts, int argc, const char* const* argv);

}  // namespace gabion::daemon
