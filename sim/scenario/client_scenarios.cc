// Scripts about what clients see: order, retries, errors, old maps. Numbers are those of
// docs/scenarios.md.
#include <memory>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;

void OverlappingWritesHaveOneOrder(Stage& stage) {
  for (uint64_t i = 0; i < 300 && !stage.failed(); ++i) {
    for (uint32_t client = 0; client < 2; ++client) {
      stage.workload().Write(client, 0, (i % 4 + client) * 2048, 8192, [](int, const Slice&) {});
    }
    if (i % 8 == 7) stage.Sleep(milliseconds(1));
  }
  stage.WaitFor("all I/O completes", seconds(10), [&] { return stage.workload().Idle(); });
  stage.ReadAndWait(0, 32768);
  const NodeIndex a = stage.Primary();
  stage.world().Kill(a);
  stage.ReadAndWait(0, 32768);
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

void ReadsDuringAMoveAreFresh(Stage& stage) {
  const NodeIndex b = stage.Secondary();
  for (uint64_t i = 0; i < 16; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.world().Kill(b);  // for good: the copy is made anew elsewhere
  for (uint64_t i = 0; i < 300; ++i) {
    stage.WriteAndWait(i % 16 * 65536, 4096);
    stage.ReadAndWait(i % 16 * 65536, 8192);
    stage.Sleep(milliseconds(20));
  }
  stage.WaitFor("a new copy is there", seconds(30),
                [&] { return stage.Secondary() != b && stage.Primary() != b; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

// A write over two chunks, of which one has no server left.
void FirstErrorOfASplitWriteSticks(Stage& stage) {
  for (uint32_t chunk = 1; chunk < 4; ++chunk) {
    const NodeIndex x = stage.Primary(0, chunk);
    const NodeIndex y = stage.Secondary(0, chunk);
    const NodeIndex before = stage.Primary(0, chunk - 1);
    const NodeIndex after = stage.Secondary(0, chunk - 1);
    if ((x == before || x == after) && (y == before || y == after)) continue;
    stage.world().Kill(x);
    stage.world().Kill(y);
    auto error = std::make_shared<int>(-1);
    stage.workload().Write(0, 0, chunk * kChunk - 4096, 8192,
                           [error](int e, const Slice&) { *error = e; });
    stage.WaitFor("the write ends", seconds(20), [error] { return *error != -1; });
    stage.Expect(*error != 0, "half a write is no success");
    stage.world().Start(x);
    stage.world().Start(y);
    stage.WaitMirrored();
    stage.ReadEverything();
    return;
  }
  stage.Expect(false, "two neighbouring chunks are on different servers");
}

// W1 hangs in the network, is sent again on a new connection, and the first one arrives late.
void LateRetryDoesNotOverwrite(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex client = stage.cluster().sdc()[0];
  stage.WriteAndWait(0);
  stage.world().Clog(client, a, stage.world().now() + Duration(milliseconds(600)).count());
  bool first = false;
  stage.WriteLater(0, 4096, 0, &first);
  stage.Sleep(milliseconds(1));
  stage.world().BreakConnection(client, a, milliseconds(1), Duration(-1));
  for (int i = 0; i < 100; ++i) {
    stage.WriteAndWait(0, 4096, 1);
    stage.ReadAndWait(0, 4096, 1);
    stage.Sleep(milliseconds(20));
  }
  stage.WaitFor("the first write completes", seconds(10), [&first] { return first; });
  stage.ReadEverything();
}

void NoWriteAfterUnmap(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex old_host = stage.cluster().sdc()[0];
  stage.WriteAndWait(0, 4096, 0);
  stage.world().Cut(old_host, a);
  stage.workload().Write(0, 0, 0, 4096, [](int, const Slice&) {});
  stage.Sleep(milliseconds(20));
  proto::AdminRequest request;
  request.mutable_volume_unmap()->set_volume("vol1");
  request.mutable_volume_unmap()->set_sdc("sdc1");
  auto unmapped = std::make_shared<bool>(false);
  stage.cluster().Command(request, [unmapped](const proto::AdminReply& reply) {
    *unmapped = reply.code() == proto::AdminReply::OK;
  });
  stage.WaitFor("the volume is unmapped", seconds(10), [unmapped] { return *unmapped; });
  auto written = std::make_shared<bool>(false);
  const Stamp stamp = stage.workload().Write(
      1, 0, 0, 4096, [written](int error, const Slice&) { *written = error == 0; });
  stage.WaitFor("the new host writes", seconds(10), [written] { return *written; });
  stage.world().Heal(old_host, a);
  stage.Sleep(seconds(5));
  auto seen = std::make_shared<Stamp>(0);
  stage.workload().Read(1, 0, 0, 4096, [seen](int, const Slice& payload) {
    *seen = ReadStamp(payload.span().first(kStampSectorBytes), 1, 0).value_or(0);
  });
  stage.WaitFor("the new host reads", seconds(10), [seen] { return *seen != 0; });
  stage.Expect(*seen == stamp, "the new host's data is there");
}

void HalfOpenConnectionIsReplaced(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  stage.world().PowerCut(a);  // nobody is told
  stage.world().Start(a);
  for (int i = 0; i < 20; ++i) {
    stage.WriteAndWait(0);
    stage.ReadAndWait(0);
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

void OldMapIsRefused(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex late = stage.cluster().sdc()[0];
  stage.WriteAndWait(0, 4096, 0);
  stage.CutBoth(late, stage.cluster().mdm());
  stage.world().Kill(a);
  stage.WriteAndWait(0, 4096, 1);
  stage.world().Start(a);
  stage.WaitMirrored();
  bool write = false;
  stage.WriteLater(0, 4096, 0, &write);
  for (int i = 0; i < 60; ++i) {
    stage.WriteAndWait(0, 4096, 1);
    stage.ReadAndWait(0, 4096, 1);
    stage.Sleep(seconds(10));
  }
  stage.HealBoth(late, stage.cluster().mdm());
  stage.WaitFor("the late client goes on", seconds(20), [&write] { return write; });
  stage.ReadEverything();
}

void WriteOverAChunkBoundaryDuringFailOver(Stage& stage) {
  for (uint32_t chunk = 1; chunk < 4; ++chunk) {
    const NodeIndex victim = stage.Primary(0, chunk);
    bool done = false;
    stage.WriteLater(chunk * kChunk - 512, 1024, 0, &done);
    stage.world().ArmCrash(victim, chunk, false);
    stage.Sleep(milliseconds(2));
    stage.world().Kill(victim);
    stage.WaitFor("the write completes", seconds(10), [&done] { return done; });
    stage.ReadAndWait(chunk * kChunk - 4096, 8192);
    stage.world().Start(victim);
    stage.WaitMirrored();
  }
  stage.ReadEverything();
}

ClusterOptions WithTimeout(ClusterOptions options) {
  options.io_timeout = seconds(3);
  options.rebuild_delay = seconds(60);
  return options;
}

}  // namespace

std::span<const Scenario> ClientScenarios() {
  static const Scenario kScenarios[] = {
      {"s26-overlapping-writes", "overlapping writes have one order on both copies",
       OverlappingWritesHaveOneOrder, SmallCluster(2, 2)},
      {"s28-reads-during-a-move", "reads during the making of a new copy are fresh",
       ReadsDuringAMoveAreFresh, SmallCluster(3)},
      {"s30-first-error-sticks", "a write of which one part fails is no success",
       FirstErrorOfASplitWriteSticks, WithTimeout(SmallCluster(4))},
      {"s39-late-retry", "a late first attempt does not overwrite a later write",
       LateRetryDoesNotOverwrite, SmallCluster(2, 2)},
      {"s43-no-write-after-unmap", "no write of an unmapped client lands", NoWriteAfterUnmap,
       SmallCluster(2, 2)},
      {"s44-half-open", "a half-open connection is replaced, and nothing is done twice",
       HalfOpenConnectionIsReplaced, SmallCluster(2)},
      {"s46-old-map", "a client with an old map does no harm, and goes on when it has a new one",
       OldMapIsRefused, SmallCluster(2, 2)},
      {"s47-boundary-and-fail-over", "a write over a chunk boundary is whole across a fail-over",
       WriteOverAChunkBoundaryDuringFailOver, SmallCluster(3)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
