"""How Gabion compiles C++. Use these instead of cc_library, cc_binary and cc_test."""

load("//ci/bazel:bugbank.bzl", "bugbank_test")

_PUBLIC = ["//visibility:public"]

# Libraries report errors as values. Tests are exempt (RapidCheck needs both), and so is the
# command line program (CLI11 throws).
_NO_EXCEPTIONS = ["-fno-exceptions", "-fno-rtti"]

def gabion_cc_library(name, visibility = _PUBLIC, copts = [], **kwargs):
    """A library without exceptions and RTTI. Who may use it is checked by ci/tidy."""
    native.cc_library(
        name = name,
        linkstatic = True,
        copts = _NO_EXCEPTIONS + copts,
        visibility = visibility,
        **kwargs
    )

def gabion_cc_binary(name, visibility = _PUBLIC, copts = [], **kwargs):
    """A program without exceptions and RTTI. tags = ["program"] makes ci/build install it."""
    native.cc_binary(
        name = name,
        copts = _NO_EXCEPTIONS + copts,
        visibility = visibility,
        **kwargs
    )

def gabion_cc_cli_library(name, visibility = _PUBLIC, **kwargs):
    """A library with exceptions: only for code that touches CLI11."""
    native.cc_library(
        name = name,
        linkstatic = True,
        visibility = visibility,
        **kwargs
    )

def gabion_cc_cli_binary(name, visibility = _PUBLIC, **kwargs):
    """A program with exceptions: only for code that touches CLI11."""
    native.cc_binary(
        name = name,
        visibility = visibility,
        **kwargs
    )

def gabion_cc_test(name, deps = [], **kwargs):
    """A GoogleTest test, with exceptions and RTTI, and with GoogleTest's main.

    Tags: "process" for tests that start daemons or need root (add "local" and "exclusive"; ci/test
    runs them apart), "sim-long" for simulations that only ci/full runs, "no-san" for tests that
    cannot run under sanitizers (own operator new).
    """
    native.cc_test(
        name = name,
        deps = deps + ["@system//:gtest_main"],
        **kwargs
    )

def gabion_bugs_test(name, bugs, srcs, deps = [], copts = []):
    """Shows that tests see the planted bugs (core/base/bug.h) that they are there for.

    bugs: from the name of a bug to the filter of the GoogleTest tests of `srcs` that must fail with it.
    """
    native.cc_test(
        name = name + "_program",
        testonly = True,
        srcs = srcs + ["//ci/bazel:bugs_main.cc"],
        copts = copts,
        tags = ["manual"],
        deps = deps + ["//core/base", "@system//:gtest"],
    )
    bugbank_test(
        name = name,
        args = ["'%s=%s'" % bug for bug in bugs.items()],
        binary = ":" + name + "_program",
        tags = ["no-san"],
    )

def gabion_fuzz(name, srcs, deps = [], corpus = []):
    """A libFuzzer harness (it defines LLVMFuzzerTestOneInput) in two forms.

    name: searches for inputs; only in --config=clang-san (ci/test does, for a short time):
        bazel run --config=clang-san //fuzz:NAME -- -max_total_time=60 CORPUS-FOLDER
    name_corpus_test: an ordinary test that feeds it every file of the corpus, damaged in many ways.
    """
    native.cc_library(
        name = name + "_harness",
        testonly = True,
        srcs = srcs,
        linkstatic = True,
        alwayslink = True,
        deps = deps,
    )
    native.cc_binary(
        name = name,
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_harness"],
    )
    native.cc_test(
        name = name + "_corpus_test",
        srcs = ["//ci/bazel:corpus_main.cc"],
        args = ["$(locations %s)" % file for file in corpus],
        data = corpus,
        deps = [":" + name + "_harness"],
    )
