#include "sim/cluster/admin.h"

#include <utility>

#include "core/base/check.h"

namespace gabion::sim {

namespace {

constexpr TimerTag kLinkTimer = 1;
constexpr TimerTag kRetryTimer = 2;
constexpr Duration kRetry = std::chrono::seconds(2);
constexpr Duration kAgain = std::chrono::milliseconds(100);

}  // namespace

void AdminQueue::Add(proto::AdminRequest request,
                     std::function<void(const proto::AdminReply&)> done) {
  if (request.command_case() != proto::AdminRequest::kStatus) {
    request.set_request("sim-" + std::to_string(next_request++));
    request.set_user("sim");
  }
  commands.push_back({std::move(request), std::move(done)});
}

AdminRole::AdminRole(std::vector<Address> mdms, std::shared_ptr<AdminQueue> queue,
                     const RoleResources& resources)
    : mdms_(std::move(mdms)),
      queue_(std::move(queue)),
      pool_(resources.pool),
      link_(Link::Options{.timer = kLinkTimer}) {}

void AdminRole::SendFirst(const Now& now, Effects& effects) {
  if (!link_.up() || tag_ != 0 || queue_->commands.empty()) return;
  proto::Management management;
  *management.mutable_admin_request() = queue_->commands.front().request;
  tag_ = next_tag_++;
  wire::Message message = wire::ToMessage(management, tag_, *pool_);
  effects.Send(link_.conn(), message.body, message.payload);
  effects.SetTimer(kRetryTimer, now.boot + kRetry);
}

void AdminRole::OnReply(const Now& now, const wire::Message& message, Effects& effects) {
  const auto* body = std::get_if<wire::ManagementBody>(&message.body);
  if (body == nullptr || body->tag != tag_ || tag_ == 0) return;
  const Result<proto::Management> management = wire::ParseManagement(message);
  if (!management.has_value() || !management->has_admin_reply()) return;
  tag_ = 0;
  const proto::AdminReply& reply = management->admin_reply();
  if (reply.code() == proto::AdminReply::UNAVAILABLE ||
      reply.code() == proto::AdminReply::CONFLICT) {
    effects.SetTimer(kRetryTimer, now.boot + kAgain);
    // The first answer to a request stands for ever, so asking again needs a new name.
    proto::AdminRequest& request = queue_->commands.front().request;
    if (!request.request().empty()) {
      request.set_request("sim-" + std::to_string(queue_->next_request++));
    }
    return;
  }
  const AdminQueue::Command command = std::move(queue_->commands.front());
  queue_->commands.pop_front();
  if (command.done) command.done(reply);
  SendFirst(now, effects);
}

void AdminRole::Step(const Now& now, const Event& event, Effects& effects) {
  const auto lost = [&](Link::Change change) {
    if (change == Link::Change::kDown) tag_ = 0;
  };
  if (std::holds_alternative<StartEvent>(event)) {
    lost(link_.Start(now,
                     {.role = wire::PeerRole::kMdm, .id = 0, .incarnation = {}, .addresses = mdms_},
                     effects));
  } else if (const auto* connected = std::get_if<ConnectedEvent>(&event)) {
    wire::Hello hello;
    hello.role = wire::PeerRole::kAdmin;
    hello.incarnation = Incarnation(1);
    hello.connection = ConnectionNumber(++connection_);
    if (link_.Owns(connected->dial)) link_.OnConnected(now, *connected, hello, effects);
  } else if (const auto* failed = std::get_if<ConnectFailedEvent>(&event)) {
    link_.OnConnectFailed(now, *failed, effects);
  } else if (const auto* disconnected = std::get_if<DisconnectedEvent>(&event)) {
    lost(link_.OnDisconnected(now, *disconnected, effects));
  } else if (const auto* message = std::get_if<MessageEvent>(&event)) {
    if (const auto* reply = std::get_if<wire::HelloReply>(&message->message.body)) {
      lost(link_.OnHelloReply(now, message->conn, *reply, effects));
      SendFirst(now, effects);
    } else if (link_.up() && message->conn == link_.conn()) {
      OnReply(now, message->message, effects);
    }
  } else if (const auto* timer = std::get_if<TimerEvent>(&event)) {
    if (timer->tag == kLinkTimer) {
      link_.OnTimer(now, effects);
    } else if (tag_ == 0) {
      SendFirst(now, effects);
    } else {
      lost(link_.Reconnect(now, effects));
    }
  } else if (std::holds_alternative<UserRequestEvent>(event)) {
    SendFirst(now, effects);
  } else if (std::holds_alternative<StopEvent>(event)) {
    effects.Exit("");
  }
}

void AdminRole::CheckInvariants() const {
  link_.CheckInvariants();
  CHECK(tag_ == 0 || link_.up());
}

std::string AdminRole::Dump() const {
  return link_.Dump() + "\ncommands " + std::to_string(queue_->commands.size()) + "\n";
}

uint64_t AdminRole::StateHash() const { return link_.StateHash() ^ tag_; }

}  // namespace gabion::sim
