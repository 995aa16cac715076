#include "net/tcp/transport.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "net/tcp/socket_address.h"

namespace gabion::net {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

// One reactor with two transports: a server and a client.
class TransportTest : public testing::Test {
 protected:
  TransportTest() {
    reactor_ = std::move(*Reactor::Create());
    const auto log = [this](Severity, const std::string& text) { logged_ += text + "\n"; };
    server_ = std::make_unique<Transport>(reactor_.get(), &pool_, Transport::Options{}, log);
    client_ = std::make_unique<Transport>(reactor_.get(), &pool_, Transport::Options{}, log);
    Result<Address> bound = server_->Listen(Address::V4(127, 0, 0, 1, 0));
    EXPECT_TRUE(bound.has_value());
    address_ = *bound;
  }

  // Runs the loop until `from` has given `count` events in all (or the patience ends).
  std::vector<Event> Await(Transport& from, size_t count) {
    std::vector<Event> events;
    const Instant end = ReadClock().boot + kPatience;
    while (events.size() < count && ReadClock().boot < end) {
      server_->Flush();
      client_->Flush();
      from.TakeEvents(events);
      if (events.size() >= count) break;
      reactor_->Wait(ReadClock().boot + std::chrono::milliseconds(50));
      server_->Resume();
      client_->Resume();
      from.TakeEvents(events);
    }
    EXPECT_GE(events.size(), count) << "the event did not come";
    return events;
  }

  void Connect() {
    client_->Connect(5, address_);
    const std::vector<Event> connected = Await(*client_, 1);
    ASSERT_TRUE(std::holds_alternative<ConnectedEvent>(connected.at(0)));
    EXPECT_EQ(std::get<ConnectedEvent>(connected[0]).dial, 5u);
    client_conn_ = std::get<ConnectedEvent>(connected[0]).conn;
    const std::vector<Event> accepted = Await(*server_, 1);
    ASSERT_TRUE(std::holds_alternative<ConnectedEvent>(accepted.at(0)));
    EXPECT_EQ(std::get<ConnectedEvent>(accepted[0]).dial, 0u);
    server_conn_ = std::get<ConnectedEvent>(accepted[0]).conn;
  }

  wire::Message Write(uint32_t bytes, int fill) {
    wire::WriteRequest request;
    request.kind = wire::EntryKind::kWrite;
    request.target.length_bytes = bytes;
    request.tag = static_cast<uint64_t>(fill);
    Slice payload = pool_.Allocate(bytes);
    std::memset(payload.mutable_span().data(), fill, bytes);
    return {request, payload};
  }

  // A plain socket to the server: for bytes that no Transport would send.
  int RawSocket() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_storage storage;
    const socklen_t size = ToSockaddr(address_, &storage);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&storage), size), 0);
    return fd;
  }

  std::string logged_;
  BufferPool pool_{{}};
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<Transport> server_;
  std::unique_ptr<Transport> client_;
  Address address_;
  ConnId client_conn_;
  ConnId server_conn_;
};

TEST_F(TransportTest, MessagesOfAllSizesArriveWholeAndInOrder) {
  Connect();
  const uint32_t sizes[] = {512, 4096, 4608, 65536, wire::kDataBytesMax};
  int sent = 0;
  for (int round = 0; round < 20; ++round) {
    for (const uint32_t size : sizes) client_->Send(client_conn_, Write(size, ++sent % 251));
    client_->Send(client_conn_, {wire::SessionHeartbeatReply{}, {}});
    ++sent;
  }
  const std::vector<Event> events = Await(*server_, static_cast<size_t>(sent));
  int seen = 0;
  for (const Event& event : events) {
    ++seen;
    const auto& message = std::get<MessageEvent>(event).message;
    if (seen % 6 == 0) {
      EXPECT_TRUE(std::holds_alternative<wire::SessionHeartbeatReply>(message.body));
      continue;
    }
    const auto& request = std::get<wire::WriteRequest>(message.body);
    ASSERT_EQ(request.tag, static_cast<uint64_t>(seen % 251));
    ASSERT_EQ(message.payload.size(), request.target.length_bytes);
    const uintptr_t alignment = request.target.length_bytes < 4096 ? 512 : 4096;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(message.payload.data()) % alignment, 0u)
        << "payloads must be fit for O_DIRECT";
    ASSERT_EQ(message.payload.span().front(), std::byte(seen % 251));
    ASSERT_EQ(message.payload.span().back(), std::byte(seen % 251));
  }
  // At most one copy of any byte, and most of a large payload is not copied at all.
  EXPECT_LT(pool_.stats().bytes_copied, server_->counters().bytes_received);
}

TEST_F(TransportTest, ADialToNobodyFails) {
  Result<int> unused = BindTcp(Address::V4(127, 0, 0, 1, 0));  // bound, not listening
  ASSERT_TRUE(unused.has_value());
  client_->Connect(9, LocalAddress(*unused));
  const std::vector<Event> events = Await(*client_, 1);
  ASSERT_TRUE(std::holds_alternative<ConnectFailedEvent>(events.at(0)));
  EXPECT_EQ(std::get<ConnectFailedEvent>(events[0]).dial, 9u);
  ::close(*unused);
}

TEST_F(TransportTest, WhatWasSentBeforeACloseArrivesAndBothSidesAreTold) {
  Connect();
  client_->Send(client_conn_, Write(wire::kDataBytesMax, 3));
  client_->Close(client_conn_);
  const std::vector<Event> own = Await(*client_, 1);
  EXPECT_TRUE(std::holds_alternative<DisconnectedEvent>(own.at(0)));
  const std::vector<Event> events = Await(*server_, 2);
  EXPECT_TRUE(std::holds_alternative<MessageEvent>(events.at(0)));
  EXPECT_TRUE(std::holds_alternative<DisconnectedEvent>(events.at(1)));
}

TEST_F(TransportTest, AMessageToAClosedConnectionIsDropped) {
  Connect();
  client_->Close(client_conn_);
  client_->Send(client_conn_, Write(512, 1));
  EXPECT_EQ(client_->counters().messages_sent, 0u);
}

TEST_F(TransportTest, GarbageEndsTheConnectionWithAReasonAndHarmsNobodyElse) {
  Connect();
  const int fd = RawSocket();
  (void)Await(*server_, 1);  // accepted
  const std::string garbage(200, 'x');
  ASSERT_EQ(::send(fd, garbage.data(), garbage.size(), 0), static_cast<ssize_t>(garbage.size()));
  const std::vector<Event> events = Await(*server_, 1);
  EXPECT_TRUE(std::holds_alternative<DisconnectedEvent>(events.at(0)));
  EXPECT_EQ(server_->counters().bad_frames, 1u);
  EXPECT_NE(logged_.find("not a Gabion frame"), std::string::npos);
  ::close(fd);
  client_->Send(client_conn_, Write(4096, 1));
  EXPECT_TRUE(std::holds_alternative<MessageEvent>(Await(*server_, 1).at(0)));
}

TEST_F(TransportTest, AFrameCutOffInTheMiddleIsNeverDelivered) {
  const int fd = RawSocket();
  (void)Await(*server_, 1);
  std::array<std::byte, wire::kHeadBytesMax> head;
  const size_t size = wire::EncodeHead(Write(4096, 1), head);
  ASSERT_EQ(::send(fd, head.data(), size, 0), static_cast<ssize_t>(size));  // and no payload
  ::close(fd);
  const std::vector<Event> events = Await(*server_, 1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<DisconnectedEvent>(events[0]));
}

TEST_F(TransportTest, AReceiverShortOfMemoryWaitsAndGoesOn) {
  // Room for two payloads of clients; six are sent, and the test holds each for a while.
  BufferPool small({.bytes_max = 4 * wire::kDataBytesMax});
  Transport receiver(reactor_.get(), &small, {}, [](Severity, const std::string&) {});
  Result<Address> bound = receiver.Listen(Address::V4(127, 0, 0, 1, 0));
  ASSERT_TRUE(bound.has_value());
  client_->Connect(1, *bound);
  const ConnId conn = std::get<ConnectedEvent>(Await(*client_, 1).at(0)).conn;
  for (int i = 0; i < 6; ++i) client_->Send(conn, Write(wire::kDataBytesMax, i));
  int received = 0;
  std::vector<Event> held;
  const Instant end = ReadClock().boot + kPatience;
  while (received < 6 && ReadClock().boot < end) {
    client_->Flush();
    reactor_->Wait(ReadClock().boot + std::chrono::milliseconds(20));
    std::vector<Event> events;
    receiver.TakeEvents(events);
    for (const Event& event : events) {
      if (!std::holds_alternative<MessageEvent>(event)) continue;
      EXPECT_EQ(std::get<MessageEvent>(event).message.payload.span()[0], std::byte(received));
      ++received;
    }
    if (receiver.stalled()) held.clear();
    held.insert(held.end(), events.begin(), events.end());
    events.clear();
    receiver.Resume();
    receiver.Flush();
  }
  EXPECT_EQ(received, 6);
  EXPECT_GT(small.stats().refusals, 0u) << "memory was never short: the test tested nothing";
}

TEST_F(TransportTest, ClientsThatHoldAllTheirMemoryDoNotStopAServersReplicate) {
  BufferPool small({.bytes_max = 4 * wire::kDataBytesMax});
  Transport receiver(reactor_.get(), &small, {}, [](Severity, const std::string&) {});
  Result<Address> bound = receiver.Listen(Address::V4(127, 0, 0, 1, 0));
  ASSERT_TRUE(bound.has_value());
  client_->Connect(1, *bound);
  const ConnId client = std::get<ConnectedEvent>(Await(*client_, 1).at(0)).conn;
  client_->Connect(2, *bound);
  const ConnId server = std::get<ConnectedEvent>(Await(*client_, 1).at(0)).conn;
  for (int i = 0; i < 6; ++i) client_->Send(client, Write(wire::kDataBytesMax, i));
  std::vector<Event> held;  // for ever
  const auto turn = [&] {
    client_->Flush();
    reactor_->Wait(ReadClock().boot + std::chrono::milliseconds(20));
    receiver.TakeEvents(held);
    receiver.Resume();
    receiver.Flush();
  };
  const Instant end = ReadClock().boot + kPatience;
  while (!receiver.stalled() && ReadClock().boot < end) turn();
  ASSERT_TRUE(receiver.stalled());
  wire::Hello hello;
  hello.role = wire::PeerRole::kSds;
  client_->Send(server, {hello, Slice()});
  client_->Send(server, Write(wire::kDataBytesMax, 77));
  const auto arrived = [&] {
    return std::any_of(held.begin(), held.end(), [](const Event& event) {
      const auto* message = std::get_if<MessageEvent>(&event);
      return message != nullptr && !message->message.payload.empty() &&
             message->message.payload.span()[0] == std::byte(77);
    });
  };
  while (!arrived() && ReadClock().boot < end) turn();
  EXPECT_TRUE(arrived());
  EXPECT_TRUE(receiver.stalled()) << "the clients' memory was given back";
}

TEST_F(TransportTest, APortInUseIsRefusedWithTheWayOut) {
  Result<Address> second = client_->Listen(address_);
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find(address_.ToString()), std::string::npos);
  EXPECT_NE(second.error().message.find("another program uses this port"), std::string::npos);
}

}  // namespace
}  // namespace gabion::net
