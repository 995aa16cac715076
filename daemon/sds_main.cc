// gabion-sds: the data server.
#include <sys/random.h>

#include "core/base/check.h"
#include "core/sds/sds.h"
#include "daemon/process.h"
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
             options.store_memory_bytes = config.store_memory_bytes;
             options.read_cache_bytes = config.read_cache_bytes;
             options.addresses = config.announce.empty() ? listening : config.announce;
             options.device_timeout = config.device_timeout;
             options.scan_interval = config.scan_interval;
             options.scan_bytes_per_second = config.scan_bytes_per_second;
             // RunDaemon has locked the state folder.
             options.state_lock = daemon::StateDir::NameOfLock(config.state_dir);
             CHECK_EQ(::getrandom(&options.entropy, sizeof(options.entropy), 0),
                      static_cast<ssize_t>(sizeof(options.entropy)));
             return sds::MakeSds(options, resources);
           },
       .make_front_end = nullptr},
      argc, argv);
}
