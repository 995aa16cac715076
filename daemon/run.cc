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

std::string MetricsPage(const Config& config, Program program, Host& host,
                        const net::FrontEnd* front_end) {
  MetricList list;
  list.Gauge("daemon_info", "Which daemon this is.", 1,
             {{"program", ProgramName(program)}, {"name", config.name}});
  const Usage usage = ReadUsage();
  list.Seconds("cpu_seconds_total", "CPU time, user and system.",
               static_cast<double>(usage.cpu_microseconds) / 1e6);
  list.Gauge("resident_bytes", "Resident memory.", usage.resident_bytes);
  list.Gauge("open_files", "Open file descriptors.", usage.open_files);
  const HostCounters& host_counters = host.counters();
  list.Counter("loop_turns_total", "Turns of the event loop.", host_counters.turns);
  list.Counter("events_total", "Events that the role has handled.", host_counters.events);
  const auto& transport = host.transport_counters();
  list.Counter("messages_received_total", "Messages from peers.", transport.messages_received);
  list.Counter("messages_sent_total", "Messages to peers.", transport.messages_sent);
  list.Counter("network_received_bytes_total", "Bytes from peers.", transport.bytes_received);
  list.Counter("network_sent_bytes_total", "Bytes to peers.", transport.bytes_sent);
  list.Counter("bad_frames_total", "Frames refused: damaged, oversized or of an unknown kind.",
               transport.bad_frames);
  list.Counter("refused_connections_total", "Connections over the limit.",
               transport.refused_connections);
  list.Counter("send_overflows_total", "Connections closed because the peer did not read.",
               transport.overflows);
  const auto& disk = host.disk_counters();
  list.Counter("disk_reads_total", "Disk reads.", disk.reads);
  list.Counter("disk_writes_total", "Disk writes.", disk.writes);
  list.Counter("disk_read_bytes_total", "Bytes read from disks.", disk.bytes_read);
  list.Counter("disk_written_bytes_total", "Bytes written to disks.", disk.bytes_written);
  list.Counter("disk_submits_total", "io_submit calls.", disk.submits);
  list.Counter("disk_errors_total", "Disk operations that failed.", disk.errors);
  const BufferPool::Stats& pool = host.pool().stats();
  list.Gauge("buffer_bytes", "Payload memory in use.", pool.bytes_in_use);
  list.Gauge("buffer_peak_bytes", "Most payload memory that was in use.", pool.bytes_in_use_peak);
  list.Counter("payload_copied_bytes_total", "Payload bytes copied in memory.", pool.bytes_copied);
  list.Counter("buffer_refusals_total", "Requests for payload memory that had to wait.",
               pool.refusals);
  host.role().Collect(list);
  if (front_end != nullptr) front_end->Collect(list);
  return ToExposition(list);
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
  options.on_stopping = [] { NotifySupervisor("STOPPING=1"); };
  options.on_alive = [] { NotifySupervisor("WATCHDOG=1"); };
  options.alive_interval = WatchdogInterval();
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
        {.metrics = [&] { return MetricsPage(config, parts.program, **host, front_end.get()); },
         .status = [&] { return (*host)->role().Dump(); }});
    if (!made) return fail(made.error());
    metrics = std::move(*made);
  }

  for (const Address& address : (*host)->listening()) {
    logger.Write(Severity::kInfo, "listening on " + address.ToString());
  }
  NotifySupervisor("READY=1");
  const int exit_code = (*host)->Run();
  if (exit_code == 0) logger.Write(Severity::kInfo, "ended cleanly");
  return exit_code;
}

}  // namespace gabion::daemon
