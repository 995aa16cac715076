#include "core/sds/requests.h"

#include <algorithm>

#include "core/base/check.h"

namespace gabion::sds {

void Outstanding::Add(ConfigVersion version) {
  const auto at =
      std::lower_bound(counts_.begin(), counts_.end(), version,
                       [](const auto& item, ConfigVersion wanted) { return item.first < wanted; });
  if (at != counts_.end() && at->first == version) {
    ++at->second;
  } else {
    counts_.insert(at, {version, 1});
  }
}

void Outstanding::Remove(ConfigVersion version) {
  const auto at =
      std::lower_bound(counts_.begin(), counts_.end(), version,
                       [](const auto& item, ConfigVersion wanted) { return item.first < wanted; });
  CHECK(at != counts_.end() && at->first == version) << "version " << version;
  if (--at->second == 0) counts_.erase(at);
}

ConfigVersion Outstanding::Drained(ConfigVersion applied) const {
  return counts_.empty() ? applied : std::min(applied, counts_.front().first);
}

size_t Outstanding::count() const {
  size_t count = 0;
  for (const auto& [version, number] : counts_) count += number;
  return count;
}

}  // namespace gabion::sds
