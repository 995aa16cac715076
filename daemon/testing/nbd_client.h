// The least of an NBD client: blocking, one request at a time or several writes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gabion::daemon {

class NbdClient {
 public:
  // `port` on 127.0.0.1. Check ok().
  NbdClient(uint16_t port, const std::string& name);
  // On a Unix socket.
  NbdClient(const std::string& path, const std::string& name);
  NbdClient(const NbdClient&) = delete;
  NbdClient& operator=(const NbdClient&) = delete;
  ~NbdClient();

  bool ok() const { return fd_ >= 0; }
  uint64_t size_bytes() const { return size_bytes_; }

  // 0, NBD's error number, or -1 when the connection is lost.
  int Write(uint64_t offset, std::span<const std::byte> data);
  int Read(uint64_t offset, std::span<std::byte> data);

  // Several at once: what was started is answered in any order, one answer for each call of Finish.
  bool StartWrite(uint64_t offset, std::span<const std::byte> data);
  int FinishWrite();

 private:
  void Begin(const std::string& name, const void* address, size_t address_size);
  bool Negotiate(const std::string& name);
  bool SendAll(const void* data, size_t size);
  bool ReceiveAll(void* data, size_t size);
  bool SendRequest(uint16_t type, uint64_t offset, uint32_t length, std::span<const std::byte> out);
  // NBD's error number, or -1 when the connection is lost.
  int ReceiveReply(uint64_t* cookie);
  int Command(uint16_t type, uint64_t offset, uint32_t length, std::span<const std::byte> out,
              std::span<std::byte> in);

  int fd_ = -1;
  uint64_t size_bytes_ = 0;
  uint64_t cookie_ = 0;
};

}  // namespace gabion::daemon
