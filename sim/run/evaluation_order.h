// Two draws in one expression, which compilers evaluate in different orders. Compiled by g++ and by
// clang, whatever else is (BUILD.bazel).
#pragma once

#include <cstdint>

namespace gabion::sim {

using DrawFunction = uint64_t (*)(void* context);

uint64_t DrawTwoInOneExpression(DrawFunction draw, void* context);

}  // namespace gabion::sim
