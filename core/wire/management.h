// Management messages (core/wire/management.proto) in and out of a Message: the Protobuf bytes are
// the payload.
#pragma once

#include <cstdint>

#include "core/base/buffer.h"
#include "core/base/result.h"
#include "core/wire/management.pb.h"
#include "core/wire/message.h"

namespace gabion::wire {

// `tag` pairs a reply with its request; 0 for one-way messages. The payload is empty when the
// message is above kManagementBytesMax or the pool's budget is exhausted; ParseManagement refuses
// such a message, so check `payload` when a loss is not covered by a repetition.
[[nodiscard]] Message ToMessage(const proto::Management& management, uint64_t tag,
                                BufferPool& pool);

// kCorrupt for what is no management message, or has no body this version knows.
Result<proto::Management> ParseManagement(const Message& message);

}  // namespace gabion::wire
