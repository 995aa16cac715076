"""The rules of ci/tidy. Each takes text and returns findings; none reads a file or runs a program."""

import re
from typing import Dict, Iterable, List, NamedTuple


class Finding(NamedTuple):
    path: str
    line: int  # 0: the file as a whole.
    what: str
    way_out: str

    def __str__(self):
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.what}; {self.way_out}"


MAX_LINES = 800

# Folder -> folders whose headers it may include besides its own. ARCHITECTURE.md has the picture.
# The longest matching prefix decides, so "sim/" stands for everything under sim/.
_COMPONENTS = ["core/consensus", "core/plan", "core/store"]
_UNDER_ROLES = ["core/base", "core/wire", "core/env", "core/role"]
LAYERS = {
    "core/base": [],
    "core/wire": ["core/base"],
    "core/env": ["core/base"],
    "core/role": ["core/base", "core/wire", "core/env"],
    "core/consensus": _UNDER_ROLES,
    "core/plan": _UNDER_ROLES,
    "core/store": _UNDER_ROLES,
    "core/mdm": _UNDER_ROLES + _COMPONENTS,
    "core/sds": _UNDER_ROLES + _COMPONENTS,
    "core/sdc": _UNDER_ROLES + _COMPONENTS,
    "net": ["core"],
    "disk": ["core"],
    "sim": ["core"],
    "daemon": ["core", "net", "disk"],
    # Of core/store, the offline tools only.
    "cli": ["core/base", "core/wire", "core/role", "core/store"],
    "gateway": ["core/base", "core/wire"],
    "fuzz": ["core", "sim", "net"],
}
_TOP_FOLDERS = sorted({folder.split("/")[0] for folder in LAYERS} | {"kmod"})


def _is_under(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def layer_of(path: str) -> str:
    """The key of LAYERS that the file belongs to, or "" if none."""
    candidates = [folder for folder in LAYERS if _is_under(path, folder)]
    return max(candidates, key=len, default="")


def strip_comments_and_strings(text: str) -> str:
    """C++ text with comments and literals blanked; lines keep their numbers. Includes stay whole."""

    def blank(match):
        token = match.group(0)
        is_include = token.lstrip().startswith("#")
        return token if is_include else re.sub(r"[^\n]", " ", token)

    return re.sub(
        r'^[ \t]*#[ \t]*include[ \t]*["<][^">\n]*[">]'  # Kept: its quotes are no string.
        r"|//[^\n]*"
        r"|/\*.*?\*/"
        r'|R"([^()\s\\]{0,16})\(.*?\)\1"'
        r'|"(?:\\.|[^"\\\n])*"'
        # A quote after a digit separates digits (1'000).
        r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'",
        blank,
        text,
        flags=re.S | re.M,
    )


def _suppressed(lines: List[str], number: int, rule: str) -> bool:
    """True if the line, or the one above it, says `tidy-ok(rule): reason`."""
    pattern = re.compile(r"//.*\btidy-ok\(" + re.escape(rule) + r"\): \S+")
    return any(pattern.search(line) for line in lines[max(0, number - 2) : number])


# ---------------------------------------------------------------------------- dependencies


def check_dependencies(path: str, text: str) -> List[Finding]:
    """Includes of project headers follow LAYERS."""
    layer = layer_of(path)
    findings = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
        if not match:
            continue
        header = match.group(1)
        if header.startswith(("./", "../")) or ('"' in line and "/" not in header):
            findings.append(
                Finding(path, number, f"relative include {header}", "write the path from the root")
            )
            continue
        if header.split("/")[0] not in _TOP_FOLDERS or "/" not in header:
            continue
        if not layer:
            findings.append(
                Finding(path, number, "folder is not in the dependency rule",
                        "add it to LAYERS in ci/tidy_rules.py and to ARCHITECTURE.md")
            )
            return findings
        if _is_under(header, layer) or any(_is_under(header, f) for f in LAYERS[layer]):
            continue
        allowed = ", ".join(LAYERS[layer]) or "nothing else"
        findings.append(
            Finding(path, number, f"{layer}/ must not include {header}",
                    f"it may use {allowed}: move the shared part down a layer")
        )
    return findings


# ------------------------------------------------------------------------ banned calls

_PURE = "core/ and sim/ are pure: "
_HEADER_BANS = {
    r"thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token|pthread\.h":
        (_PURE + "no threads or locks", "run it in the host (net/, sim/run/)"),
    r"random": (_PURE + "no random numbers of std", "use core/base/random.h"),
    r"unordered_map|unordered_set":
        ("hash containers of std", "use std::map, absl::btree_map or a slot table"),
    r"sys/.*|unistd\.h|fcntl\.h|netinet/.*|arpa/.*|netdb\.h|net/if\.h|poll\.h|libaio\.h|dirent\.h|linux/.*":
        (_PURE + "no system calls", "go through core/env and an effect"),
    r"fstream|filesystem": (_PURE + "no files", "go through core/env and an effect"),
    r"iostream": ("<iostream> brings static constructors", "return text, or use <ostream>"),
    r"cassert|assert\.h": ("assert vanishes in optimised builds", "use CHECK"),
}
_CALL_BANS = {
    r"std::(?:j?thread|(?:shared_|recursive_|timed_)?mutex|condition_variable\w*|async|this_thread)\b":
        (_PURE + "no threads or locks", "run it in the host (net/, sim/run/)"),
    r"\bthread_local\b": ("thread-local state", "pass it as a parameter"),
    r"\b(?:system|steady|high_resolution|utc|file)_clock\b|\babsl::(?:Now|GetCurrentTimeNanos)\b"
    r"|\b(?:clock_gettime|gettimeofday|localtime|gmtime|mktime)\s*\(|(?<![\w.>:])time\s*\(\s*(?:nullptr|NULL|0|&)":
        (_PURE + "no clocks", "take `now` as a parameter"),
    r"\brandom_device\b|\bmt19937|\bstd::\w+_distribution\b|\bstd::(?:shuffle|sample)\b"
    r"|(?<![\w.>])(?:s?rand\s*\(|(?:random|drand48)\s*\(\s*\))":
        (_PURE + "no random numbers of std", "use core/base/random.h"),
    r"(?<![\w.>])(?:secure_)?(?:getenv|setenv|putenv)\s*\(":
        (_PURE + "no environment variables", "take a parameter"),
    r"(?<![\w.>])(?:sleep|usleep|nanosleep)\s*\(|\babsl::SleepFor\b":
        (_PURE + "no sleeping", "set a timer"),
    r"(?<![\w.>])(?:getpid|gettid|fork|execv\w*|system|popen|fopen)\s*\(":
        (_PURE + "no system calls", "go through core/env and an effect"),
    r"\bstd::unordered_(?:multi)?(?:map|set)\b":
        ("hash containers of std", "use std::map, absl::btree_map or a slot table"),
    r"\babsl::(?:HashOf\b|Hash<)":
        ("absl::Hash differs from process to process", "use core/base/mix.h"),
    r"(?:\bstd::hash<[^<>]*\*\s*>)"
    r"|\b(?:std|absl)::(?:flat_hash_|node_hash_|btree_|multi)?(?:map|set)<\s*(?:const\s+)?[\w:]+(?:\s+const)?\s*\*":
        ("a pointer as a key: its order changes from run to run", "use an id as the key"),
    r"\bassert\s*\(": ("assert vanishes in optimised builds", "use CHECK"),
}
# Tests of these folders may read golden files, and print.
_FILE_HEADERS = re.compile(r"fstream|filesystem|iostream|unistd\.h|fcntl\.h|sys/stat\.h")


def is_pure(path: str) -> bool:
    """True where the simulator must be able to repeat a run bit for bit."""
    return _is_under(path, "core") or (_is_under(path, "sim") and not _is_under(path, "sim/run"))


def check_banned(path: str, text: str) -> List[Finding]:
    """No call, header or container that makes two runs of one seed differ."""
    if not is_pure(path):
        return []
    is_test = path.endswith("_test.cc")
    findings = []
    original = text.splitlines()
    for number, line in enumerate(strip_comments_and_strings(text).splitlines(), start=1):
        if _suppressed(original, number, "banned"):
            continue
        include = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
        if include:
            header = include.group(1)
            if is_test and _FILE_HEADERS.fullmatch(header):
                continue
            for pattern, (what, way_out) in _HEADER_BANS.items():
                if re.fullmatch(pattern, header):
                    findings.append(Finding(path, number, f"<{header}>: {what}", way_out))
            continue
        for pattern, (what, way_out) in _CALL_BANS.items():
            match = re.search(pattern, line)
            if match:
                found = match.group(0).strip().rstrip("(").strip()
                findings.append(Finding(path, number, f"`{found}`: {what}", way_out))
    return findings


# ---------------------------------------------------------------------- order of iteration


def _names_after_type(text: str, type_pattern: str) -> Iterable[str]:
    """Names declared with a type that matches, template arguments included."""
    for match in re.finditer(type_pattern, text):
        end = match.end()
        if end < len(text) and text[end] == "<":
            depth = 0
            while end < len(text):
                depth += {"<": 1, ">": -1}.get(text[end], 0)
                end += 1
                if depth == 0:
                    break
        name = re.match(r"(?:\s*(?:const\b|&|\*))*\s*([A-Za-z_]\w*)", text[end:])
        if name:
            yield name.group(1)


def hash_container_names(text: str) -> List[str]:
    """Variables, members and functions whose type is a hash container of Abseil, or an alias of one."""
    base = r"\babsl::(?:flat|node)_hash_(?:map|set)\b(?=<)"
    aliases = re.findall(r"\busing\s+(\w+)\s*=\s*" + base, text)
    names = set(_names_after_type(text, base))
    for alias in aliases:
        names |= set(_names_after_type(text, r"(?<!using )\b" + alias + r"\b(?!\s*=)"))
    return sorted(names)


def check_iteration(path: str, text: str, header_text: str = "") -> List[Finding]:
    """Nothing walks over a hash container: Abseil's order changes from run to run.

    header_text is the text of the file's own header, where the members are declared.
    """
    if not is_pure(path):
        return []
    code = strip_comments_and_strings(text)
    names = hash_container_names(code + "\n" + strip_comments_and_strings(header_text))
    if not names:
        return []
    any_name = "|".join(names)
    walks = re.compile(
        r"\bfor\s*\([^;()]*(?:\([^()]*\)[^;()]*)*:\s*[^;]*?\b(?P<loop>" + any_name + r")\b(?:\(\))?\s*\)"
        r"|\b(?P<begin>" + any_name + r")(?:\(\))?\s*(?:\.|->)\s*c?begin\s*\("
    )
    original = text.splitlines()
    findings = []
    for match in walks.finditer(code):
        number = code.count("\n", 0, match.start()) + 1
        if not _suppressed(original, number, "order"):
            name = match.group("loop") or match.group("begin")
            findings.append(
                Finding(path, number, f"walks over the hash container `{name}`, in an order that changes",
                        "use an ordered container, or sort its keys first and say // tidy-ok(order): why")
            )
    return findings


# ------------------------------------------------------------------------- size and leftovers


def check_size(path: str, text: str) -> List[Finding]:
    lines = text.count("\n")
    if lines <= MAX_LINES:
        return []
    return [Finding(path, 0, f"{lines} lines, more than {MAX_LINES}", "move its second subject out")]


_LEFTOVER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
# Code that is indented in its comment is an example of use.
_DEAD_CODE = re.compile(
    r"^\s*//+ ?(?:"
    r"(?:return|break|continue)\b[^.]*;"
    r"|(?:if|for|while|switch)\s*\(.*\)\s*\{"
    r"|[\w:<>*&]+(?:\s+[\w:*&]+)?\s*(?:=|\+=)[^=].*;"
    r"|[\w:.\->]+\(.*\);"
    r"|\}(?:\s*else.*)?"
    r")\s*$"
)


def check_leftovers(path: str, text: str) -> List[Finding]:
    """No notes to oneself, no code in comments."""
    findings = []
    is_cc = path.endswith((".cc", ".h", ".c"))
    for number, line in enumerate(text.splitlines(), start=1):
        if _LEFTOVER.search(line):
            findings.append(Finding(path, number, "a note to oneself", "do it, or open an issue"))
        if is_cc and _DEAD_CODE.match(line):
            findings.append(Finding(path, number, "code in a comment", "delete it, git remembers"))
    return findings


# --------------------------------------------------------------------------- mutable statics

_WRITABLE = re.compile(r"\.(?:bss|data|tbss|tdata)(?!\.rel\.ro)(?:\.|$)")


def check_statics(archive: str, nm_output: str) -> List[Finding]:
    """No object of a core library may be in a writable section.

    nm_output is that of `nm --demangle --format=sysv ARCHIVE`. Constants whose value is known when
    the program starts are in .rodata or .data.rel.ro; generated protobuf code is exempt.
    """
    findings = []
    member = ""
    for line in nm_output.splitlines():
        heading = re.search(r"\[(.+\.o)\]:$", line)
        if heading:
            member = heading.group(1)
            continue
        if ".pb." in member:
            continue
        # The name may contain "|" (operator|), so the columns are counted from the right.
        columns = [column.strip() for column in line.rsplit("|", 6)]
        if len(columns) != 7 or columns[0].startswith("DW.ref."):
            continue
        if columns[0] == "std::__ioinit":  # From Protobuf's headers: <iostream> itself is banned.
            continue
        name, _, _, kind, _, _, section = columns
        if kind in ("OBJECT", "TLS") and _WRITABLE.match(section):
            findings.append(
                Finding(f"{archive}({member})", 0, f"mutable static `{name}` in {section}",
                        "make it constexpr, or part of the role's state")
            )
    return findings


def check_all_texts(files: Dict[str, str]) -> List[Finding]:
    """All rules on source text. files: path from the root -> contents."""
    findings = []
    for path, text in sorted(files.items()):
        findings += check_size(path, text)
        findings += check_leftovers(path, text)
        if path.endswith((".cc", ".h")):
            stem = path[: -len("_test.cc")] if path.endswith("_test.cc") else path.rsplit(".", 1)[0]
            header = "" if path.endswith(".h") else files.get(stem + ".h", "")
            findings += check_dependencies(path, text)
            findings += check_banned(path, text)
            findings += check_iteration(path, text, header)
    return findings
