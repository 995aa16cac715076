#include "core/plan/plan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

namespace gabion::plan {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;

std::vector<Device> Inventory(size_t sds_count, size_t per_sds, uint64_t size_bytes) {
  std::vector<Device> devices;
  for (size_t s = 0; s < sds_count; ++s) {
    for (size_t d = 0; d < per_sds; ++d) {
      Device device;
      device.id = DeviceId(100 + devices.size());
      device.sds = SdsId(1 + s);
      device.domain = 1 + s;
      device.size_bytes = size_bytes;
      devices.push_back(device);
    }
  }
  return devices;
}

struct Load {
  int64_t primaries = 0;
  int64_t secondaries = 0;
  int64_t replicas() const { return primaries + secondaries; }
};

std::map<uint64_t, Load> LoadsOf(const std::vector<Pair>& pairs) {
  std::map<uint64_t, Load> loads;
  for (const Pair& pair : pairs) {
    ++loads[pair.primary.value()].primaries;
    ++loads[pair.secondary.value()].secondaries;
  }
  return loads;
}

TEST(PlaceSlices, GivesEqualDevicesEqualSharesWithinOne) {
  const std::vector<Device> devices = Inventory(3, 2, 10 * kGib);
  const auto pairs = PlaceSlices(devices, 64);
  ASSERT_EQ(pairs.size(), 64u);
  const auto loads = LoadsOf(pairs);
  ASSERT_EQ(loads.size(), 6u);
  for (const auto& [device, load] : loads) {
    EXPECT_GE(load.replicas(), 21) << device;  // 128 / 6 = 21.3
    EXPECT_LE(load.replicas(), 22) << device;
    EXPECT_LE(std::abs(load.primaries - load.secondaries), 1) << device;
  }
}

TEST(PlaceSlices, FollowsDeviceSizes) {
  std::vector<Device> devices = Inventory(4, 1, 10 * kGib);
  devices[0].size_bytes = 20 * kGib;
  const auto loads = LoadsOf(PlaceSlices(devices, 100));
  EXPECT_NEAR(static_cast<double>(loads.at(100).replicas()), 80, 1);
  EXPECT_NEAR(static_cast<double>(loads.at(101).replicas()), 40, 1);
}

TEST(PlaceSlices, NeedsTwoDomains) {
  EXPECT_TRUE(PlaceSlices({}, 8).empty());
  EXPECT_TRUE(PlaceSlices(Inventory(1, 4, kGib), 8).empty());
  std::vector<Device> devices = Inventory(3, 1, kGib);
  for (Device& device : devices) device.domain = 7;
  EXPECT_TRUE(PlaceSlices(devices, 8).empty());
}

TEST(PlaceSlices, SpreadsThePartnersOfADevice) {
  const auto pairs = PlaceSlices(Inventory(5, 1, kGib), 100);
  std::map<uint64_t, int> partners;
  for (const Pair& pair : pairs) {
    if (pair.primary == DeviceId(100)) ++partners[pair.secondary.value()];
    if (pair.secondary == DeviceId(100)) ++partners[pair.primary.value()];
  }
  ASSERT_EQ(partners.size(), 4u);
  for (const auto& [device, count] : partners) EXPECT_NEAR(count, 10, 2) << device;
}

RC_GTEST_PROP(PlaceSlices, KeepsDomainsApartAndPrimariesEven, ()) {
  const auto domain_count = *rc::gen::inRange<uint64_t>(2, 7);
  std::vector<Device> devices;
  for (uint64_t domain = 1; domain <= domain_count; ++domain) {
    const auto count = *rc::gen::inRange(1, 4);
    for (int i = 0; i < count; ++i) {
      Device device;
      device.id = DeviceId(100 + devices.size());
      device.sds = SdsId(1 + devices.size());
      device.domain = domain;
      device.size_bytes = *rc::gen::inRange<uint64_t>(1, 20) * kGib;
      devices.push_back(device);
    }
  }
  const uint32_t slice_count = 1u << *rc::gen::inRange(0, 9);
  const auto pairs = PlaceSlices(devices, slice_count);
  RC_ASSERT(pairs.size() == slice_count);
  const auto domain_of = [&](DeviceId id) { return devices[id.value() - 100].domain; };
  for (const Pair& pair : pairs) RC_ASSERT(domain_of(pair.primary) != domain_of(pair.secondary));
  for (const auto& [device, load] : LoadsOf(pairs)) {
    RC_ASSERT(std::abs(load.primaries - load.secondaries) <= 1);
  }
}

TEST(ChooseTarget, TakesTheEmptiestDeviceOfAnotherDomainWithRoom) {
  std::vector<Device> devices = Inventory(4, 1, 10 * kGib);
  devices[0].replicas = 5;
  devices[1].replicas = 4;
  devices[2].replicas = 2;
  devices[3].replicas = 3;
  const TargetRequest request{.source = DeviceId(100), .bytes_needed = kGib};
  EXPECT_EQ(ChooseTarget(devices, request), DeviceId(102));
  devices[2].used_bytes = devices[2].size_bytes - kGib + 1;
  EXPECT_EQ(ChooseTarget(devices, request), DeviceId(103));
  devices[3].domain = devices[0].domain;
  EXPECT_EQ(ChooseTarget(devices, request), DeviceId(101));
  devices[1].joins = 1;
  EXPECT_EQ(ChooseTarget(devices, request), std::nullopt);
}

TEST(ChooseTarget, RespectsTheShareOfTheSource) {
  std::vector<Device> devices = Inventory(3, 1, kGib);
  devices[0].joins = 2;
  EXPECT_EQ(ChooseTarget(devices, {.source = DeviceId(100), .joins_per_device_max = 2}),
            std::nullopt);
  EXPECT_EQ(ChooseTarget(devices, {.source = DeviceId(100), .joins_per_device_max = 3}),
            DeviceId(101));
  EXPECT_EQ(ChooseTarget(devices, {.source = DeviceId(999)}), std::nullopt);
}

TEST(NetCapacity, IsHalfUnlessOneDomainIsTooLarge) {
  std::vector<Device> devices = Inventory(3, 1, 10 * kGib);
  EXPECT_EQ(NetCapacity(devices), 15 * kGib);
  devices[0].size_bytes = 100 * kGib;
  EXPECT_EQ(NetCapacity(devices), 20 * kGib);
  EXPECT_EQ(NetCapacity(Inventory(1, 4, kGib)), 0u);
  EXPECT_EQ(NetCapacity({}), 0u);
}

}  // namespace
}  // namespace gabion::plan
