// Frames on a byte stream: a fixed header, the message's struct, then its payload (docs/wire.md
// shows the bytes). Zero words at the end of the struct are not sent. The payload is covered by
// per-block checksums in the data messages that carry blocks, by a checksum in the header in all
// others.
//
//   magic u32 | version u16 | type u16 | body_bytes u32 | payload_bytes u32 | flags u32 |
//   payload_crc u32 | body_crc u32 | header_crc u32 (of the 28 bytes before it)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/wire/message.h"

namespace gabion::wire {

inline constexpr uint32_t kFrameHeaderBytes = 32;
inline constexpr uint32_t kBodyBytesMax = 448;
inline constexpr uint32_t kHeadBytesMax = kFrameHeaderBytes + kBodyBytesMax;  // fits a 512 B buffer

struct FrameHeader {
  uint16_t type = 0;
  uint32_t body_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t flags = 0;
  uint32_t payload_crc = 0;
  uint32_t body_crc = 0;
};

// Writes header and body into `head` (at least kHeadBytesMax); returns how many bytes. The payload
// follows on the wire as it is.
size_t EncodeHead(const Message& message, std::span<std::byte> head);

// The first kFrameHeaderBytes of a frame. Errors say why the stream cannot go on: magic, version,
// type, checksum, body of the wrong size, payload over the type's limit.
Result<FrameHeader> ParseHeader(std::span<const std::byte> bytes);

// `body`: header.body_bytes; `payload`: header.payload_bytes. Checks both checksums (the payload's
// where the header carries one) and every field that has a range.
Result<Message> DecodeFrame(const FrameHeader& header, std::span<const std::byte> body,
                            Slice payload);

}  // namespace gabion::wire
