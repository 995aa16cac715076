#include "core/role/event_log.h"

#include <array>
#include <cinttypes>
#include <cstring>
#include <optional>
#include <type_traits>
#include <variant>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/mix.h"
#include "core/wire/frame.h"

namespace gabion {

namespace {

constexpr uint64_t kMagic = 0x31474f4c42414721u;  // "!GABLOG1"
constexpr uint32_t kTextBytesMax = 1u << 16;
constexpr uint32_t kFramePartMax = wire::kManagementBytesMax;
enum class RecordKind : uint8_t { kEvent = 1, kEffects = 2 };

// ---- Hash of effects
// ------------------------------------------------------------------------------

class Hasher {
 public:
  void Add(uint64_t value) { hash_ = mix64(hash_ + value + 0x9e3779b97f4a7c15u); }
  template <class E>
  requires std::is_enum_v<E>
  void Add(E value) { Add(static_cast<uint64_t>(value)); }
  void Add(std::span<const std::byte> bytes) {
    Add(bytes.size());
    Add(Crc32c(bytes));
  }
  void Add(std::string_view text) { Add(AsBytes(text)); }
  void Add(const Slice& slice) { Add(slice.span()); }
  void Add(const Address& address) {
    Add(std::as_bytes(std::span(address.ip)));
    Add(uint64_t{address.port});
  }
  void Add(const wire::Message& message) {
    Add(uint64_t{message.type()});
    std::visit(
        [this]<class T>(const T& body) {
          if constexpr (!std::is_same_v<T, std::monostate>) {
            Add(std::as_bytes(std::span(&body, 1)));
          }
        },
        message.body);
    Add(message.payload);
  }

  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0;
};

// ---- Events as bytes
// ------------------------------------------------------------------------------

// U8 type, then the fields in the order of core/role/event.h; texts and payloads with a 32-bit
// size.
struct EventEncoder {
  ByteWriter& to;

  void Put(const DeviceInfo& info) {
    to.U64(info.size_bytes);
    to.U32(info.block_bytes);
    to.U8(info.volatile_cache ? 1 : 0);
    to.U8(info.discard ? 1 : 0);
  }

  void operator()(const StartEvent& event) { Put(event.state_device); }
  void operator()(const ConnectedEvent& event) {
    to.Of(event.conn);
    to.U64(event.dial);
    to.Bytes(std::as_bytes(std::span(event.peer.ip)));
    to.U16(event.peer.port);
  }
  void operator()(const ConnectFailedEvent& event) { to.U64(event.dial); }
  void operator()(const DisconnectedEvent& event) { to.Of(event.conn); }
  void operator()(const MessageEvent& event) {
    std::array<std::byte, wire::kHeadBytesMax> head;
    const size_t size = wire::EncodeHead(event.message, head);
    to.Of(event.conn);
    to.SizedBytes(std::span<const std::byte>(head).first(size));
    to.SizedBytes(event.message.payload.span());
  }
  void operator()(const DiskDoneEvent& event) {
    to.U32(static_cast<uint32_t>(event.device));
    to.U64(event.tag);
    to.U8(static_cast<uint8_t>(event.status));
  }
  void operator()(const DeviceOpenedEvent& event) {
    to.U64(event.tag);
    to.U8(event.ok ? 1 : 0);
    to.U32(static_cast<uint32_t>(event.device));
    Put(event.info);
    to.SizedText(event.content);
    to.SizedText(event.error);
  }
  void operator()(const TimerEvent& event) { to.U64(event.tag); }
  void operator()(const UserRequestEvent& event) {
    to.U64(event.tag);
    to.U8(static_cast<uint8_t>(event.op));
    to.Of(event.volume);
    to.U64(event.offset_bytes);
    to.U64(event.length_bytes);
    to.SizedBytes(event.payload.span());
    to.SizedText(event.name);
  }
  void operator()(const StopEvent&) {}
};

class EventDecoder {
 public:
  EventDecoder(ByteReader& from, BufferPool& pool) : from_(from), pool_(pool) {}

  // Nothing when the bytes are no event.
  std::optional<Event> Decode() {
    const uint8_t type = from_.U8();
    if (!from_.ok() || type >= std::variant_size_v<Event>) return std::nullopt;
    Event event = DecodeAs(type, std::make_index_sequence<std::variant_size_v<Event>>());
    return from_.ok() ? std::optional(std::move(event)) : std::nullopt;
  }

 private:
  template <size_t... kIndex>
  Event DecodeAs(uint8_t type, std::index_sequence<kIndex...>) {
    Event event;
    ((type == kIndex ? Get(event.emplace<kIndex>()) : void()), ...);
    return event;
  }

  template <class E>
  void GetEnum(E& value, E last) {
    const uint8_t number = from_.U8();
    if (number > static_cast<uint8_t>(last)) from_.Fail();
    value = static_cast<E>(number);
  }
  void Get(DeviceInfo& info) {
    info.size_bytes = from_.U64();
    info.block_bytes = from_.U32();
    info.volatile_cache = from_.U8() != 0;
    info.discard = from_.U8() != 0;
  }
  Slice GetPayload() {
    const std::span<const std::byte> bytes = from_.SizedBytes(kFramePartMax);
    if (bytes.empty()) return {};
    Slice slice = pool_.Allocate(static_cast<uint32_t>(bytes.size()));
    if (slice.empty()) {
      from_.Fail();
      return {};
    }
    std::memcpy(slice.mutable_span().data(), bytes.data(), bytes.size());
    return slice;
  }

  void Get(StartEvent& event) { Get(event.state_device); }
  void Get(ConnectedEvent& event) {
    event.conn = from_.As<ConnId>();
    event.dial = from_.U64();
    const std::span<const std::byte> ip = from_.Bytes(event.peer.ip.size());
    if (!ip.empty()) std::memcpy(event.peer.ip.data(), ip.data(), ip.size());
    event.peer.port = from_.U16();
  }
  void Get(ConnectFailedEvent& event) { event.dial = from_.U64(); }
  void Get(DisconnectedEvent& event) { event.conn = from_.As<ConnId>(); }
  void Get(MessageEvent& event) {
    event.conn = from_.As<ConnId>();
    const std::span<const std::byte> head = from_.SizedBytes(wire::kHeadBytesMax);
    Slice payload = GetPayload();
    if (!from_.ok() || head.size() < wire::kFrameHeaderBytes) return from_.Fail();
    const Result<wire::FrameHeader> header = wire::ParseHeader(head.first(wire::kFrameHeaderBytes));
    const std::span<const std::byte> body = head.subspan(wire::kFrameHeaderBytes);
    if (!header || header->body_bytes != body.size() || header->payload_bytes != payload.size()) {
      return from_.Fail();
    }
    Result<wire::Message> message = wire::DecodeFrame(*header, body, std::move(payload));
    if (!message) return from_.Fail();
    event.message = std::move(*message);
  }
  void Get(DiskDoneEvent& event) {
    event.device = static_cast<DeviceIndex>(from_.U32());
    event.tag = from_.U64();
    GetEnum(event.status, DiskStatus::kDeviceGone);
  }
  void Get(DeviceOpenedEvent& event) {
    event.tag = from_.U64();
    event.ok = from_.U8() != 0;
    event.device = static_cast<DeviceIndex>(from_.U32());
    Get(event.info);
    event.content = from_.SizedText(kTextBytesMax);
    event.error = from_.SizedText(kTextBytesMax);
  }
  void Get(TimerEvent& event) { event.tag = from_.U64(); }
  void Get(UserRequestEvent& event) {
    event.tag = from_.U64();
    GetEnum(event.op, UserOp::kBlockStatus);
    event.volume = from_.As<VolumeId>();
    event.offset_bytes = from_.U64();
    event.length_bytes = from_.U64();
    event.payload = GetPayload();
    event.name = from_.SizedText(kTextBytesMax);
  }
  void Get(StopEvent&) {}

  ByteReader& from_;
  BufferPool& pool_;
};

std::string NameOf(const Event& event) {
  static constexpr std::array<std::string_view, std::variant_size_v<Event>> kNames = {
      "Start",    "Connected",    "ConnectFailed", "Disconnected", "Message",
      "DiskDone", "DeviceOpened", "Timer",         "UserRequest",  "Stop"};
  std::string name(kNames[event.index()]);
  if (const auto* message = std::get_if<MessageEvent>(&event)) {
    name += " " + std::string(wire::TypeName(message->message.type()));
  }
  return name;
}

std::string Summary(const Effects& effects) {
  std::string text = std::to_string(effects.sends.size()) + " sends";
  for (const SendEffect& send : effects.sends) {
    text += " " + std::string(wire::TypeName(send.message.type()));
  }
  return text + ", " + std::to_string(effects.disk.size()) + " disk operations, " +
         std::to_string(effects.timers.size()) + " timers, " +
         std::to_string(effects.replies.size()) + " replies, " +
         std::to_string(effects.logs.size()) + " logs";
}

// The records of a log, front to back.
class LogReader {
 public:
  explicit LogReader(std::span<const std::byte> log) : rest_(log) {}

  Result<std::string> ReadHead() {
    ByteReader reader(rest_);
    const bool known = reader.U64() == kMagic;
    std::string label(reader.SizedText(kTextBytesMax));
    if (!known || !reader.ok()) return Err(ErrorCode::kCorrupt, "these bytes are no event log");
    rest_ = rest_.last(reader.remaining());
    return label;
  }

  bool empty() const { return rest_.empty(); }

  // Nothing at the end, be it clean or cut off.
  Result<std::optional<std::span<const std::byte>>> Next() {
    using Record = std::optional<std::span<const std::byte>>;
    ByteReader reader(rest_);
    const uint32_t size = reader.U32();
    const uint32_t crc = reader.U32();
    if (!reader.ok() || reader.remaining() < size) return Record();
    const std::span<const std::byte> record = reader.Bytes(size);
    if (size == 0 || Crc32c(record) != crc) {
      return Err(ErrorCode::kCorrupt, "event log: a record does not match its checksum");
    }
    rest_ = rest_.last(reader.remaining());
    return Record(record);
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace

uint64_t HashEffects(const Effects& effects) {
  Hasher hash;
  hash.Add(effects.sends.size());
  for (const SendEffect& send : effects.sends) {
    hash.Add(send.conn.value());
    hash.Add(send.message);
  }
  hash.Add(effects.connects.size());
  for (const ConnectEffect& connect : effects.connects) {
    hash.Add(connect.dial);
    hash.Add(connect.address);
  }
  hash.Add(effects.closes.size());
  for (const ConnId conn : effects.closes) hash.Add(conn.value());
  hash.Add(effects.disk.size());
  for (const DiskEffect& disk : effects.disk) {
    hash.Add(disk.device);
    hash.Add(disk.op);
    hash.Add(disk.offset_bytes);
    hash.Add(disk.length_bytes);
    hash.Add(disk.tag);
    for (uint32_t i = 0; i < disk.slice_count; ++i) {
      const Slice& slice = effects.slices.at(disk.slice_begin + i);
      hash.Add(uint64_t{slice.size()});
      // The target of a read still holds what its last user left.
      if (disk.op != DiskOp::kRead) hash.Add(slice);
    }
  }
  hash.Add(effects.opens.size());
  for (const OpenDeviceEffect& open : effects.opens) {
    hash.Add(open.tag);
    hash.Add(std::string_view(open.path));
  }
  hash.Add(effects.device_closes.size());
  for (const DeviceIndex device : effects.device_closes) hash.Add(device);
  hash.Add(effects.timers.size());
  for (const TimerEffect& timer : effects.timers) {
    hash.Add(timer.tag);
    hash.Add(static_cast<uint64_t>(timer.when.time_since_epoch().count()));
  }
  hash.Add(effects.replies.size());
  for (const UserReplyEffect& reply : effects.replies) {
    hash.Add(reply.tag);
    hash.Add(static_cast<uint64_t>(reply.error));
    hash.Add(reply.payload);
    hash.Add(reply.volume.value());
    hash.Add(reply.size_bytes);
    hash.Add(uint64_t{reply.read_only});
  }
  hash.Add(effects.notices.size());
  for (const UserNoticeEffect& notice : effects.notices) {
    hash.Add(notice.volume.value());
    hash.Add(notice.size_bytes);
  }
  hash.Add(effects.logs.size());
  for (const LogEffect& log : effects.logs) {
    hash.Add(log.severity);
    hash.Add(std::string_view(log.text));
  }
  hash.Add(uint64_t{effects.exit});
  hash.Add(std::string_view(effects.exit_reason));
  return hash.value();
}

void ReadTargets::OnEffects(const Effects& effects) {
  for (const DiskEffect& disk : effects.disk) {
    if (disk.op != DiskOp::kRead) continue;
    std::vector<Slice>& slices = targets_[{disk.device, disk.tag}];
    slices.clear();
    for (uint32_t i = 0; i < disk.slice_count; ++i) {
      slices.push_back(effects.slices.at(disk.slice_begin + i));
    }
  }
}

std::vector<Slice> ReadTargets::Take(DeviceIndex device, DiskTag tag) {
  const auto found = targets_.find({device, tag});
  if (found == targets_.end()) return {};
  std::vector<Slice> slices = std::move(found->second);
  targets_.erase(found);
  return slices;
}

EventLogWriter::EventLogWriter(std::string_view label, ByteSink& sink) : sink_(sink) {
  CHECK_LE(label.size(), kTextBytesMax);
  ByteWriter writer(&record_);
  writer.U64(kMagic);
  writer.SizedText(label);
  sink_.Write(record_);
}

void EventLogWriter::BeforeStep(const Now& now, const Event& event) {
  record_.clear();
  ByteWriter writer(&record_);
  writer.Zeros(8);  // size and CRC, by Emit
  writer.U8(static_cast<uint8_t>(RecordKind::kEvent));
  writer.I64(now.boot.time_since_epoch().count());
  writer.I64(now.wall.time_since_epoch().count());
  writer.U8(static_cast<uint8_t>(event.index()));
  std::visit(EventEncoder{writer}, event);
  if (const auto* done = std::get_if<DiskDoneEvent>(&event)) {
    const std::vector<Slice> read = reads_.Take(done->device, done->tag);
    if (done->status == DiskStatus::kOk) {
      for (const Slice& slice : read) writer.Bytes(slice.span());
    }
  }
  Emit();
}

void EventLogWriter::AfterStep(const Effects& effects) {
  reads_.OnEffects(effects);
  record_.clear();
  ByteWriter writer(&record_);
  writer.Zeros(8);
  writer.U8(static_cast<uint8_t>(RecordKind::kEffects));
  writer.U64(HashEffects(effects));
  Emit();
}

void EventLogWriter::Emit() {
  const std::span<const std::byte> content = std::span<const std::byte>(record_).subspan(8);
  StoreLe(record_.data(), static_cast<uint32_t>(content.size()));
  StoreLe(record_.data() + 4, Crc32c(content));
  sink_.Write(record_);
}

Result<std::string> ReadLabel(std::span<const std::byte> log) { return LogReader(log).ReadHead(); }

Result<ReplayReport> Replay(std::span<const std::byte> log, Role& role, BufferPool& pool) {
  LogReader reader(log);
  const Result<std::string> label = reader.ReadHead();
  if (!label) return tl::unexpected(label.error());
  ReplayReport report;
  ReadTargets reads;
  Effects effects;
  while (!reader.empty()) {
    Result<std::optional<std::span<const std::byte>>> record = reader.Next();
    if (!record) return tl::unexpected(record.error());
    if (!*record) {
      report.cut_off = true;
      return report;
    }
    ByteReader fields(**record);
    const bool is_event = fields.U8() == static_cast<uint8_t>(RecordKind::kEvent);
    Now now;
    now.boot = Instant(Duration(fields.I64()));
    now.wall = WallTime(Duration(fields.I64()));
    std::optional<Event> event = EventDecoder(fields, pool).Decode();
    if (!is_event || !event) {
      return Err(ErrorCode::kCorrupt,
                 "event log: no event, or no memory for one, before step %" PRIu64, report.steps);
    }
    effects.Clear();
    if (const auto* done = std::get_if<DiskDoneEvent>(&*event)) {
      for (const Slice& slice : reads.Take(done->device, done->tag)) {
        if (done->status != DiskStatus::kOk) break;
        const std::span<const std::byte> bytes = fields.Bytes(slice.size());
        // As every host does it: the role waits for this event before it looks at the target.
        if (!bytes.empty()) {
          std::memcpy(const_cast<std::byte*>(slice.data()), bytes.data(), bytes.size());
        }
      }
    }
    if (!fields.done()) {
      return Err(ErrorCode::kConflict,
                 "step %" PRIu64 " (%s): the log holds other reads than the role made",
                 report.steps, NameOf(*event).c_str());
    }
    role.Step(now, *event, effects);
    role.CheckInvariants();
    reads.OnEffects(effects);
    ++report.steps;

    record = reader.Next();
    if (!record) return tl::unexpected(record.error());
    if (!*record) {
      report.cut_off = true;
      return report;
    }
    ByteReader answer(**record);
    const bool is_effects = answer.U8() == static_cast<uint8_t>(RecordKind::kEffects);
    const uint64_t hash = answer.U64();
    if (!is_effects || !answer.done()) {
      return Err(ErrorCode::kCorrupt, "event log: no effects after step %" PRIu64, report.steps);
    }
    if (hash != HashEffects(effects)) {
      return Err(ErrorCode::kConflict, "step %" PRIu64 " at %s (%s) answered otherwise: now %s",
                 report.steps, ToString(now.boot).c_str(), NameOf(*event).c_str(),
                 Summary(effects).c_str());
    }
  }
  return report;
}

}  // namespace gabion
