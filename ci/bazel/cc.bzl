"""How Gabion compiles C++. Use these instead of cc_library, cc_binary and cc_test."""

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
    runs them apart), "sim-long" for simulations that only ci/full runs.
    """
    native.cc_test(
        name = name,
        deps = deps + ["@system//:gtest_main"],
        **kwargs
    )
