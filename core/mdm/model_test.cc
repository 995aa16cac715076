// Random histories of a whole MDM with model SDSs on drifting clocks. The model checks at every
// step that no slice has two primaries, and at every write that nothing acknowledged is lost;
// afterwards everything heals, and is mirrored again.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <ostream>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kSdsCount = 3;
constexpr uint32_t kSliceCount = 8;

struct Step {
  int what;
  size_t sds;
  int pause_ms;
};

// For RapidCheck.
void showValue(const Step& step, std::ostream& out) {
  out << "{" << step.what << ", " << step.sds << ", " << step.pause_ms << "}";
}

void Play(TestCluster& cluster, const Step& step) {
  const size_t sds = step.sds;
  switch (step.what) {
    case 0:
      cluster.Kill(sds);
      break;
    case 1:
      cluster.StartSds(sds);
      break;
    case 2:
      cluster.Kill(sds);
      cluster.StartSds(sds);
      break;
    case 3:
      cluster.Disconnect(sds);
      break;
    case 4:
      cluster.CutOff(sds, true);
      break;
    case 5:
      cluster.CutOff(sds, false);
      break;
    case 6:
      cluster.CrashMdm(true);
      break;
    case 7:
      cluster.CrashMdm(false);
      break;
    case 8:
      cluster.HandBack(sds);
      break;
    case 9:
    case 10: {
      const proto::DeviceState state = step.what == 9 ? proto::DEVICE_DOWN : proto::DEVICE_UP;
      for (const uint64_t id : cluster.sds(sds).devices_of_config) cluster.device(id).state = state;
      break;
    }
    case 11:
      cluster.hold_disk = true;
      break;
    case 12:
      cluster.hold_disk = false;
      cluster.Settle();
      break;
    case 13:
      cluster.sds(sds).paused = true;
      break;
    case 14:
      cluster.sds(sds).paused = false;
      break;
    case 15:
    case 16: {
      // Its device is to be removed, or not after all. Refused is fine.
      if (cluster.hold_disk || cluster.sds(sds).devices_of_config.empty()) break;
      proto::AdminRequest request = cluster.Request();
      request.mutable_device_remove()->set_device(
          std::to_string(cluster.sds(sds).devices_of_config.front()));
      request.mutable_device_remove()->set_cancel(step.what == 16);
      RC_ASSERT(cluster.Admin(request).has_value());
      break;
    }
    case 17:
      cluster.sds(sds).deaf = true;
      break;
    case 18:
      if (cluster.sds(sds).deaf) cluster.Disconnect(sds);  // it has missed what was said
      cluster.sds(sds).deaf = false;
      break;
    case 19:
      cluster.sds(sds).keeps = !cluster.sds(sds).keeps;
      break;
    default:
      break;
  }
  cluster.Advance(milliseconds(step.pause_ms));
  cluster.WriteAll();
}

RC_GTEST_PROP(Model, NeverHasTwoPrimariesNorLosesAnAcknowledgedWrite, ()) {
  Options options;
  options.rebuild_delay = seconds(2);
  const uint64_t seed = *rc::gen::inRange<uint64_t>(1, 1'000'000);
  TestCluster cluster(options, seed);
  cluster.mdm_drift_permille = *rc::gen::element<int64_t>(-10, 0, 10);
  cluster.Build(kSdsCount, kSliceCount);
  const auto statuses = cluster.Status();
  std::vector<uint64_t> devices;
  for (const auto& device : statuses.devices()) devices.push_back(device.id());
  for (size_t i = 0; i < kSdsCount; ++i) {
    cluster.sds(i).drift_permille = *rc::gen::element<int64_t>(-10, 0, 10);
    cluster.sds(i).lease_end = -1;  // the clock has changed
    cluster.sds(i).sent_at.clear();
    cluster.sds(i).state_lock = *rc::gen::element<std::string>("lock", "lock", "", "other");
  }
  cluster.Advance(seconds(1));
  RC_ASSERT(cluster.WriteAll() == kSliceCount);
  const auto steps = *rc::gen::container<std::vector<Step>>(
      rc::gen::construct<Step>(rc::gen::inRange(0, 21), rc::gen::inRange<size_t>(0, kSdsCount),
                               rc::gen::weightedOneOf<int>({{3, rc::gen::inRange(0, 300)},
                                                            {2, rc::gen::inRange(300, 1500)},
                                                            {1, rc::gen::inRange(1500, 6000)}})));
  for (const Step& step : steps) Play(cluster, step);

  cluster.hold_disk = false;
  cluster.Settle();
  for (const uint64_t device : devices) cluster.device(device).state = proto::DEVICE_UP;
  for (size_t i = 0; i < kSdsCount; ++i) {
    cluster.CutOff(i, false);
    cluster.sds(i).paused = false;
    cluster.sds(i).keeps = false;
    if (cluster.sds(i).deaf) cluster.Disconnect(i);
    cluster.sds(i).deaf = false;
    cluster.StartSds(i);
  }
  // A device may still be leaving, and joinings that failed before are tried less often.
  for (int i = 0; i < 20 || (cluster.Status().slices_mirrored() != kSliceCount && i < 160); ++i) {
    cluster.Advance(milliseconds(500));
    cluster.WriteAll();
  }
  RC_LOG() << cluster.Status(true).ShortDebugString() << cluster.mdm().Dump();
  RC_ASSERT(cluster.WriteAll() == kSliceCount);
  RC_ASSERT(cluster.Status().slices_mirrored() == kSliceCount);
}

}  // namespace
}  // namespace gabion::mdm
