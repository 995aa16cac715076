"""A program with the planted bugs of core/base/bug.h compiled in."""

def _with_bugs_impl(settings, attr):
    return {
        "//command_line_option:copt": settings["//command_line_option:copt"] + ["-DGABION_BUGBANK"],
    }

_with_bugs = transition(
    implementation = _with_bugs_impl,
    inputs = ["//command_line_option:copt"],
    outputs = ["//command_line_option:copt"],
)

def _bugbank_binary_impl(ctx):
    binary = ctx.attr.binary[0][DefaultInfo].files_to_run.executable
    program = ctx.actions.declare_file(ctx.label.name)

    # Not a link: ci/build copies it, and Bazel's own copy may go away.
    ctx.actions.run_shell(
        inputs = [binary],
        outputs = [program],
        command = "cp \"$1\" \"$2\"",
        arguments = [binary.path, program.path],
    )
    return [DefaultInfo(executable = program, files = depset([program]))]

_ATTRS = {
    "binary": attr.label(cfg = _with_bugs, executable = True, mandatory = True),
    "_allowlist_function_transition": attr.label(
        default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
    ),
}

bugbank_binary = rule(
    doc = "The same program as `binary`, it and all its libraries compiled with GABION_BUGBANK.",
    implementation = _bugbank_binary_impl,
    executable = True,
    attrs = _ATTRS,
)

bugbank_test = rule(
    doc = "A test that runs `binary` as compiled with GABION_BUGBANK.",
    implementation = _bugbank_binary_impl,
    test = True,
    attrs = _ATTRS,
)
