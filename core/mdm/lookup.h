// Finding things in the repository's maps.
#pragma once

#include "core/base/check.h"

namespace gabion::mdm {

template <class Map, class Key>
auto FindOrNull(const Map& map, const Key& key) -> const typename Map::mapped_type* {
  const auto at = map.find(key);
  return at == map.end() ? nullptr : &at->second;
}

// What a command names is there: it was validated.
template <class Map, class Key>
auto& Get(Map& map, const Key& key) {
  const auto at = map.find(key);
  CHECK(at != map.end());
  return at->second;
}

}  // namespace gabion::mdm
