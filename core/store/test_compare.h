// Everything that can be seen of a store, compared with the model.
#pragma once

#include <cstdint>
#include <string>

#include "core/store/test_model.h"
#include "core/store/test_store.h"

namespace gabion::store {

struct View {
  uint32_t chunks = 0;    // those below were written to, if any
  uint64_t requests = 0;  // so were these, by kModelClient
};

// Whether the store may be of this world; if not, `why` says where it differs. The store may have
// forgotten the newest commit points.
bool Looks(TestStore& test, const World& want, const View& view, std::string* why);

}  // namespace gabion::store
