// The client's side of its connection to the MDM: registration, the map stream, heartbeats.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/time.h"
#include "core/role/link.h"
#include "core/sdc/identity.h"
#include "core/sdc/map_cache.h"
#include "core/wire/management.pb.h"

namespace gabion::sdc {

//            link up               registered            full map
//   kDown ------------> kRegistering -------> kAwaitingMap ------> kCurrent
//     ^                    |  ^ again after 1 s                       |
//     '--------------------'--'-- link lost, silent, gap in the map --'
class MdmSession {
 public:
  enum class State : uint8_t { kDown, kRegistering, kAwaitingMap, kCurrent };

  struct Options {
    std::string name;
    std::vector<Address> mdms;
    BufferPool* pool = nullptr;
    DialTag dial_base = 0;
    TimerTag link_timer = 0;
    TimerTag timer = 0;
  };

  // What an event changed for the rest of the role.
  struct Progress {
    bool map_changed = false;
    bool confirmed = false;            // confirmed() rose
    std::optional<std::string> fatal;  // the role must not go on
  };

  explicit MdmSession(const Options& options);

  void Start(const Now& now, Effects& effects);

  Link& link() { return link_; }
  const Link& link() const { return link_; }
  const MapCache& map() const { return map_; }
  State state() const { return state_; }

  void OnHelloReply(const Now& now, const MessageEvent& event, const Identity& identity,
                    Progress* progress, Effects& effects);
  void OnDisconnected(const Now& now, const DisconnectedEvent& event, Effects& effects);
  void OnMessage(const Now& now, const MessageEvent& event, Identity* identity, Progress* progress,
                 Effects& effects);
  // `unreachable`: the SDSs that requests wait for, for the next heartbeat.
  void OnTimer(const Now& now, const Identity& identity, const std::vector<SdsId>& unreachable,
               Effects& effects);

  // Asks whether the map is still what the MDM has. The answer is there when confirmed() reaches
  // the number returned: then the map is at least as new as this call.
  uint64_t Ask(const Now& now, Effects& effects);
  uint64_t confirmed() const { return confirmed_; }

  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  void Register(const Identity& identity, Effects& effects);
  void OnRegistered(const proto::SdcRegisterReply& reply, Identity* identity, Effects& effects);
  void OnMap(const Now& now, const proto::MapUpdate& update, Progress* progress, Effects& effects);
  void SendHeartbeat(const std::vector<SdsId>& unreachable, Effects& effects);
  void ConfirmIfApplied(Progress* progress, Effects& effects);
  void Reconnect(const Now& now, std::string_view reason, Effects& effects);
  void BecomeDown();
  bool Send(const proto::Management& management, Effects& effects);
  void LogOnce(Severity severity, std::string text, Effects& effects);

  Options options_;
  Link link_;
  MapCache map_;
  State state_ = State::kDown;
  Instant last_heard_;
  uint64_t number_ = 0;      // of the last heartbeat sent
  uint64_t unanswered_ = 0;  // a heartbeat that is under way; 0: none
  bool ask_again_ = false;   // somebody asked while one was under way, or nothing was connected
  uint64_t confirmed_ = 0;
  uint64_t answered_ = 0;          // the last heartbeat answered ...
  uint64_t answered_version_ = 0;  // ... and the map version that the MDM had then
  std::string last_log_;
};

}  // namespace gabion::sdc
