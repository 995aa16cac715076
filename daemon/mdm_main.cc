// gabion-mdm: the metadata manager.
#include <sys/random.h>

#include "core/base/check.h"
#include "core/mdm/mdm.h"
#include "daemon/run.h"

int main(int argc, char** argv) {
  using namespace gabion;
  return daemon::RunDaemon({.program = daemon::Program::kMdm,
                            .make_role =
                                [](const daemon::Config& config, const RoleResources& resources,
                                   const std::vector<Address>&) {
                                  mdm::Options options;
                                  options.name = config.name;
                                  options.rebuild_delay = config.rebuild_delay;
                                  options.hold = config.hold;
                                  CHECK_EQ(
                                      ::getrandom(&options.entropy, sizeof(options.entropy), 0),
                                      static_cast<ssize_t>(sizeof(options.entropy)));
                                  return mdm::MakeMdm(options, resources);
                                },
                            .make_front_end = nullptr},
                           argc, argv);
}
