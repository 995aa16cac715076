#include "sim/run/minimise.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "core/base/check.h"
#include "sim/run/bug.h"
#include "sim/run/pool.h"

namespace gabion::sim {

namespace {

// For the handler of SIGABRT, which cannot be given anything.
const Choices* recorded_choices = nullptr;
int tape_fd = -1;

void WriteTape() {
  if (recorded_choices == nullptr || tape_fd < 0) return;
  const std::string text = recorded_choices->RecordedTape().ToText();
  for (size_t at = 0; at < text.size();) {
    const ssize_t written = write(tape_fd, text.data() + at, text.size() - at);
    if (written <= 0) return;
    at += static_cast<size_t>(written);
  }
}

void OnAbort(int) {
  WriteTape();
  _exit(0);
}

double WallSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

uint64_t NonZero(const Tape& tape) {
  return static_cast<uint64_t>(std::count_if(tape.records.begin(), tape.records.end(),
                                             [](const ChoiceRecord& r) { return r.value != 0; }));
}

}  // namespace

Tape RecordTape(RunOptions run, const std::string& bug, double seconds_max) {
  int fds[2];
  CHECK_EQ(pipe(fds), 0);
  std::fflush(stdout);
  const pid_t pid = fork();
  CHECK_GE(pid, 0);
  if (pid == 0) {
    close(fds[0]);
    ActivateBug(bug);
    tape_fd = fds[1];
    (void)!std::freopen("/dev/null", "w", stderr);
    signal(SIGABRT, OnAbort);
    alarm(static_cast<unsigned>(seconds_max) + 1);
    PageArena arena;
    run.record = true;
    run.on_ready = [](const World&, const Choices& choices) { recorded_choices = &choices; };
    const RunReport report = RunSimulation(run, &arena);
    const std::string text = report.tape.ToText();
    recorded_choices = nullptr;
    for (size_t at = 0; at < text.size();) {
      const ssize_t written = write(fds[1], text.data() + at, text.size() - at);
      if (written <= 0) break;
      at += static_cast<size_t>(written);
    }
    _exit(0);
  }
  close(fds[1]);
  std::string text;
  char buffer[65536];
  for (ssize_t size; (size = read(fds[0], buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(size));
  }
  close(fds[0]);
  waitpid(pid, nullptr, 0);
  Tape tape;
  if (!Tape::FromText(text, &tape)) tape = {.seed = run.seed, .records = {}};
  return tape;
}

Minimised Minimise(const Tape& tape, const MinimiseOptions& options) {
  const double started = WallSeconds();
  Minimised result{.tape = tape, .choices_before = NonZero(tape)};
  const auto run = [&](const Tape& candidate) {
    ++result.runs;
    RunOptions run_options;
    run_options.seed = candidate.seed;
    run_options.tape = &candidate;
    run_options.load = options.load;
    run_options.over_budget = options.over_budget;
    return RunInChild(run_options, options.bug, 60);
  };
  RunOutcome outcome = run(tape);
  result.checker = outcome.checker;
  result.message = outcome.message;
  result.choices_after = result.choices_before;
  if (!outcome.summary.failed) return result;
  const auto out_of_time = [&] { return WallSeconds() - started > options.seconds_max; };
  // Spans of choices that are not zero, ever shorter; whole streams come first because a tape is
  // sorted by stream here.
  Tape best = tape;
  std::stable_sort(
      best.records.begin(), best.records.end(),
      [](const ChoiceRecord& a, const ChoiceRecord& b) { return a.stream < b.stream; });
  std::vector<size_t> live;
  const auto find_live = [&] {
    live.clear();
    for (size_t i = 0; i < best.records.size(); ++i) {
      if (best.records[i].value != 0) live.push_back(i);
    }
  };
  find_live();
  for (size_t span = std::max<size_t>(live.size() / 2, 1); !out_of_time();) {
    bool any = false;
    for (size_t first = 0; first < live.size() && !out_of_time(); first += span) {
      Tape candidate = best;
      const size_t end = std::min(first + span, live.size());
      for (size_t i = first; i < end; ++i) candidate.records[live[i]].value = 0;
      outcome = run(candidate);
      if (!outcome.summary.failed || outcome.checker != result.checker) continue;
      best = std::move(candidate);
      result.message = outcome.message;
      any = true;
    }
    find_live();
    if (span == 1 && !any) break;
    if (!any || span > live.size()) span = std::max<size_t>(span / 2, 1);
    if (live.empty()) break;
  }
  result.tape = std::move(best);
  result.choices_after = NonZero(result.tape);
  return result;
}

}  // namespace gabion::sim
