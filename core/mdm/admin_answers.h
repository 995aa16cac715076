// What all commands of the administrator have in common: how objects are named, and how answers are
// put together.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/mdm/admin.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

inline constexpr size_t kNameMax = 63;

inline AdminDecision Refuse(proto::AdminReply::Code code, std::string error) {
  AdminDecision decision;
  decision.reply.emplace();
  decision.reply->set_code(code);
  decision.reply->set_error(std::move(error));
  return decision;
}

inline AdminDecision Done(uint64_t id) {
  AdminDecision decision;
  decision.reply.emplace();
  decision.reply->set_id(id);
  return decision;
}

// Objects are named by name, or by decimal id.
template <class Map>
auto FindNamed(const Map& map, const std::string& name) -> const typename Map::mapped_type* {
  for (const auto& [id, object] : map) {
    if (object.name() == name) return &object;
  }
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size()) return nullptr;
  const auto at = map.find(typename Map::key_type(id));
  return at == map.end() ? nullptr : &at->second;
}

inline AdminDecision NotFound(const std::string& kind, const std::string& name,
                              const std::string& list) {
  return Refuse(proto::AdminReply::NOT_FOUND,
                absl::StrCat("no ", kind, " \"", name.substr(0, kNameMax + 1), "\": `gabion ", list,
                             " list` shows what there is"));
}

// R13: the copy that `request` names becomes the slice's only one.
inline AdminDecision ForceCopy(const View& view, const proto::SliceForce& request, SdsId sds) {
  AdminDecision decision;
  proto::ForceSlice* force = decision.command.mutable_force_slice();
  force->set_slice(request.slice());
  proto::Member* member = force->mutable_member();
  member->set_sds(sds.value());
  member->set_device(request.device());
  member->set_incarnation(view.repository.IncarnationOf(sds).value());
  member->set_present(true);
  return decision;
}

inline std::string Mebibytes(uint64_t bytes) { return absl::StrCat(bytes >> 20, " MiB"); }

}  // namespace gabion::mdm
