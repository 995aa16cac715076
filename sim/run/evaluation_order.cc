#include "sim/run/evaluation_order.h"

namespace gabion::sim {

namespace {

uint64_t Pair(uint64_t a, uint64_t b) { return a * 1'000 + b; }

}  // namespace

uint64_t DrawTwoInOneExpression(DrawFunction draw, void* context) {
  return Pair(draw(context), draw(context));
}

}  // namespace gabion::sim
