#include "core/mdm/admin.h"

#include <gtest/gtest.h>

namespace gabion::mdm {
namespace {

using Reply = proto::AdminReply;

constexpr uint64_t kGib = uint64_t{1} << 30;

// Two SDSs with one device of 10 GiB each, one pool, and whatever a test commits on top.
class Admin : public testing::Test {
 protected:
  Admin() {
    proto::Command create;
    create.mutable_create_repository()->set_cluster(7);
    repository_.Apply(create);
    pool_ = Must([](auto& r) {
      r.mutable_pool_add()->set_name("gold");
      r.mutable_pool_add()->set_slice_count(4);
    });
    for (const char* name : {"a", "b"}) {
      const uint64_t sds = Must([&](auto& r) { r.mutable_sds_add()->set_name(name); });
      alive_.push_back(SdsId(sds));
      AddDevice(name);
    }
  }

  void AddDevice(const std::string& sds) {
    const uint64_t id = Must([&](auto& r) {
      r.mutable_device_add()->set_sds(sds);
      r.mutable_device_add()->set_pool("gold");
      r.mutable_device_add()->set_path("/dev/vdb");
    });
    proto::Command up;
    proto::DeviceOutcome* outcome = up.mutable_report_devices()->add_devices();
    outcome->set_device(id);
    outcome->set_state(proto::DEVICE_UP);
    outcome->set_size_bytes(10 * kGib);
    repository_.Apply(up);
    devices_.push_back(DeviceId(id));
  }

  AdminDecision Decide(const proto::AdminRequest& request) {
    View view{.repository = repository_, .now = {}, .sdss = {}, .devices = {}, .slices = {}};
    for (const SdsId sds : alive_) view.sdss[sds].alive = true;
    for (const DeviceId device : devices_) view.devices[device].usable = true;
    return DecideAdmin(view, request);
  }

  template <class Fill>
  AdminDecision Ask(Fill fill) {
    proto::AdminRequest request;
    request.set_request("r" + std::to_string(++requests_));
    fill(request);
    return Decide(request);
  }

  template <class Fill>
  uint64_t Must(Fill fill) {
    const AdminDecision decision = Ask(fill);
    EXPECT_FALSE(decision.reply) << decision.reply->error();
    return repository_.Apply(decision.command).id;
  }

  // The refusal names the object, and says what to do.
  template <class Fill>
  void Refused(Reply::Code code, const std::string& object, const std::string& way_out, Fill fill) {
    const AdminDecision decision = Ask(fill);
    ASSERT_TRUE(decision.reply);
    EXPECT_EQ(decision.reply->code(), code) << decision.reply->error();
    EXPECT_NE(decision.reply->error().find(object), std::string::npos) << decision.reply->error();
    EXPECT_NE(decision.reply->error().find(way_out), std::string::npos) << decision.reply->error();
  }

  uint64_t CreateVolume(const std::string& name) {
    return Must([&](auto& r) {
      r.mutable_volume_create()->set_name(name);
      r.mutable_volume_create()->set_pool("gold");
      r.mutable_volume_create()->set_size_bytes(kGib);
    });
  }

  Repository repository_;
  std::vector<SdsId> alive_;
  std::vector<DeviceId> devices_;
  uint64_t pool_ = 0;
  int requests_ = 0;
};

TEST_F(Admin, ChecksNames) {
  for (const char* name : {"a", "A-1_b.c", "7up"}) EXPECT_TRUE(IsValidName(name)) << name;
  for (const char* name : {"", "123", "a b", "a/b", "\xc3\xa4", "a\n"}) {
    EXPECT_FALSE(IsValidName(name)) << name;
  }
  EXPECT_TRUE(IsValidName(std::string(63, 'x')));
  EXPECT_FALSE(IsValidName(std::string(64, 'x')));
  Refused(Reply::INVALID, "a b", "use 1 to 63",
          [](auto& r) { r.mutable_sds_add()->set_name("a b"); });
  Refused(Reply::EXISTS, "\"a\"", "another name",
          [](auto& r) { r.mutable_sds_add()->set_name("a"); });
}

TEST_F(Admin, RequiresARequestId) {
  proto::AdminRequest request;
  request.mutable_sds_add()->set_name("c");
  EXPECT_EQ(Decide(request).reply->code(), Reply::INVALID);
  request.set_request(std::string(129, 'x'));
  EXPECT_EQ(Decide(request).reply->code(), Reply::INVALID);
  request.set_request("x");
  EXPECT_FALSE(Decide(request).reply);
}

TEST_F(Admin, ARequestCarriedOutIsNotCarriedOutAgain) {
  proto::AdminRequest request;
  request.set_request("once");
  request.mutable_sdc_add()->set_name("client");
  const uint64_t id = repository_.Apply(Decide(request).command).id;
  const AdminDecision again = Decide(request);
  ASSERT_TRUE(again.reply);
  EXPECT_EQ(again.reply->code(), Reply::OK);
  EXPECT_EQ(again.reply->id(), id);
}

TEST_F(Admin, ChecksVolumeSizes) {
  const auto create = [](uint64_t size) {
    return [size](auto& r) {
      r.mutable_volume_create()->set_name("v");
      r.mutable_volume_create()->set_pool("gold");
      r.mutable_volume_create()->set_size_bytes(size);
    };
  };
  Refused(Reply::INVALID, "\"v\"", "multiple of 1 MiB", create(0));
  Refused(Reply::INVALID, "\"v\"", "multiple of 1 MiB", create(kGib + 1));
  Refused(Reply::INVALID, "\"v\"", "multiple of 1 MiB", create(~uint64_t{0} << 20));
  Refused(Reply::NO_SPACE, "\"v\"", "gabion device add", create(51 * kGib));
  EXPECT_FALSE(Ask(create(50 * kGib)).reply);  // 5 times the 10 GiB of a mirrored pair
}

TEST_F(Admin, PlacesAPoolOnlyOverTwoSdss) {
  alive_.pop_back();
  Refused(Reply::CONFLICT, "\"gold\"", "two SDSs", [](auto& r) {
    r.mutable_volume_create()->set_name("v");
    r.mutable_volume_create()->set_pool("gold");
    r.mutable_volume_create()->set_size_bytes(kGib);
  });
}

TEST_F(Admin, AVolumeOnlyGrows) {
  CreateVolume("v");
  const auto grow = [](uint64_t size) {
    return [size](auto& r) {
      r.mutable_volume_grow()->set_volume("v");
      r.mutable_volume_grow()->set_size_bytes(size);
    };
  };
  Refused(Reply::CONFLICT, "\"v\"", "only grows", grow(kGib / 2));
  Refused(Reply::INVALID, "\"v\"", "multiple of 1 MiB", grow(kGib + 512));
  Refused(Reply::NO_SPACE, "\"v\"", "gabion device add", grow(100 * kGib));
  EXPECT_FALSE(Ask(grow(2 * kGib)).reply);
}

TEST_F(Admin, AMappedVolumeIsNeitherDeletedNorMappedOtherwise) {
  const uint64_t volume = CreateVolume("v");
  Must([](auto& r) { r.mutable_sdc_add()->set_name("host"); });
  const auto map = [](bool read_only) {
    return [read_only](auto& r) {
      r.mutable_volume_map()->set_volume("v");
      r.mutable_volume_map()->set_sdc("host");
      r.mutable_volume_map()->set_read_only(read_only);
    };
  };
  Must(map(false));
  EXPECT_EQ(Ask(map(false)).reply->code(), Reply::OK);
  Refused(Reply::CONFLICT, "\"v\"", "unmap it first", map(true));
  Refused(Reply::CONFLICT, "\"v\"", "gabion volume unmap v --sdc=host",
          [](auto& r) { r.mutable_volume_delete()->set_volume("v"); });
  Refused(Reply::CONFLICT, "\"host\"", "unmap it first",
          [](auto& r) { r.mutable_sdc_remove()->set_sdc("host"); });
  Must([&](auto& r) {
    r.mutable_volume_unmap()->set_volume(std::to_string(volume));  // by id
    r.mutable_volume_unmap()->set_sdc("host");
  });
  Refused(Reply::NOT_FOUND, "\"v\"", "gabion volume list", [](auto& r) {
    r.mutable_volume_unmap()->set_volume("v");
    r.mutable_volume_unmap()->set_sdc("host");
  });
  Must([](auto& r) { r.mutable_volume_delete()->set_volume("v"); });
  Refused(Reply::NOT_FOUND, "\"v\"", "list",
          [](auto& r) { r.mutable_volume_delete()->set_volume("v"); });
}

TEST_F(Admin, ADeviceInUseIsNotRemovedAndNotAddedTwice) {
  const auto add = [](const std::string& path) {
    return [path](auto& r) {
      r.mutable_device_add()->set_sds("a");
      r.mutable_device_add()->set_pool("gold");
      r.mutable_device_add()->set_path(path);
    };
  };
  Refused(Reply::INVALID, "vdc", "from the root", add("vdc"));
  Refused(Reply::EXISTS, "/dev/vdb", "another path", add("/dev/vdb"));
  CreateVolume("v");
  Refused(Reply::NO_SPACE, "/dev/vdb", "gabion device add", [&](auto& r) {
    r.mutable_device_remove()->set_device(std::to_string(devices_[0].value()));
  });
  Refused(Reply::NOT_FOUND, "99", "gabion device list",
          [&](auto& r) { r.mutable_device_remove()->set_device("99"); });
  Refused(Reply::NO_SPACE, "\"a\"", "gabion device add",
          [](auto& r) { r.mutable_sds_remove()->set_sds("a"); });
  Refused(Reply::CONFLICT, "\"a\"", "nothing to cancel", [](auto& r) {
    r.mutable_sds_remove()->set_sds("a");
    r.mutable_sds_remove()->set_cancel(true);
  });
  Refused(Reply::CONFLICT, "\"gold\"", "delete its volumes",
          [](auto& r) { r.mutable_pool_remove()->set_pool("gold"); });
  alive_.erase(alive_.begin());
  Refused(Reply::UNAVAILABLE, "\"a\"", "start it", add("/dev/vdc"));
}

TEST_F(Admin, AnEmptyDeviceStaysWhileItsRoomIsNeeded) {
  CreateVolume("v");
  alive_.push_back(SdsId(Must([](auto& r) { r.mutable_sds_add()->set_name("c"); })));
  AddDevice("c");
  const auto remove = [&](size_t index, bool cancel) {
    return [this, index, cancel](auto& r) {
      r.mutable_device_remove()->set_device(std::to_string(devices_[index].value()));
      r.mutable_device_remove()->set_cancel(cancel);
    };
  };
  Must(remove(0, false));
  EXPECT_TRUE(repository_.IsLeaving(devices_[0]));
  EXPECT_EQ(Ask(remove(0, false)).reply->code(), Reply::OK);  // no news
  // It holds nothing yet, and what leaves the first one has no other place.
  ASSERT_EQ(repository_.HeldBy(devices_[2]), 0u);
  Refused(Reply::NO_SPACE, std::to_string(devices_[2].value()), "gabion device add",
          remove(2, false));
  Must(remove(0, true));
  EXPECT_FALSE(repository_.IsLeaving(devices_[0]));
  Must(remove(2, false));
  EXPECT_EQ(repository_.FindDevice(devices_[2]), nullptr);
}

TEST_F(Admin, AnSdsThatLosesItsLastDeviceWhileItsRemovalIsCancelledStays) {
  Must([](auto& r) { r.mutable_sds_add()->set_name("c"); });
  const uint64_t c = repository_.sdss().rbegin()->first.value();
  proto::Command leave;
  leave.mutable_evacuate_devices()->set_sds(c);
  repository_.Apply(leave);
  Must([](auto& r) {
    r.mutable_sds_remove()->set_sds("c");
    r.mutable_sds_remove()->set_cancel(true);
  });
  ASSERT_NE(repository_.FindSds(SdsId(c)), nullptr);
  EXPECT_FALSE(repository_.FindSds(SdsId(c))->removing());
}

TEST_F(Admin, ADeviceWithTheOnlyCopiesThatIsNotUpIsNotRemoved) {
  CreateVolume("v");
  alive_.push_back(SdsId(Must([](auto& r) { r.mutable_sds_add()->set_name("c"); })));
  AddDevice("c");
  proto::Command alone;
  for (const auto& [id, slice] : repository_.slices()) {
    if (slice.primary.device != devices_[0]) continue;
    SliceState next = slice;
    next.epoch = repository_.NextEpoch(slice);
    next.secondary = Member();
    *alone.mutable_change_slices()->add_slices() = ToProto(next);
  }
  ASSERT_GT(alone.change_slices().slices_size(), 0);
  repository_.Apply(alone);
  const auto remove = [&](auto& r) {
    r.mutable_device_remove()->set_device(std::to_string(devices_[0].value()));
  };
  const SdsId away = alive_.front();
  alive_.erase(alive_.begin());
  Refused(Reply::CONFLICT, "/dev/vdb", "gabion slice force", remove);
  alive_.push_back(away);
  Must(remove);
}

TEST_F(Admin, ChecksSliceCounts) {
  for (const uint32_t count : {3u, 8192u}) {
    Refused(Reply::INVALID, "\"p\"", "power of two", [&](auto& r) {
      r.mutable_pool_add()->set_name("p");
      r.mutable_pool_add()->set_slice_count(count);
    });
  }
  const AdminDecision decision = Ask([](auto& r) { r.mutable_pool_add()->set_name("p"); });
  EXPECT_EQ(decision.command.add_pool().slice_count(), kSliceCountDefault);
}

TEST_F(Admin, AnUnknownCommandIsRefused) {
  Refused(Reply::INVALID, "version", "gabion", [](auto&) {});
}

// ---- The repository by itself
// ----------------------------------------------------------------------

TEST_F(Admin, ASnapshotHoldsTheWholeRepository) {
  CreateVolume("v");
  Must([](auto& r) { r.mutable_sdc_add()->set_name("host"); });
  Must([](auto& r) {
    r.mutable_volume_map()->set_volume("v");
    r.mutable_volume_map()->set_sdc("host");
  });
  proto::Command command;
  command.mutable_evacuate_devices()->add_devices(devices_[1].value());
  command.mutable_evacuate_devices()->set_sds(alive_[1].value());
  repository_.Apply(command);
  proto::DevicePosition* position = command.mutable_note_positions()->add_positions();
  position->set_device(devices_[0].value());
  position->set_log_position(100);
  repository_.Apply(command);
  command.mutable_roll_back_device()->set_device(devices_[0].value());
  command.mutable_roll_back_device()->set_log_position(90);
  repository_.Apply(command);
  EXPECT_EQ(repository_.rolled_back().size(), 4u);
  const Result<Repository> loaded = Repository::Load(repository_.Snapshot());
  ASSERT_TRUE(loaded);
  loaded->CheckInvariants();
  EXPECT_EQ(loaded->StateHash(), repository_.StateHash());
  EXPECT_EQ(loaded->Snapshot().SerializeAsString(), repository_.Snapshot().SerializeAsString());
  EXPECT_EQ(loaded->SdssOfPool(PoolId(pool_)), repository_.SdssOfPool(PoolId(pool_)));
  EXPECT_EQ(loaded->AnswerTo("r1"), repository_.AnswerTo("r1"));

  proto::RepositorySnapshot later = repository_.Snapshot();
  later.set_format(99);
  EXPECT_FALSE(Repository::Load(later));
}

TEST_F(Admin, RemembersABoundedNumberOfAnswers) {
  for (size_t i = 0; i < kAnsweredRequestsMax + 5; ++i) {
    const std::string name = "c" + std::to_string(i);
    Must([&](auto& r) { r.mutable_sdc_add()->set_name(name); });
  }
  EXPECT_FALSE(repository_.AnswerTo("r1"));
  EXPECT_TRUE(repository_.AnswerTo("r" + std::to_string(requests_)));
  EXPECT_EQ(repository_.Snapshot().requests_size(), static_cast<int>(kAnsweredRequestsMax));
}

}  // namespace
}  // namespace gabion::mdm
