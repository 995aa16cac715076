// Who this client is: cluster, id and incarnation, kept in a journal on the state device. The
// incarnation is raised, durably, before any connection is made.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/buffer.h"
#include "core/base/ids.h"
#include "core/role/effects.h"
#include "core/role/event.h"
#include "core/store/journal.h"

namespace gabion::sdc {

//   kOpening --journal read--> kRaising --record durable--> kReady
//      '------------------------'-----> kFailed
class Identity {
 public:
  enum class State : uint8_t { kOpening, kRaising, kReady, kFailed };

  explicit Identity(BufferPool* pool);

  void Open(const DeviceInfo& info, Effects& effects);
  // True when the event led to kReady or kFailed.
  bool OnDiskDone(const DiskDoneEvent& event, Effects& effects);

  State state() const { return state_; }
  const std::string& error() const { return error_; }

  // The MDM's answer to the first registration.
  void Learn(ClusterId cluster, SdcId id, Effects& effects);

  ClusterId cluster() const { return cluster_; }
  SdcId id() const { return id_; }
  Incarnation incarnation() const { return incarnation_; }

 private:
  void Fail(std::string error);
  void Record(Effects& effects);
  bool Decode(std::span<const std::byte> bytes);

  store::Journal journal_;
  State state_ = State::kOpening;
  std::string error_;
  uint64_t raising_sequence_ = 0;
  ClusterId cluster_;
  SdcId id_;
  Incarnation incarnation_;
};

}  // namespace gabion::sdc
