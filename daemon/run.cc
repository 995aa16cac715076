#include "daemon/run.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <span>
#include <string>

#include "core/wire/data.h"
#include "daemon/metrics.h"
#include "daemon/process.h"

namespace gabion::daemon {

namespace {

// Connections of a mid-size cluster, devices, and what libraries open.
constexpr uint64_t kOpenFilesMin = 1024;

void Print(const std::string& text) { std::fputs(text.c_str(), stdout); }

std::string MetricsPage(const Config& config, Program program, Host& host) {
  MetricsText text;
  text.Info("daemon_info", "Which daemon this is.",
            {{"program", ProgramName(program)}, {"name", config.name}});
  const Usage usage = ReadUsage();
  text.Counter("cpu_seconds_total", "CPU time, user and system.",
               static_cast<double>(usage.cpu_microseconds) / 1e6);
  text.Gauge("resident_bytes", "Resident memory.", static_cast<double>(usage.resident_bytes));
  text.Gauge("open_files", "Open file descriptors.", static_cast<double>(usage.open_files));
  const HostCounters& host_counters = host.counters();
  text.Counter("loop_turns_total", "Turns of the event loop.",
               static_cast<double>(host_counters.turns));
  text.Counter("events_total", "Events that the role has handled.",
               static_cast<double>(host_counters.events));
  const auto& transport = host.transport_counters();
  text.Counter("messages_received_total", "Messages from peers.",
               static_cast<double>(transport.messages_received));
  text.Counter("messages_sent_total", "Messages to peers.",
               static_cast<double>(transport.messages_sent));
  text.Counter("network_received_bytes_total", "Bytes from peers.",
               static_cast<double>(transport.bytes_received));
  text.Counter("network_sent_bytes_total", "Bytes to peers.",
               static_cast<double>(transport.bytes_sent));
  text.Counter("bad_frames_total", "Frames refused: damaged, oversized or of an unknown kind.",
               static_cast<double>(transport.bad_frames));
  text.Counter("refused_connections_total", "Connections over the limit.",
               static_cast<double>(transport.refused_connections));
  text.Counter("send_overflows_total", "Connections closed because the peer did not read.",
               static_cast<double>(transport.overflows));
  const auto& disk = host.disk_counters();
  text.Counter("disk_reads_total", "Disk reads.", static_cast<double>(disk.reads));
  text.Counter("disk_writes_total", "Disk writes.", static_cast<double>(disk.writes));
  text.Counter("disk_read_bytes_total", "Bytes read from disks.",
               static_cast<double>(disk.bytes_read));
  text.Counter("disk_written_bytes_total", "Bytes written to disks.",
               static_cast<double>(disk.bytes_written));
  text.Counter("disk_submits_total", "io_submit calls.", static_cast<double>(disk.submits));
  text.Counter("disk_errors_total", "Disk operations that failed.",
               static_cast<double>(disk.errors));
  const BufferPool::Stats& pool = host.pool().stats();
  text.Gauge("buffer_bytes", "Payload memory in use.", static_cast<double>(pool.bytes_in_use));
  text.Gauge("buffer_peak_bytes", "Most payload memory that was in use.",
             static_cast<double>(pool.bytes_in_use_peak));
  text.Counter("payload_copied_bytes_total", "Payload bytes copied in memory.",
               static_cast<double>(pool.bytes_copied));
  text.Counter("buffer_refusals_total", "Requests for payload memory that had to wait.",
               static_cast<double>(pool.refusals));
  return text.text();
}

}  // namespace

int RunDaemon(const DaemonParts& parts, int argc, const char* const* argv) {
  const char* program = ProgramName(parts.program);
  const Result<CommandLine> line =
      ParseCommandLine(parts.program, std::span(argv + 1, static_cast<size_t>(argc - 1)));
  if (!line) {
    std::fprintf(stderr, "%s: %s\n", program, line.error().message.c_str());
    return 2;
  }
  const Config& config = line->config;
  switch (line->action) {
    case CommandLine::Action::kHelp:
      Print(HelpText(parts.program));
      return 0;
    case CommandLine::Action::kVersion:
      Print(std::string(program) + ", wire protocol " + std::to_string(wire::kVersionMin) + " to " +
            std::to_string(wire::kVersionMax) + "\n");
      return 0;
    case CommandLine::Action::kCheckConfig:
      Print(std::string(program) + ": the configuration is good\n");
      return 0;
    case CommandLine::Action::kRun:
      break;
  }

  // What it holds is nobody else's business: state and sockets.
  ::umask(077);
  const Logger logger(parts.program, config);
  const auto fail = [&logger](const Error& error) {
    logger.Write(Severity::kCritical, error.message);
    return 1;
  };
  if (const Result<uint64_t> files = RaiseOpenFiles(kOpenFilesMin); !files) {
    return fail(files.error());
  }
  const Result<StateDir> state = StateDir::Lock(config.state_dir);
  if (!state) return fail(state.error());

  Host::Options options;
  if (parts.program != Program::kSdc) options.listen = {config.listen};
  options.state_path = state->path() + "/state";
  options.memory_max_bytes = config.memory_max_bytes;
  options.log = [&logger](Severity severity, const std::string& text) {
    logger.Write(severity, text);
  };
  const Result<std::unique_ptr<Host>> host = Host::Create(
      options, [&](const RoleResources& resources, const std::vector<Address>& listening) {
        return parts.make_role(config, resources, listening);
      });
  if (!host) return fail(host.error());

  std::unique_ptr<net::FrontEnd> front_end;
  if (parts.make_front_end) {
    auto made = parts.make_front_end(config, **host, logger);
    if (!made) return fail(made.error());
    front_end = std::move(*made);
    (*host)->SetFrontEnd(front_end.get());
  }
  std::unique_ptr<MetricsServer> metrics;
  if (config.metrics_listen) {
    auto made = MetricsServer::Listen(
        &(*host)->reactor(), *config.metrics_listen,
        {.metrics = [&] { return MetricsPage(config, parts.program, **host); },
         .status = [&] { return (*host)->role().Dump(); }});
    if (!made) return fail(made.error());
    metrics = std::move(*made);
  }

  for (const Address& address : (*host)->listening()) {
    logger.Write(Severity::kInfo, "listening on " + address.ToString());
  }
  NotifySupervisor("READY=1");
  const int exit_code = (*host)->Run();
  NotifySupervisor("STOPPING=1");
  if (exit_code == 0) logger.Write(Severity::kInfo, "ended cleanly");
  return exit_code;
}

}  // namespace gabion::daemon
