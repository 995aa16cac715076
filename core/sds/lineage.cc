#include "core/sds/lineage.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"

namespace gabion::sds {

namespace {

struct Link {
  Epoch epoch;
  uint64_t issuer = 0;
};

size_t ChainSize(const Lineage& lineage) {
  return lineage.history.size() + (lineage.empty() ? 0 : 1);
}

Link ChainAt(const Lineage& lineage, size_t index) {
  if (index == lineage.history.size()) return {lineage.started, lineage.issuer};
  return {lineage.history[index].epoch, lineage.history[index].issuer};
}

// Walks the starts that followed chain[index].
void Climb(const Lineage& lineage, size_t index, uint64_t* base, uint64_t* limit) {
  *base = 0;
  for (size_t i = index; i < lineage.history.size(); ++i) {
    const wire::HistoryItem& item = lineage.history[i];
    *limit = std::min(*limit, *base + item.last.value());
    *base += item.end.seq.value();
  }
}

}  // namespace

Lineage LineageOf(const store::SliceFacts& facts) {
  Lineage lineage{.history = facts.history, .started = facts.started_epoch, .issuer = facts.issuer};
  const auto seq_of = [&](EntryId id) {
    return id.epoch == facts.started_epoch ? id.seq.value() : 0;
  };
  lineage.committed = seq_of(facts.commit_point);
  lineage.last = std::max(seq_of(facts.last), lineage.committed);
  return lineage;
}

Lineage LineageOf(const wire::TailReply& reply, std::span<const wire::HistoryItem> history) {
  Lineage lineage{.history = {history.begin(), history.end()},
                  .started = reply.started_epoch,
                  .issuer = reply.issuer};
  if (reply.commit_point.epoch == reply.started_epoch) {
    lineage.committed = std::min(reply.commit_point.seq.value(), kSeqMax);
  }
  lineage.last = lineage.committed + reply.tail_count;
  return lineage;
}

bool ValidHistory(std::span<const wire::HistoryItem> history, Epoch started) {
  if (history.size() > kHistoryItemsMax) return false;
  Epoch before;
  for (const wire::HistoryItem& item : history) {
    if (item.epoch <= before || item.epoch >= started) return false;
    if (item.end.epoch != item.epoch || item.end.seq > item.last) return false;
    if (item.last.value() > kSeqMax) return false;
    before = item.epoch;
  }
  return true;
}

std::vector<wire::HistoryItem> ExtendHistory(const Lineage& lineage) {
  std::vector<wire::HistoryItem> history = lineage.history;
  if (!lineage.empty()) {
    history.push_back({.epoch = lineage.started,
                       .issuer = lineage.issuer,
                       .end = {lineage.started, Seq(lineage.committed)},
                       .last = Seq(lineage.last)});
  }
  if (history.size() > kHistoryItemsMax) {
    history.erase(history.begin(), history.end() - static_cast<std::ptrdiff_t>(kHistoryItemsMax));
  }
  return history;
}

bool NothingEverWritten(const Lineage& lineage) {
  if (lineage.history.size() >= kHistoryItemsMax) return false;  // older items may be forgotten
  for (const wire::HistoryItem& item : lineage.history) {
    if (item.last.valid()) return false;
  }
  return lineage.last == 0;
}

std::optional<Common> FindCommon(const Lineage& a, const Lineage& b) {
  size_t i = ChainSize(a);
  size_t j = ChainSize(b);
  while (i > 0 && j > 0) {
    const Link at_a = ChainAt(a, i - 1);
    const Link at_b = ChainAt(b, j - 1);
    if (at_a.epoch > at_b.epoch) {
      --i;
    } else if (at_b.epoch > at_a.epoch) {
      --j;
    } else if (at_a.issuer != at_b.issuer) {
      --i;
      --j;
    } else {
      Common common{.epoch = at_a.epoch, .issuer = at_a.issuer};
      Climb(a, i - 1, &common.base_a, &common.limit);
      Climb(b, j - 1, &common.base_b, &common.limit);
      return common;
    }
  }
  return std::nullopt;
}

JoinBase FindJoinBase(const Lineage& target, Epoch target_in_sync,
                      std::span<const wire::HistoryItem> source_history) {
  for (size_t i = ChainSize(target); i > 0; --i) {
    const Link link = ChainAt(target, i - 1);
    if (link.epoch > target_in_sync) continue;
    // How far the target got in it, by the names of that epoch. What it carried over into an epoch
    // that the source never saw has other names, and is void in a joining.
    uint64_t reached = target.last;
    if (i - 1 < target.history.size()) {
      const wire::HistoryItem& ended = target.history[i - 1];
      const bool counts_all = PLANTED_BUG("join-base-counts-carried-over");
      reached = (counts_all ? ended.last : ended.end.seq).value();
    }
    for (const wire::HistoryItem& item : source_history) {
      if (item.epoch == link.epoch && item.issuer == link.issuer) {
        // What it lacks of this epoch would count as common, and would not be copied.
        if (reached < item.end.seq.value()) break;
        return {.epoch = link.epoch, .issuer = link.issuer, .end = item.end};
      }
    }
  }
  return {};
}

std::optional<EntryId> FindResumeEnd(const wire::JoinCursor& cursor,
                                     std::span<const wire::HistoryItem> source_history) {
  if (!cursor.epoch.valid()) return std::nullopt;
  for (const wire::HistoryItem& item : source_history) {
    if (item.epoch != cursor.epoch || item.issuer != cursor.issuer) continue;
    if (cursor.after > item.end.seq) break;
    return item.end;
  }
  return std::nullopt;
}

std::vector<store::Rename> RenamesOf(const TailPlan& plan, Epoch from, Epoch to) {
  std::vector<store::Rename> renames;
  renames.reserve(plan.count);
  for (uint64_t i = 0; i < plan.count; ++i) {
    renames.push_back(
        {.from = {from, Seq(plan.first + i)}, .to = {to, Seq(plan.start.value() + 1 + i)}});
  }
  return renames;
}

ExchangePlan PlanExchange(const Lineage& self, const Lineage& peer) {
  ExchangePlan plan;
  const bool peer_is_younger = peer.started > self.started;
  plan.committed = self.committed;
  Common common;
  if (const std::optional<Common> found = FindCommon(self, peer)) {
    common = *found;
  } else {
    // Nothing in common: one of them holds nothing that counts, or there is nothing to hold.
    if (!NothingEverWritten(peer_is_younger ? peer : self)) {
      plan.verdict = peer_is_younger ? Verdict::kSelfNeedsResync : Verdict::kPeerNeedsResync;
      return plan;
    }
    common.limit = 0;
    if (self.last > 0 || peer.last > 0) {
      plan.verdict = peer_is_younger ? Verdict::kSelfNeedsResync : Verdict::kPeerNeedsResync;
      return plan;
    }
  }
  const uint64_t committed_self = common.base_a + self.committed;
  const uint64_t committed_peer = common.base_b + peer.committed;
  const uint64_t last_self = std::min(common.limit, common.base_a + self.last);
  const uint64_t last_peer = std::min(common.limit, common.base_b + peer.last);
  if (committed_self > last_peer) {
    plan.verdict = Verdict::kPeerNeedsResync;
    return plan;
  }
  if (committed_peer > last_self) {
    plan.verdict = Verdict::kSelfNeedsResync;
    return plan;
  }
  const uint64_t committed = std::max(committed_self, committed_peer);
  plan.adopt = peer_is_younger;
  if (!peer_is_younger) {
    plan.committed = committed - common.base_a;
    plan.fetch_from = self.last + 1;
    plan.fetch_to = last_peer > common.base_a ? last_peer - common.base_a : 0;
    plan.fetch_shift = static_cast<int64_t>(common.base_a) - static_cast<int64_t>(common.base_b);
    return plan;
  }
  // Both committed positions are at most last_self, so nothing below is negative.
  const uint64_t end = std::max(committed_self, common.base_b);
  CHECK_LE(end, last_self);
  plan.tail.end = {self.started, Seq(end - common.base_a)};
  plan.tail.start = Seq(end - common.base_b);
  plan.tail.first = end - common.base_a + 1;
  plan.tail.count = last_self - end;
  plan.committed = committed - common.base_b;
  plan.fetch_from = last_self - common.base_b + 1;
  plan.fetch_to = peer.last;
  return plan;
}

std::optional<TailPlan> PlanFollow(const Lineage& self, const Lineage& source) {
  TailPlan plan;
  const std::optional<Common> common = FindCommon(self, source);
  if (!common.has_value()) {
    if (self.last > 0 || !NothingEverWritten(source)) return std::nullopt;
    plan.end = {self.started, Seq(0)};
    return plan;
  }
  // Everything up to the source's base is committed: this side must have it, and must not know of
  // more (the source asked before it wrote the record).
  const uint64_t committed = common->base_a + self.committed;
  const uint64_t end = common->base_b;
  const bool keeps_all = PLANTED_BUG("R14-no-void") || PLANTED_BUG("R14-no-exchange");
  const uint64_t limit = keeps_all ? UINT64_MAX : common->limit;
  const uint64_t last = std::min(limit, common->base_a + self.last);
  if (end > last || committed > end) return std::nullopt;
  plan.end = {self.started, Seq(end - common->base_a)};
  plan.first = end - common->base_a + 1;
  plan.count = last - end;
  return plan;
}

}  // namespace gabion::sds
