#include "core/wire/frame.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::wire {
namespace {

constexpr uint32_t kMagic = 0x31424147;  // "GAB1"
constexpr uint32_t kFlagPayloadCrc = 1;
constexpr uint32_t kWordBytes = 8;

template <class T>
constexpr bool kHasBlockChecksums =
    std::is_same_v<T, WriteRequest> || std::is_same_v<T, ReadReply> ||
    std::is_same_v<T, Replicate> || std::is_same_v<T, FetchReply> ||
    std::is_same_v<T, CopyExtent> || std::is_same_v<T, ExtentReply> || std::is_same_v<T, ScanFix>;

// What a receiver must know of a type before it has the body.
struct TypeLimits {
  uint32_t body_bytes = 0;
  uint32_t payload_bytes_max = 0;
  bool block_checksums = false;
};

// Lists (history, tails, changed chunks) are paged by their senders to fit.
constexpr uint32_t kListBytesMax = 1 << 20;

template <class T>
constexpr TypeLimits LimitsOf() {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>);
  if constexpr (std::is_same_v<T, std::monostate>) {
    return {};
  } else {
    static_assert(sizeof(T) <= kBodyBytesMax && sizeof(T) % kWordBytes == 0);
    static_assert(std::has_unique_object_representations_v<T>, "padding would carry old memory");
    uint32_t payload = 0;
    if (kHasBlockChecksums<T>) payload = kDataBytesMax;
    if (std::is_same_v<T, ManagementBody>) payload = kManagementBytesMax;
    if (std::is_same_v<T, SessionHeartbeat> || std::is_same_v<T, CommitPoints> ||
        std::is_same_v<T, TailReply> || std::is_same_v<T, EpochStart> ||
        std::is_same_v<T, CopyRequests> || std::is_same_v<T, ChangedReply>) {
      payload = kListBytesMax;
    }
    if (std::is_same_v<T, PresenceReply>) payload = kPresenceChunksMax * sizeof(ChunkPresence);
    return {sizeof(T), payload, kHasBlockChecksums<T>};
  }
}

template <size_t... kIndex>
constexpr auto AllLimits(std::index_sequence<kIndex...>) {
  return std::array<TypeLimits, sizeof...(kIndex)>{
      LimitsOf<std::variant_alternative_t<kIndex, Body>>()...};
}
constexpr auto kLimits = AllLimits(std::make_index_sequence<std::variant_size_v<Body>>());

constexpr Status kStatusLast = Status::kUnknownPeer;

bool Valid(Status status) { return status <= kStatusLast; }
bool Valid(EntryKind kind) { return kind >= EntryKind::kWrite && kind <= EntryKind::kTrim; }
bool Valid(PeerRole role) { return role >= PeerRole::kMdm && role <= PeerRole::kAdmin; }

const char* CheckTarget(const IoTarget& target, uint32_t length_max) {
  if (target.length_bytes == 0 || target.length_bytes % kSectorBytes != 0 ||
      target.offset_bytes % kSectorBytes != 0) {
    return "an address that is not in whole sectors";
  }
  if (target.length_bytes > length_max || target.offset_bytes >= kChunkBytes ||
      target.length_bytes > kChunkBytes - target.offset_bytes) {
    return "an address beyond the chunk";
  }
  return nullptr;
}

const char* CheckEntry(const EntryHeader& entry, uint64_t payload) {
  if (!Valid(entry.kind)) return "an unknown kind of entry";
  if (entry.block_count == 0 || entry.first_block >= kBlocksPerChunk ||
      entry.block_count > kBlocksPerChunk - entry.first_block) {
    return "blocks beyond the chunk";
  }
  const bool write = entry.kind == EntryKind::kWrite;
  if (write && entry.block_count > kDataBlocksMax) return "more blocks than an entry may have";
  if (payload != (write ? uint64_t{entry.block_count} * kBlockBytes : 0)) {
    return "a payload that does not match its blocks";
  }
  return nullptr;
}

const char* CheckList(uint64_t payload, uint64_t wanted) {
  return payload == wanted ? nullptr : "a list that does not match its count";
}

// Null, or what is wrong. Checks what a decoder must to be safe; what the fields mean is the
// role's.
struct Checker {
  uint64_t payload;

  const char* operator()(const std::monostate&) const { return "no type"; }
  const char* operator()(const Hello& m) const { return Valid(m.role) ? nullptr : "a bad role"; }
  const char* operator()(const HelloReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    return Valid(m.role) ? nullptr : "a bad role";
  }
  const char* operator()(const ManagementBody&) const { return nullptr; }
  const char* operator()(const WriteRequest& m) const {
    if (!Valid(m.kind)) return "an unknown kind of entry";
    const bool write = m.kind == EntryKind::kWrite;
    if (const char* wrong = CheckTarget(m.target, write ? kDataBytesMax : kChunkBytes))
      return wrong;
    return CheckList(payload, write ? m.target.length_bytes : 0);
  }
  const char* operator()(const WriteReply& m) const {
    return Valid(m.status) ? nullptr : "a bad status";
  }
  const char* operator()(const ReadRequest& m) const {
    return CheckTarget(m.target, kDataBytesMax);
  }
  const char* operator()(const ReadReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    return CheckList(payload, m.status == Status::kOk ? m.length_bytes : 0);
  }
  const char* operator()(const SessionHeartbeat& m) const {
    return CheckList(payload, uint64_t{m.count} * sizeof(LowWaterItem));
  }
  const char* operator()(const SessionHeartbeatReply&) const { return nullptr; }
  const char* operator()(const Replicate& m) const { return CheckEntry(m.entry, payload); }
  const char* operator()(const ReplicateAck& m) const {
    if (m.give_back > 1) return "a bad flag";
    return Valid(m.status) ? nullptr : "a bad status";
  }
  const char* operator()(const CommitPoints& m) const {
    return CheckList(payload, uint64_t{m.count} * sizeof(CommitItem));
  }
  const char* operator()(const TailQuery&) const { return nullptr; }
  const char* operator()(const TailReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    return CheckList(payload, uint64_t{m.history_count} * sizeof(HistoryItem));
  }
  const char* operator()(const FetchEntry&) const { return nullptr; }
  const char* operator()(const FetchReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    if (m.status != Status::kOk) return CheckList(payload, 0);
    return CheckEntry(m.entry, payload);
  }
  const char* operator()(const EpochStart& m) const {
    if (m.joining > 1) return "a bad flag";
    return CheckList(payload, uint64_t{m.history_count} * sizeof(HistoryItem));
  }
  const char* operator()(const EpochStartReply& m) const {
    return Valid(m.status) ? nullptr : "a bad status";
  }
  const char* operator()(const CopyExtent& m) const {
    if (m.extent >= kExtentsPerChunk) return "an extent beyond the chunk";
    return CheckList(payload, uint64_t(__builtin_popcount(m.present)) * kBlockBytes);
  }
  const char* operator()(const DropChunk&) const { return nullptr; }
  const char* operator()(const CopyRequests& m) const {
    return CheckList(payload, uint64_t{m.count} * sizeof(RequestRecord));
  }
  const char* operator()(const JoinAck& m) const {
    return Valid(m.status) ? nullptr : "a bad status";
  }
  const char* operator()(const ChangedQuery&) const { return nullptr; }
  const char* operator()(const ChangedReply& m) const {
    return CheckList(payload, uint64_t{m.count} * sizeof(ChangedChunk));
  }
  const char* operator()(const PresenceRequest& m) const {
    if (m.chunk_count == 0 || m.chunk_count > kPresenceChunksMax) return "a bad number of chunks";
    const bool whole = m.target.offset_bytes == 0 && m.target.length_bytes == kChunkBytes;
    return whole ? nullptr : "an address that is no whole chunk";
  }
  const char* operator()(const PresenceReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    const uint32_t count = m.status == Status::kOk ? m.chunk_count : 0;
    return CheckList(payload, uint64_t{count} * sizeof(ChunkPresence));
  }
  const char* operator()(const ExtentQuery& m) const {
    if (m.with_content > 1) return "a bad flag";
    return m.extent < kExtentsPerChunk ? nullptr : "an extent beyond the chunk";
  }
  const char* operator()(const ExtentReply& m) const {
    if (!Valid(m.status)) return "a bad status";
    if (m.with_content > 1) return "a bad flag";
    if (m.status != Status::kOk && m.present != 0) return "blocks that it does not bring";
    if ((m.damaged & ~m.present) != 0) return "damage where there is nothing";
    const int blocks = m.with_content != 0 ? __builtin_popcount(m.good()) : 0;
    return CheckList(payload, uint64_t(blocks) * kBlockBytes);
  }
  const char* operator()(const CopyCursor&) const { return nullptr; }
  const char* operator()(const CreditsRequest&) const { return nullptr; }
  const char* operator()(const ScanFix& m) const {
    if (m.extent >= kExtentsPerChunk) return "an extent beyond the chunk";
    return CheckList(payload, uint64_t(__builtin_popcount(m.present)) * kBlockBytes);
  }
  const char* operator()(const ScanFixReply& m) const {
    return Valid(m.status) ? nullptr : "a bad status";
  }
  const char* operator()(const ScanHint&) const { return nullptr; }
};

template <size_t kIndex>
Body DecodeAs(std::span<const std::byte> bytes) {
  using T = std::variant_alternative_t<kIndex, Body>;
  T body{};
  const size_t size = std::min(bytes.size(), sizeof(T));
  if (size > 0) std::memcpy(static_cast<void*>(&body), bytes.data(), size);
  return body;
}
template <size_t... kIndex>
constexpr auto AllDecoders(std::index_sequence<kIndex...>) {
  return std::array<Body (*)(std::span<const std::byte>), sizeof...(kIndex)>{&DecodeAs<kIndex>...};
}
constexpr auto kDecoders = AllDecoders(std::make_index_sequence<std::variant_size_v<Body>>());

// Trailing zero words are not sent: most checksum arrays are almost empty.
uint32_t TrimmedSize(const std::byte* bytes, uint32_t size) {
  while (size > 0 && LoadLe<uint64_t>(bytes + size - kWordBytes) == 0) size -= kWordBytes;
  return size;
}

}  // namespace

size_t EncodeHead(const Message& message, std::span<std::byte> head) {
  CHECK_GE(head.size(), kHeadBytesMax);
  std::byte* const body = head.data() + kFrameHeaderBytes;
  const TypeLimits& limits = kLimits[message.type()];
  CHECK_GT(limits.body_bytes, 0u) << "an empty message";
  CHECK_LE(message.payload.size(), limits.payload_bytes_max) << TypeName(message.type());
  std::visit([body](const auto& m) { std::memcpy(body, static_cast<const void*>(&m), sizeof(m)); },
             message.body);
  const uint32_t body_bytes = TrimmedSize(body, limits.body_bytes);
  const bool checksum = !message.payload.empty() && !limits.block_checksums;
  std::byte* const to = head.data();
  StoreLe<uint32_t>(to, kMagic);
  StoreLe<uint16_t>(to + 4, kVersionMax);
  StoreLe<uint16_t>(to + 6, message.type());
  StoreLe<uint32_t>(to + 8, body_bytes);
  StoreLe<uint32_t>(to + 12, message.payload.size());
  StoreLe<uint32_t>(to + 16, checksum ? kFlagPayloadCrc : 0);
  StoreLe<uint32_t>(to + 20, checksum ? Crc32c(message.payload.span()) : 0);
  StoreLe<uint32_t>(to + 24, Crc32c({body, body_bytes}));
  StoreLe<uint32_t>(to + 28, Crc32c({to, kFrameHeaderBytes - 4}));
  return kFrameHeaderBytes + body_bytes;
}

Result<FrameHeader> ParseHeader(std::span<const std::byte> bytes) {
  CHECK_GE(bytes.size(), kFrameHeaderBytes);
  const std::byte* const from = bytes.data();
  if (LoadLe<uint32_t>(from) != kMagic) {
    return Err(ErrorCode::kCorrupt, "what it sent is not a Gabion frame");
  }
  if (LoadLe<uint32_t>(from + 28) != Crc32c(bytes.first(kFrameHeaderBytes - 4))) {
    return Err(ErrorCode::kCorrupt, "a frame header does not match its checksum");
  }
  const auto version = LoadLe<uint16_t>(from + 4);
  if (version < kVersionMin || version > kVersionMax) {
    return Err(ErrorCode::kUnsupported, "it speaks version %u; this side speaks %u to %u", version,
               kVersionMin, kVersionMax);
  }
  FrameHeader header;
  header.type = LoadLe<uint16_t>(from + 6);
  header.body_bytes = LoadLe<uint32_t>(from + 8);
  header.payload_bytes = LoadLe<uint32_t>(from + 12);
  header.flags = LoadLe<uint32_t>(from + 16);
  header.payload_crc = LoadLe<uint32_t>(from + 20);
  header.body_crc = LoadLe<uint32_t>(from + 24);
  if (header.type == 0 || header.type >= kLimits.size()) {
    return Err(ErrorCode::kUnsupported, "unknown message type %u", header.type);
  }
  const TypeLimits& limits = kLimits[header.type];
  const std::string_view name = TypeName(header.type);
  const int name_size = static_cast<int>(name.size());
  if (header.body_bytes > limits.body_bytes || header.body_bytes % kWordBytes != 0) {
    return Err(ErrorCode::kCorrupt, "a %.*s of %u bytes", name_size, name.data(),
               header.body_bytes);
  }
  if (header.payload_bytes > limits.payload_bytes_max) {
    return Err(ErrorCode::kLimit, "a %.*s with %u bytes of payload; at most %u are allowed",
               name_size, name.data(), header.payload_bytes, limits.payload_bytes_max);
  }
  const bool wants_checksum = header.payload_bytes > 0 && !limits.block_checksums;
  if (header.flags != (wants_checksum ? kFlagPayloadCrc : 0)) {
    return Err(ErrorCode::kUnsupported, "a %.*s with unknown flags %#x", name_size, name.data(),
               header.flags);
  }
  return header;
}

Result<Message> DecodeFrame(const FrameHeader& header, std::span<const std::byte> body,
                            Slice payload) {
  CHECK_EQ(body.size(), header.body_bytes);
  CHECK_EQ(payload.size(), header.payload_bytes);
  CHECK_LT(header.type, kLimits.size());
  const std::string_view name = TypeName(header.type);
  const int name_size = static_cast<int>(name.size());
  if (Crc32c(body) != header.body_crc) {
    return Err(ErrorCode::kCorrupt, "a %.*s that does not match its checksum", name_size,
               name.data());
  }
  if ((header.flags & kFlagPayloadCrc) != 0 && Crc32c(payload.span()) != header.payload_crc) {
    return Err(ErrorCode::kCorrupt, "the payload of a %.*s does not match its checksum", name_size,
               name.data());
  }
  Message message{kDecoders[header.type](body), std::move(payload)};
  if (const char* wrong = std::visit(Checker{message.payload.size()}, message.body)) {
    return Err(ErrorCode::kInvalidArgument, "a %.*s with %s", name_size, name.data(), wrong);
  }
  return message;
}

}  // namespace gabion::wire
