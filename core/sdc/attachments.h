// Which volumes the front ends have open, and those that wait to be opened.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/event.h"
#include "core/sdc/io.h"

namespace gabion::sdc {

// An attach is answered from the map. A volume that the map does not have is refused only when the
// MDM has confirmed the map since the question: a mapping made a moment ago is found.
class Attachments {
 public:
  Attachments(BufferPool* pool, uint32_t waiting_max) : pool_(pool), waiting_max_(waiting_max) {}

  // kAttach or kList.
  void Submit(Context& context, const UserRequestEvent& request);
  void Detach(Context& context, const UserRequestEvent& request);

  // Answers what waits, and tells of volumes that changed size or went away.
  void OnMapChanged(Context& context);
  void OnConfirmed(Context& context) { AnswerWaiting(context); }
  // Answers everything that waits with `error`.
  void RefuseWaiting(Context& context, int error);

  std::string Dump() const;
  uint64_t StateHash() const;

 private:
  struct Waiting {
    UserRequestEvent request;
    uint64_t confirm_number = 0;  // 0: not asked yet
  };
  struct Attached {
    uint32_t count = 0;
    uint64_t size_bytes = 0;  // as last told; 0: unmapped
  };

  void AnswerWaiting(Context& context);
  // False: not yet.
  bool Answer(Context& context, Waiting& waiting);
  void AnswerList(Context& context, UserTag tag);

  BufferPool* pool_;
  uint32_t waiting_max_;
  std::vector<Waiting> waiting_;
  absl::btree_map<VolumeId, Attached> attached_;
};

}  // namespace gabion::sdc
