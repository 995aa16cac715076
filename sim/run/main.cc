// gabion-sim: runs the cluster in a simulated world, from seeds.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "sim/run/bank.h"
#include "sim/run/bug.h"
#include "sim/run/lockstep.h"
#include "sim/run/minimise.h"
#include "sim/run/pool.h"
#include "sim/run/results.h"
#include "sim/run/summary.h"
#include "sim/scenario/scenario.h"

namespace gabion::sim {
namespace {

constexpr std::string_view kHelp =
    R"(gabion-sim: a whole cluster in a simulated world, from one seed

  gabion-sim run [--seed=N] [--runs=N] [--jobs=N] [--twice] [--seconds=60] [--trace=FILE]
                 [--tape=FILE] [--keep=DIR] [--stop-after=N] [--over-budget] [--results=FILE]
      Runs seeds N, N+1, ... Each is 60 simulated seconds of load under faults, then healing and
      checks. --twice compares two runs of each seed, and shows where they differ. One run: --trace writes every event as a line,
      --tape drives the run by a tape. --keep: where tapes of failed runs go (default: TMPDIR).
      --over-budget: any disk may be hit, and stays damaged; only lies are failures.
      --results: a line for each run is appended to this file.
  gabion-sim stats FILE...
      Adds up such files, of many machines. A run that is in several counts once.
  gabion-sim minimise --seed=N | --tape=FILE [--seconds=60] [--wall-seconds=120] [--keep=DIR]
                      [--over-budget]
      Cuts a failing run down to the choices that it needs.
  gabion-sim compare --seed=N [--with=PROGRAM] [--seconds=60] [--over-budget]
      Makes the run in two processes side by side and shows the first event that differs. The second
      one has made it once before, and other memory. --with: by this gabion-sim, of another compiler
      or with other options.
  gabion-sim list-scenarios
  gabion-sim scenario NAME [--trace=FILE]

gabion-sim-bugbank also takes --bug=NAME, and has
  gabion-sim-bugbank bugbank [--bug=NAME] [--runs=400] [--jobs=N] [--seed=N] [--gate]
      Shows for each planted bug that random runs find it, and in which run. --gate: only those
      that are found soon.
  gabion-sim-bugbank scenario NAME --bug=NAME

Exit code 1: a run failed, or the figures are below the goals; 2: wrong usage.
)";

struct Arguments {
  std::string command;
  std::string name;                // the last of them
  std::vector<std::string> names;  // all words behind the command
  std::map<std::string, std::string> options;

  std::string Text(const std::string& key, const std::string& otherwise = "") const {
    const auto at = options.find(key);
    return at == options.end() ? otherwise : at->second;
  }
  uint64_t Number(const std::string& key, uint64_t otherwise) const {
    const auto at = options.find(key);
    return at == options.end() ? otherwise : std::strtoull(at->second.c_str(), nullptr, 0);
  }
  bool Has(const std::string& key) const { return options.contains(key); }
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  constexpr std::string_view kKnown[] = {
      "seed",        "runs", "jobs",       "twice",        "seconds", "trace",
      "tape",        "keep", "stop-after", "wall-seconds", "bug",     "gate",
      "over-budget", "help", "with",       "again",        "results"};
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (!word.starts_with("--")) {
      if (arguments->command.empty()) {
        arguments->command = std::string(word);
      } else {
        arguments->name = std::string(word);
        arguments->names.push_back(arguments->name);
      }
      continue;
    }
    word.remove_prefix(2);
    const size_t equals = word.find('=');
    const std::string key(word.substr(0, equals));
    bool known = false;
    for (const std::string_view name : kKnown) known = known || name == key;
    if (!known) {
      std::fprintf(stderr, "gabion-sim: unknown option --%s; see gabion-sim --help\n", key.c_str());
      return false;
    }
    arguments->options[key] =
        equals == std::string_view::npos ? "1" : std::string(word.substr(equals + 1));
  }
  return true;
}

double WallSeconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

class FileTracer : public Tracer {
 public:
  explicit FileTracer(const std::string& path) : file_(std::fopen(path.c_str(), "w")) {
    if (file_ == nullptr) {
      std::fprintf(stderr, "gabion-sim: cannot write %s\n", path.c_str());
      std::exit(2);
    }
    std::setvbuf(file_, nullptr, _IOFBF, 1 << 20);
  }
  ~FileTracer() override { std::fclose(file_); }
  void Line(std::string_view line) override {
    std::fwrite(line.data(), 1, line.size(), file_);
    std::fputc('\n', file_);
  }
  void Flush() { std::fflush(file_); }

 private:
  std::FILE* file_;
};

// For the handler of SIGABRT: what to say and finish before the process ends.
const World* aborting_world = nullptr;
FileTracer* aborting_tracer = nullptr;
EventLog* aborting_log = nullptr;

void OnAbort(int) {
  if (EventLog* log = std::exchange(aborting_log, nullptr); log != nullptr) {
    log->Finish(RollingHash());
    std::_Exit(1);
  }
  if (aborting_tracer != nullptr) aborting_tracer->Flush();
  if (const World* world = aborting_world; world != nullptr) {
    aborting_world = nullptr;
    std::fprintf(stderr, "at %lld us; the roles:\n%s", static_cast<long long>(world->now() / 1'000),
                 world->Dump().c_str());
  }
  std::signal(SIGABRT, SIG_DFL);
}

std::string ReadFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) {
    std::fprintf(stderr, "gabion-sim: cannot read %s\n", path.c_str());
    std::exit(2);
  }
  std::string text;
  char buffer[65536];
  for (size_t size; (size = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) {
    text.append(buffer, size);
  }
  std::fclose(file);
  return text;
}

Tape TapeOf(const Arguments& arguments) {
  Tape tape;
  const std::string path = arguments.Text("tape");
  if (!Tape::FromText(ReadFile(path), &tape)) {
    std::fprintf(stderr, "gabion-sim: %s is no tape\n", path.c_str());
    std::exit(2);
  }
  return tape;
}

std::string KeepFolder(const Arguments& arguments) {
  return arguments.Text("keep", std::filesystem::temp_directory_path().string());
}

std::string SaveTape(const std::string& folder, const std::string& name, const Tape& tape) {
  const std::string path = folder + "/" + name + ".tape";
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return "(cannot write " + path + ")";
  const std::string text = tape.ToText();
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
  return path;
}

std::string ReplayLine(const RunOptions& run, const std::string& bug) {
  std::string line = bug.empty() ? "bin/gabion-sim run" : "bin/gabion-sim-bugbank run --bug=" + bug;
  line += " --seed=" + std::to_string(run.seed);
  if (run.load != std::chrono::seconds(60)) {
    line += " --seconds=" + std::to_string(run.load / std::chrono::seconds(1));
  }
  if (run.over_budget) line += " --over-budget";
  return line;
}

Duration LoadOf(const Arguments& arguments) {
  return std::chrono::seconds(arguments.Number("seconds", 60));
}

RunOptions RunOptionsOf(const Arguments& arguments) {
  RunOptions options;
  options.seed = arguments.Number("seed", 1);
  options.load = LoadOf(arguments);
  options.over_budget = arguments.Has("over-budget");
  return options;
}

// One run in this process, with everything that can be said about it.
int RunOne(const Arguments& arguments) {
  RunOptions options = RunOptionsOf(arguments);
  Tape tape;
  if (arguments.Has("tape")) {
    tape = TapeOf(arguments);
    options.tape = &tape;
    options.seed = tape.seed;
  }
  std::unique_ptr<FileTracer> tracer;
  if (arguments.Has("trace")) {
    tracer = std::make_unique<FileTracer>(arguments.Text("trace"));
    options.tracer = tracer.get();
    aborting_tracer = tracer.get();
  }
  ActivateBug(arguments.Text("bug"));
  std::signal(SIGABRT, OnAbort);
  options.on_ready = [](const World& world, const Choices&) { aborting_world = &world; };
  PageArena arena;
  const double started = WallSeconds();
  const RunReport report = RunSimulation(options, &arena);
  aborting_world = nullptr;
  aborting_tracer = nullptr;
  const double seconds = WallSeconds() - started;
  std::printf("seed %llu: %s\n", static_cast<unsigned long long>(options.seed),
              report.shape.c_str());
  std::printf("  %.1f simulated s in %.3f s, %llu events (%.0f per s), %llu messages\n",
              static_cast<double>(report.simulated) * 1e-9, seconds,
              static_cast<unsigned long long>(report.world.events),
              static_cast<double>(report.world.events) / seconds,
              static_cast<unsigned long long>(report.world.messages));
  std::printf(
      "  %llu operations (%llu reads, %llu writes), longest %s; %llu fail-overs, %llu epochs\n",
      static_cast<unsigned long long>(report.workload.completed),
      static_cast<unsigned long long>(report.workload.reads),
      static_cast<unsigned long long>(report.workload.writes),
      ToString(report.workload.longest).c_str(), static_cast<unsigned long long>(report.fail_overs),
      static_cast<unsigned long long>(report.epochs));
  std::string fired;
  for (size_t i = 0; i < kFaultCount; ++i) {
    if (report.fired.values[i] == 0) continue;
    fired += " " + std::string(kFaultNames[i]) + ":" + std::to_string(report.fired.values[i]);
  }
  std::printf("  faults:%s\n", fired.empty() ? " none" : fired.c_str());
  std::printf("  hash %s\n", report.hash.ToString().c_str());
  if (!report.failure.happened()) return 0;
  std::printf("%s\nFAILED: %s at %lld us: %s\n", report.dump.c_str(),
              report.failure.checker.c_str(), static_cast<long long>(report.failure.time / 1'000),
              report.failure.message.c_str());
  return 1;
}

// What many runs have come to so far: on a terminal every second on one line, elsewhere now and
// then.
class Progress {
 public:
  explicit Progress(uint64_t wanted) : wanted_(wanted) {}

  void Show(const Summary& summary) {
    const double now = WallSeconds();
    if (now - shown_ < (terminal_ ? 1 : 10)) return;
    shown_ = now;
    std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n",
                 summary.ToLine(now - started_, wanted_).c_str());
  }
  // Before anything else is written, and at the end.
  void Clear() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  uint64_t wanted_;
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  double started_ = WallSeconds();
  double shown_ = started_;
};

// The run as another process of `program` makes it for Compare.
std::vector<std::string> EventsCommand(const std::string& program, const RunOptions& run,
                                       const std::string& bug) {
  std::vector<std::string> words = {
      program, "events", "--seed=" + std::to_string(run.seed),
      "--seconds=" + std::to_string(run.load / std::chrono::seconds(1))};
  if (run.over_budget) words.push_back("--over-budget");
  if (!bug.empty()) words.push_back("--bug=" + bug);
  return words;
}

Comparison CompareRuns(const RunOptions& run, const std::string& bug, std::string with) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  if (with.empty()) with = self;
  return Compare(EventsCommand(self, run, bug), EventsCommand(with, run, bug));
}

int RunCompare(const Arguments& arguments) {
  const RunOptions run = RunOptionsOf(arguments);
  const Comparison comparison = CompareRuns(run, arguments.Text("bug"), arguments.Text("with"));
  std::printf("seed %llu: %s", static_cast<unsigned long long>(run.seed),
              comparison.ToText().c_str());
  return comparison.equal ? 0 : 1;
}

// The other side of Compare.
int RunEvents(const Arguments& arguments) {
  RunOptions run = RunOptionsOf(arguments);
  ActivateBug(arguments.Text("bug"));
  PageArena arena;
  if (arguments.Has("again")) (void)RunSimulation(run, &arena);
  EventLog log(STDIN_FILENO, STDOUT_FILENO);
  run.tracer = &log;
  aborting_log = &log;
  std::signal(SIGABRT, OnAbort);
  const RunReport report = RunSimulation(run, &arena);
  aborting_log = nullptr;
  log.Finish(report.hash);
  return 0;
}

int RunMany(const Arguments& arguments) {
  PoolOptions options;
  options.first_seed = arguments.Number("seed", 1);
  options.runs = arguments.Number("runs", 1);
  options.jobs = static_cast<uint32_t>(arguments.Number("jobs", 1));
  options.twice = arguments.Has("twice");
  options.load = LoadOf(arguments);
  options.over_budget = arguments.Has("over-budget");
  options.bug = arguments.Text("bug");
  options.seconds_max = static_cast<double>(arguments.Number("wall-seconds", 0));
  const uint64_t stop_after = arguments.Number("stop-after", 10);
  if (options.jobs == 0 || options.runs == 0) {
    std::fprintf(stderr, "gabion-sim: --jobs and --runs are at least 1\n");
    return 2;
  }
  std::FILE* results = nullptr;
  if (arguments.Has("results")) {
    results = std::fopen(arguments.Text("results").c_str(), "a");
    if (results == nullptr) {
      std::fprintf(stderr, "gabion-sim: cannot write %s\n", arguments.Text("results").c_str());
      return 2;
    }
  }
  Summary summary;
  Progress progress(options.runs);
  const double started = WallSeconds();
  RunPool(options, [&](const RunOutcome& outcome) {
    summary.Add(outcome);
    progress.Show(summary);
    if (results != nullptr) {
      std::fprintf(results, "%s\n", ToLine(outcome).c_str());
      std::fflush(results);
    }
    if (!outcome.summary.failed) return true;
    progress.Clear();
    RunOptions run = RunOptionsOf(arguments);
    run.seed = outcome.summary.seed;
    const uint64_t seed = run.seed;
    std::printf("\nFAILED seed %llu: %s: %s\n", static_cast<unsigned long long>(seed),
                outcome.checker.c_str(), outcome.message.c_str());
    if (outcome.summary.diverged) {
      std::printf("%s", CompareRuns(run, options.bug, {}).ToText().c_str());
    }
    if (summary.failed() <= 3 && outcome.checker != "hang") {
      const Tape tape = RecordTape(run, options.bug, options.run_seconds_max);
      std::printf(
          "  tape: %s\n",
          SaveTape(KeepFolder(arguments), "gabion-sim-" + std::to_string(seed), tape).c_str());
    }
    std::printf("  replay: %s\n", ReplayLine(run, options.bug).c_str());
    std::fflush(stdout);
    return summary.failed() < stop_after;
  });
  progress.Clear();
  if (results != nullptr) std::fclose(results);
  const double seconds = WallSeconds() - started;
  std::printf("%s", summary.ToText(seconds, options.jobs).c_str());
  const std::string shortfalls =
      options.over_budget ? std::string() : summary.Shortfalls(options.load);
  if (!shortfalls.empty()) std::printf("BELOW THE GOALS:\n%s", shortfalls.c_str());
  return summary.failed() != 0 || !shortfalls.empty() ? 1 : 0;
}

int RunStats(const Arguments& arguments) {
  Summary summary;
  std::set<std::array<uint64_t, 3>> seen;  // seed and hash
  double seconds = 0;
  uint64_t lines = 0;
  std::string failures;
  for (const std::string& path : arguments.names) {
    const std::string text = ReadFile(path);
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      RunOutcome outcome;
      // The last line may be half written.
      if (!FromLine(std::string_view(text).substr(at, end - at), &outcome) && end != text.size()) {
        std::fprintf(stderr, "gabion-sim: %s has a line that is no result\n", path.c_str());
        return 2;
      }
      at = end + 1;
      const RunSummary& run = outcome.summary;
      if (end == text.size() || !seen.insert({run.seed, run.hash_high, run.hash_low}).second) {
        continue;
      }
      ++lines;
      summary.Add(outcome);
      seconds += static_cast<double>(run.wall_ns) * 1e-9;
      if (!run.failed) continue;
      failures += "seed " + std::to_string(run.seed) + ": " + outcome.checker + ": " +
                  outcome.message + "\n";
    }
  }
  if (lines == 0) {
    std::fprintf(stderr, "gabion-sim: no results; see gabion-sim --help\n");
    return 2;
  }
  std::printf("%s%s", summary.ToText(seconds, 1).c_str(), failures.c_str());
  return summary.failed() == 0 ? 0 : 1;
}

int RunMinimise(const Arguments& arguments) {
  MinimiseOptions options;
  options.load = LoadOf(arguments);
  options.over_budget = arguments.Has("over-budget");
  options.bug = arguments.Text("bug");
  options.seconds_max = static_cast<double>(arguments.Number("wall-seconds", 120));
  const Tape tape = arguments.Has("tape") ? TapeOf(arguments)
                                          : RecordTape(RunOptionsOf(arguments), options.bug, 120);
  const Minimised result = Minimise(tape, options);
  if (result.checker.empty()) {
    std::printf("the run does not fail\n");
    return 1;
  }
  const std::string path = SaveTape(
      KeepFolder(arguments), "gabion-sim-" + std::to_string(tape.seed) + "-min", result.tape);
  std::printf(
      "%s: %s\n%llu choices that are not benign, of %llu, after %llu runs\ntape: %s\n"
      "replay: bin/gabion-sim%s run --tape=%s%s%s\n",
      result.checker.c_str(), result.message.c_str(),
      static_cast<unsigned long long>(result.choices_after),
      static_cast<unsigned long long>(result.choices_before),
      static_cast<unsigned long long>(result.runs), path.c_str(),
      options.bug.empty() ? "" : "-bugbank", path.c_str(),
      options.bug.empty() ? "" : (" --bug=" + options.bug).c_str(),
      options.over_budget ? " --over-budget" : "");
  return 0;
}

int ListScenarios() {
  for (const Scenario& scenario : AllScenarios()) {
    std::printf("%-34s %s\n", std::string(scenario.name).c_str(),
                std::string(scenario.title).c_str());
  }
  return 0;
}

int RunScenario(const Arguments& arguments) {
  for (const Scenario& scenario : AllScenarios()) {
    if (scenario.name != arguments.name) continue;
    std::unique_ptr<FileTracer> tracer;
    if (arguments.Has("trace")) tracer = std::make_unique<FileTracer>(arguments.Text("trace"));
    aborting_tracer = tracer.get();
    ActivateBug(arguments.Text("bug"));
    std::signal(SIGABRT, OnAbort);
    const std::string wrong = RunScenarioScript(scenario, tracer.get());
    std::printf("%s: %s\n", arguments.name.c_str(), wrong.empty() ? "good" : wrong.c_str());
    return wrong.empty() ? 0 : 1;
  }
  std::fprintf(stderr, "gabion-sim: no scenario \"%s\"; see gabion-sim list-scenarios\n",
               arguments.name.c_str());
  return 2;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) return 2;
  if (arguments.Has("help") || arguments.command.empty()) {
    std::fputs(std::string(kHelp).c_str(), arguments.Has("help") ? stdout : stderr);
    return arguments.Has("help") ? 0 : 2;
  }
  if (arguments.command == "run") {
    const bool one =
        arguments.Number("runs", 1) == 1 && !arguments.Has("twice") && !arguments.Has("results");
    return one ? RunOne(arguments) : RunMany(arguments);
  }
  if (arguments.command == "compare") return RunCompare(arguments);
  if (arguments.command == "events") return RunEvents(arguments);
  if (arguments.command == "stats") return RunStats(arguments);
  if (arguments.command == "minimise") return RunMinimise(arguments);
  if (arguments.command == "list-scenarios") return ListScenarios();
  if (arguments.command == "scenario") return RunScenario(arguments);
  if (arguments.command == "bugbank") {
    BankOptions bank;
    bank.bug = arguments.Text("bug");
    bank.first_seed = arguments.Number("seed", 1);
    bank.runs = arguments.Number("runs", 400);
    bank.jobs = static_cast<uint32_t>(arguments.Number("jobs", 1));
    bank.gate = arguments.Has("gate");
    return RunBugBank(bank);
  }
  std::fprintf(stderr, "gabion-sim: unknown command \"%s\"; see gabion-sim --help\n",
               arguments.command.c_str());
  return 2;
}

}  // namespace
}  // namespace gabion::sim

int main(int argc, char** argv) { return gabion::sim::Main(argc, argv); }
