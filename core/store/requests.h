// The request ids that one replica remembers (R10). An id lives in its entry while that is in the
// log, and is settled once the entry can no longer be voided, or when it came with a joining.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/base/node_pool.h"
#include "core/store/store.h"

namespace gabion::store {

class RequestTable {
 public:
  struct Place {
    EntryId live;     // an entry in the log that may still be renamed or voided
    EntryId settled;  // the last name of an entry that cannot
    EntryId entry() const { return live.epoch.valid() ? live : settled; }
  };
  using Places = absl::btree_map<RequestId, Place, std::less<RequestId>,
                                 PoolAllocator<std::pair<const RequestId, Place>>>;
  struct Client {
    explicit Client(NodePool* pool) : requests(PoolAllocator<uint8_t>(pool)) {}
    Incarnation incarnation;
    RequestId low_water;
    Places requests;
  };

  // The pool outlives the table.
  explicit RequestTable(NodePool* pool) : pool_(pool) {}

  void OnEntry(const wire::EntryHeader& entry);
  void OnRename(const wire::EntryHeader& entry, EntryId to);  // `entry` as it was
  void OnVoid(const wire::EntryHeader& entry);
  void OnSettled(const wire::EntryHeader& entry);
  void OnCopied(const wire::RequestRecord& record);
  // `below` invalid: the client is gone.
  void Drop(SdcId client, Incarnation below);
  void RaiseLowWater(SdcId client, Incarnation incarnation, RequestId low_water);

  Store::RequestLookup Find(SdcId client, Incarnation incarnation, RequestId request) const;
  std::vector<wire::RequestRecord> All() const;

  // For the checkpoint.
  const absl::btree_map<SdcId, Client>& clients() const { return clients_; }
  // Made when it is not there.
  Client& Get(SdcId client) { return clients_.try_emplace(client, pool_).first->second; }

 private:
  // The client's record in this incarnation; null when a later one is known.
  Client* Admit(SdcId client, Incarnation incarnation, RequestId low_water);
  Place* FindPlace(const wire::EntryHeader& entry);

  NodePool* pool_;
  absl::btree_map<SdcId, Client> clients_;
};

}  // namespace gabion::store
