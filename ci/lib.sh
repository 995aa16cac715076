# Shared by the scripts in ci/: source it, do not run it.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

export LC_ALL=C.UTF-8
export HOME="${HOME:-/root}"
export USER="${USER:-$(id -un)}"
# A login shell of another user may lack the folders of system programs.
export PATH="$PATH:/usr/sbin:/sbin"

# git refuses a checkout of another user, such as one that root tests.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$root"

# GABION_BAZEL_STARTUP: startup options (such as --output_base=DIR), GABION_BAZEL_FLAGS: options of a
# command (such as --disk_cache=DIR), for machines that need other ones than the defaults.
read -r -a bazel_startup <<<"${GABION_BAZEL_STARTUP:-}"
read -r -a bazel_flags <<<"${GABION_BAZEL_FLAGS:-}"

say() { printf '== %s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Runs `bazel COMMAND ...` with the options above.
run_bazel() {
  local command="$1"
  shift
  bazel "${bazel_startup[@]}" "$command" "${bazel_flags[@]}" "$@"
}

# Prints the comment block at the top of the calling script when the first argument is -h or --help.
help_if_asked() {
  case "${1:-}" in
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
  esac
}
