#include "core/sdc/sdc.h"

#include <cerrno>
#include <utility>
#include <variant>

#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/sdc/attachments.h"
#include "core/sdc/identity.h"
#include "core/sdc/io.h"
#include "core/sdc/mdm_session.h"

namespace gabion::sdc {
namespace {

constexpr TimerTag kMdmLinkTimer = 1;
constexpr TimerTag kMdmTimer = 2;
constexpr TimerTag kPauseTimer = 3;
constexpr TimerTag kWatchTimer = 4;
constexpr TimerTag kStopTimer = 5;
constexpr TimerTag kSessionTimers = 16;

constexpr DialTag kMdmDials = uint64_t{1} << 32;
constexpr DialTag kSessionDials = uint64_t{2} << 32;

// How long a clean shutdown waits for I/O in flight.
constexpr Duration kStopMax = std::chrono::seconds(5);

// Routes events to the identity, the MDM session, the attachments and the I/O engine.
class Sdc final : public Role {
 public:
  Sdc(const Options& options, const RoleResources& resources)
      : identity_(resources.pool),
        mdm_({.name = options.name,
              .mdms = options.mdms,
              .pool = resources.pool,
              .dial_base = kMdmDials,
              .link_timer = kMdmLinkTimer,
              .timer = kMdmTimer}),
        attachments_(resources.pool, options.requests_max),
        io_({.pool = resources.pool,
             .requests_max = options.requests_max,
             .parts_max = options.pieces_max,
             .io_timeout = options.io_timeout,
             .connection_timeout = options.connection_timeout,
             .dial_base = kSessionDials,
             .session_timers = kSessionTimers,
             .pause_timer = kPauseTimer,
             .watch_timer = kWatchTimer}) {}

  void Step(const Now& now, const Event& event, Effects& effects) override {
    if (exited_) return;
    Context context{now, mdm_, effects};
    std::visit([&](const auto& e) { On(context, e); }, event);
    if (stopping_ && io_.idle()) Exit(effects, "");
  }

  void CheckInvariants() const override {
    mdm_.link().CheckInvariants();
    io_.CheckInvariants();
  }

  std::string Dump() const override {
    return "sdc " + ToString(identity_.id()) + " of cluster " + ToString(identity_.cluster()) +
           ", incarnation " + ToString(identity_.incarnation()) +
           (stopping_ ? ", stopping\n" : "\n") + mdm_.Dump() + attachments_.Dump() + io_.Dump();
  }

  void Collect(MetricList& metrics) const override {
    io_.Collect(metrics);
    metrics.Gauge("mdm_connected", "1 while the MDM keeps the map up to date.",
                  mdm_.state() == MdmSession::State::kCurrent ? 1 : 0);
    metrics.Gauge("volumes_mapped", "Volumes mapped to this client.", mdm_.map().volumes().size());
  }

  uint64_t StateHash() const override {
    uint64_t hash = mix64(identity_.id().value() + identity_.incarnation().value());
    hash = mix64(hash + mdm_.StateHash());
    hash = mix64(hash + attachments_.StateHash());
    hash = mix64(hash + io_.StateHash());
    return mix64(hash + connection_.value() * 4 + (stopping_ ? 2 : 0) + (exited_ ? 1 : 0));
  }

 private:
  void On(Context& context, const StartEvent& event) {
    identity_.Open(event.state_device, context.effects);
    OnIdentity(context);
  }

  void On(Context& context, const DiskDoneEvent& event) {
    if (identity_.OnDiskDone(event, context.effects)) OnIdentity(context);
  }

  void OnIdentity(Context& context) {
    switch (identity_.state()) {
      case Identity::State::kOpening:
      case Identity::State::kRaising:
        return;
      case Identity::State::kReady:
        if (mdm_.link().state() == Link::State::kIdle) mdm_.Start(context.now, context.effects);
        return;
      case Identity::State::kFailed:
        context.effects.Log(Severity::kCritical, "state directory: " + identity_.error());
        Exit(context.effects, "the state cannot be read or written: " + identity_.error());
        return;
    }
  }

  void On(Context& context, const DeviceOpenedEvent&) {
    context.effects.Log(Severity::kWarning, "a device was opened that nobody asked for");
  }

  wire::Hello NextHello() {
    connection_ = connection_.next();
    wire::Hello hello;
    hello.cluster = identity_.cluster();
    hello.sender = identity_.id().value();
    hello.incarnation = identity_.incarnation();
    hello.connection = connection_;
    hello.role = wire::PeerRole::kSdc;
    return hello;
  }

  void On(Context& context, const ConnectedEvent& event) {
    const wire::Hello hello = NextHello();
    if (mdm_.link().Owns(event.dial)) {
      mdm_.link().OnConnected(context.now, event, hello, context.effects);
    } else if (!io_.OnConnected(context, event, hello)) {
      context.effects.Close(event.conn);  // a client accepts nobody
    }
  }

  void On(Context& context, const ConnectFailedEvent& event) {
    if (mdm_.link().Owns(event.dial)) {
      mdm_.link().OnConnectFailed(context.now, event, context.effects);
    } else {
      (void)io_.OnConnectFailed(context, event);
    }
  }

  void On(Context& context, const DisconnectedEvent& event) {
    if (!io_.OnDisconnected(context, event)) {
      mdm_.OnDisconnected(context.now, event, context.effects);
    }
  }

  void On(Context& context, const MessageEvent& event) {
    const Link& link = mdm_.link();
    if (!link.conn().valid() || link.conn() != event.conn) {
      (void)io_.OnMessage(context, event);  // or of a connection that was given up
      return;
    }
    MdmSession::Progress progress;
    if (std::holds_alternative<wire::HelloReply>(event.message.body)) {
      mdm_.OnHelloReply(context.now, event, identity_, &progress, context.effects);
    } else if (link.up()) {
      mdm_.OnMessage(context.now, event, &identity_, &progress, context.effects);
    } else {
      (void)mdm_.link().Reconnect(context.now, context.effects);
    }
    if (progress.fatal.has_value()) {
      context.effects.Log(Severity::kCritical, *progress.fatal);
      Exit(context.effects, *progress.fatal);
      return;
    }
    if (progress.map_changed) {
      attachments_.OnMapChanged(context);
      io_.OnMapChanged(context);
    }
    if (progress.confirmed) {
      attachments_.OnConfirmed(context);
      io_.OnConfirmed(context);
    }
  }

  void On(Context& context, const TimerEvent& event) {
    if (event.tag == kMdmLinkTimer) {
      mdm_.link().OnTimer(context.now, context.effects);
    } else if (event.tag == kMdmTimer) {
      mdm_.OnTimer(context.now, identity_, io_.Unreachable(), context.effects);
    } else if (event.tag == kStopTimer) {
      if (!stopping_) return;
      context.effects.Log(Severity::kWarning, "stopping with I/O unanswered");
      Exit(context.effects, "");
    } else {
      (void)io_.OnTimer(context, event.tag);
    }
  }

  void On(Context& context, const UserRequestEvent& event) {
    if (stopping_ && event.op != UserOp::kDetach) {
      context.effects.Reply({.tag = event.tag, .error = ESHUTDOWN});
      return;
    }
    switch (event.op) {
      case UserOp::kAttach:
      case UserOp::kList:
        attachments_.Submit(context, event);
        return;
      case UserOp::kDetach:
        attachments_.Detach(context, event);
        return;
      case UserOp::kFlush:
        // Acknowledged means durable, so what has completed is; and a flush covers nothing else.
        context.effects.Reply({.tag = event.tag});
        return;
      case UserOp::kRead:
      case UserOp::kWrite:
      case UserOp::kTrim:
      case UserOp::kWriteZeroes:
      case UserOp::kBlockStatus:
        io_.Submit(context, event);
        return;
    }
    UNREACHABLE("unknown user operation");
  }

  void On(Context& context, const StopEvent&) {
    if (std::exchange(stopping_, true)) return;
    attachments_.RefuseWaiting(context, ESHUTDOWN);
    context.effects.SetTimer(kStopTimer, context.now.boot + kStopMax);
  }

  void Exit(Effects& effects, std::string reason) {
    if (std::exchange(exited_, true)) return;
    effects.Exit(std::move(reason));
  }

  Identity identity_;
  MdmSession mdm_;
  Attachments attachments_;
  Io io_;
  ConnectionNumber connection_;
  bool stopping_ = false;
  bool exited_ = false;
};

}  // namespace

std::unique_ptr<Role> MakeSdc(const Options& options, const RoleResources& resources) {
  CHECK(resources.pool != nullptr);
  return std::make_unique<Sdc>(options, resources);
}

}  // namespace gabion::sdc
