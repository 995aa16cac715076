// The main of a test of planted bugs (gabion_bugs_test in cc.bzl): arguments "BUG=GTEST-FILTER".
// For each, the tests of the filter run with that bug active (PLANTED_BUG) and must fail; without
// it they must pass.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace {

std::string_view active;
bool reached = false;

enum Outcome : int { kPassed = 0, kFailed = 1, kRanNothing = 2 };

// In a process of its own, for some end in a CHECK.
Outcome Run(std::string_view bug, const std::string& filter) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nothing, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO);
    active = bug;
    std::string program = "bugs";
    std::string argument = "--gtest_filter=" + filter;
    char* arguments[] = {program.data(), argument.data(), nullptr};
    int count = 2;
    // A report for Bazel would count the tests that had to fail for a bug as failures.
    testing::GTEST_FLAG(output) = "";
    testing::InitGoogleTest(&count, arguments);
    const int result = RUN_ALL_TESTS();
    const bool ran = testing::UnitTest::GetInstance()->test_to_run_count() > 0;
    // A bug whose line nobody comes by was not found, whatever failed.
    const bool counts = ran && (bug.empty() || reached);
    _exit(!counts ? kRanNothing : result == 0 ? kPassed : kFailed);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    std::perror("fork");
    return kRanNothing;
  }
  // A CHECK ends a process by a signal.
  return WIFEXITED(status) ? static_cast<Outcome>(WEXITSTATUS(status)) : kFailed;
}

}  // namespace

#ifdef GABION_BUGBANK
namespace gabion {
bool BugActive(std::string_view name) {
  if (name != active) return false;
  reached = true;
  return true;
}
}  // namespace gabion
#endif

int main(int argc, char** argv) {
  int wrong = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) {
      std::fprintf(stderr, "%s is no BUG=GTEST-FILTER\n", argument.c_str());
      return 2;
    }
    const std::string bug = argument.substr(0, equals);
    const std::string filter = argument.substr(equals + 1);
    const Outcome without = Run("", filter);
    const Outcome with = without == kPassed ? Run(bug, filter) : kRanNothing;
    const char* verdict = without != kPassed    ? "FAILS WITHOUT THE BUG"
                          : with == kFailed     ? "found"
                          : with == kRanNothing ? "NEVER REACHED"
                                                : "NOT FOUND";
    std::printf("%-38s %-22s %s\n", bug.c_str(), verdict, filter.c_str());
    if (with != kFailed) ++wrong;
  }
  return argc > 1 && wrong == 0 ? 0 : 1;
}
