#include "cli/output.h"

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

namespace gabion::cli {
namespace {

proto::ClusterStatus Sample() {
  proto::ClusterStatus status;
  status.set_cluster(0xabc);
  status.set_slices_mirrored(60);
  status.set_slices_degraded(3);
  status.set_slices_joining(2);
  status.set_slices_unavailable(1);
  proto::Sds* sds = status.add_sdss();
  sds->set_id(1);
  sds->set_name("sds1");
  sds->set_up(true);
  sds->set_incarnation(4);
  sds->add_addresses("127.0.0.1:7080");
  proto::Sdc* sdc = status.add_sdcs();
  sdc->set_id(2);
  sdc->set_name("sdc1");
  proto::Pool* pool = status.add_pools();
  pool->set_id(3);
  pool->set_name("p");
  pool->set_capacity_bytes(uint64_t{4} << 30);
  pool->set_used_bytes(uint64_t{1} << 30);
  proto::Device* device = status.add_devices();
  device->set_id(4);
  device->set_sds(1);
  device->set_pool(3);
  device->set_state(proto::DEVICE_FAILED);
  device->set_error("read error");
  proto::StoreMemory* memory = device->mutable_memory();
  memory->set_budget_bytes(uint64_t{32} << 20);
  memory->set_directory_bytes(uint64_t{9} << 20);
  memory->set_fixed_bytes(uint64_t{1} << 20);
  memory->set_log_bytes(uint64_t{4} << 20);
  memory->set_page_bytes(uint64_t{6} << 20);
  proto::Volume* volume = status.add_volumes();
  volume->set_id(5);
  volume->set_name("v1");
  volume->set_pool(3);
  volume->set_size_bytes(uint64_t{10} << 30);
  proto::Mapping* mapping = status.add_mappings();
  mapping->set_volume(5);
  mapping->set_sdc(2);
  mapping->set_read_only(true);
  return status;
}

TEST(Output, ListsNameWhatTheyReferTo) {
  const proto::ClusterStatus status = Sample();
  EXPECT_EQ(ListText(status, Kind::kVolume),
            "ID  NAME  POOL    SIZE  MAPPED TO\n"
            " 5  v1    p     10 GiB  sdc1 (read-only)\n");
  EXPECT_EQ(ListText(status, Kind::kDevice),
            "ID  SDS   POOL  STATE   SIZE  USED  SLICES         MEMORY  SCAN  PATH  ERROR\n"
            " 4  sds1  p     failed   0 B   0 B       0  20 MiB/32 MiB  -     -     read error\n");
  EXPECT_EQ(ListText(status, Kind::kSds),
            "ID  NAME  STATE  ADDRESS         DEVICES\n"
            " 1  sds1  up     127.0.0.1:7080        1\n");
  EXPECT_NE(ListText(status, Kind::kSdc).find("never seen"), std::string::npos);
  EXPECT_NE(ListText(status, Kind::kPool).find("25 %"), std::string::npos);
}

TEST(Output, ADeviceIsShownWithItsMemoryAndTheReadCacheOfItsServer) {
  proto::ClusterStatus status = Sample();
  EXPECT_NE(
      DeviceText(status, "4")
          .find("Memory: 20 MiB of 32 MiB: directory 10 MiB, index of the log 4 MiB, checksums "
                "6 MiB\nRead cache of sds1: none\n"),
      std::string::npos)
      << DeviceText(status, "4");
  status.mutable_devices(0)->mutable_memory()->set_cache_bytes(uint64_t{50} << 20);
  status.mutable_devices(0)->mutable_memory()->set_cache_budget_bytes(uint64_t{128} << 20);
  EXPECT_NE(DeviceText(status, "4").find("Read cache of sds1: 50 MiB of 128 MiB\n"),
            std::string::npos);
}

TEST(Output, ADeviceIsShownWithWhatItsScannerFound) {
  proto::ClusterStatus status = Sample();
  proto::ScanStatus* scan = status.mutable_devices(0)->mutable_scan();
  scan->set_state(proto::ScanStatus::WAITING);
  scan->mutable_last()->set_started_unix_ms(1'700'000'000'000);
  scan->mutable_last()->set_finished_unix_ms(1'700'000'600'000);
  scan->mutable_last()->set_bytes_read(uint64_t{3} << 30);
  EXPECT_NE(ListText(status, Kind::kDevice).find("  2023-11-14 22:23  "), std::string::npos);
  scan->mutable_last()->set_blocks_damaged(3);
  scan->mutable_last()->set_blocks_repaired(3);
  EXPECT_NE(ListText(status, Kind::kDevice).find("22:23, damage repaired  "), std::string::npos);
  scan->mutable_last()->set_extents_unresolved(1);
  scan->set_last_finding("volume 5");
  EXPECT_NE(ListText(status, Kind::kDevice).find("DAMAGE REMAINS"), std::string::npos);
  const std::string text = DeviceText(status, "4");
  EXPECT_NE(text.find("Last scan: 2023-11-14 22:13 to 2023-11-14 22:23 UTC: 3 GiB read"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("3 blocks damaged, 0 different, 3 made good, 1 extents not"),
            std::string::npos);
  EXPECT_NE(text.find("Newest finding: volume 5\n"), std::string::npos);
  scan->set_state(proto::ScanStatus::RUNNING);
  scan->set_progress_permille(412);
  scan->set_bytes_per_second(2 << 20);
  scan->mutable_pass()->set_started_unix_ms(1'700'000'000'000);
  EXPECT_NE(DeviceText(status, "4").find("Scan: runs, 41 % since 2023-11-14 22:13 UTC at 2 MiB/s"),
            std::string::npos)
      << DeviceText(status, "4");
  EXPECT_EQ(DeviceText(status, "99"), "");
}

TEST(Output, WhatIsLeavingIsShownWithWhatItStillHolds) {
  proto::ClusterStatus status = Sample();
  status.mutable_devices(0)->set_state(proto::DEVICE_UP);
  status.mutable_devices(0)->set_removing(true);
  status.mutable_devices(0)->set_slices(12);
  status.mutable_devices(0)->clear_error();
  status.mutable_sdss(0)->set_removing(true);
  const std::string devices = ListText(status, Kind::kDevice);
  EXPECT_NE(devices.find("up, leaving"), std::string::npos) << devices;
  EXPECT_NE(devices.find(" 12 "), std::string::npos) << devices;
  EXPECT_NE(ListText(status, Kind::kSds).find("up, leaving"), std::string::npos);
}

TEST(Output, AProblemStandsAboveEverything) {
  proto::ClusterStatus status = Sample();
  EXPECT_EQ(StatusText(status).find("PROBLEM"), std::string::npos);
  status.set_problem("it is an old copy");
  const std::string text = StatusText(status);
  EXPECT_LT(text.find("PROBLEM: it is an old copy\n"), text.find("Data: ")) << text;
}

TEST(Output, ARestoredRepositorySaysWhatItWaitsFor) {
  proto::ClusterStatus status = Sample();
  status.set_slices_closed(1);
  status.add_notices("look at this");
  proto::ClosedSlice* closed = status.add_closed_slices();
  closed->set_slice(7);
  closed->set_why("waits for device 3");
  const std::string text = StatusText(status);
  EXPECT_NE(text.find("NOTICE: look at this\n"), std::string::npos) << text;
  EXPECT_NE(text.find("1 UNAVAILABLE (1 wait for devices to report)"), std::string::npos) << text;
  EXPECT_NE(text.find("  7: waits for device 3\n"), std::string::npos) << text;
}

TEST(Output, EmptyListsSaySo) {
  EXPECT_EQ(ListText({}, Kind::kVolume), "No volumes.\n");
  EXPECT_EQ(ListText({}, Kind::kSds), "No SDSs.\n");
}

TEST(Output, SummaryTellsWhereDataStands) {
  proto::ClusterStatus status = Sample();
  EXPECT_EQ(SliceSummary(status),
            "64 slices: 60 mirrored, 3 with one copy (2 being copied), 1 UNAVAILABLE");
  status.set_slices_degraded(0);
  status.set_slices_unavailable(0);
  EXPECT_EQ(SliceSummary(status), "60 slices: all mirrored");
  EXPECT_EQ(SliceSummary({}), "no data placed yet");
}

TEST(Output, JsonOfAListHasOnlyItsObjectsAndReadsBack) {
  const proto::ClusterStatus volumes = Filter(Sample(), Kind::kVolume);
  EXPECT_EQ(volumes.sdss_size(), 0);
  EXPECT_EQ(volumes.mappings_size(), 1);
  const std::string json = ToJson(volumes);
  EXPECT_NE(json.find("\"size_bytes\": \"10737418240\""), std::string::npos) << json;
  proto::ClusterStatus back;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &back).ok());
  EXPECT_EQ(back.SerializeAsString(), volumes.SerializeAsString());
}

TEST(Output, DoneNamesTheObject) {
  proto::AdminRequest request;
  request.mutable_volume_create()->set_name("v1");
  request.mutable_volume_create()->set_pool("p");
  request.mutable_volume_create()->set_size_bytes(uint64_t{10} << 30);
  proto::AdminReply reply;
  reply.set_id(9);
  EXPECT_EQ(DoneText(request, reply), "Volume v1 created: 10 GiB, thin, in pool p (id 9).\n");
  request.mutable_slice_force()->set_slice(7);
  request.mutable_slice_force()->set_device(3);
  EXPECT_EQ(DoneText(request, reply),
            "Slice 7 is served from device 3 now; what that copy lacked is lost.\n");
}

TEST(Output, ADeviceThatWasAddedShowsItsFigures) {
  proto::AdminRequest request;
  request.mutable_device_add()->set_path("/dev/x");
  request.mutable_device_add()->set_sds("a");
  request.mutable_device_add()->set_pool("p");
  proto::AdminReply reply;
  reply.set_id(7);
  EXPECT_EQ(DoneText(request, reply), "Device /dev/x of SDS a added to pool p (id 7).\n");
  reply.set_note("writes 812 MiB/s");
  EXPECT_EQ(DoneText(request, reply),
            "Device /dev/x of SDS a added to pool p (id 7): writes 812 MiB/s.\n");
  request.mutable_device_add()->set_test(proto::TEST_ONLY);
  EXPECT_EQ(DoneText(request, reply),
            "Device /dev/x of SDS a tested, not in use (id 7): writes 812 MiB/s.\n");
}

TEST(Output, ARemovalSaysWhetherItIsDone) {
  proto::AdminRequest request;
  request.mutable_device_remove()->set_device("3");
  proto::AdminReply reply;
  EXPECT_EQ(DoneText(request, reply), "Device 3 removed.\n");
  reply.set_note("8 slices move elsewhere first");
  EXPECT_EQ(DoneText(request, reply), "Device 3: 8 slices move elsewhere first.\n");
  request.mutable_device_remove()->set_cancel(true);
  EXPECT_EQ(DoneText(request, reply), "Device 3 stays.\n");
  request.mutable_sds_remove()->set_sds("a");
  EXPECT_EQ(DoneText(request, reply), "SDS a: 8 slices move elsewhere first.\n");
  request.mutable_sds_remove()->set_cancel(true);
  EXPECT_EQ(DoneText(request, reply), "SDS a stays.\n");
}

}  // namespace
}  // namespace gabion::cli
