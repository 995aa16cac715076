// gabion-sdc: the data client, with NBD as its front end.
#include "core/sdc/sdc.h"
#include "daemon/run.h"
#include "net/export/nbd_server.h"

namespace gabion::daemon {
namespace {

Result<std::unique_ptr<net::FrontEnd>> MakeNbd(const Config& config, Host& host,
                                               const Logger& logger) {
  auto server = std::make_unique<nbd::NbdServer>(
      &host.reactor(), &host.pool(), nbd::NbdServer::Options{},
      [&logger](Severity severity, const std::string& text) { logger.Write(severity, text); });
  if (config.nbd_listen) {
    const Result<Address> bound = server->ListenTcp(*config.nbd_listen);
    if (!bound) return tl::unexpected(bound.error());
    logger.Write(Severity::kInfo, "NBD exports on " + bound->ToString());
  }
  if (!config.nbd_socket.empty()) {
    if (auto ok = server->ListenUnix(config.nbd_socket); !ok) return tl::unexpected(ok.error());
    logger.Write(Severity::kInfo, "NBD exports on " + config.nbd_socket);
  }
  if (!config.nbd_listen && config.nbd_socket.empty()) {
    logger.Write(Severity::kWarning,
                 "neither nbd-listen nor nbd-socket is set: nobody can use the volumes here");
  }
  return std::unique_ptr<net::FrontEnd>(std::move(server));
}

}  // namespace
}  // namespace gabion::daemon

int main(int argc, char** argv) {
  using namespace gabion;
  return daemon::RunDaemon({.program = daemon::Program::kSdc,
                            .make_role =
                                [](const daemon::Config& config, const RoleResources& resources,
                                   const std::vector<Address>&) {
                                  sdc::Options options;
                                  options.name = config.name;
                                  options.mdms = config.mdms;
                                  options.io_timeout = config.io_timeout;
                                  return sdc::MakeSdc(options, resources);
                                },
                            .make_front_end = daemon::MakeNbd},
                           argc, argv);
}
