// Devices that are added: looked at, tested, taken into use or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;

// One SDS whose empty device the MDM wants to have.
class Adding : public ::testing::Test {
 protected:
  void Add(proto::DeviceTest test, const std::string& content = "", bool force = false) {
    cluster_.Kill(0);
    cluster_.ReplaceDisk(0, content);
    cluster_.SetDevice(0, proto::DEVICE_ADDING, test, force);
    cluster_.Restart(0);
    cluster_.Run(milliseconds(5000));
  }
  const proto::DeviceReport& report() const { return cluster_.ReportOf(0); }
  bool IsErased() {
    const std::vector<std::byte> head = cluster_.disk(0).Content(0, 1 << 20);
    return std::all_of(head.begin(), head.end(), [](std::byte b) { return b == std::byte{}; });
  }

  TestCluster cluster_{1};
};

TEST_F(Adding, WithoutATestItIsUpAtOnce) {
  Add(proto::TEST_NONE);
  EXPECT_EQ(report().state(), proto::DEVICE_UP) << cluster_.Dump();
  EXPECT_FALSE(report().has_figures());
}

TEST_F(Adding, ATestedDeviceIsUpWithItsFigures) {
  Add(proto::TEST_ACTIVATE);
  ASSERT_EQ(report().state(), proto::DEVICE_UP) << report().error() << cluster_.Dump();
  EXPECT_GT(report().figures().write_bytes_per_second(), 0u);
  EXPECT_GT(report().figures().reads_per_second(), 0u);
  EXPECT_TRUE(report().figures().volatile_cache());
  // What the test wrote is nobody's.
  cluster_.Configure(0, -1);
  cluster_.Run(milliseconds(300));
  const ConnId client = cluster_.Client(0);
  EXPECT_EQ(cluster_.StampOf(cluster_.Read(client, {.length_bytes = 64 << 10})), 0);
  EXPECT_EQ(cluster_.StatusOf(cluster_.WriteExtent(client, 0, 5)), Status::kOk);
}

TEST_F(Adding, ADeviceThatIsOnlyTestedIsErasedAndMayBeAddedLater) {
  Add(proto::TEST_ONLY);
  ASSERT_EQ(report().state(), proto::DEVICE_TESTED) << report().error() << cluster_.Dump();
  EXPECT_GT(report().figures().writes_per_second(), 0u);
  EXPECT_GT(report().size_bytes(), 0u);
  EXPECT_TRUE(IsErased());
  cluster_.SetDevice(0, proto::DEVICE_TESTED, proto::TEST_ONLY);
  cluster_.Run(milliseconds(1000));
  EXPECT_TRUE(IsErased());
  cluster_.SetDevice(0, proto::DEVICE_ADDING, proto::TEST_NONE);
  cluster_.Run(milliseconds(1000));
  EXPECT_EQ(report().state(), proto::DEVICE_UP);
  EXPECT_FALSE(IsErased());
}

TEST_F(Adding, ATestThatWasCutOffIsMadeAgain) {
  Add(proto::TEST_ACTIVATE);
  // The MDM never learnt of it.
  cluster_.Restart(0);
  cluster_.Run(milliseconds(5000));
  EXPECT_EQ(report().state(), proto::DEVICE_UP);
  EXPECT_TRUE(report().has_figures());
}

TEST_F(Adding, ADeviceWithReplicasIsNeverTested) {
  Add(proto::TEST_NONE);
  cluster_.Configure(0, -1);
  cluster_.Run(milliseconds(300));
  EXPECT_EQ(cluster_.StatusOf(cluster_.WriteExtent(cluster_.Client(0), 0, 5)), Status::kOk);
  cluster_.SetDevice(0, proto::DEVICE_ADDING, proto::TEST_ONLY);
  cluster_.Restart(0);
  cluster_.Configure(0, -1);
  cluster_.Run(milliseconds(5000));
  EXPECT_EQ(report().state(), proto::DEVICE_UP);
  const uint64_t read = cluster_.Read(cluster_.Client(0), {.length_bytes = 64 << 10});
  EXPECT_EQ(cluster_.StampOf(read), 5);
}

TEST_F(Adding, ForeignDataIsNamedAndNotTouched) {
  Add(proto::TEST_ACTIVATE, "ext4 file system \"payroll\"");
  EXPECT_EQ(report().state(), proto::DEVICE_DOWN);
  EXPECT_EQ(report().error(),
            "it holds ext4 file system \"payroll\", which was not touched; if nobody needs that, "
            "remove the device, and add it again after `wipefs --all disk`, or with --force");
  const std::vector<std::byte> all = cluster_.disk(0).Content(0, 96 << 20);
  EXPECT_EQ(all, std::vector<std::byte>(all.size()));
  Add(proto::TEST_ACTIVATE, "ext4 file system \"payroll\"", /*force=*/true);
  EXPECT_EQ(report().state(), proto::DEVICE_UP) << report().error();
}

TEST_F(Adding, ADeviceThatFailsItsTestIsRefused) {
  cluster_.Kill(0);
  cluster_.ReplaceDisk(0, "");
  cluster_.SetDevice(0, proto::DEVICE_ADDING, proto::TEST_ACTIVATE);
  cluster_.OnDisk(0, [](store::TestDisk& disk) {
    // Loses what is written in its upper half.
    if (disk.pending_op(0) != DiskOp::kRead || disk.pending_offset(0) < 48 << 20) return;
    disk.Overwrite(disk.pending_offset(0), std::vector<std::byte>(wire::kBlockBytes));
  });
  cluster_.Restart(0);
  cluster_.Run(milliseconds(5000));
  EXPECT_EQ(report().state(), proto::DEVICE_FAILED) << cluster_.Dump();
  EXPECT_NE(report().error().find("gave back other bytes"), std::string::npos) << report().error();
  // Put right, it may be added again.
  cluster_.OnDisk(0, nullptr);
  cluster_.SetDevice(0, proto::DEVICE_FAILED, proto::TEST_ACTIVATE);
  cluster_.SetDevice(0, proto::DEVICE_ADDING, proto::TEST_ACTIVATE);
  cluster_.Run(milliseconds(5000));
  EXPECT_EQ(report().state(), proto::DEVICE_UP) << report().error();
}

}  // namespace
}  // namespace gabion::sds
