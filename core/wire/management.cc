#include "core/wire/management.h"

#include "core/base/check.h"

namespace gabion::wire {

Message ToMessage(const proto::Management& management, uint64_t tag, BufferPool& pool) {
  Message message{ManagementBody{tag}, {}};
  const size_t size = management.ByteSizeLong();
  if (size == 0 || size > kManagementBytesMax) return message;
  Slice payload = pool.Allocate(static_cast<uint32_t>(size));
  if (payload.empty()) return message;
  const bool ok =
      management.SerializeToArray(payload.mutable_span().data(), static_cast<int>(size));
  CHECK(ok) << "management message changed while it was serialized";
  message.payload = std::move(payload);
  return message;
}

Result<proto::Management> ParseManagement(const Message& message) {
  if (!std::holds_alternative<ManagementBody>(message.body)) {
    return Err(ErrorCode::kCorrupt, "message of type %u is no management message", message.type());
  }
  if (message.payload.size() > kManagementBytesMax) {
    return Err(ErrorCode::kCorrupt, "management message of %u bytes, limit %u",
               message.payload.size(), kManagementBytesMax);
  }
  proto::Management management;
  if (!management.ParseFromArray(message.payload.data(),
                                 static_cast<int>(message.payload.size()))) {
    return Err(ErrorCode::kCorrupt, "management message of %u bytes is no valid Protobuf",
               message.payload.size());
  }
  if (management.body_case() == proto::Management::BODY_NOT_SET) {
    return Err(ErrorCode::kCorrupt, "management message of a kind that this version does not know");
  }
  return management;
}

}  // namespace gabion::wire
