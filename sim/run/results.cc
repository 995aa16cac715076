#include "sim/run/results.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace gabion::sim {

namespace {

constexpr std::string_view kHead = "gabion-run-1";
constexpr size_t kMessageBytesMax = 300;

// All numbers of a summary, in the order of the line.
template <class Visit>
void ForEachNumber(RunSummary& summary, Visit visit) {
  visit(summary.seed);
  visit(summary.events);
  visit(summary.completed);
  visit(summary.bytes);
  visit(summary.simulated_ns);
  visit(summary.longest_ns);
  visit(summary.wall_ns);
  visit(summary.fail_overs);
  visit(summary.hash_high);
  visit(summary.hash_low);
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = std::min(text.find(at), text.size());
    parts.push_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class Number>
bool ToNumber(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

// Classes that were on, each with how often it happened: "drop:3 kill:0".
std::string FaultsOf(const RunSummary& summary) {
  std::string text;
  for (size_t i = 0; i < kFaultCount; ++i) {
    if (!summary.enabled.values[i] && summary.fired.values[i] == 0) continue;
    if (!text.empty()) text += ' ';
    text += std::string(kFaultNames[i]) + ":" + std::to_string(summary.fired.values[i]);
  }
  return text;
}

bool TakeFaults(std::string_view text, RunSummary* summary) {
  if (text.empty()) return true;
  for (const std::string_view word : Split(text, ' ')) {
    const size_t colon = word.find(':');
    uint64_t count = 0;
    if (colon == word.npos || !ToNumber(word.substr(colon + 1), &count)) return false;
    for (size_t i = 0; i < kFaultCount; ++i) {
      if (kFaultNames[i] != word.substr(0, colon)) continue;
      summary->enabled.values[i] = true;
      summary->fired.values[i] = count;
    }
  }
  return true;
}

}  // namespace

std::string ToLine(const RunOutcome& outcome) {
  RunSummary summary = outcome.summary;
  std::string line(kHead);
  ForEachNumber(summary, [&line](const auto& number) { line += '\t' + std::to_string(number); });
  std::string message =
      outcome.message.substr(0, std::min(outcome.message.find('\n'), kMessageBytesMax));
  std::ranges::replace(message, '\t', ' ');
  line += '\t' + FaultsOf(summary) + '\t' + (summary.failed ? "failed" : "good") + '\t' +
          outcome.checker + '\t' + message;
  return line;
}

bool FromLine(std::string_view line, RunOutcome* outcome) {
  *outcome = RunOutcome();
  const std::vector<std::string_view> fields = Split(line, '\t');
  constexpr size_t kNumbers = 10;
  if (fields.size() != kNumbers + 5 || fields[0] != kHead) return false;
  size_t next = 1;
  bool good = true;
  ForEachNumber(outcome->summary, [&](auto& number) {
    good = good && ToNumber(fields[next], &number);
    ++next;
  });
  if (!good || !TakeFaults(fields[next], &outcome->summary)) return false;
  if (fields[next + 1] != "failed" && fields[next + 1] != "good") return false;
  outcome->summary.failed = fields[next + 1] == "failed";
  outcome->checker = fields[next + 2];
  outcome->message = fields[next + 3];
  return true;
}

}  // namespace gabion::sim
