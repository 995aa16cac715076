#include "cli/command_line.h"

#include <gtest/gtest.h>

namespace gabion::cli {
namespace {

struct Outcome {
  std::optional<Invocation> invocation;
  int exit_code = 0;
  std::string out;
  std::string err;
};

Outcome Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "gabion");
  Outcome outcome;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.invocation =
      ParseCommandLine(static_cast<int>(arguments.size()), arguments.data(), &outcome.exit_code);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(CommandLine, VolumeCreateBecomesARequest) {
  const Outcome outcome = Parse({"volume", "create", "v1", "--size=10G", "--pool", "p", "--mdm=a:1",
                                 "--mdm=b:2", "--timeout=2.5", "--output=json"});
  ASSERT_TRUE(outcome.invocation);
  EXPECT_EQ(outcome.invocation->verb, Verb::kCommand);
  const proto::VolumeCreate& volume = outcome.invocation->request.volume_create();
  EXPECT_EQ(volume.name(), "v1");
  EXPECT_EQ(volume.pool(), "p");
  EXPECT_EQ(volume.size_bytes(), uint64_t{10} << 30);
  EXPECT_EQ(outcome.invocation->common.mdms, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(outcome.invocation->common.timeout, std::chrono::milliseconds(2500));
  EXPECT_EQ(outcome.invocation->common.output, Output::kJson);
}

TEST(CommandLine, ADeviceIsTestedUnlessToldOtherwise) {
  const auto test_of = [](std::vector<const char*> more) {
    std::vector<const char*> arguments = {"device", "add", "/dev/x", "--sds=a"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = Parse(arguments);
    return outcome.invocation ? outcome.invocation->request.device_add().test() : -1;
  };
  EXPECT_EQ(test_of({}), proto::TEST_ACTIVATE);
  EXPECT_EQ(test_of({"--test=activate"}), proto::TEST_ACTIVATE);
  EXPECT_EQ(test_of({"--test=none"}), proto::TEST_NONE);
  EXPECT_EQ(test_of({"--test=only"}), proto::TEST_ONLY);
  EXPECT_EQ(test_of({"--test=maybe"}), -1);
}

TEST(CommandLine, EveryCommandHasItsRequest) {
  using Case = proto::AdminRequest::CommandCase;
  const std::vector<std::pair<std::vector<const char*>, Case>> commands = {
      {{"sds", "add", "a"}, Case::kSdsAdd},
      {{"sds", "remove", "a"}, Case::kSdsRemove},
      {{"pool", "add", "a"}, Case::kPoolAdd},
      {{"pool", "remove", "a"}, Case::kPoolRemove},
      {{"device", "add", "/dev/x", "--sds=a"}, Case::kDeviceAdd},
      {{"device", "remove", "3"}, Case::kDeviceRemove},
      {{"volume", "delete", "v"}, Case::kVolumeDelete},
      {{"volume", "grow", "v", "--size=1G"}, Case::kVolumeGrow},
      {{"volume", "map", "v", "--sdc=c"}, Case::kVolumeMap},
      {{"volume", "unmap", "v", "--sdc=c"}, Case::kVolumeUnmap},
      {{"sdc", "add", "c"}, Case::kSdcAdd},
      {{"sdc", "remove", "c"}, Case::kSdcRemove},
      {{"slice", "force", "7", "--device=3"}, Case::kSliceForce},
      {{"mdm", "restored", "--accept-older-repository"}, Case::kMdmRestored},
  };
  for (const auto& [arguments, expected] : commands) {
    const Outcome outcome = Parse(arguments);
    ASSERT_TRUE(outcome.invocation) << arguments[0] << " " << arguments[1] << outcome.err;
    EXPECT_EQ(outcome.invocation->verb, Verb::kCommand);
    EXPECT_EQ(outcome.invocation->request.command_case(), expected)
        << arguments[0] << " " << arguments[1];
  }
}

TEST(CommandLine, AScanHasARateAndCanBeEnded) {
  const Outcome scan = Parse({"device", "scan", "7", "--rate=50M"});
  ASSERT_TRUE(scan.invocation);
  EXPECT_EQ(scan.invocation->request.device_scan().device(), "7");
  EXPECT_EQ(scan.invocation->request.device_scan().bytes_per_second(), 50u << 20);
  EXPECT_FALSE(scan.invocation->request.device_scan().cancel());
  const Outcome end = Parse({"device", "scan", "7", "--cancel"});
  ASSERT_TRUE(end.invocation);
  EXPECT_EQ(end.invocation->request.device_scan().bytes_per_second(), 0u);
  EXPECT_TRUE(end.invocation->request.device_scan().cancel());
  EXPECT_FALSE(Parse({"device", "scan", "7", "--rate=fast"}).invocation);
  const Outcome show = Parse({"device", "show", "7"});
  ASSERT_TRUE(show.invocation);
  EXPECT_EQ(show.invocation->verb, Verb::kShowDevice);
  EXPECT_EQ(show.invocation->name, "7");
}

TEST(CommandLine, RemovalsCanBeCancelled) {
  const Outcome device = Parse({"device", "remove", "3", "--cancel"});
  ASSERT_TRUE(device.invocation);
  EXPECT_EQ(device.invocation->request.device_remove().device(), "3");
  EXPECT_TRUE(device.invocation->request.device_remove().cancel());
  const Outcome sds = Parse({"sds", "remove", "a", "--cancel"});
  ASSERT_TRUE(sds.invocation);
  EXPECT_TRUE(sds.invocation->request.sds_remove().cancel());
  const Outcome plain = Parse({"sds", "remove", "a"});
  ASSERT_TRUE(plain.invocation);
  EXPECT_FALSE(plain.invocation->request.sds_remove().cancel());
}

TEST(CommandLine, AForcedSliceNamesItsDeviceAndTheLossIsNeverImplied) {
  const Outcome careful = Parse({"slice", "force", "1048577", "--device=9"});
  ASSERT_TRUE(careful.invocation);
  EXPECT_EQ(careful.invocation->request.slice_force().slice(), 1048577u);
  EXPECT_EQ(careful.invocation->request.slice_force().device(), 9u);
  EXPECT_FALSE(careful.invocation->request.slice_force().accept_data_loss());
  const Outcome accepted = Parse({"slice", "force", "1", "--device=9", "--accept-data-loss"});
  ASSERT_TRUE(accepted.invocation);
  EXPECT_TRUE(accepted.invocation->request.slice_force().accept_data_loss());
  EXPECT_FALSE(Parse({"slice", "force", "1"}).invocation);  // which copy?
}

TEST(CommandLine, SliceListIsTheStatusWithSlices) {
  const Outcome outcome = Parse({"slice", "list"});
  ASSERT_TRUE(outcome.invocation);
  EXPECT_EQ(outcome.invocation->verb, Verb::kStatus);
  EXPECT_TRUE(outcome.invocation->slices);
}

TEST(CommandLine, DevUpTakesItsShape) {
  const Outcome outcome = Parse({"dev", "up", "--dir=/tmp/g", "--sds=5", "--devices=1",
                                 "--device-size=512M", "--sdcs=2", "--slices=32"});
  ASSERT_TRUE(outcome.invocation);
  EXPECT_EQ(outcome.invocation->verb, Verb::kDevUp);
  const DevOptions& dev = outcome.invocation->dev;
  EXPECT_EQ(dev.dir, "/tmp/g");
  EXPECT_EQ(dev.sds_count, 5u);
  EXPECT_EQ(dev.devices_per_sds, 1u);
  EXPECT_EQ(dev.device_bytes, uint64_t{512} << 20);
  EXPECT_EQ(dev.sdc_count, 2u);
  EXPECT_EQ(dev.slice_count, 32u);
}

TEST(CommandLine, DevDefaultsStayWhenNothingIsSaid) {
  const Outcome outcome = Parse({"dev", "up"});
  ASSERT_TRUE(outcome.invocation);
  EXPECT_EQ(outcome.invocation->dev.dir, ".gabion");
  EXPECT_EQ(outcome.invocation->dev.sds_count, 3u);
  EXPECT_EQ(outcome.invocation->dev.device_bytes, uint64_t{4} << 30);
}

TEST(CommandLine, DevKillNamesItsDaemons) {
  const Outcome outcome = Parse({"dev", "kill", "sds1", "sds2", "--dir=/tmp/g"});
  ASSERT_TRUE(outcome.invocation);
  EXPECT_EQ(outcome.invocation->verb, Verb::kDevKill);
  EXPECT_EQ(outcome.invocation->dev.names, (std::vector<std::string>{"sds1", "sds2"}));
}

TEST(CommandLine, WrongUseIsExitCodeTwoWithAReason) {
  for (const std::vector<const char*>& arguments : std::vector<std::vector<const char*>>{
           {},
           {"volume"},
           {"volume", "create", "v"},
           {"volume", "create", "--size=1G"},
           {"volume", "create", "v", "--size=10"},
           {"volume", "create", "v", "--size=0.3M"},
           {"volume", "map", "v"},
           {"frobnicate"},
           {"status", "--output=xml"},
           {"status", "--timeout=-1"},
           {"dev", "kill"},
           {"dev", "up", "--sds=0"},
       }) {
    const Outcome outcome = Parse(arguments);
    EXPECT_FALSE(outcome.invocation) << outcome.out;
    EXPECT_EQ(outcome.exit_code, kExitUsage);
    EXPECT_NE(outcome.err, "");
  }
  EXPECT_NE(Parse({"volume", "create", "v", "--size=10"}).err.find("such as 512M"),
            std::string::npos);
}

TEST(CommandLine, HelpHasExamples) {
  for (const std::vector<const char*>& arguments : std::vector<std::vector<const char*>>{
           {"--help"}, {"volume", "create", "--help"}, {"dev", "--help"}}) {
    const Outcome outcome = Parse(arguments);
    EXPECT_FALSE(outcome.invocation);
    EXPECT_EQ(outcome.exit_code, kExitOk);
    EXPECT_NE(outcome.out.find("Example"), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("\n  gabion "), std::string::npos) << outcome.out;
  }
}

TEST(CommandLine, AMistypedCommandIsNamed) {
  const Outcome top = Parse({"statsu"});
  EXPECT_EQ(top.exit_code, kExitUsage);
  EXPECT_EQ(top.err,
            "gabion: no command is called 'statsu'; there are status wait mdm sds pool device "
            "slice volume sdc dev store\n");
  const Outcome nested = Parse({"volume", "lst", "--dir=/x"});
  EXPECT_EQ(nested.exit_code, kExitUsage);
  EXPECT_NE(nested.err.find("'lst'; there are create list"), std::string::npos) << nested.err;
  EXPECT_TRUE(Parse({"dev", "kill", "statsu"}).invocation) << "a name may be any word";
}

}  // namespace
}  // namespace gabion::cli
