#include "sim/run/pool.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "core/base/check.h"
#include "sim/run/bug.h"

namespace gabion::sim {

namespace {

constexpr char kBegin = 'B';
constexpr char kResult = 'R';
constexpr size_t kErrorTextMax = 4096;

double WallSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void WriteAll(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(fd, at, size);
    if (written <= 0) _exit(3);
    at += written;
    size -= static_cast<size_t>(written);
  }
}

RunOutcome OutcomeOf(uint64_t seed, const RunReport& report) {
  RunOutcome outcome;
  RunSummary& summary = outcome.summary;
  summary.seed = seed;
  summary.events = report.world.events;
  summary.completed = report.workload.completed;
  summary.bytes = report.workload.bytes;
  summary.simulated_ns = report.simulated;
  summary.longest_ns = report.workload.longest.count();
  summary.fail_overs = report.fail_overs;
  summary.hash_high = report.hash.high;
  summary.hash_low = report.hash.low;
  summary.fired = report.fired;
  summary.enabled = report.enabled;
  summary.failed = report.failure.happened();
  outcome.checker = report.failure.checker;
  outcome.message = report.failure.message;
  return outcome;
}

void SendOutcome(int fd, RunOutcome outcome) {
  outcome.summary.checker_bytes = static_cast<uint32_t>(outcome.checker.size());
  outcome.summary.message_bytes = static_cast<uint32_t>(outcome.message.size());
  WriteAll(fd, &kResult, 1);
  WriteAll(fd, &outcome.summary, sizeof(outcome.summary));
  WriteAll(fd, outcome.checker.data(), outcome.checker.size());
  WriteAll(fd, outcome.message.data(), outcome.message.size());
}

void SendBegin(int fd, uint64_t seed) {
  WriteAll(fd, &kBegin, 1);
  WriteAll(fd, &seed, sizeof(seed));
}

[[noreturn]] void WorkerMain(int fd, const PoolOptions& options, uint64_t first, uint64_t last) {
  ActivateBug(options.bug);
  PageArena arena;
  for (uint64_t seed = first; seed <= last; seed += options.jobs) {
    SendBegin(fd, seed);
    RunOptions run;
    run.seed = seed;
    run.load = options.load;
    run.over_budget = options.over_budget;
    const double started = WallSeconds();
    RunOutcome outcome = OutcomeOf(seed, RunSimulation(run, &arena));
    outcome.summary.wall_ns = static_cast<int64_t>((WallSeconds() - started) * 1e9);
    if (options.twice && !outcome.summary.failed) {
      const RunReport again = RunSimulation(run, &arena);
      if (again.hash.high != outcome.summary.hash_high ||
          again.hash.low != outcome.summary.hash_low) {
        outcome.summary.diverged = true;
        outcome.summary.failed = true;
        outcome.checker = "determinism";
        outcome.message = "the second run of this seed differs: " + again.hash.ToString() +
                          " after " + std::to_string(again.world.events) + " events, not " +
                          HexId(outcome.summary.hash_high) + HexId(outcome.summary.hash_low) +
                          " after " + std::to_string(outcome.summary.events);
      }
    }
    SendOutcome(fd, std::move(outcome));
  }
  _exit(0);
}

// One child and what it has said so far.
struct Worker {
  pid_t pid = -1;
  int results = -1;  // pipe
  int errors = -1;   // its stderr
  uint64_t next_seed = 0;
  uint64_t last_seed = 0;
  bool running_seed = false;
  uint64_t seed = 0;
  double seed_started = 0;
  bool hung = false;
  std::vector<char> bytes;
  std::string error_text;
};

template <class Main>
void Spawn(Worker& worker, Main main) {
  int results[2];
  int errors[2];
  CHECK_EQ(pipe(results), 0);
  CHECK_EQ(pipe(errors), 0);
  std::fflush(stdout);
  const pid_t pid = fork();
  CHECK_GE(pid, 0);
  if (pid == 0) {
    close(results[0]);
    close(errors[0]);
    dup2(errors[1], STDERR_FILENO);
    close(errors[1]);
    main(results[1]);
  }
  close(results[1]);
  close(errors[1]);
  worker.pid = pid;
  worker.results = results[0];
  worker.errors = errors[0];
  worker.running_seed = false;
  worker.hung = false;
  worker.bytes.clear();
  worker.error_text.clear();
}

// Takes whole records from what the worker sent.
bool TakeRecord(Worker& worker, std::vector<RunOutcome>* outcomes) {
  std::vector<char>& bytes = worker.bytes;
  if (bytes.empty()) return false;
  if (bytes[0] == kBegin) {
    if (bytes.size() < 1 + sizeof(uint64_t)) return false;
    std::memcpy(&worker.seed, bytes.data() + 1, sizeof(uint64_t));
    worker.running_seed = true;
    worker.seed_started = WallSeconds();
    bytes.erase(bytes.begin(), bytes.begin() + 1 + sizeof(uint64_t));
    return true;
  }
  CHECK_EQ(bytes[0], kResult);
  RunOutcome outcome;
  if (bytes.size() < 1 + sizeof(RunSummary)) return false;
  std::memcpy(&outcome.summary, bytes.data() + 1, sizeof(RunSummary));
  const size_t size =
      1 + sizeof(RunSummary) + outcome.summary.checker_bytes + outcome.summary.message_bytes;
  if (bytes.size() < size) return false;
  const char* text = bytes.data() + 1 + sizeof(RunSummary);
  outcome.checker.assign(text, outcome.summary.checker_bytes);
  outcome.message.assign(text + outcome.summary.checker_bytes, outcome.summary.message_bytes);
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
  worker.running_seed = false;
  outcomes->push_back(std::move(outcome));
  return true;
}

// Reads what is there; false at the end.
bool ReadSome(int fd, const std::function<void(const char*, size_t)>& take) {
  char buffer[65536];
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  if (size <= 0) return false;
  take(buffer, static_cast<size_t>(size));
  return true;
}

RunOutcome DeathOf(const Worker& worker, int status) {
  RunOutcome outcome;
  outcome.summary.seed = worker.seed;
  outcome.summary.failed = true;
  outcome.checker = worker.hung                                          ? "hang"
                    : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? "check"
                                                                         : "crash";
  outcome.message = worker.hung ? "the run does not end" : worker.error_text;
  if (outcome.message.empty())
    outcome.message = "the process died, status " + std::to_string(status);
  return outcome;
}

// Waits for news of the workers, and takes it. A worker that ended has pid -1 afterwards.
void Collect(std::vector<Worker>& workers, double run_seconds_max,
             std::vector<RunOutcome>* outcomes) {
  std::vector<pollfd> fds;
  for (const Worker& worker : workers) {
    fds.push_back({.fd = worker.pid < 0 ? -1 : worker.results, .events = POLLIN, .revents = 0});
    fds.push_back({.fd = worker.pid < 0 ? -1 : worker.errors, .events = POLLIN, .revents = 0});
  }
  poll(fds.data(), fds.size(), 200);
  for (size_t i = 0; i < workers.size(); ++i) {
    Worker& worker = workers[i];
    if (worker.pid < 0) continue;
    if (fds[2 * i + 1].revents != 0) {
      ReadSome(worker.errors, [&worker](const char* data, size_t size) {
        worker.error_text.append(data, size);
        if (worker.error_text.size() > kErrorTextMax) worker.error_text.resize(kErrorTextMax);
      });
    }
    bool ended = false;
    if (fds[2 * i].revents != 0) {
      ended = !ReadSome(worker.results, [&worker](const char* data, size_t size) {
        worker.bytes.insert(worker.bytes.end(), data, data + size);
      });
      while (TakeRecord(worker, outcomes)) {
      }
    }
    if (!ended && worker.running_seed && WallSeconds() - worker.seed_started > run_seconds_max) {
      worker.hung = true;
      kill(worker.pid, SIGKILL);
    }
    if (!ended) continue;
    while (ReadSome(worker.errors, [&worker](const char* data, size_t size) {
      worker.error_text.append(data, size);
    })) {
    }
    int status = 0;
    waitpid(worker.pid, &status, 0);
    close(worker.results);
    close(worker.errors);
    worker.pid = -1;
    if (worker.running_seed) outcomes->push_back(DeathOf(worker, status));
  }
}

}  // namespace

void RunPool(const PoolOptions& options, const std::function<bool(const RunOutcome&)>& on_outcome) {
  CHECK_GT(options.jobs, 0u);
  const double started = WallSeconds();
  const uint64_t last = options.first_seed + options.runs - 1;
  std::vector<Worker> workers(std::min<uint64_t>(options.jobs, options.runs));
  PoolOptions strided = options;
  strided.jobs = static_cast<uint32_t>(workers.size());
  const auto spawn = [&](Worker& worker) {
    Spawn(worker, [&](int fd) { WorkerMain(fd, strided, worker.next_seed, last); });
  };
  for (size_t i = 0; i < workers.size(); ++i) {
    workers[i].next_seed = options.first_seed + i;
    spawn(workers[i]);
  }
  bool stopping = false;
  for (;;) {
    std::vector<RunOutcome> outcomes;
    Collect(workers, options.run_seconds_max, &outcomes);
    for (const RunOutcome& outcome : outcomes) {
      if (!stopping && !on_outcome(outcome)) stopping = true;
    }
    if (options.seconds_max > 0 && WallSeconds() - started > options.seconds_max) stopping = true;
    bool any = false;
    for (Worker& worker : workers) {
      if (worker.pid >= 0) {
        any = true;
        if (stopping) {
          kill(worker.pid, SIGKILL);
          waitpid(worker.pid, nullptr, 0);
          close(worker.results);
          close(worker.errors);
          worker.pid = -1;
        }
        continue;
      }
      if (!worker.running_seed || stopping) continue;
      // It died of one seed; another child takes the rest.
      worker.running_seed = false;
      worker.next_seed = worker.seed + strided.jobs;
      if (worker.next_seed > last) continue;
      spawn(worker);
      any = true;
    }
    if (!any || stopping) return;
  }
}

RunOutcome RunInChild(const RunOptions& options, const std::string& bug, double seconds_max) {
  std::vector<Worker> workers(1);
  Spawn(workers[0], [&](int fd) {
    ActivateBug(bug);
    SendBegin(fd, options.seed);
    PageArena arena;
    SendOutcome(fd, OutcomeOf(options.seed, RunSimulation(options, &arena)));
    _exit(0);
  });
  std::vector<RunOutcome> outcomes;
  while (workers[0].pid >= 0) Collect(workers, seconds_max, &outcomes);
  CHECK_EQ(outcomes.size(), 1u);
  return outcomes[0];
}

}  // namespace gabion::sim
