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

TEST(TurnSlices, BringsPrimariesBackToHalfAfterAFailOver) {
  auto pairs = PlaceSlices(Inventory(3, 1, kGib), 16);
  std::vector<PlacedSlice> slices;
  for (Pair pair : pairs) {
    // The first device was away: whatever it has is secondary now.
    if (pair.primary == DeviceId(100)) std::swap(pair.primary, pair.secondary);
    slices.push_back({pair.primary, pair.secondary, true});
  }
  size_t rounds = 0;
  for (auto turned = TurnSlices(slices, 2); !turned.empty(); turned = TurnSlices(slices, 2)) {
    ASSERT_LT(++rounds, 20u);
    for (const size_t i : turned) std::swap(slices[i].primary, slices[i].secondary);
  }
  pairs.clear();
  for (const PlacedSlice& slice : slices) pairs.push_back({slice.primary, slice.secondary});
  for (const auto& [device, load] : LoadsOf(pairs)) {
    EXPECT_LE(std::abs(load.primaries - load.secondaries), 1) << device;
  }
}

TEST(TurnSlices, LeavesWhatMayNotTurnAndWhatIsEven) {
  const DeviceId a(1);
  const DeviceId b(2);
  EXPECT_TRUE(TurnSlices(std::vector<PlacedSlice>{{a, b, true}, {b, a, true}}, 9).empty());
  EXPECT_TRUE(TurnSlices(std::vector<PlacedSlice>{{a, b, true}}, 9).empty());
  EXPECT_TRUE(TurnSlices(std::vector<PlacedSlice>{{a, b, false}, {a, b, false}}, 9).empty());
  EXPECT_EQ(TurnSlices(std::vector<PlacedSlice>{{a, b, false}, {a, b, true}}, 9),
            std::vector<size_t>{1});
  // Copies that are alone count, and stay.
  EXPECT_EQ(
      TurnSlices(
          std::vector<PlacedSlice>{{a, DeviceId(), true}, {a, b, true}, {b, a, true}, {a, b, true}},
          1),
      std::vector<size_t>{1});
}

RC_GTEST_PROP(TurnSlices, EndsWithEveryDeviceWithinOneOfHalf, ()) {
  const auto devices = *rc::gen::inRange<uint64_t>(2, 7);
  auto slices = *rc::gen::container<std::vector<PlacedSlice>>(rc::gen::map(
      rc::gen::pair(rc::gen::inRange<uint64_t>(0, devices), rc::gen::inRange<uint64_t>(1, devices)),
      [devices](const std::pair<uint64_t, uint64_t>& p) {
        return PlacedSlice{DeviceId(1 + p.first), DeviceId(1 + (p.first + p.second) % devices),
                           true};
      }));
  const auto turns_max = *rc::gen::inRange<size_t>(1, 9);
  for (size_t rounds = 0;; ++rounds) {
    RC_ASSERT(rounds < 1000);
    const auto turned = TurnSlices(slices, turns_max);
    if (turned.empty()) break;
    for (const size_t i : turned) std::swap(slices[i].primary, slices[i].secondary);
  }
  std::vector<Pair> pairs;
  for (const PlacedSlice& slice : slices) pairs.push_back({slice.primary, slice.secondary});
  // Within a set of devices that share slices; each such set is even by itself.
  for (const auto& [device, load] : LoadsOf(pairs)) {
    RC_ASSERT(std::abs(load.primaries - load.secondaries) <= 1);
  }
}

// Moves one replica after the other until nothing is gained.
std::vector<Device> Even(std::vector<Device> devices, std::vector<PlacedSlice>& slices,
                         size_t* moves) {
  for (*moves = 0;; ++*moves) {
    RC_ASSERT(*moves < 10'000u);
    for (Device& device : devices) {
      device.replicas = 0;
      for (const PlacedSlice& slice : slices) {
        device.replicas += slice.primary == device.id || slice.secondary == device.id ? 1 : 0;
      }
    }
    const auto move = ChooseMove(devices, slices, {});
    if (!move) return devices;
    slices[move->slice].secondary = move->to;
  }
}

TEST(ChooseMove, FillsANewDeviceWithItsShareAndNoMore) {
  std::vector<Device> devices = Inventory(3, 1, kGib);
  std::vector<PlacedSlice> slices;
  for (const Pair& pair : PlaceSlices(devices, 32)) {
    slices.push_back({pair.primary, pair.secondary, true});
  }
  devices = Inventory(4, 1, kGib);
  size_t moves = 0;
  devices = Even(devices, slices, &moves);
  for (const Device& device : devices) EXPECT_NEAR(device.replicas, 16, 1) << device.id.value();
  EXPECT_LE(moves, 17u);
}

TEST(ChooseMove, LeavesWhatIsEvenWhatIsFullAndWhatSharesADomain) {
  std::vector<Device> devices = Inventory(3, 1, kGib);
  std::vector<PlacedSlice> slices;
  for (const Pair& pair : PlaceSlices(devices, 31)) {
    slices.push_back({pair.primary, pair.secondary, true});
  }
  size_t moves = 0;
  Even(devices, slices, &moves);
  EXPECT_EQ(moves, 0u);
  devices = Inventory(4, 1, kGib);
  devices[3].leaving = true;
  Even(devices, slices, &moves);
  EXPECT_EQ(moves, 0u);
  devices[3].leaving = false;
  devices[3].used_bytes = kGib - 1;
  for (Device& device : devices) device.used_bytes = std::max(device.used_bytes, kGib / 2);
  Even(devices, slices, &moves);
  EXPECT_EQ(moves, 0u);
  for (Device& device : devices) device.used_bytes = 0;
  for (PlacedSlice& slice : slices) slice.may_change = false;
  Even(devices, slices, &moves);
  EXPECT_EQ(moves, 0u);
}

RC_GTEST_PROP(ChooseMove, EndsAndNeverPutsTwoCopiesInOneDomain, ()) {
  const auto sds_count = *rc::gen::inRange<size_t>(2, 5);
  const auto per_sds = *rc::gen::inRange<size_t>(1, 4);
  std::vector<Device> devices = Inventory(sds_count, per_sds, kGib);
  std::vector<PlacedSlice> slices;
  for (const Pair& pair : PlaceSlices(devices, *rc::gen::inRange<uint32_t>(1, 64))) {
    slices.push_back({pair.primary, pair.secondary, true});
  }
  devices = Inventory(sds_count + *rc::gen::inRange<size_t>(0, 3), per_sds, kGib);
  for (Device& device : devices) device.size_bytes = kGib * *rc::gen::inRange<uint64_t>(1, 5);
  size_t moves = 0;
  Even(devices, slices, &moves);
  const auto domain_of = [&](DeviceId id) {
    return std::find_if(devices.begin(), devices.end(), [&](const Device& d) { return d.id == id; })
        ->domain;
  };
  for (const PlacedSlice& slice : slices) {
    RC_ASSERT(domain_of(slice.primary) != domain_of(slice.secondary));
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
