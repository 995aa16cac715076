#include "core/store/requests.h"

namespace gabion::store {

RequestTable::Client* RequestTable::Admit(SdcId client, Incarnation incarnation,
                                          RequestId low_water) {
  Client& found = Get(client);
  if (incarnation < found.incarnation) return nullptr;
  if (incarnation > found.incarnation) {
    // A later incarnation writes only after the earlier one was fenced everywhere.
    found.incarnation = incarnation;
    found.low_water = RequestId();
    found.requests.clear();
  }
  if (low_water > found.low_water) {
    found.low_water = low_water;
    found.requests.erase(found.requests.begin(), found.requests.lower_bound(low_water));
  }
  return &found;
}

RequestTable::Place* RequestTable::FindPlace(const wire::EntryHeader& entry) {
  if (!entry.client.valid()) return nullptr;
  const auto client = clients_.find(entry.client);
  if (client == clients_.end() || client->second.incarnation != entry.client_incarnation) {
    return nullptr;
  }
  const auto place = client->second.requests.find(entry.request);
  return place == client->second.requests.end() ? nullptr : &place->second;
}

void RequestTable::OnEntry(const wire::EntryHeader& entry) {
  if (!entry.client.valid()) return;
  Client* client = Admit(entry.client, entry.client_incarnation, entry.low_water);
  if (client == nullptr || entry.request < client->low_water) return;
  client->requests[entry.request].live = entry.id;
}

void RequestTable::OnRename(const wire::EntryHeader& entry, EntryId to) {
  Place* place = FindPlace(entry);
  if (place != nullptr && place->live == entry.id) place->live = to;
}

void RequestTable::OnVoid(const wire::EntryHeader& entry) {
  Place* place = FindPlace(entry);
  if (place == nullptr || place->live != entry.id) return;
  place->live = EntryId{};
  if (!place->settled.epoch.valid()) Get(entry.client).requests.erase(entry.request);
}

void RequestTable::OnSettled(const wire::EntryHeader& entry) {
  Place* place = FindPlace(entry);
  if (place == nullptr || place->live != entry.id) return;
  place->settled = place->live;
  place->live = EntryId{};
}

void RequestTable::OnCopied(const wire::RequestRecord& record) {
  Client* client = Admit(record.client, record.client_incarnation, record.low_water);
  if (client == nullptr || !record.request.valid() || record.request < client->low_water) return;
  Place& place = client->requests[record.request];
  if (record.entry > place.settled) place.settled = record.entry;
}

void RequestTable::Drop(SdcId client, Incarnation below) {
  const auto found = clients_.find(client);
  if (found == clients_.end()) return;
  if (!below.valid() || found->second.incarnation < below) clients_.erase(found);
}

void RequestTable::RaiseLowWater(SdcId client, Incarnation incarnation, RequestId low_water) {
  const auto found = clients_.find(client);
  // A client that never wrote here has nothing to forget.
  if (found == clients_.end() || found->second.incarnation != incarnation) return;
  Admit(client, incarnation, low_water);
}

Store::RequestLookup RequestTable::Find(SdcId client, Incarnation incarnation,
                                        RequestId request) const {
  using State = Store::RequestState;
  const auto found = clients_.find(client);
  if (found == clients_.end() || incarnation > found->second.incarnation) {
    return {.state = State::kUnknown, .entry = {}};
  }
  if (incarnation < found->second.incarnation) {
    return {.state = State::kStaleIncarnation, .entry = {}};
  }
  if (request < found->second.low_water) return {.state = State::kBelowLowWater, .entry = {}};
  const auto place = found->second.requests.find(request);
  if (place == found->second.requests.end()) return {.state = State::kUnknown, .entry = {}};
  return {.state = State::kKnown, .entry = place->second.entry()};
}

std::vector<wire::RequestRecord> RequestTable::All() const {
  std::vector<wire::RequestRecord> records;
  for (const auto& [id, client] : clients_) {
    wire::RequestRecord record{.client = id,
                               .client_incarnation = client.incarnation,
                               .request = {},
                               .low_water = client.low_water,
                               .entry = {}};
    if (client.requests.empty()) records.push_back(record);
    for (const auto& [request, place] : client.requests) {
      record.request = request;
      record.entry = place.entry();
      records.push_back(record);
    }
  }
  return records;
}

}  // namespace gabion::store
