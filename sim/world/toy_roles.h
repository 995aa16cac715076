// Small roles for tests of the world itself.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/role/role.h"
#include "sim/world/world.h"

namespace gabion::sim {

// Calls a function for every event, and keeps the events.
class ScriptRole : public Role {
 public:
  using Script = std::function<void(const Now&, const Event&, Effects&)>;
  explicit ScriptRole(Script script) : script_(std::move(script)) {}

  void Step(const Now& now, const Event& event, Effects& effects) override {
    script_(now, event, effects);
  }
  void CheckInvariants() const override {}
  std::string Dump() const override { return "script\n"; }
  uint64_t StateHash() const override { return 1; }

 private:
  Script script_;
};

inline Disk::Options ToyDisk(uint64_t size_bytes = 1 << 20) {
  Disk::Options options;
  options.info.size_bytes = size_bytes;
  options.info.block_bytes = 512;
  return options;
}

inline Address ToyAddress(uint32_t node) {
  return Address::V4(10, 0, 0, static_cast<uint8_t>(node + 1), 7000);
}

inline NodeIndex AddScript(World& world, ScriptRole::Script script, int64_t drift_ppm = 0) {
  NodeOptions options;
  options.name = "toy" + std::to_string(world.node_count());
  options.address = ToyAddress(static_cast<uint32_t>(world.node_count()));
  options.clock.drift_ppm = drift_ppm;
  options.state_device = ToyDisk();
  options.make_role = [script = std::move(script)](const RoleResources&) {
    return std::make_unique<ScriptRole>(script);
  };
  return world.AddNode(options);
}

// A message that carries a number.
inline wire::Body Numbered(uint64_t number) {
  wire::SessionHeartbeat body;
  body.tag = number;
  return body;
}
inline uint64_t NumberOf(const wire::Message& message) {
  return std::get<wire::SessionHeartbeat>(message.body).tag;
}

}  // namespace gabion::sim
