// What the client tells about its I/O.
#include "core/base/check.h"
#include "core/sdc/io.h"

namespace gabion::sdc {

Io::StatsKind Io::StatsKindOf(UserOp op) {
  switch (op) {
    case UserOp::kRead:
      return kReads;
    case UserOp::kWrite:
      return kWrites;
    case UserOp::kTrim:
    case UserOp::kWriteZeroes:
      return kZeroes;
    case UserOp::kBlockStatus:
      return kQuestions;
    case UserOp::kAttach:
    case UserOp::kDetach:
    case UserOp::kFlush:
    case UserOp::kList:
      break;
  }
  UNREACHABLE("no I/O");
}

void Io::Collect(MetricList& metrics) const {
  static constexpr std::array<const char*, kKinds> kNames = {"read", "write", "zero", "status"};
  for (size_t i = 0; i < kKinds; ++i) {
    const MetricLabels labels = {{"op", kNames[i]}};
    const IoStats& stats = stats_[i];
    metrics.Histogram("io_seconds",
                      "Time from a request of a user to its answer, and with _count their number.",
                      stats.latency, labels);
    metrics.Counter("io_bytes_total", "Bytes of requests that succeeded.", stats.bytes, labels);
    metrics.Counter("io_errors_total", "Requests that failed.", stats.errors, labels);
  }
  metrics.Gauge("io_in_flight", "Requests of users that are not answered yet.", requests_.size());
  metrics.Counter("io_attempts_total", "Messages to SDSs that carried a part of a request.",
                  counters_.attempts);
  metrics.Counter("io_retries_total", "Of these, repetitions.", counters_.retries);
  metrics.Counter("io_timeouts_total", "Requests that met io-timeout.", counters_.timeouts);
  metrics.Counter("bad_checksums_total", "Data of SDSs that did not match its checksum.",
                  counters_.bad_checksums);
  metrics.Counter("malformed_answers_total", "Answers of SDSs that did not fit what was asked.",
                  counters_.malformed);
  uint32_t up = 0;
  for (const SdsSession& session : sessions_) up += session.link.up() ? 1 : 0;
  metrics.Gauge("sds_connections", "SDSs that this client is connected to.", up);
}

}  // namespace gabion::sdc
