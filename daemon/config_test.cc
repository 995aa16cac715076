#include "daemon/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

namespace gabion::daemon {
namespace {

Result<CommandLine> Parse(Program program, std::vector<const char*> arguments) {
  return ParseCommandLine(program, arguments);
}

std::string ErrorOf(Program program, std::vector<const char*> arguments) {
  const Result<CommandLine> line = Parse(program, std::move(arguments));
  return line ? "" : line.error().message;
}

std::string ErrorOfText(Program program, std::string_view text) {
  Config config;
  const Result<void> parsed = ParseConfigText(program, "f.conf", text, config);
  return parsed ? "" : parsed.error().message;
}

TEST(Config, FileSetsEveryKeyOfAnSds) {
  Config config;
  ASSERT_TRUE(ParseConfigText(Program::kSds, "f.conf",
                              "# comment\n"
                              "\n"
                              "name = sds1\n"
                              "  state-dir=/var/lib/gabion/sds1  \r\n"
                              "listen = [::1]:7080\n"
                              "announce = 10.0.0.1:7080\n"
                              "mdm = 10.0.0.2:7070\n"
                              "mdm = 10.0.0.3:7070\n"
                              "metrics-listen = 127.0.0.1:9100\n"
                              "log = json\n"
                              "log-level = warning\n"
                              "memory-max = 1G\n"
                              "store-memory = 64M\n"
                              "read-cache = 128M\n"
                              "insecure = true",
                              config));
  EXPECT_EQ(config.name, "sds1");
  EXPECT_EQ(config.state_dir, "/var/lib/gabion/sds1");
  EXPECT_EQ(config.listen.ToString(), "[::1]:7080");
  ASSERT_EQ(config.announce.size(), 1u);
  ASSERT_EQ(config.mdms.size(), 2u);
  EXPECT_EQ(config.mdms[1].ToString(), "10.0.0.3:7070");
  EXPECT_EQ(config.metrics_listen->port, 9100);
  EXPECT_EQ(config.log_format, LogFormat::kJson);
  EXPECT_EQ(config.log_level, Severity::kWarning);
  EXPECT_EQ(config.memory_max_bytes, uint64_t{1} << 30);
  EXPECT_EQ(config.store_memory_bytes, uint64_t{64} << 20);
  EXPECT_EQ(config.read_cache_bytes, uint64_t{128} << 20);
  EXPECT_TRUE(config.insecure);
}

TEST(Config, ErrorsOfAFileNameItsLineAndTheKnownKeys) {
  const std::string error = ErrorOfText(Program::kSdc, "name = a\n\nlisen = 127.0.0.1:1\n");
  EXPECT_TRUE(error.starts_with("f.conf:3: unknown key 'lisen'")) << error;
  EXPECT_NE(error.find("nbd-listen"), std::string::npos) << error;
  EXPECT_EQ(ErrorOfText(Program::kSdc, "name\n"), "f.conf:1: wants `key = value`");
  EXPECT_EQ(ErrorOfText(Program::kSdc, "name = a\nname = b\n"), "f.conf:2: 'name' is set twice");
}

TEST(Config, KeyOfAnotherDaemonIsRefused) {
  EXPECT_NE(ErrorOfText(Program::kMdm, "nbd-listen = 127.0.0.1:10809\n"), "");
  EXPECT_NE(ErrorOfText(Program::kSdc, "listen = 127.0.0.1:7080\n"), "");
}

TEST(Config, BadValuesAreRefused) {
  for (const char* line :
       {"name =", "name = a b", "state-dir = relative", "mdm = host:7070", "mdm = 127.0.0.1",
        "mdm = 127.0.0.1:0", "mdm = 127.0.0.1:65536", "log = xml", "log-level = loud",
        "memory-max = 16M", "memory-max = 64", "memory-max = 99999999999999999999G",
        "io-timeout = 5", "io-timeout = 0s", "io-timeout = -1s", "io-timeout = 5m",
        "insecure = yes", "nbd-socket = here"}) {
    EXPECT_TRUE(ErrorOfText(Program::kSdc, line).starts_with("f.conf:1: '")) << line;
  }
}

TEST(Config, TimesHaveUnits) {
  Config config;
  ASSERT_TRUE(ParseConfigText(Program::kSdc, "f", "io-timeout = 1500ms", config));
  EXPECT_EQ(config.io_timeout, std::chrono::milliseconds(1500));
  ASSERT_TRUE(ParseConfigText(Program::kSdc, "f", "io-timeout = never", config));
  EXPECT_EQ(config.io_timeout, Duration{0});
}

TEST(Config, TheDeviceTimeoutIsAtLeastASecond) {
  Config config;
  EXPECT_EQ(config.device_timeout, std::chrono::seconds(30));
  ASSERT_TRUE(ParseConfigText(Program::kSds, "f", "device-timeout = 90s", config));
  EXPECT_EQ(config.device_timeout, std::chrono::seconds(90));
  ASSERT_TRUE(ParseConfigText(Program::kSds, "f", "device-timeout = 1000ms", config));
  EXPECT_EQ(config.device_timeout, std::chrono::seconds(1));
  for (const char* wrong : {"0s", "999ms", "30", "never", "-5s", ""}) {
    const std::string line = std::string("device-timeout = ") + wrong;
    EXPECT_NE(ErrorOfText(Program::kSds, line), "") << wrong;
  }
  EXPECT_NE(ErrorOfText(Program::kMdm, "device-timeout = 90s"), "");
}

TEST(Config, FlagsWinOverTheFileAndReplaceItsLists) {
  char path[] = "/tmp/gabion-config-test-XXXXXX";
  const int fd = ::mkstemp(path);
  ASSERT_GE(fd, 0);
  ::close(fd);
  std::ofstream(path) << "name = filed\nstate-dir = /s\nmdm = 127.0.0.1:1\nmdm = 127.0.0.1:2\n";
  const std::string flag = std::string("--config=") + path;
  const auto line = Parse(Program::kSds, {"--name=flagged", flag.c_str(), "--mdm", "127.0.0.1:3"});
  ::unlink(path);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->action, CommandLine::Action::kRun);
  EXPECT_EQ(line->config.name, "flagged");
  ASSERT_EQ(line->config.mdms.size(), 1u);
  EXPECT_EQ(line->config.mdms[0].port, 3);
}

TEST(Config, MissingKeysAreNamed) {
  EXPECT_NE(ErrorOf(Program::kMdm, {}).find("'state-dir' is not set"), std::string::npos);
  EXPECT_NE(ErrorOf(Program::kSds, {"--state-dir=/s"}).find("'name'"), std::string::npos);
  EXPECT_NE(ErrorOf(Program::kSds, {"--state-dir=/s", "--name=a"}).find("'mdm'"),
            std::string::npos);
  EXPECT_EQ(ErrorOf(Program::kMdm, {"--state-dir=/s"}), "");
}

TEST(Config, AddressesThatOthersReachNeedInsecure) {
  const std::string error = ErrorOf(Program::kMdm, {"--state-dir=/s", "--listen=10.1.2.3:7070"});
  EXPECT_NE(error.find("listen = 10.1.2.3:7070"), std::string::npos) << error;
  EXPECT_NE(error.find("insecure"), std::string::npos) << error;
  EXPECT_EQ(ErrorOf(Program::kMdm, {"--state-dir=/s", "--listen=10.1.2.3:7070", "--insecure"}), "");
  EXPECT_EQ(ErrorOf(Program::kMdm, {"--state-dir=/s", "--listen=127.9.9.9:7070"}), "");
  EXPECT_EQ(ErrorOf(Program::kMdm, {"--state-dir=/s", "--listen=[::1]:7070"}), "");
  EXPECT_NE(ErrorOf(Program::kMdm, {"--state-dir=/s", "--metrics-listen=[::]:7071"}), "");
  EXPECT_NE(ErrorOf(Program::kSdc, {"--state-dir=/s", "--name=c", "--mdm=127.0.0.1:7070",
                                    "--nbd-listen=0.0.0.0:10809"}),
            "");
}

TEST(Config, WildcardOfAnSdsNeedsAnAnnouncedAddress) {
  std::vector<const char*> arguments = {"--state-dir=/s", "--name=a", "--mdm=127.0.0.1:7070",
                                        "--insecure", "--listen=0.0.0.0:7080"};
  EXPECT_NE(ErrorOf(Program::kSds, arguments).find("announce"), std::string::npos);
  arguments.push_back("--announce=10.0.0.1:7080");
  EXPECT_EQ(ErrorOf(Program::kSds, arguments), "");
}

TEST(Config, UnknownFlagsAndMissingValuesAreRefused) {
  EXPECT_NE(ErrorOf(Program::kMdm, {"--lisen=1"}).find("unknown flag --lisen"), std::string::npos);
  EXPECT_NE(ErrorOf(Program::kMdm, {"--name"}).find("wants a value"), std::string::npos);
  EXPECT_NE(ErrorOf(Program::kMdm, {"stray"}).find("unexpected argument 'stray'"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Program::kMdm, {"--config"}).find("wants a file"), std::string::npos);
  EXPECT_NE(ErrorOf(Program::kMdm, {"--config=/does/not/exist"}).find("/does/not/exist"),
            std::string::npos);
}

TEST(Config, ActionsAreRecognised) {
  EXPECT_EQ(Parse(Program::kSds, {"--help"})->action, CommandLine::Action::kHelp);
  EXPECT_EQ(Parse(Program::kSds, {"--version"})->action, CommandLine::Action::kVersion);
  EXPECT_EQ(Parse(Program::kMdm, {"--check-config", "--state-dir=/s"})->action,
            CommandLine::Action::kCheckConfig);
  EXPECT_FALSE(Parse(Program::kMdm, {"--check-config"}));
}

TEST(Config, HelpShowsTheKeysOfThisDaemonOnly) {
  EXPECT_NE(HelpText(Program::kSdc).find("nbd-listen"), std::string::npos);
  EXPECT_EQ(HelpText(Program::kMdm).find("nbd-listen"), std::string::npos);
}

TEST(Config, TheScanRateIsAutomaticARateOrOff) {
  const auto parse = [](const char* value) {
    const std::string flag = std::string("--scan-rate=") + value;
    const std::array<const char*, 5> flags = {"--name=s", "--state-dir=/s", "--mdm=127.0.0.1:7070",
                                              "--scan-rate=0", flag.c_str()};
    return ParseCommandLine(Program::kSds, flags);
  };
  EXPECT_EQ(parse("auto")->config.scan_interval, kScanInterval);
  EXPECT_EQ(parse("auto")->config.scan_bytes_per_second, 0u);
  EXPECT_EQ(parse("512K")->config.scan_bytes_per_second, 512u << 10);
  EXPECT_EQ(parse("50M")->config.scan_interval, kScanInterval);
  EXPECT_EQ(parse("0")->config.scan_interval, Duration{0});
  for (const char* wrong : {"", "50", "M", "-1", "0M", "2T", "50MB"}) {
    EXPECT_FALSE(parse(wrong).has_value()) << wrong;
  }
  EXPECT_NE(HelpText(Program::kSds).find("scan-rate"), std::string::npos);
  EXPECT_EQ(HelpText(Program::kSdc).find("scan-rate"), std::string::npos);
}

}  // namespace
}  // namespace gabion::daemon
