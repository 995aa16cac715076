#include "sim/world/choice.h"

#include <algorithm>
#include <charconv>

#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sim {

Choices::Choices(const Tape& tape) : seed_(tape.seed), replaying_(true) {
  for (const ChoiceRecord& record : tape.records) {
    streams_[IndexOf(record.stream)].replay.push_back(record.value);
  }
}

uint32_t Choices::IndexOf(uint32_t name) {
  const auto at =
      std::lower_bound(names_.begin(), names_.end(), std::pair<uint32_t, uint32_t>(name, 0));
  if (at != names_.end() && at->first == name) return at->second;
  const auto index = static_cast<uint32_t>(streams_.size());
  names_.insert(at, {name, index});
  streams_.push_back({.name = name, .random = RandomStream(seed_, name & 0xffffff, name >> 24)});
  return index;
}

Stream Choices::Open(StreamKind kind, uint32_t a, uint32_t b) {
  CHECK_LT(a, 1u << 12);
  CHECK_LT(b, 1u << 12);
  return Stream{IndexOf(NameOf(kind, a, b))};
}

uint64_t Choices::Replayed(StreamState& state, uint64_t arity) {
  if (state.next >= state.replay.size()) return 0;
  const uint64_t value = state.replay[state.next++];
  return arity == 0 || value < arity ? value : arity - 1;
}

uint64_t Choices::Settle(StreamState& state, Site site, uint64_t arity, uint64_t value) {
  ++count_;
  digest_ = (digest_ ^ (value + count_)) * 0x9e3779b97f4a7c15u;
  if (recording_) {
    recorded_.push_back({.stream = state.name,
                         .site = static_cast<uint16_t>(site),
                         .arity = arity,
                         .value = value});
  }
  return value;
}

uint64_t Choices::Below(Stream stream, Site site, uint64_t n) {
  StreamState& state = streams_[stream.index];
  const uint64_t value = replaying_ ? Replayed(state, n) : state.random.Below(n);
  return Settle(state, site, n, value);
}

bool Choices::Chance(Stream stream, Site site, uint64_t numerator, uint64_t denominator) {
  if (numerator == 0) return false;
  StreamState& state = streams_[stream.index];
  const uint64_t value =
      replaying_ ? Replayed(state, 2) : uint64_t{state.random.Chance(numerator, denominator)};
  return Settle(state, site, 2, value) != 0;
}

uint64_t Choices::Tail(Stream stream, Site site, uint64_t mean, uint64_t max) {
  StreamState& state = streams_[stream.index];
  const uint64_t value = replaying_ ? Replayed(state, max + 1) : state.random.Tail(mean, max);
  return Settle(state, site, max + 1, value);
}

uint64_t Choices::Bits(Stream stream, Site site) {
  StreamState& state = streams_[stream.index];
  const uint64_t value = replaying_ ? Replayed(state, 0) : state.random.Next();
  return Settle(state, site, 0, value);
}

std::string Tape::ToText() const {
  std::string text = "gabion-tape 1 " + std::to_string(seed) + "\n";
  std::vector<std::pair<uint32_t, uint64_t>> next;  // (stream, index of its next record)
  for (const ChoiceRecord& record : records) {
    auto at =
        std::lower_bound(next.begin(), next.end(), std::pair<uint32_t, uint64_t>(record.stream, 0));
    if (at == next.end() || at->first != record.stream) at = next.insert(at, {record.stream, 0});
    const uint64_t index = at->second++;
    if (record.value == 0) continue;
    text += std::to_string(record.stream) + " " + std::to_string(index) + " " +
            std::to_string(record.site) + " " + std::to_string(record.arity) + " " +
            std::to_string(record.value) + "\n";
  }
  return text;
}

namespace {

// Takes the number at the front of `text` and the blank behind it.
bool TakeNumber(std::string_view& text, uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return true;
}

}  // namespace

bool Tape::FromText(std::string_view text, Tape* tape) {
  constexpr std::string_view kHead = "gabion-tape 1 ";
  if (!text.starts_with(kHead)) return false;
  text.remove_prefix(kHead.size());
  if (!TakeNumber(text, &tape->seed)) return false;
  tape->records.clear();
  std::vector<std::pair<uint32_t, uint64_t>> next;
  while (!text.empty() && text.front() == '\n') {
    text.remove_prefix(1);
    if (text.empty()) return true;
    uint64_t stream = 0;
    uint64_t index = 0;
    uint64_t site = 0;
    ChoiceRecord record;
    if (!TakeNumber(text, &stream) || !TakeNumber(text, &index) || !TakeNumber(text, &site) ||
        !TakeNumber(text, &record.arity) || !TakeNumber(text, &record.value)) {
      return false;
    }
    record.stream = static_cast<uint32_t>(stream);
    record.site = static_cast<uint16_t>(site);
    auto at =
        std::lower_bound(next.begin(), next.end(), std::pair<uint32_t, uint64_t>(record.stream, 0));
    if (at == next.end() || at->first != record.stream) at = next.insert(at, {record.stream, 0});
    constexpr uint64_t kIndexMax = 1u << 28;
    if (index < at->second || index > kIndexMax) return false;
    for (; at->second < index; ++at->second) tape->records.push_back({.stream = record.stream});
    ++at->second;
    tape->records.push_back(record);
  }
  return text.empty();
}

}  // namespace gabion::sim
