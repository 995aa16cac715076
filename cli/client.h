// Talks to the MDM: a blocking connection with deadlines. Admin commands carry an id, so asking
// again after a lost answer does nothing twice.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/wire/frame.h"
#include "core/wire/management.pb.h"

namespace gabion::cli {

class MdmClient {
 public:
  struct Options {
    std::vector<std::string> endpoints;                            // "HOST:PORT", tried in turn
    std::chrono::milliseconds timeout = std::chrono::seconds(10);  // to reach somebody
    // For the answer to a change that an MDM has received; it gives up after 30 s itself. A query's
    // answer is only waited for within `timeout`.
    std::chrono::milliseconds answer_timeout = std::chrono::seconds(40);
    // Told once per call, when the first attempt has failed.
    std::function<void(const std::string&)> on_waiting;
  };

  explicit MdmClient(Options options);
  MdmClient(const MdmClient&) = delete;
  MdmClient& operator=(const MdmClient&) = delete;
  ~MdmClient();

  // Sends the command until somebody has answered, or the time is up: kUnavailable, with the last
  // reason. kTimeout: somebody has the command and owes the answer. An answer of UNAVAILABLE is
  // asked again, and returned when the time is up. Fills in `request` and `user`.
  Result<proto::AdminReply> Call(proto::AdminRequest command);

 private:
  using Deadline = std::chrono::steady_clock::time_point;

  Result<proto::AdminReply> Attempt(const proto::AdminRequest& command, Deadline deadline);
  Result<void> Connect(const std::string& endpoint, Deadline deadline);
  Result<void> Greet(Deadline deadline);
  Result<void> Send(const wire::Message& message, Deadline deadline);
  Result<wire::Message> Receive(Deadline deadline);
  Result<void> ReceiveBytes(std::byte* into, size_t size, Deadline deadline);
  void Disconnect();

  Options options_;
  BufferPool pool_;
  int fd_ = -1;
  size_t next_endpoint_ = 0;
  std::string endpoint_;  // of fd_, or of the last attempt
  uint64_t last_tag_ = 0;
};

// 32 hexadecimal digits that nobody else chooses.
std::string NewRequestId();

// Somebody accepts connections at "HOST:PORT".
bool Listens(const std::string& endpoint);

}  // namespace gabion::cli
