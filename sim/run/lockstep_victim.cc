// A world of one role whose 5,000th step depends, when asked, on something that no role may depend
// on. Says what happens as an EventLog: lockstep_victim_gcc [KIND] [--again]
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "sim/run/evaluation_order.h"
#include "sim/run/lockstep.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

constexpr uint64_t kStepsBefore = 4'999;
constexpr Duration kLength = std::chrono::seconds(1);

uint64_t runs_of_this_process = 0;

uint64_t DrawOne(void* choices) {
  Choices& from = *static_cast<Choices*>(choices);
  return from.Below(from.Open(StreamKind::kWorkload), Site::kShape, 997);
}

uint64_t Unsteady(std::string_view kind, Choices& choices) {
  if (kind == "hash-order") {
    absl::flat_hash_set<uint64_t> set;
    for (uint64_t i = 0; i < 200; ++i) set.insert(i);
    uint64_t order = 0;
    for (const uint64_t element : set) order = order * 31 + element;
    return order;
  }
  if (kind == "address") {
    const auto object = std::make_unique<uint64_t>();
    return reinterpret_cast<uintptr_t>(object.get()) >> 4;
  }
  if (kind == "uninitialised") {
    // The compiler would see through a plain call, and warn.
    void* (*volatile allocate)(size_t) = std::malloc;
    void* const memory = allocate(100);
    const uint64_t byte = static_cast<const unsigned char*>(memory)[70];
    std::free(memory);
    return byte;
  }
  // g++ evaluates the second one first.
  if (kind == "evaluation-order") return DrawTwoInOneExpression(DrawOne, &choices);
  if (kind == "earlier-run") return runs_of_this_process;
  return 0;
}

void Run(std::string_view kind, EventLog* log) {
  ++runs_of_this_process;
  PageArena arena;
  Choices choices(1);
  World world({}, &choices, &arena);
  world.TraceTo(log);
  uint64_t steps = 0;
  AddScript(world, [&](const Now& now, const Event&, Effects& effects) {
    const uint64_t more = ++steps == kStepsBefore + 1 ? Unsteady(kind, choices) % 1'000'003 : 0;
    effects.SetTimer(1, now.boot + std::chrono::microseconds(50) + Duration(more));
  });
  world.Start(0);
  world.RunUntil(kLength.count());
  if (log != nullptr) log->Finish(world.hash());
}

int Main(int argc, char** argv) {
  std::string_view kind;
  bool again = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--again") {
      again = true;
    } else {
      kind = word;
    }
  }
  if (again) Run(kind, nullptr);
  EventLog log(STDIN_FILENO, STDOUT_FILENO);
  Run(kind, &log);
  return 0;
}

}  // namespace
}  // namespace gabion::sim

int main(int argc, char** argv) { return gabion::sim::Main(argc, argv); }
