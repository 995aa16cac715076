// An administrator: a role that sends commands to the MDM, one at a time, each until it is
// answered.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/role/link.h"
#include "core/role/role.h"
#include "core/wire/management.h"

namespace gabion::sim {

// Commands still to be answered, shared by the harness and the role.
struct AdminQueue {
  struct Command {
    proto::AdminRequest request;
    std::function<void(const proto::AdminReply&)> done;
  };
  std::deque<Command> commands;
  uint64_t next_request = 1;

  // `request` gets its unique name here, unless it is a query. The role must be told (Wake).
  void Add(proto::AdminRequest request, std::function<void(const proto::AdminReply&)> done);
};

class AdminRole : public Role {
 public:
  AdminRole(std::vector<Address> mdms, std::shared_ptr<AdminQueue> queue,
            const RoleResources& resources);

  // A UserRequestEvent of any kind wakes it: there are new commands.
  void Step(const Now& now, const Event& event, Effects& effects) override;
  void CheckInvariants() const override;
  std::string Dump() const override;
  uint64_t StateHash() const override;

 private:
  void SendFirst(const Now& now, Effects& effects);
  void OnReply(const Now& now, const wire::Message& message, Effects& effects);

  std::vector<Address> mdms_;
  std::shared_ptr<AdminQueue> queue_;
  BufferPool* pool_;
  Link link_;
  uint64_t tag_ = 0;  // of the request in flight; 0: none
  uint64_t next_tag_ = 1;
  uint64_t connection_ = 0;
};

}  // namespace gabion::sim
