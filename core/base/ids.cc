#include "core/base/ids.h"

namespace gabion {

std::string HexId(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = text.size(); value != 0; value >>= 4) text[--i] = "0123456789abcdef"[value & 15];
  return text;
}

std::string ToString(EntryId id) { return ToString(id.epoch) + "." + ToString(id.seq); }

}  // namespace gabion
