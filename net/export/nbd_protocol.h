// Numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project), and integers in its
// byte order, which is big-endian.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/check.h"

namespace gabion::nbd {

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;

// Handshake flags; the client's have the same values.
inline constexpr uint16_t kFixedNewstyle = 1 << 0;
inline constexpr uint16_t kNoZeroes = 1 << 1;

inline constexpr uint32_t kOptExportName = 1;
inline constexpr uint32_t kOptAbort = 2;
inline constexpr uint32_t kOptList = 3;
inline constexpr uint32_t kOptInfo = 6;
inline constexpr uint32_t kOptGo = 7;
inline constexpr uint32_t kOptStructuredReply = 8;
inline constexpr uint32_t kOptListMetaContext = 9;
inline constexpr uint32_t kOptSetMetaContext = 10;

inline constexpr uint32_t kRepAck = 1;
inline constexpr uint32_t kRepServer = 2;
inline constexpr uint32_t kRepInfo = 3;
inline constexpr uint32_t kRepMetaContext = 4;
inline constexpr uint32_t kRepError = uint32_t{1} << 31;
inline constexpr uint32_t kRepErrUnsupported = kRepError + 1;
inline constexpr uint32_t kRepErrPolicy = kRepError + 2;
inline constexpr uint32_t kRepErrInvalid = kRepError + 3;
inline constexpr uint32_t kRepErrUnknown = kRepError + 6;
inline constexpr uint32_t kRepErrShutdown = kRepError + 7;
inline constexpr uint32_t kRepErrTooBig = kRepError + 9;

inline constexpr uint16_t kInfoExport = 0;
inline constexpr uint16_t kInfoBlockSize = 3;

// Transmission flags.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendCache = 1 << 10;

inline constexpr uint16_t kCmdRead = 0;
inline constexpr uint16_t kCmdWrite = 1;
inline constexpr uint16_t kCmdDisconnect = 2;
inline constexpr uint16_t kCmdFlush = 3;
inline constexpr uint16_t kCmdTrim = 4;
inline constexpr uint16_t kCmdCache = 5;
inline constexpr uint16_t kCmdWriteZeroes = 6;
inline constexpr uint16_t kCmdBlockStatus = 7;

// Command flags.
inline constexpr uint16_t kFua = 1 << 0;
inline constexpr uint16_t kNoHole = 1 << 1;
inline constexpr uint16_t kDontFragment = 1 << 2;
inline constexpr uint16_t kReqOne = 1 << 3;

inline constexpr uint16_t kChunkDone = 1;
inline constexpr uint16_t kChunkOffsetData = 1;
inline constexpr uint16_t kChunkBlockStatus = 5;
inline constexpr uint16_t kChunkError = 0x8001;

inline constexpr uint32_t kOk = 0;
inline constexpr uint32_t kErrPermission = 1;
inline constexpr uint32_t kErrIo = 5;
inline constexpr uint32_t kErrMemory = 12;
inline constexpr uint32_t kErrInvalid = 22;
inline constexpr uint32_t kErrNoSpace = 28;
inline constexpr uint32_t kErrShutdown = 108;

inline constexpr std::string_view kAllocationContext = "base:allocation";
inline constexpr uint32_t kAllocationContextId = 1;
// What base:allocation says of an extent; 0: data.
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;

inline constexpr uint32_t kBlockBytesMin = 512;
inline constexpr uint32_t kBlockBytesPreferred = 4096;
inline constexpr uint32_t kPayloadBytesMax = 32 << 20;

inline constexpr uint32_t kNameBytesMax = 4096;
inline constexpr uint32_t kOptionBytesMax = 12 << 10;  // of an option's data
inline constexpr uint32_t kOptionsMax = 1024;          // in one negotiation

inline constexpr size_t kOptionHeaderBytes = 16;
inline constexpr size_t kCommandHeaderBytes = 28;

template <std::unsigned_integral T>
T LoadBe(const std::byte* from) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = (value << 8) | std::to_integer<uint64_t>(from[i]);
  return static_cast<T>(value);
}

// Reads as core/base's ByteReader does: the first read beyond the end fails, and every later one.
class BeReader {
 public:
  explicit BeReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool done() const { return ok_ && rest_.empty(); }

  uint16_t U16() { return Integer<uint16_t>(); }
  uint32_t U32() { return Integer<uint32_t>(); }
  uint64_t U64() { return Integer<uint64_t>(); }
  // A 32-bit size, then that many bytes.
  std::string_view Text() {
    const uint32_t size = U32();
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto text = rest_.first(size);
    rest_ = rest_.subspan(size);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  template <class T>
  T Integer() {
    if (!ok_ || rest_.size() < sizeof(T)) {
      ok_ = false;
      return 0;
    }
    const T value = LoadBe<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

// Builds a header of at most N bytes; more is a bug.
template <size_t N>
class BeWriter {
 public:
  BeWriter& U16(uint16_t value) { return Integer(value); }
  BeWriter& U32(uint32_t value) { return Integer(value); }
  BeWriter& U64(uint64_t value) { return Integer(value); }
  std::span<const std::byte> span() const { return std::span(bytes_).first(size_); }

 private:
  template <class T>
  BeWriter& Integer(T value) {
    static_assert(sizeof(T) <= N);
    CHECK_LE(size_ + sizeof(T), N);
    for (size_t i = sizeof(T); i-- > 0;) {
      bytes_[size_++] = static_cast<std::byte>((value >> (8 * i)) & 0xff);
    }
    return *this;
  }

  std::array<std::byte, N> bytes_;
  size_t size_ = 0;
};

}  // namespace gabion::nbd
