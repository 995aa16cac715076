// gabion-sds: the data server.
#include "core/sds/sds.h"
#include "daemon/run.h"

int main(int argc, char** argv) {
  using namespace gabion;
  return daemon::RunDaemon(
      {.program = daemon::Program::kSds,
       .make_role =
           [](const daemon::Config& config, const RoleResources& resources,
              const std::vector<Address>& listening) {
             sds::Options options;
             options.name = config.name;
             options.mdms = config.mdms;
             options.addresses = config.announce.empty() ? listening : config.announce;
             options.holds_state_lock = true;  // RunDaemon locks the state folder first
             return sds::MakeSds(options, resources);
           },
       .make_front_end = nullptr},
      argc, argv);
}
