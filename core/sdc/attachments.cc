#include "core/sdc/attachments.h"

#include <cerrno>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mix.h"

namespace gabion::sdc {

void Attachments::Submit(Context& context, const UserRequestEvent& request) {
  if (waiting_.size() >= waiting_max_) {
    context.effects.Reply({.tag = request.tag, .error = EBUSY});
    return;
  }
  Waiting waiting{request};
  if (!Answer(context, waiting)) waiting_.push_back(std::move(waiting));
}

void Attachments::Detach(Context& context, const UserRequestEvent& request) {
  const auto it = attached_.find(request.volume);
  if (it != attached_.end() && --it->second.count == 0) attached_.erase(it);
  context.effects.Reply({.tag = request.tag});
}

bool Attachments::Answer(Context& context, Waiting& waiting) {
  const UserRequestEvent& request = waiting.request;
  const MapCache& map = context.mdm.map();
  if (!map.ready()) return false;
  if (request.op == UserOp::kList) {
    AnswerList(context, request.tag);
    return true;
  }
  const VolumeInfo* volume =
      request.volume.valid() ? map.FindVolume(request.volume) : map.FindVolume(request.name);
  if (volume != nullptr) {
    Attached& attached = attached_[volume->id];
    ++attached.count;
    attached.size_bytes = volume->size_bytes;
    context.effects.Reply({.tag = request.tag,
                           .volume = volume->id,
                           .size_bytes = volume->size_bytes,
                           .read_only = volume->read_only});
    return true;
  }
  if (waiting.confirm_number == 0) {
    waiting.confirm_number = context.mdm.Ask(context.now, context.effects);
  }
  if (context.mdm.confirmed() < waiting.confirm_number) return false;
  context.effects.Log(
      Severity::kWarning,
      "volume " + (request.volume.valid() ? ToString(request.volume) : "\"" + request.name + "\"") +
          " cannot be opened: it does not exist or is not mapped to this client; "
          "map it with: gabion volume map");
  context.effects.Reply({.tag = request.tag, .error = ENODEV});
  return true;
}

void Attachments::AnswerList(Context& context, UserTag tag) {
  std::string names;
  for (const auto& [id, volume] : context.mdm.map().volumes()) names += volume.name + "\n";
  UserReplyEffect reply{.tag = tag};
  if (!names.empty()) {
    reply.payload = pool_->Allocate(static_cast<uint32_t>(names.size()));
    if (reply.payload.empty()) {
      reply.error = ENOMEM;
    } else {
      const auto bytes = AsBytes(names);
      std::copy(bytes.begin(), bytes.end(), reply.payload.mutable_span().begin());
    }
  }
  context.effects.Reply(std::move(reply));
}

void Attachments::AnswerWaiting(Context& context) {
  std::vector<Waiting> waiting = std::exchange(waiting_, {});
  for (Waiting& entry : waiting) {
    if (!Answer(context, entry)) waiting_.push_back(std::move(entry));
  }
}

void Attachments::OnMapChanged(Context& context) {
  for (auto& [id, attached] : attached_) {
    const VolumeInfo* volume = context.mdm.map().FindVolume(id);
    const uint64_t size_bytes = volume == nullptr ? 0 : volume->size_bytes;
    if (size_bytes == attached.size_bytes) continue;
    attached.size_bytes = size_bytes;
    context.effects.notices.push_back({.volume = id, .size_bytes = size_bytes});
  }
  AnswerWaiting(context);
}

void Attachments::RefuseWaiting(Context& context, int error) {
  for (const Waiting& waiting : waiting_) {
    context.effects.Reply({.tag = waiting.request.tag, .error = error});
  }
  waiting_.clear();
}

std::string Attachments::Dump() const {
  std::string text = "attached: " + std::to_string(attached_.size()) + " volumes, " +
                     std::to_string(waiting_.size()) + " requests wait\n";
  for (const auto& [id, attached] : attached_) {
    text += "  volume " + ToString(id) + ": " + std::to_string(attached.count) + " times, " +
            std::to_string(attached.size_bytes) + " bytes\n";
  }
  return text;
}

uint64_t Attachments::StateHash() const {
  uint64_t hash = mix64(waiting_.size() + 1);
  for (const auto& [id, attached] : attached_) {
    hash = mix64(hash + id.value()) + mix64(attached.size_bytes + attached.count);
  }
  return hash;
}

}  // namespace gabion::sdc
