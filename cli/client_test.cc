#include "cli/client.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <thread>
#include <vector>

#include "core/wire/management.h"

namespace gabion::cli {
namespace {

// One side of a connection, for a test that plays the MDM. Reads end when the client goes.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd), pool_({.bytes_max = size_t{64} << 20}) {}
  ~Peer() { ::close(fd_); }

  bool ReceiveBytes(void* into, size_t size) {
    return ::recv(fd_, into, size, MSG_WAITALL) == static_cast<ssize_t>(size);
  }
  void SendBytes(const void* data, size_t size) { ::send(fd_, data, size, MSG_NOSIGNAL); }

  std::optional<wire::Message> Receive() {
    std::array<std::byte, wire::kFrameHeaderBytes> head;
    if (!ReceiveBytes(head.data(), head.size())) return std::nullopt;
    const auto header = wire::ParseHeader(head);
    if (!header) return std::nullopt;
    std::vector<std::byte> body(header->body_bytes);
    if (!body.empty() && !ReceiveBytes(body.data(), body.size())) return std::nullopt;
    Slice payload;
    if (header->payload_bytes > 0) {
      payload = pool_.Allocate(header->payload_bytes);
      if (!ReceiveBytes(payload.mutable_span().data(), payload.size())) return std::nullopt;
    }
    auto message = wire::DecodeFrame(*header, body, payload);
    if (!message) return std::nullopt;
    return *message;
  }
  void Send(const wire::Message& message) {
    std::array<std::byte, wire::kHeadBytesMax> head;
    SendBytes(head.data(), wire::EncodeHead(message, head));
    SendBytes(message.payload.data(), message.payload.size());
  }

  // True when a hello of an admin came.
  bool Greet(wire::Status status = wire::Status::kOk, wire::PeerRole role = wire::PeerRole::kMdm) {
    const auto message = Receive();
    if (!message) return false;
    const auto* hello = std::get_if<wire::Hello>(&message->body);
    EXPECT_NE(hello, nullptr);
    if (hello == nullptr) return false;
    EXPECT_EQ(hello->role, wire::PeerRole::kAdmin);
    wire::HelloReply reply;
    reply.status = status;
    reply.version = wire::kVersionMax;
    reply.role = role;
    reply.cluster = ClusterId(7);
    Send({reply, {}});
    return true;
  }
  // The next command, and its tag.
  std::optional<proto::AdminRequest> Command(uint64_t* tag) {
    const auto message = Receive();
    if (!message) return std::nullopt;
    const auto parsed = wire::ParseManagement(*message);
    if (!parsed || !parsed->has_admin_request()) return std::nullopt;
    *tag = std::get<wire::ManagementBody>(message->body).tag;
    return parsed->admin_request();
  }
  void Answer(uint64_t tag, proto::AdminReply::Code code, const std::string& error = "") {
    proto::Management management;
    management.mutable_admin_reply()->set_code(code);
    management.mutable_admin_reply()->set_error(error);
    Send(wire::ToMessage(management, tag, pool_));
  }

 private:
  int fd_;
  BufferPool pool_;
};

// Plays the MDM: each connection in turn is given to `serve`, until the object goes.
class FakeMdm {
 public:
  explicit FakeMdm(std::function<void(Peer&, int)> serve) : serve_(std::move(serve)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(name);
    ::bind(fd_, reinterpret_cast<const sockaddr*>(&name), size);
    ::listen(fd_, 16);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size);
    endpoint_ = "127.0.0.1:" + std::to_string(ntohs(name.sin_port));
    thread_ = std::thread([this] {
      for (int connection = 0;; ++connection) {
        const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        Peer peer(fd);
        serve_(peer, connection);
      }
    });
  }
  ~FakeMdm() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  const std::string& endpoint() const { return endpoint_; }

 private:
  std::function<void(Peer&, int)> serve_;
  int fd_ = -1;
  std::string endpoint_;
  std::thread thread_;
};

proto::AdminRequest SomeCommand() {
  proto::AdminRequest request;
  request.mutable_pool_add()->set_name("p");
  return request;
}

MdmClient::Options OptionsFor(std::vector<std::string> endpoints, int timeout_ms = 30'000) {
  return {.endpoints = std::move(endpoints),
          .timeout = std::chrono::milliseconds(timeout_ms),
          .on_waiting = nullptr};
}

TEST(MdmClient, AsksAndIsAnswered) {
  FakeMdm mdm([](Peer& peer, int) {
    if (!peer.Greet()) return;
    uint64_t tag = 0;
    while (const auto command = peer.Command(&tag)) {
      EXPECT_EQ(command->pool_add().name(), "p");
      EXPECT_EQ(command->request().size(), 32u);
      EXPECT_NE(command->user(), "");
      peer.Answer(tag, proto::AdminReply::EXISTS, "pool p exists");
    }
  });
  MdmClient client(OptionsFor({mdm.endpoint()}));
  for (int i = 0; i < 2; ++i) {
    const auto reply = client.Call(SomeCommand());
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(reply->code(), proto::AdminReply::EXISTS);
    EXPECT_EQ(reply->error(), "pool p exists");
  }
}

TEST(MdmClient, LostAnswerIsAskedAgainUnderTheSameId) {
  std::vector<std::string> ids;
  int told = 0;
  {
    FakeMdm mdm([&ids](Peer& peer, int connection) {
      uint64_t tag = 0;
      if (!peer.Greet()) return;
      const auto command = peer.Command(&tag);
      if (!command) return;
      ids.push_back(command->request());
      if (connection < 2) return;  // closes without an answer
      peer.Answer(tag, proto::AdminReply::OK);
      peer.Command(&tag);  // until the client goes
    });
    MdmClient::Options options = OptionsFor({mdm.endpoint()});
    options.on_waiting = [&told](const std::string&) { ++told; };
    MdmClient client(options);
    const auto reply = client.Call(SomeCommand());
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(reply->code(), proto::AdminReply::OK);
  }
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_EQ(told, 1);
}

TEST(MdmClient, UnavailableIsAskedAgainAndThenShown) {
  int asked = 0;
  {
    FakeMdm mdm([&asked](Peer& peer, int) {
      if (!peer.Greet()) return;
      uint64_t tag = 0;
      while (peer.Command(&tag)) {
        ++asked;
        peer.Answer(tag, proto::AdminReply::UNAVAILABLE, "no majority");
      }
    });
    MdmClient client(OptionsFor({mdm.endpoint()}, 500));
    const auto reply = client.Call(SomeCommand());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error(), "no majority");
  }
  EXPECT_GT(asked, 1);
}

TEST(MdmClient, AnotherEndpointIsTried) {
  FakeMdm mdm([](Peer& peer, int) {
    uint64_t tag = 0;
    if (!peer.Greet()) return;
    while (peer.Command(&tag)) peer.Answer(tag, proto::AdminReply::OK);
  });
  // Nobody listens on port 1 of the loopback.
  MdmClient client(OptionsFor({"127.0.0.1:1", mdm.endpoint()}));
  EXPECT_TRUE(client.Call(SomeCommand()));
}

TEST(MdmClient, NobodyThereIsUnavailableWithTheWayOut) {
  MdmClient client(OptionsFor({"127.0.0.1:1"}, 200));
  const auto reply = client.Call(SomeCommand());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
  for (const char* part : {"127.0.0.1:1", "gave up", "--mdm"}) {
    EXPECT_NE(reply.error().message.find(part), std::string::npos) << reply.error().message;
  }
}

TEST(MdmClient, SilentServerIsUnavailable) {
  FakeMdm mdm([](Peer& peer, int) {
    std::byte byte;
    while (peer.ReceiveBytes(&byte, 1)) {
    }
  });
  MdmClient client(OptionsFor({mdm.endpoint()}, 300));
  const auto reply = client.Call(SomeCommand());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
}

TEST(MdmClient, ChangeThatIsOwedAnAnswerIsNotCalledUnreachable) {
  int asked = 0;
  {
    FakeMdm mdm([&asked](Peer& peer, int) {
      uint64_t tag = 0;
      if (!peer.Greet()) return;
      while (peer.Command(&tag)) ++asked;
    });
    MdmClient::Options options = OptionsFor({mdm.endpoint()});
    options.answer_timeout = std::chrono::milliseconds(200);
    MdmClient client(options);
    const auto reply = client.Call(SomeCommand());
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, ErrorCode::kTimeout);
    EXPECT_NE(reply.error().message.find("gabion status"), std::string::npos);
  }
  EXPECT_EQ(asked, 1);
}

TEST(MdmClient, ForeignProtocolIsToldAtOnce) {
  FakeMdm mdm([](Peer& peer, int) {
    constexpr char kText[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    peer.SendBytes(kText, sizeof(kText));
    std::byte byte;
    while (peer.ReceiveBytes(&byte, 1)) {
    }
  });
  MdmClient client(OptionsFor({mdm.endpoint()}));
  const auto reply = client.Call(SomeCommand());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kCorrupt);
}

TEST(MdmClient, AnotherDaemonAndAnotherVersionAreRefused) {
  for (const auto& [status, role] :
       {std::pair{wire::Status::kOk, wire::PeerRole::kSds},
        std::pair{wire::Status::kUnsupportedVersion, wire::PeerRole::kMdm}}) {
    FakeMdm mdm([status = status, role = role](Peer& peer, int) { peer.Greet(status, role); });
    MdmClient client(OptionsFor({mdm.endpoint()}));
    const auto reply = client.Call(SomeCommand());
    ASSERT_FALSE(reply);
    EXPECT_NE(reply.error().code, ErrorCode::kUnavailable) << reply.error().message;
  }
}

TEST(MdmClient, BadEndpointIsNamed) {
  MdmClient client(OptionsFor({"nonsense"}));
  const auto reply = client.Call(SomeCommand());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(reply.error().message.find("'nonsense'"), std::string::npos);
}

TEST(MdmClient, RequestIdsDiffer) { EXPECT_NE(NewRequestId(), NewRequestId()); }

TEST(Listens, OnlyWhereSomebodyAccepts) {
  const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof(name);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&name), size), 0);
  ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
  const std::string endpoint = "[::1]:" + std::to_string(ntohs(name.sin6_port));
  EXPECT_FALSE(Listens(endpoint));
  ASSERT_EQ(::listen(fd, 1), 0);
  EXPECT_TRUE(Listens(endpoint));
  ::close(fd);
  EXPECT_FALSE(Listens(endpoint));
  EXPECT_FALSE(Listens("nonsense"));
}

}  // namespace
}  // namespace gabion::cli
