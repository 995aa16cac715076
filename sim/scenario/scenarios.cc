// The scripts. Numbers are those of docs/scenarios.md.
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;

ClusterOptions Servers(uint32_t sds_count, uint32_t sdc_count = 1) {
  ClusterOptions options;
  options.sds_count = sds_count;
  options.sdc_count = sdc_count;
  options.slice_count = 4;
  options.volume_bytes = 4 << 20;
  options.rebuild_delay = seconds(2);
  return options;
}

void StaleCopyRefuses(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.world().Kill(b);
  stage.WriteAndWait(0);  // degraded: on A alone
  stage.world().Kill(a);
  stage.world().Start(b);
  auto read = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [read](int, const Slice&) { *read = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*read, "the stale copy serves nothing");
  stage.world().Start(a);
  stage.WaitFor("the fresh copy serves", seconds(10), [read] { return *read; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void NoAckBeforeDegradeIsRecorded(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.CutBoth(a, b);
  stage.CutBoth(a, stage.cluster().mdm());
  auto done = std::make_shared<bool>(false);
  stage.workload().Write(0, 0, 0, 4096, [done](int error, const Slice&) { *done = error == 0; });
  stage.Sleep(milliseconds(700));
  stage.Expect(!*done, "no acknowledgement by a primary that is alone");
  stage.WaitFor("the other copy takes over", seconds(10), [done] { return *done; });
  stage.Expect(stage.Primary() == b, "the other copy is primary now");
  stage.ReadAndWait(0);
  stage.HealBoth(a, b);
  stage.HealBoth(a, stage.cluster().mdm());
  stage.WaitMirrored();
  stage.ReadEverything();
}

void OnePrimaryWhenCutFromTheMdm(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  stage.CutBoth(a, stage.cluster().mdm());
  for (int i = 0; i < 40; ++i) {
    stage.WriteAndWait(0, 4096, i % 2);
    stage.ReadAndWait(0, 4096, (i + 1) % 2);
    stage.Sleep(milliseconds(100));
  }
  stage.Expect(stage.Primary() != a, "another SDS is primary");
  stage.HealBoth(a, stage.cluster().mdm());
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The first client can reach only the old primary, the second everybody else.
void NoStaleReadsFromACutPrimary(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0, 4096, 1);
  stage.ReadAndWait(0, 4096, 0);
  stage.CutBoth(a, b);
  stage.CutBoth(a, stage.cluster().mdm());
  stage.CutBoth(a, stage.cluster().sdc()[1]);
  bool reading = false;
  bool writing = false;
  uint32_t writes = 0;
  for (int i = 0; i < 400 && !stage.failed(); ++i) {
    if (!reading) {
      reading = true;
      stage.workload().Read(0, 0, 0, 4096, [&reading](int, const Slice&) { reading = false; });
    }
    if (!writing) {
      writing = true;
      stage.workload().Write(1, 0, 0, 4096, [&](int error, const Slice&) {
        writing = false;
        writes += error == 0 ? 1 : 0;
      });
    }
    stage.Sleep(milliseconds(10));
  }
  stage.Expect(writes > 10, "the other side goes on");
  stage.HealBoth(a, b);
  stage.HealBoth(a, stage.cluster().mdm());
  stage.HealBoth(a, stage.cluster().sdc()[1]);
  stage.WaitFor("all I/O completes", seconds(10), [&] { return stage.workload().Idle(); });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void RestartedPrimaryKnowsWhatItsPeerLacks(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.world().Kill(b);
  stage.WriteAndWait(0);
  stage.world().Kill(a);
  stage.world().Start(a);
  stage.world().Start(b);
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadAndWait(0);
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

void SecondProcessWithTheSameIdDoesNoHarm(Stage& stage) {
  const NodeIndex original = stage.cluster().sds()[0];
  const NodeIndex twin = stage.cluster().twin();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2);
  std::vector<Node::NamedDisk>& from = stage.world().node(original).disks;
  std::vector<Node::NamedDisk>& to = stage.world().node(twin).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  stage.world().Start(twin);
  for (uint64_t i = 0; i < 40; ++i) {
    stage.WriteAndWait(i % 8 * kChunk / 2);
    stage.ReadAndWait((i + 3) % 8 * kChunk / 2);
    stage.Sleep(milliseconds(50));
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

// Both begin with the state directory of the run before, and so come to the same incarnation.
void SameIncarnationTwiceDoesNoHarm(Stage& stage) {
  const NodeIndex original = stage.cluster().sds()[0];
  const NodeIndex twin = stage.cluster().twin();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2);
  stage.world().Kill(original);
  std::vector<Node::NamedDisk>& from = stage.world().node(original).disks;
  std::vector<Node::NamedDisk>& to = stage.world().node(twin).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  stage.world().Start(original);
  stage.Sleep(seconds(1));
  stage.world().Start(twin);
  for (uint64_t i = 0; i < 40; ++i) {
    stage.WriteAndWait(i % 8 * kChunk / 2);
    stage.ReadAndWait((i + 3) % 8 * kChunk / 2);
    stage.Sleep(milliseconds(50));
  }
  stage.Expect(stage.world().Running(original), "the one that was first goes on");
  stage.Expect(!stage.world().Running(twin), "the other one has ended");
  stage.WaitMirrored();
  stage.ReadEverything();
}

void OldStateDirectoryCatchesUp(Stage& stage) {
  const NodeIndex victim = stage.Primary();
  stage.WriteAndWait(0);
  Disk& state = *stage.world().node(victim).disks[0].disk;
  Disk& backup = *stage.world().node(stage.cluster().twin()).disks[0].disk;
  backup.CloneFrom(state);
  for (int i = 0; i < 5; ++i) {
    stage.world().Kill(victim);
    stage.world().Start(victim);
    stage.Sleep(seconds(1));
  }
  stage.WaitMirrored();
  stage.world().Kill(victim);
  stage.WriteAndWait(0);
  state.CloneFrom(backup);
  // It finds on its devices how far it was, ends, and goes on from there when it is started again.
  stage.world().Start(victim);
  stage.WaitFor("it ends", seconds(5), [&] { return !stage.world().Running(victim); });
  stage.world().Start(victim);
  stage.WaitMirrored();
  stage.Expect(stage.world().Running(victim), "it goes on");
  stage.ReadEverything();
}

void RottenBlocksAreReadFromTheOtherCopy(Stage& stage) {
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 256 << 10);
  stage.Sleep(seconds(4));  // everything is in its place
  const NodeIndex a = stage.Primary();
  Disk& disk = *stage.world().node(a).disks[1].disk;
  disk.RotAll(stage.cluster().FirstDataByte());
  stage.Expect(disk.rotten() > 0, "there is something to rot");
  // A part of a block, and everything.
  stage.WriteAndWait(512, 1024);
  stage.ReadEverything();
  stage.Sleep(seconds(4));
  stage.ReadEverything();
  stage.world().Kill(stage.Secondary());
  stage.ReadAndWait(0, 256 << 10);  // its own copy is good again
}

void FullDevicesAnswerEnospc(Stage& stage) {
  const uint64_t epochs = stage.watch().epochs();
  uint64_t written = 0;
  uint64_t full = 0;
  for (uint64_t i = 0; i < 256 && !stage.failed(); ++i) {
    auto error = std::make_shared<int>(-1);
    stage.workload().Write(0, 0, i * 65536, 65536, [error](int e, const Slice&) { *error = e; });
    stage.WaitFor("a write is answered", seconds(10), [error] { return *error != -1; });
    stage.Expect(*error == 0 || *error == ENOSPC, "a write succeeds, or there is no space");
    if (*error == 0) ++written;
    if (*error == ENOSPC) ++full;
  }
  stage.Expect(written > 60, "what fits is written");
  stage.Expect(full > 10, "the devices become full");
  // What is there can be changed.
  for (uint64_t i = 0; i < 32; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.Sleep(seconds(3));
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  stage.ReadEverything();
}

// A request in flight in each of many slices is more than the log of either device holds.
void SmallLogsMakeWritersWait(Stage& stage) {
  constexpr uint64_t kBytes = 256 << 10;
  const ClusterOptions& options = stage.cluster().options();
  const uint64_t epochs = stage.watch().epochs();
  for (int round = 0; round < 3 && !stage.failed(); ++round) {
    auto left = std::make_shared<uint64_t>(options.volume_bytes / kBytes);
    for (uint64_t at = 0; at < options.volume_bytes; at += kBytes) {
      const auto client = static_cast<uint32_t>(at / kBytes % options.sdc_count);
      stage.workload().Write(client, 0, at, kBytes, [left](int error, const Slice&) {
        if (error == 0) --*left;
      });
    }
    stage.WaitFor("all writes succeed", seconds(30), [left] { return *left == 0; });
  }
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  stage.ReadEverything();
}

// Room in the log that was promised to a primary is there, whoever else wants it: two servers with
// small logs are each other's secondary in many slices, and one fails while both are full.
void PromisedRoomIsThere(Stage& stage) {
  constexpr uint64_t kLarge = 256 << 10;
  const ClusterOptions& options = stage.cluster().options();
  const auto write_all = [&](uint64_t bytes, const std::function<void()>& meanwhile) {
    auto left = std::make_shared<uint64_t>(options.volume_bytes / kLarge);
    for (uint64_t at = 0; at < options.volume_bytes; at += kLarge) {
      const auto client = static_cast<uint32_t>(at / kLarge % options.sdc_count);
      stage.workload().Write(client, 0, at, bytes, [left](int error, const Slice&) {
        if (error == 0) --*left;
      });
    }
    meanwhile();
    stage.WaitFor("all writes succeed", seconds(60), [left] { return *left == 0; });
  };
  const uint64_t epochs = stage.watch().epochs();
  // Every primary is promised something, for many small writes, and keeps what it does not need.
  for (int round = 0; round < 3; ++round) write_all(32 << 10, [] {});
  // Each needs all that a log has to promise; the others give it back.
  for (uint64_t chunk = 0; chunk < options.volume_bytes / kChunk; ++chunk) {
    stage.WriteAndWait(chunk * kChunk, kLarge);
  }
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  for (int round = 0; round < 3 && !stage.failed(); ++round) {
    const NodeIndex victim = round == 1 ? stage.Secondary() : stage.Primary();
    write_all(kLarge, [&] {
      stage.Sleep(milliseconds(30 + 20 * round));
      stage.world().Kill(victim);
      stage.Sleep(milliseconds(200 * round));
      stage.world().Start(victim);
    });
    stage.WaitMirrored();
  }
  stage.ReadEverything();
}

// Its copies are made anew elsewhere while it is away; it learns what to forget while its device is
// still being opened.
void AnOutageGivesTheSpaceBack(Stage& stage) {
  const NodeIndex b = stage.Secondary();
  const auto used = [&stage, b](const proto::ClusterStatus& status) {
    for (const proto::Device& device : status.devices()) {
      if (stage.cluster().NodeOfSds(device.sds()) == b) return device.used_bytes();
    }
    return UINT64_MAX;
  };
  const auto seconds_from_now = [&stage](int64_t n) {
    return stage.world().now() + Duration(seconds(n)).count();
  };
  stage.cluster().WaitForStatus(seconds_from_now(1), [](const auto&) { return true; });
  const uint64_t before = used(stage.cluster().last_status());
  for (uint64_t i = 0; i < 64; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.Sleep(seconds(4));
  stage.cluster().WaitForStatus(seconds_from_now(1), [](const auto&) { return true; });
  stage.Expect(used(stage.cluster().last_status()) >= before + kChunk, "it holds something");
  stage.world().Kill(b);
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk);
  stage.Sleep(seconds(5));
  stage.WaitMirrored();
  stage.world().node(b).disks[1].disk->SlowDown(seconds_from_now(30), seconds(1));
  stage.world().Start(b);
  stage.Sleep(seconds(20));
  stage.Expect(stage.cluster().WaitForStatus(
                   seconds_from_now(20),
                   [&](const proto::ClusterStatus& status) { return used(status) <= before; }),
               "it has its space back");
  stage.WaitMirrored();
  stage.ReadEverything();
}

void FrozenPrimaryWakesUp(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  bool done = false;
  stage.WriteLater(0, 4096, 0, &done);
  stage.Sleep(std::chrono::microseconds(100));  // the write is on its way in A
  stage.world().Pause(a, stage.world().now() + Duration(seconds(60)).count());
  for (int i = 0; i < 20; ++i) {
    stage.WriteAndWait(0, 4096, 1);
    stage.Sleep(seconds(1));
  }
  stage.Sleep(seconds(45));
  for (int i = 0; i < 20; ++i) {
    stage.ReadAndWait(0, 4096, 0);
    stage.WriteAndWait(0, 4096, 1);
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

void WritesDuringJoiningAreOnBoth(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  for (uint64_t i = 0; i < 16; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.world().Kill(b);
  for (uint64_t i = 0; i < 16; i += 2) stage.WriteAndWait(i * 65536, 65536);
  stage.world().Start(b);
  for (uint64_t i = 0; i < 200; ++i) {
    stage.WriteAndWait(i % 16 * 65536 + i % 5 * 4096, 4096 + i % 3 * 512);
    stage.Sleep(milliseconds(2));
  }
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadEverything();
  stage.world().Start(a);
  stage.WaitMirrored();
}

void PowerLossOfBothDuringAWrite(Stage& stage) {
  for (uint32_t countdown = 1; countdown <= 12 && !stage.failed(); ++countdown) {
    const NodeIndex a = stage.Primary();
    const NodeIndex b = stage.Secondary();
    bool done = false;
    stage.WriteLater(0, 16384, 0, &done);
    stage.world().ArmCrash(a, countdown, true);
    stage.world().ArmCrash(b, countdown, true);
    stage.Sleep(milliseconds(50));
    stage.world().PowerCut(a);
    stage.world().PowerCut(b);
    stage.world().Start(a);
    stage.world().Start(b);
    stage.WaitMirrored();
    stage.WaitFor("all I/O completes", seconds(10), [&] { return stage.workload().Idle(); });
    stage.ReadAndWait(0, 16384);
    // The same from the other copy.
    stage.world().Kill(stage.Primary());
    stage.ReadAndWait(0, 16384);
    for (const NodeIndex node : {a, b}) stage.world().Start(node);
    stage.WaitMirrored();
    stage.ReadAndWait(0, 16384);
  }
}

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

void FailedFlushFailsTheDevice(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  // Whichever comes first makes the device lie about durability.
  Disk& disk = *stage.world().node(a).disks[1].disk;
  disk.FailNext(DiskOp::kDurableWrite, 1);
  for (uint64_t i = 0; i < 100; ++i) {
    stage.WriteAndWait(i % 16 * 4096);
    stage.Sleep(milliseconds(20));
  }
  stage.world().PowerCut(a);
  stage.ReadEverything();
  stage.world().Start(a);
  stage.Sleep(seconds(5));
  stage.ReadEverything();
  stage.Expect(stage.Primary() != a, "the failed device has no slice");
}

void AcknowledgedMeansDurableOnBoth(Stage& stage) {
  for (int round = 0; round < 5; ++round) {
    for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2, 8192);
    for (const NodeIndex node : stage.cluster().sds()) stage.world().PowerCut(node);
    stage.world().PowerCut(stage.cluster().mdm());
    stage.world().Start(stage.cluster().mdm());
    for (const NodeIndex node : stage.cluster().sds()) stage.world().Start(node);
    stage.WaitMirrored();
    stage.ReadEverything();
  }
}

void SitePowerLossAndOneNeverReturns(Stage& stage) {
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2, 65536);
  for (const NodeIndex node : stage.cluster().sds()) stage.world().PowerCut(node);
  stage.world().PowerCut(stage.cluster().mdm());
  const std::vector<NodeIndex>& sds = stage.cluster().sds();
  stage.Sleep(seconds(60));
  stage.world().Start(sds[2]);
  stage.Sleep(seconds(90));
  stage.world().Start(stage.cluster().mdm());
  stage.Sleep(seconds(30));
  stage.world().Start(sds[0]);
  stage.Sleep(seconds(200));
  stage.world().Start(sds[3]);  // and sds[1] never
  stage.ReadEverything();       // every slice has one of its copies back
  stage.WaitMirrored(seconds(90));
  stage.ReadEverything();
}

// B carries a write over that A knows to be committed, then A goes on alone, and B joins.
void CarriedOverEntriesOutliveAJoining(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.Sleep(seconds(1));
  stage.WriteAndWait(0);  // B has not heard yet that it is committed
  stage.CutFromAll(a);
  stage.WaitFor("B takes over", seconds(10), [&] { return stage.Primary() == b; });
  // Nobody is there to make B go on alone.
  stage.world().Kill(stage.cluster().mdm());
  stage.Sleep(milliseconds(200));
  stage.world().Kill(b);
  stage.HealFromAll(a);
  stage.world().Start(stage.cluster().mdm());
  stage.WaitFor("A is back", seconds(10), [&] { return stage.Primary() == a; });
  stage.WriteAndWait(kChunk / 2);  // elsewhere in the chunk, alone
  stage.world().Start(b);
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadAndWait(0);
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The old primary's wall clock goes back and forth while it is cut off: R4.
void WallClockJumpsExtendNoRight(Stage& stage) {
  const NodeIndex a = stage.Primary();
  for (const NodeIndex node : {a, stage.cluster().mdm()}) {
    for (const auto& [after, jump] : {std::pair(milliseconds(300), -seconds(3600)),
                                      std::pair(milliseconds(900), seconds(7200))}) {
      stage.world().After(after, [&stage, node, jump] {
        stage.world().node(node).clock.wall_offset += Duration(jump).count();
      });
    }
  }
  NoStaleReadsFromACutPrimary(stage);
}

// 20 kills; every second time the process is back at once.
void FailOverIsAsFastAsPromised(Stage& stage) {
  for (int round = 0; round < 20 && !stage.failed(); ++round) {
    const NodeIndex victim = stage.Primary();
    const bool at_once = round % 2 == 1;
    const TrueTime start = stage.world().now();
    stage.world().Kill(victim);
    if (at_once) {
      stage.world().After(milliseconds(20), [&stage, victim] { stage.world().Start(victim); });
    }
    stage.WriteAndWait(0);
    stage.ReadAndWait(0);
    const Duration bound =
        at_once ? Duration(seconds(1)) : stage.cluster().options().lease + milliseconds(500);
    stage.Expect(Duration(stage.world().now() - start) <= bound,
                 at_once ? "a restart at once is felt for less than 1 s"
                         : "a fail-over takes at most the lease and 0.5 s");
    stage.Sleep(milliseconds(100));
    stage.world().Start(victim);
    stage.WaitMirrored();
    stage.Sleep(milliseconds(37) * round);
  }
}

ClusterOptions WithTimeout(ClusterOptions options) {
  options.io_timeout = seconds(3);
  options.rebuild_delay = seconds(60);
  return options;
}

ClusterOptions WithDrift(ClusterOptions options) {
  // The MDM's clock is fast, so that leases seem over early; the SDSs' clocks are slow.
  options.drift_ppm = {9'900};
  options.drift_ppm.resize(1 + options.sds_count, -9'900);
  return options;
}

ClusterOptions WithSmallDevices(ClusterOptions options) {
  options.device_bytes = 24 << 20;
  options.volume_bytes = 16 << 20;
  return options;
}

ClusterOptions WithSmallLogs(ClusterOptions options) {
  options.slice_count = 32;
  options.log_bytes = 4 << 20;
  options.device_bytes = 96 << 20;
  options.volume_bytes = 32 << 20;
  return options;
}

ClusterOptions WithManySlices(ClusterOptions options) {
  options = WithSmallLogs(options);
  options.slice_count = 64;
  options.volume_bytes = 64 << 20;
  options.device_bytes = 160 << 20;
  return options;
}

ClusterOptions WithTwin(ClusterOptions options) {
  options.twin = true;
  return options;
}

std::span<const Scenario> DataScenarios() {
  static const Scenario kScenarios[] = {
      {"s01-stale-copy-refuses", "a copy that missed writes serves nothing when it returns alone",
       StaleCopyRefuses, Servers(2)},
      {"s02-no-ack-before-degrade", "a primary alone acknowledges nothing before the MDM knows",
       NoAckBeforeDegradeIsRecorded, Servers(2)},
      {"s03-primary-cut-from-mdm", "a primary that only the MDM cannot reach is replaced safely",
       OnePrimaryWhenCutFromTheMdm, Servers(3, 2)},
      {"s04-no-stale-reads", "a primary that is cut off serves no stale reads",
       NoStaleReadsFromACutPrimary, Servers(2, 2)},
      {"s12-restart-forgets-nothing", "a restarted primary knows what its peer lacks",
       RestartedPrimaryKnowsWhatItsPeerLacks, Servers(2)},
      {"s16-second-process", "a second process with the same id and disks does no harm",
       SecondProcessWithTheSameIdDoesNoHarm, WithTwin(Servers(3))},
      {"s16b-same-incarnation-twice", "two runs that came to the same incarnation do no harm",
       SameIncarnationTwiceDoesNoHarm, WithTwin(Servers(3))},
      {"s16c-old-state-directory", "an SDS whose state directory is an old copy catches up",
       OldStateDirectoryCatchesUp, WithTwin(Servers(2))},
      {"s16d-rotten-blocks", "blocks that rot on one copy are read from the other, and made good",
       RottenBlocksAreReadFromTheOtherCopy, Servers(2)},
      {"s16e-full-devices", "full devices answer ENOSPC, and nobody loses a copy for it",
       FullDevicesAnswerEnospc, WithSmallDevices(Servers(2))},
      {"s16f-small-logs", "writers wait for room in small logs, and no device is given up for it",
       SmallLogsMakeWritersWait, WithSmallLogs(Servers(2, 4))},
      {"s16g-space-after-an-outage", "after a long outage a device forgets what is elsewhere now",
       AnOutageGivesTheSpaceBack, Servers(3)},
      {"s16h-promised-room", "room in a log that was promised is there, whatever fails",
       PromisedRoomIsThere, WithManySlices(Servers(2, 4))},
      {"s18-drifting-clocks", "clocks at the ends of the bound give no two primaries",
       NoStaleReadsFromACutPrimary, WithDrift(Servers(2, 2))},
      {"s18-wall-clock-jumps", "a wall clock that jumps an hour gives no two primaries",
       WallClockJumpsExtendNoRight, Servers(2, 2)},
      {"s19-frozen-primary",
       "a primary that was frozen for a minute acknowledges nothing it may not",
       FrozenPrimaryWakesUp, Servers(3, 2)},
      {"s20-writes-while-joining", "writes during joining are on both copies",
       WritesDuringJoiningAreOnBoth, Servers(2)},
      {"s25-power-loss-of-both", "after a power loss of both in a write, both copies are the same",
       PowerLossOfBothDuringAWrite, Servers(2)},
      {"s26-overlapping-writes", "overlapping writes have one order on both copies",
       OverlappingWritesHaveOneOrder, Servers(2, 2)},
      {"s28-reads-during-a-move", "reads during the making of a new copy are fresh",
       ReadsDuringAMoveAreFresh, Servers(3)},
      {"s30-first-error-sticks", "a write of which one part fails is no success",
       FirstErrorOfASplitWriteSticks, WithTimeout(Servers(4))},
      {"s39-late-retry", "a late first attempt does not overwrite a later write",
       LateRetryDoesNotOverwrite, Servers(2, 2)},
      {"s43-no-write-after-unmap", "no write of an unmapped client lands", NoWriteAfterUnmap,
       Servers(2, 2)},
      {"s44-half-open", "a half-open connection is replaced, and nothing is done twice",
       HalfOpenConnectionIsReplaced, Servers(2)},
      {"s46-old-map", "a client with an old map does no harm, and goes on when it has a new one",
       OldMapIsRefused, Servers(2, 2)},
      {"s47-boundary-and-fail-over", "a write over a chunk boundary is whole across a fail-over",
       WriteOverAChunkBoundaryDuringFailOver, Servers(3)},
      {"s49-failed-flush", "a device whose flush failed is never trusted again",
       FailedFlushFailsTheDevice, Servers(3)},
      {"s50-rack-power-loss", "what is acknowledged survives a power loss of everybody",
       AcknowledgedMeansDurableOnBoth, Servers(3)},
      {"s71-site-power-loss",
       "after a site power loss, fresh copies serve as soon as they are proven",
       SitePowerLossAndOneNeverReturns, Servers(4)},
      {"carried-over-then-joined",
       "a write that a copy carried over alone is on it after a joining (seed 205414)",
       CarriedOverEntriesOutliveAJoining, Servers(2)},
      {"fail-over-time", "a killed SDS is felt for the lease and 0.5 s at most",
       FailOverIsAsFastAsPromised, Servers(3)},
  };
  return kScenarios;
}

}  // namespace

std::span<const Scenario> AllScenarios() {
  static const std::vector<Scenario> kScenarios = [] {
    const std::span<const Scenario> data = DataScenarios();
    const std::span<const Scenario> manager = ManagerScenarios();
    std::vector<Scenario> all(data.begin(), data.end());
    all.insert(all.end(), manager.begin(), manager.end());
    return all;
  }();
  return kScenarios;
}

}  // namespace gabion::sim
