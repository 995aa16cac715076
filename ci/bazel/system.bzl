"""Libraries of the system, as Debian installs them under /usr."""

# name -> link options. Headers come from the compiler's default search path.
_LIBS = {
    "absl": [
        "-labsl_flags_parse",
        "-labsl_flags_usage",
        "-labsl_flags_usage_internal",
        "-labsl_flags_internal",
        "-labsl_flags_marshalling",
        "-labsl_flags_reflection",
        "-labsl_flags_config",
        "-labsl_flags_program_name",
        "-labsl_flags_private_handle_accessor",
        "-labsl_flags_commandlineflag",
        "-labsl_flags_commandlineflag_internal",
        "-labsl_cord",
        "-labsl_cordz_info",
        "-labsl_cord_internal",
        "-labsl_cordz_functions",
        "-labsl_cordz_handle",
        "-labsl_hash",
        "-labsl_city",
        "-labsl_low_level_hash",
        "-labsl_raw_hash_set",
        "-labsl_hashtablez_sampler",
        "-labsl_exponential_biased",
        "-labsl_bad_variant_access",
        "-labsl_bad_optional_access",
        "-labsl_synchronization",
        "-labsl_graphcycles_internal",
        "-labsl_stacktrace",
        "-labsl_symbolize",
        "-labsl_debugging_internal",
        "-labsl_demangle_internal",
        "-labsl_malloc_internal",
        "-labsl_time",
        "-labsl_civil_time",
        "-labsl_time_zone",
        "-labsl_str_format_internal",
        "-labsl_strings",
        "-labsl_strings_internal",
        "-labsl_base",
        "-labsl_spinlock_wait",
        "-labsl_int128",
        "-labsl_throw_delegate",
        "-labsl_raw_logging_internal",
        "-labsl_log_severity",
    ],
    "aio": ["-laio"],
    "benchmark": ["-lbenchmark"],
    "blkid": ["-lblkid"],
    "cli11": [],
    "expected": [],
    "gtest": ["-lgtest"],
    "gtest_main": ["-lgtest_main", "-lgtest"],
    "isal": ["-lisal"],
    "protobuf": ["-lprotobuf"],
    "rapidcheck": ["-lrapidcheck"],
    "spdlog": ["-lspdlog", "-lfmt"],
    "ssl": ["-lssl", "-lcrypto"],
}

# Debian builds spdlog as a library that uses Debian's fmt.
_DEFINES = {
    "spdlog": ["SPDLOG_COMPILED_LIB", "SPDLOG_SHARED_LIB", "SPDLOG_FMT_EXTERNAL"],
}

def system_repositories():
    """Declares @system//:<name> for every library above."""
    content = "".join([
        "cc_library(name = %r, linkopts = %r, defines = %r, visibility = ['//visibility:public'])\n" %
        (name, opts + ["-pthread"], _DEFINES.get(name, []))
        for name, opts in _LIBS.items()
    ])

    # The path only has to exist and to be readable; no file of it is used.
    native.new_local_repository(
        name = "system",
        path = "/usr/share/bazel/rules",
        build_file_content = content,
    )
