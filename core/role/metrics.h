// What a role or a front end tells of itself in numbers. Read between two steps; it changes
// nothing, so the simulator never needs to ask.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/time.h"

namespace gabion {

// How often something took how long.
class LatencyHistogram {
 public:
  // Upper bounds; above the last one nothing is told apart. From a cached read to a fail-over.
  static constexpr std::array<Duration, 16> kBounds = {
      std::chrono::microseconds(50),   std::chrono::microseconds(100),
      std::chrono::microseconds(200),  std::chrono::microseconds(500),
      std::chrono::milliseconds(1),    std::chrono::milliseconds(2),
      std::chrono::milliseconds(5),    std::chrono::milliseconds(10),
      std::chrono::milliseconds(20),   std::chrono::milliseconds(50),
      std::chrono::milliseconds(100),  std::chrono::milliseconds(200),
      std::chrono::milliseconds(500),  std::chrono::milliseconds(1000),
      std::chrono::milliseconds(2000), std::chrono::milliseconds(10000)};

  void Add(Duration took) {
    size_t bucket = 0;
    while (bucket < kBounds.size() && took > kBounds[bucket]) ++bucket;
    ++counts_[bucket];
    sum_ += took;
  }

  // By bucket, the last one above all bounds; not cumulative.
  const std::array<uint64_t, kBounds.size() + 1>& counts() const { return counts_; }
  Duration sum() const { return sum_; }

 private:
  std::array<uint64_t, kBounds.size() + 1> counts_{};
  Duration sum_{0};
};

enum class MetricKind : uint8_t {
  kCounter,  // only grows, from 0 at the start of the process
  kGauge,
  kHistogram,  // in seconds
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

struct Metric {
  MetricKind kind{};
  std::string_view name;  // without the prefix "gabion_"; a literal
  std::string_view help;  // a literal; the same for all metrics of one name
  MetricLabels labels;
  double value = 0;
  LatencyHistogram histogram;
};

// Metrics in the order in which they were told.
class MetricList {
 public:
  void Counter(std::string_view name, std::string_view help, uint64_t value,
               MetricLabels labels = {}) {
    Add(MetricKind::kCounter, name, help, static_cast<double>(value), std::move(labels));
  }
  void Gauge(std::string_view name, std::string_view help, uint64_t value,
             MetricLabels labels = {}) {
    Add(MetricKind::kGauge, name, help, static_cast<double>(value), std::move(labels));
  }
  void Seconds(std::string_view name, std::string_view help, double value) {
    Add(MetricKind::kCounter, name, help, value, {});
  }
  void Histogram(std::string_view name, std::string_view help, const LatencyHistogram& histogram,
                 MetricLabels labels = {}) {
    Add(MetricKind::kHistogram, name, help, 0, std::move(labels));
    all_.back().histogram = histogram;
  }

  const std::vector<Metric>& all() const { return all_; }

 private:
  void Add(MetricKind kind, std::string_view name, std::string_view help, double value,
           MetricLabels labels) {
    all_.push_back({.kind = kind,
                    .name = name,
                    .help = help,
                    .labels = std::move(labels),
                    .value = value,
                    .histogram = {}});
  }

  std::vector<Metric> all_;
};

}  // namespace gabion
