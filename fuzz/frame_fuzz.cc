// What a peer may send: the bytes are a stream of frames, decoded as the transport does it.
// Whatever is accepted encodes to a frame that decodes to the same.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/wire/frame.h"

namespace {

using gabion::BufferPool;
using gabion::Result;
using gabion::Slice;
namespace wire = gabion::wire;

// Copied, so that a sanitizer sees a read behind the end of either part.
Result<wire::Message> Decode(const wire::FrameHeader& header, std::span<const std::byte> rest,
                             BufferPool& pool) {
  const std::vector<std::byte> body(rest.begin(), rest.begin() + header.body_bytes);
  Slice payload;
  if (header.payload_bytes > 0) {
    payload = pool.Allocate(header.payload_bytes);
    std::memcpy(payload.mutable_span().data(), rest.data() + header.body_bytes, payload.size());
  }
  return DecodeFrame(header, body, payload);
}

// Puts the right checksums into the first frame, so that a search gets behind them.
void Seal(std::span<std::byte> stream) {
  if (stream.size() < wire::kFrameHeaderBytes) return;
  const std::span<std::byte> rest = stream.subspan(wire::kFrameHeaderBytes);
  const auto body_bytes = gabion::LoadLe<uint32_t>(stream.data() + 8);
  const auto payload_bytes = gabion::LoadLe<uint32_t>(stream.data() + 12);
  if (uint64_t{body_bytes} + payload_bytes <= rest.size()) {
    if ((stream[16] & std::byte{1}) != std::byte{0}) {
      gabion::StoreLe(stream.data() + 20, gabion::Crc32c(rest.subspan(body_bytes, payload_bytes)));
    }
    gabion::StoreLe(stream.data() + 24, gabion::Crc32c(rest.first(body_bytes)));
  }
  gabion::StoreLe(stream.data() + 28, gabion::Crc32c(stream.first(28)));
}

void Receive(std::vector<std::byte> stream, bool seal) {
  BufferPool pool({});
  std::span<std::byte> rest(stream);
  while (rest.size() >= wire::kFrameHeaderBytes) {
    if (seal) Seal(rest);
    const Result<wire::FrameHeader> header = wire::ParseHeader(rest.first(wire::kFrameHeaderBytes));
    if (!header) return;
    CHECK_LE(header->body_bytes, wire::kBodyBytesMax);
    CHECK_LE(header->payload_bytes, wire::kManagementBytesMax);
    rest = rest.subspan(wire::kFrameHeaderBytes);
    if (rest.size() < size_t{header->body_bytes} + header->payload_bytes) return;
    const Result<wire::Message> message = Decode(*header, rest, pool);
    if (!message) return;
    rest = rest.subspan(size_t{header->body_bytes} + header->payload_bytes);

    std::vector<std::byte> head(wire::kHeadBytesMax);
    head.resize(EncodeHead(*message, head));
    const std::span<const std::byte> sent(head);
    const Result<wire::FrameHeader> again = wire::ParseHeader(sent.first(wire::kFrameHeaderBytes));
    CHECK(again.has_value());
    const Result<wire::Message> same =
        DecodeFrame(*again, sent.subspan(wire::kFrameHeaderBytes), message->payload);
    CHECK(same.has_value());
    std::vector<std::byte> second(wire::kHeadBytesMax);
    second.resize(EncodeHead(*same, second));
    CHECK(head == second);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  Receive({bytes.begin(), bytes.end()}, false);
  Receive({bytes.begin(), bytes.end()}, true);
  return 0;
}
