// gabion: the command for administrators and developers.
#include <signal.h>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/dev.h"
#include "cli/store_tool.h"
#include "core/base/check.h"

namespace gabion::cli {
namespace {

int Run(Invocation invocation) {
  const Common& common = invocation.common;
  switch (invocation.verb) {
    case Verb::kCommand:
      return RunCommand(common, std::move(invocation.request));
    case Verb::kList:
      return RunList(common, invocation.kind);
    case Verb::kShowDevice:
      return RunShowDevice(common, invocation.name);
    case Verb::kStatus:
      return RunStatus(common, invocation.slices);
    case Verb::kWait:
      return RunWait(common);
    case Verb::kDevUp:
      return RunDevUp(common, invocation.dev);
    case Verb::kDevStatus:
      return RunDevStatus(common, invocation.dev);
    case Verb::kDevDown:
      return RunDevDown(invocation.dev);
    case Verb::kDevStart:
      return RunDevStart(invocation.dev);
    case Verb::kDevStop:
    case Verb::kDevKill:
      return RunDevEnd(invocation.dev, invocation.verb);
    case Verb::kStoreCheck:
      return RunStoreCheck(invocation.store);
    case Verb::kStoreDump:
      return RunStoreDump(invocation.store);
  }
  UNREACHABLE("a verb that nobody carries out");
}

}  // namespace
}  // namespace gabion::cli

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  int exit_code = 0;
  auto invocation = gabion::cli::ParseCommandLine(argc, argv, &exit_code);
  if (!invocation) return exit_code;
  return gabion::cli::Run(std::move(*invocation));
}
