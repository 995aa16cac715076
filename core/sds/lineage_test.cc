#include "core/sds/lineage.h"

#include <gtest/gtest.h>

namespace gabion::sds {
namespace {

wire::HistoryItem Ended(uint64_t epoch, uint64_t end, uint64_t last) {
  return {.epoch = Epoch(epoch), .issuer = 1, .end = {Epoch(epoch), Seq(end)}, .last = Seq(last)};
}

Lineage At(std::vector<wire::HistoryItem> history, uint64_t epoch, uint64_t committed,
           uint64_t last) {
  return {.history = std::move(history),
          .started = Epoch(epoch),
          .issuer = 1,
          .committed = committed,
          .last = last};
}

TEST(Exchange, InOneEpochTheShorterTailIsFilledFromTheLonger) {
  const ExchangePlan behind = PlanExchange(At({}, 4, 2, 3), At({}, 4, 3, 6));
  EXPECT_EQ(behind.verdict, Verdict::kOk);
  EXPECT_FALSE(behind.adopt);
  EXPECT_EQ(behind.committed, 3u) << "the higher of both commit points";
  EXPECT_EQ(behind.fetch_from, 4u);
  EXPECT_EQ(behind.fetch_to, 6u);
  const ExchangePlan ahead = PlanExchange(At({}, 4, 3, 6), At({}, 4, 2, 3));
  EXPECT_LT(ahead.fetch_to, ahead.fetch_from) << "nothing to fetch";
}

TEST(Exchange, ALogThatEndsBelowACommitPointNeedsAResync) {
  EXPECT_EQ(PlanExchange(At({}, 4, 5, 6), At({}, 4, 2, 4)).verdict, Verdict::kPeerNeedsResync);
  EXPECT_EQ(PlanExchange(At({}, 4, 2, 4), At({}, 4, 5, 6)).verdict, Verdict::kSelfNeedsResync);
}

// The peer was primary of epoch 4, had committed 5 and appended 8. This side knew of 3, held 6, and
// started epoch 5 alone.
TEST(Exchange, APeerThatMissedAStartTeachesWhatItCommitted) {
  const Lineage self = At({Ended(4, 3, 6)}, 5, 0, 3);
  const Lineage peer = At({}, 4, 5, 8);
  const ExchangePlan plan = PlanExchange(self, peer);
  EXPECT_EQ(plan.verdict, Verdict::kOk);
  EXPECT_FALSE(plan.adopt);
  EXPECT_EQ(plan.committed, 2u) << "(4, 5) is (5, 2)";
  EXPECT_LT(plan.fetch_to, plan.fetch_from) << "7 and 8 were never on both";
}

TEST(Follow, OnlyWhatWasNotCarriedOverIsVoid) {
  // The record of epoch 6: epoch 4 ended at 3 with 6 carried, epoch 5 at 2 with 4.
  const Lineage source = At({Ended(4, 3, 6), Ended(5, 2, 4)}, 6, 0, 0);
  const std::optional<TailPlan> plan = PlanFollow(At({}, 4, 5, 8), source);
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->end, (EntryId{Epoch(4), Seq(5)}));
  EXPECT_EQ(plan->first, 6u);
  EXPECT_EQ(plan->count, 1u) << "6 becomes (6, 1); 7 and 8 go";
  const auto renames = RenamesOf(*plan, Epoch(4), Epoch(6));
  ASSERT_EQ(renames.size(), 1u);
  EXPECT_EQ(renames[0].from, (EntryId{Epoch(4), Seq(6)}));
  EXPECT_EQ(renames[0].to, (EntryId{Epoch(6), Seq(1)}));
}

TEST(Follow, AReplicaThatLacksWhatIsCommittedNeedsAResync) {
  const Lineage source = At({Ended(4, 7, 7)}, 6, 0, 0);
  EXPECT_FALSE(PlanFollow(At({}, 4, 5, 6), source).has_value());
  EXPECT_TRUE(PlanFollow(At({}, 4, 5, 7), source).has_value());
}

TEST(Follow, AnEmptyReplicaFollowsOnlyASliceWithoutEntries) {
  const Lineage empty;
  EXPECT_TRUE(PlanFollow(empty, At({}, 1, 0, 0)).has_value());
  EXPECT_TRUE(PlanFollow(empty, At({Ended(1, 0, 0)}, 2, 0, 0)).has_value());
  EXPECT_FALSE(PlanFollow(empty, At({Ended(1, 0, 1)}, 2, 0, 0)).has_value());
}

// This side is the primary again, but the other one started epoch 5 without it.
TEST(Exchange, APrimaryThatMissedAStartAdoptsItUnderTheNewNames) {
  const Lineage self = At({}, 4, 5, 8);
  const Lineage peer = At({Ended(4, 3, 6)}, 5, 0, 4);
  const ExchangePlan plan = PlanExchange(self, peer);
  ASSERT_EQ(plan.verdict, Verdict::kOk);
  EXPECT_TRUE(plan.adopt);
  EXPECT_EQ(plan.tail.end, (EntryId{Epoch(4), Seq(5)}));
  EXPECT_EQ(plan.tail.start, Seq(2)) << "(5, 1) and (5, 2) are here as (4, 4) and (4, 5)";
  EXPECT_EQ(plan.tail.first, 6u);
  EXPECT_EQ(plan.tail.count, 1u);
  EXPECT_EQ(plan.committed, 2u);
  EXPECT_EQ(plan.fetch_from, 4u);
  EXPECT_EQ(plan.fetch_to, 4u);
}

// Each started an epoch that the other did not: 4 is the last in common.
TEST(Exchange, TwoBranchesMeetInTheirLastCommonEpoch) {
  const Lineage self = At({Ended(4, 2, 5)}, 6, 0, 3);
  const Lineage peer = At({Ended(4, 3, 4)}, 5, 0, 2);
  const ExchangePlan plan = PlanExchange(self, peer);
  ASSERT_EQ(plan.verdict, Verdict::kOk);
  EXPECT_FALSE(plan.adopt);
  EXPECT_EQ(plan.committed, 1u) << "position 3 was committed over there";
  EXPECT_LT(plan.fetch_to, plan.fetch_from);
  const std::optional<TailPlan> follow =
      PlanFollow(peer, At({Ended(4, 2, 5), Ended(6, 1, 3)}, 7, 0, 0));
  ASSERT_TRUE(follow.has_value());
  EXPECT_EQ(follow->end, (EntryId{Epoch(5), Seq(0)}));
  EXPECT_EQ(follow->count, 1u) << "position 4; (5, 2) was position 5 there, another entry here";
}

TEST(Exchange, ReplicasWithNothingInCommonDoNotMix) {
  EXPECT_EQ(PlanExchange(At({}, 6, 1, 1), At({}, 5, 0, 0)).verdict, Verdict::kPeerNeedsResync);
  EXPECT_EQ(PlanExchange(Lineage(), At({}, 5, 0, 2)).verdict, Verdict::kSelfNeedsResync);
  EXPECT_EQ(PlanExchange(Lineage(), Lineage()).verdict, Verdict::kOk);
}

TEST(JoinBase, IsTheYoungestEpochInSyncThatTheSourceStartedToo) {
  const std::vector<wire::HistoryItem> source = {Ended(4, 2, 5), Ended(6, 1, 3), Ended(7, 0, 0)};
  EXPECT_EQ(FindJoinBase(At({Ended(4, 2, 5)}, 6, 0, 3), Epoch(6), source).epoch, Epoch(6));
  const JoinBase older = FindJoinBase(At({Ended(4, 3, 5)}, 5, 0, 3), Epoch(5), source);
  EXPECT_EQ(older.epoch, Epoch(4));
  EXPECT_EQ(older.end, (EntryId{Epoch(4), Seq(2)})) << "as the source recorded it";
  // It has followed in epoch 6 while joining: that does not count.
  EXPECT_EQ(FindJoinBase(At({Ended(4, 2, 5)}, 6, 0, 3), Epoch(4), source).epoch, Epoch(4));
  EXPECT_EQ(FindJoinBase(Lineage(), Epoch(), source).epoch, Epoch());
}

TEST(JoinBase, IsOlderThanAnEpochOfWhichTheTargetLacksCommittedEntries) {
  const std::vector<wire::HistoryItem> source = {Ended(4, 2, 5), Ended(6, 3, 3)};
  EXPECT_EQ(FindJoinBase(At({Ended(4, 2, 5)}, 6, 0, 3), Epoch(6), source).epoch, Epoch(6));
  EXPECT_EQ(FindJoinBase(At({Ended(4, 2, 5)}, 6, 0, 2), Epoch(6), source).epoch, Epoch(4));
  EXPECT_EQ(FindJoinBase(At({}, 4, 0, 1), Epoch(4), source).epoch, Epoch());
}

// T started epoch 5 alone and carried (4, 3) over, which the source knew to be committed. As (5, 1)
// it is void in the joining, and the source's chunk was last modified in epoch 4.
TEST(JoinBase, IsOlderThanAnEpochWhoseCommittedEntriesTheTargetCarriedOverAlone) {
  const std::vector<wire::HistoryItem> source = {Ended(3, 7, 7), Ended(4, 3, 3), Ended(6, 1, 1)};
  EXPECT_EQ(FindJoinBase(At({Ended(3, 7, 7), Ended(4, 2, 3)}, 5, 0, 1), Epoch(5), source).epoch,
            Epoch(3));
  EXPECT_EQ(FindJoinBase(At({Ended(3, 7, 7), Ended(4, 3, 3)}, 5, 0, 0), Epoch(5), source).epoch,
            Epoch(4));
}

TEST(History, FromOutsideIsCheckedAndForgetsItsOldestItems) {
  EXPECT_TRUE(ValidHistory(std::vector{Ended(1, 0, 2), Ended(3, 1, 1)}, Epoch(4)));
  EXPECT_FALSE(ValidHistory(std::vector{Ended(3, 0, 2), Ended(1, 1, 1)}, Epoch(4)));
  EXPECT_FALSE(ValidHistory(std::vector{Ended(3, 3, 2)}, Epoch(4)));
  EXPECT_FALSE(ValidHistory(std::vector{Ended(4, 0, 2)}, Epoch(4)));
  Lineage lineage = At({}, 1, 0, 0);
  for (uint64_t epoch = 2; epoch < 300; ++epoch) {
    lineage.history = ExtendHistory(lineage);
    lineage.started = Epoch(epoch);
  }
  EXPECT_EQ(lineage.history.size(), kHistoryItemsMax);
  EXPECT_EQ(lineage.history.back().epoch, Epoch(298));
}

TEST(FindResumeEnd, GoesOnOnlyBelowTheRecordedEndOfTheSameEpoch) {
  const std::vector<wire::HistoryItem> history = {
      {.epoch = Epoch(3), .issuer = 1, .end = {Epoch(3), Seq(4)}, .last = Seq(6)},
      {.epoch = Epoch(5), .issuer = 2, .end = {Epoch(5), Seq(9)}, .last = Seq(9)}};
  wire::JoinCursor cursor{.epoch = Epoch(3), .issuer = 1, .after = Seq(4)};
  EXPECT_EQ(FindResumeEnd(cursor, history), (EntryId{Epoch(3), Seq(4)}));
  cursor.after = Seq(5);  // that entry may be void, and what was copied behind it
  EXPECT_EQ(FindResumeEnd(cursor, history), std::nullopt);
  cursor.after = Seq(1);
  cursor.issuer = 2;
  EXPECT_EQ(FindResumeEnd(cursor, history), std::nullopt);
  cursor.epoch = Epoch(4);
  EXPECT_EQ(FindResumeEnd(cursor, history), std::nullopt);
  EXPECT_EQ(FindResumeEnd({}, history), std::nullopt);
}

}  // namespace
}  // namespace gabion::sds
