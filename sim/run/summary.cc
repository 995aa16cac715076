#include "sim/run/summary.h"

#include <algorithm>
#include <cstdio>

#include "core/base/time.h"

namespace gabion::sim {

namespace {

constexpr uint64_t kRunsToJudge = 200;

std::string Line(const char* format, double a, double b = 0) {
  char buffer[200];
  std::snprintf(buffer, sizeof(buffer), format, a, b);
  return buffer;
}

double Percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::string SignatureOf(const RunOutcome& outcome) {
  constexpr size_t kBytesMax = 100;
  std::string text = outcome.checker + ": ";
  // Ids are hexadecimal numbers of 16 digits; a word with a digit in it is a number here.
  for (size_t at = 0; at < outcome.message.size() && text.size() < kBytesMax;) {
    const size_t end = std::min(outcome.message.find_first_of(" \n:", at), outcome.message.size());
    const std::string word = outcome.message.substr(at, end - at);
    text += word.find_first_of("0123456789") == std::string::npos ? word : "#";
    if (end == outcome.message.size() || outcome.message[end] == '\n') break;
    text += outcome.message[end];
    at = end + 1;
  }
  return text;
}

void Summary::Add(const RunOutcome& outcome) {
  const RunSummary& summary = outcome.summary;
  ++runs_;
  if (summary.failed) {
    ++failed_;
    ++failures_[SignatureOf(outcome)];
    return;
  }
  events_ += summary.events;
  simulated_ns_ += summary.simulated_ns;
  completed_.push_back(summary.completed);
  longest_ns_ = std::max(longest_ns_, summary.longest_ns);
  if (summary.fail_overs != 0) ++with_fail_over_;
  if (summary.fired[Fault::kPowerCut] + summary.fired[Fault::kPowerCutAll] != 0) ++with_power_cut_;
  if (summary.fired[Fault::kCutOneWay] + summary.fired[Fault::kCutTwoWay] +
          summary.fired[Fault::kIsolate] + summary.fired[Fault::kSplit] !=
      0) {
    ++with_partition_;
  }
  for (size_t i = 0; i < kFaultCount; ++i) {
    if (summary.enabled.values[i]) ++enabled_runs_.values[i];
    if (summary.enabled.values[i] && summary.fired.values[i] != 0) ++fired_runs_.values[i];
  }
}

uint64_t Summary::MedianCompleted() const {
  if (completed_.empty()) return 0;
  std::vector<uint64_t> sorted = completed_;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2),
                   sorted.end());
  return sorted[sorted.size() / 2];
}

std::string Summary::ToLine(double wall_seconds, uint64_t wanted) const {
  const auto hit = std::ranges::count_if(fired_runs_.values, [](uint64_t n) { return n != 0; });
  std::string text = std::to_string(runs_) + " of " + std::to_string(wanted) + " runs, " +
                     Line("%.1f runs/s, ", static_cast<double>(runs_) / wall_seconds) +
                     std::to_string(hit) + " of " + std::to_string(kFaultCount) +
                     " fault classes, " + std::to_string(failed_) + " failed";
  const char* between = " (";
  for (const auto& [signature, count] : failures_) {
    text += between + std::to_string(count) + "x " + signature.substr(0, 40);
    between = "; ";
  }
  return failures_.empty() ? text : text + ")";
}

std::string Summary::ToText(double wall_seconds, uint32_t jobs) const {
  const auto runs = static_cast<double>(runs_);
  std::string text = std::to_string(runs_) + " runs, " + std::to_string(failed_) + " failed, " +
                     Line("%.1f s on %.0f jobs\n", wall_seconds, jobs);
  for (const auto& [signature, count] : failures_) {
    text += "  failed " + std::to_string(count) + " times: " + signature + "\n";
  }
  text += Line("  runs per core-hour   %12.0f\n", runs * 3600 / wall_seconds / jobs);
  text += Line("  events per s         %12.0f per job\n",
               static_cast<double>(events_) / wall_seconds / jobs);
  text += Line("  simulated s per s    %12.0f per job\n",
               static_cast<double>(simulated_ns_) * 1e-9 / wall_seconds / jobs);
  text += Line("  operations per run   %12.0f median\n", static_cast<double>(MedianCompleted()));
  text += Line("  longest operation    %12.1f s\n", static_cast<double>(longest_ns_) * 1e-9);
  text += Line("  runs with a fail-over  %10.1f %%\n", Percent(with_fail_over_, runs_));
  text += Line("  runs with a power cut  %10.1f %%\n", Percent(with_power_cut_, runs_));
  text += Line("  runs with a partition  %10.1f %%\n", Percent(with_partition_, runs_));
  text += "  fault class        enabled in   fired in (share of runs)\n";
  for (size_t i = 0; i < kFaultCount; ++i) {
    std::string name(kFaultNames[i]);
    name.resize(18, ' ');
    text += "    " + name +
            Line("%9.1f %%  %9.1f %%\n", Percent(enabled_runs_.values[i], runs_),
                 Percent(fired_runs_.values[i], runs_));
  }
  return text;
}

std::string Summary::Shortfalls(Duration load) const {
  if (runs_ < kRunsToJudge) return {};
  std::string text;
  const auto share = [&](uint64_t with, double goal, const char* what) {
    if (Percent(with, runs_) >= goal) return;
    text +=
        std::string(what) + Line(" in %.1f %% of runs, goal %.0f %%\n", Percent(with, runs_), goal);
  };
  const auto goal = static_cast<uint64_t>(300 * load / std::chrono::seconds(60));
  if (MedianCompleted() < goal) {
    text += "median of " + std::to_string(MedianCompleted()) + " operations per run, goal " +
            std::to_string(goal) + "\n";
  }
  share(with_fail_over_, 50, "a fail-over");
  share(with_power_cut_, 20, "a power cut");
  share(with_partition_, 20, "a partition");
  for (size_t i = 0; i < kFaultCount; ++i) {
    share(fired_runs_.values[i], 1, std::string(kFaultNames[i]).c_str());
  }
  return text;
}

}  // namespace gabion::sim
