"""Tests of ci/tidy: each rule finds what it must, and leaves alone what it may not touch."""

import os
import subprocess
import tempfile
import unittest

import tidy_rules as rules


def whats(findings):
    return [f"{f.line}: {f.what}" for f in findings]


class Dependencies(unittest.TestCase):
    def findings(self, path, *headers):
        text = "".join(f'#include "{header}"\n' for header in headers)
        return rules.check_dependencies(path, text)

    def assert_clean(self, path, *headers):
        self.assertEqual([], self.findings(path, *headers))

    def assert_found(self, path, header):
        self.assertEqual(1, len(self.findings(path, header)), f"{path} -> {header}")

    def test_a_layer_uses_itself_and_the_layers_under_it(self):
        self.assert_clean("core/sds/write.cc", "core/sds/write.h", "core/store/store.h",
                          "core/plan/plan.h", "core/role/role.h", "core/wire/data.h", "core/base/ids.h")
        self.assert_clean("core/env/clock.h", "core/base/time.h")
        self.assert_clean("net/tcp/conn.cc", "net/reactor/loop.h", "core/role/role.h")
        self.assert_clean("sim/run/main.cc", "sim/world/world.h", "core/sds/sds.h")
        self.assert_clean("daemon/sds_main.cc", "net/tcp/conn.h", "disk/aio/aio.h", "core/sds/sds.h")
        self.assert_clean("cli/volume.cc", "core/wire/data.h", "cli/table.h")

    def test_nothing_includes_upwards(self):
        self.assert_found("core/base/ids.h", "core/wire/data.h")
        self.assert_found("core/role/role.h", "core/store/store.h")
        self.assert_found("core/store/store.cc", "core/sds/sds.h")
        self.assert_found("core/sds/sds.cc", "net/tcp/conn.h")

    def test_names_on_one_line_do_not_see_each_other(self):
        self.assert_found("core/wire/data.h", "core/env/clock.h")
        self.assert_found("core/env/clock.h", "core/wire/data.h")
        self.assert_found("core/plan/plan.h", "core/store/store.h")
        self.assert_found("core/store/store.h", "core/consensus/raft.h")

    def test_no_role_includes_another_role(self):
        self.assert_found("core/sds/sds.cc", "core/mdm/mdm.h")
        self.assert_found("core/sdc/sdc.h", "core/sds/sds.h")

    def test_the_simulator_and_the_production_host_never_meet(self):
        self.assert_found("sim/world/world.cc", "net/reactor/loop.h")
        self.assert_found("sim/world/world.cc", "disk/memory/memory.h")
        self.assert_found("net/tcp/conn.cc", "sim/world/world.h")
        self.assert_found("net/tcp/conn.cc", "disk/aio/aio.h")

    def test_tests_follow_the_rule_of_their_folder(self):
        self.assert_found("core/sds/sds_test.cc", "sim/world/world.h")

    def test_the_command_line_sees_only_messages(self):
        self.assert_found("cli/status.cc", "core/mdm/mdm.h")
        self.assert_found("cli/status.cc", "net/tcp/conn.h")

    def test_paths_start_at_the_root(self):
        self.assertEqual(["1: relative include ../base/ids.h"],
                         whats(self.findings("core/wire/data.h", "../base/ids.h")))
        self.assertEqual(["1: relative include ids.h"],
                         whats(self.findings("core/base/ids.cc", "ids.h")))

    def test_an_unknown_folder_must_be_added_to_the_rule(self):
        self.assert_found("extra/thing.cc", "core/base/ids.h")

    def test_system_headers_are_nobodys_layer(self):
        text = "#include <vector>\n#include <net/if.h>\n#include \"absl/strings/str_cat.h\"\n"
        self.assertEqual([], rules.check_dependencies("net/tcp/conn.cc", text)[1:])
        self.assertEqual([], rules.check_dependencies("core/base/x.cc", '#include "tl/expected.hpp"\n'))

    def test_similar_names_are_different_folders(self):
        self.assertEqual("", rules.layer_of("core/basement/x.h"))
        self.assertEqual("core/base", rules.layer_of("core/base/x.h"))
        self.assertEqual("sim", rules.layer_of("sim/world/x.h"))


class Banned(unittest.TestCase):
    def found(self, line, path="core/sds/sds.cc"):
        return len(rules.check_banned(path, line + "\n"))

    def test_calls_that_differ_from_run_to_run(self):
        for line in [
            "std::thread t(f);",
            "std::mutex m;",
            "auto t = std::chrono::steady_clock::now();",
            "auto t = absl::Now();",
            "clock_gettime(CLOCK_MONOTONIC, &ts);",
            "auto t = time(nullptr);",
            "std::random_device d;",
            "std::uniform_int_distribution<int> d(0, 9);",
            "std::shuffle(v.begin(), v.end(), g);",
            "int x = rand();",
            'const char* home = getenv("HOME");',
            "usleep(10);",
            "std::unordered_map<int, int> m;",
            "thread_local int depth;",
            "size_t h = absl::HashOf(key);",
            "assert(x > 0);",
        ]:
            self.assertEqual(1, self.found(line), line)

    def test_headers(self):
        for header in ["thread", "mutex", "random", "unordered_map", "sys/socket.h", "unistd.h",
                       "fcntl.h", "fstream", "iostream", "cassert"]:
            self.assertEqual(1, self.found(f"#include <{header}>"), header)
        for header in ["vector", "string", "chrono", "map", "cstdint", "functional"]:
            self.assertEqual(0, self.found(f"#include <{header}>"), header)

    def test_pointers_as_keys(self):
        for line in [
            "std::map<Node*, int> m;",
            "std::set<const Node*> s;",
            "absl::flat_hash_map<sim::Node *, int> m;",
            "absl::btree_set<Node*> s;",
        ]:
            self.assertEqual(1, self.found(line), line)
        self.assertEqual(0, self.found("std::map<NodeId, Node*> m;"))

    def test_look_alikes_are_left_alone(self):
        for line in [
            "static_assert(sizeof(Header) == 64);",
            "// std::thread is banned here.",
            'CHECK(false) << "rand() and getenv()";',
            "Time now = clock.Now();",
            "int operand(int x);",
            "const Duration time = Elapsed(0);",
            "world.time(0);",
            "constexpr int kMillion = 1'000'000;  int y = 1'0;",
            "Random random(seed);",
            "host.system(1);",
        ]:
            self.assertEqual(0, self.found(line), line)

    def test_only_core_and_sim_are_pure(self):
        self.assertEqual(1, self.found("std::thread t;", "sim/world/world.cc"))
        self.assertEqual(0, self.found("std::thread t;", "sim/run/main.cc"))
        self.assertEqual(0, self.found("std::thread t;", "net/reactor/loop.cc"))

    def test_tests_may_read_files_but_not_clocks(self):
        self.assertEqual(0, self.found("#include <fstream>", "core/plan/plan_test.cc"))
        self.assertEqual(1, self.found("auto t = absl::Now();", "core/plan/plan_test.cc"))

    def test_a_line_may_break_the_rule_if_it_says_why(self):
        self.assertEqual(0, self.found("std::mutex m;  // tidy-ok(banned): only for the abort path"))
        self.assertEqual(0, self.found("// tidy-ok(banned): only for the abort path\nstd::mutex m;"))
        self.assertEqual(1, self.found("std::mutex m;  // tidy-ok(banned):"))
        self.assertEqual(1, self.found("std::mutex m;  // tidy-ok(order): another rule"))

    def test_comments_over_several_lines_keep_the_line_numbers(self):
        text = "/* std::thread\n   rand() */\nint a;\nstd::thread t;\n"
        self.assertEqual([4], [f.line for f in rules.check_banned("core/sds/a.cc", text)])


class Iteration(unittest.TestCase):
    def lines(self, text, header="", path="core/sds/a.cc"):
        return [f.line for f in rules.check_iteration(path, text, header)]

    def test_a_loop_over_a_variable(self):
        self.assertEqual([2], self.lines(
            "absl::flat_hash_map<int, std::vector<int>> by_id;\nfor (auto& [k, v] : by_id) Use(k, v);\n"))

    def test_a_loop_over_a_member_declared_in_the_header(self):
        header = "class A {\n  absl::flat_hash_set<VolumeId> volumes_;\n};\n"
        self.assertEqual([1], self.lines("for (VolumeId id : volumes_) Use(id);\n", header))
        self.assertEqual([1], self.lines("for (VolumeId id : this->volumes_) Use(id);\n", header))
        self.assertEqual([1], self.lines("for (VolumeId id : other.volumes_) Use(id);\n", header))

    def test_an_accessor(self):
        header = "const absl::flat_hash_map<int, int>& entries() const;\n"
        self.assertEqual([1], self.lines("for (auto& e : table.entries()) Use(e);\n", header))

    def test_an_alias(self):
        text = "using Table = absl::flat_hash_map<int, int>;\nTable table_;\nfor (auto& e : table_) Use(e);\n"
        self.assertEqual([3], self.lines(text))

    def test_iterators(self):
        text = "absl::flat_hash_map<int, int> m;\nfor (auto it = m.begin(); it != m.end(); ++it) Use(*it);\n"
        self.assertEqual([2], self.lines(text))

    def test_lookups_and_ordered_containers_are_fine(self):
        self.assertEqual([], self.lines(
            "absl::flat_hash_map<int, int> m;\nstd::map<int, int> sorted;\n"
            "for (auto& e : sorted) Use(e, m.find(1), m.at(2));\nif (m.find(3) == m.end()) return;\n"
            "for (int i = 0; i < m.size(); ++i) Use(i);\n"))

    def test_a_reason_is_accepted(self):
        self.assertEqual([], self.lines(
            "absl::flat_hash_map<int, int> m;\n// tidy-ok(order): a sum\nfor (auto& e : m) sum += e.second;\n"))

    def test_production_hosts_may_walk(self):
        self.assertEqual([], self.lines("absl::flat_hash_set<int> m;\nfor (int e : m) Use(e);\n",
                                        path="net/tcp/a.cc"))


class SizeAndLeftovers(unittest.TestCase):
    def test_eight_hundred_lines_are_the_limit(self):
        self.assertEqual([], rules.check_size("core/base/a.cc", "x\n" * 800))
        self.assertEqual(1, len(rules.check_size("core/base/a.cc", "x\n" * 801)))

    def test_notes_to_oneself(self):
        self.assertEqual(1, len(rules.check_leftovers("a.py", "# TODO: more\n")))
        self.assertEqual([], rules.check_leftovers("a.py", "todo_list = []\n"))

    def test_code_in_comments(self):
        for line in ["// return x;", "  // int a = 3;", "// Foo(bar);", "// if (x) {", "// }",
                     "// world.Run(3);"]:
            self.assertEqual(1, len(rules.check_leftovers("a.cc", line + "\n")), line)

    def test_prose_is_no_code(self):
        for line in ["// Frees the slot; late completions miss it.", "// a = b means equal.",
                     "// Example: Foo(bar) returns 3.", "// The grammar is { key value };",
                     "int a = 3;  // bytes;", "// returns the epoch; never zero.",
                     "//   Random random(seed);"]:
            self.assertEqual([], rules.check_leftovers("a.cc", line + "\n"), line)


class Statics(unittest.TestCase):
    """Compiles real objects: the rule reads what nm prints."""

    def findings(self, source, name="a"):
        with tempfile.TemporaryDirectory() as folder:
            base = os.path.join(folder, name)
            with open(base + ".cc", "w", encoding="utf-8") as file:
                file.write(source)
            flags = ["-std=c++20", "-O2", "-fPIC", "-fdata-sections", "-fno-rtti", "-fno-exceptions"]
            subprocess.run(["g++", *flags, "-c", base + ".cc", "-o", base + ".o"], check=True)
            subprocess.run(["ar", "rcs", base + ".a", base + ".o"], check=True)
            symbols = subprocess.run(
                ["nm", "--demangle", "--format=sysv", base + ".a"],
                check=True, stdout=subprocess.PIPE, universal_newlines=True,
            ).stdout
            return [f.what for f in rules.check_statics(name, symbols)]

    def assert_found(self, name, source):
        found = self.findings(source)
        self.assertTrue(any(f"`{name}" in what for what in found), found)

    def test_mutable_objects_are_found_wherever_they_hide(self):
        self.assert_found("counter", "int counter;\n")
        self.assert_found("start", "int start = 3;\n")
        self.assert_found("g::depth", "namespace g { thread_local int depth = 1; }\nint& D() { return g::depth; }\n")
        self.assert_found("Next()::n", "int Next() { static int n; return ++n; }\n")
        self.assert_found("Next()::n", "inline int Next() { static int n; return ++n; }\nint F() { return Next(); }\n")
        self.assert_found("S::count", "struct S { static inline int count = 1; };\nint F() { return ++S::count; }\n")
        self.assert_found("name", "#include <string>\nextern const std::string name;\n"
                                  "const std::string name(100, 'x');\n")

    def test_constants_code_and_vtables_are_left_alone(self):
        self.assertEqual([], self.findings(
            "#include <array>\n"
            "struct B { virtual int F(); virtual ~B() = default; };\n"
            "int B::F() { return 1; }\n"
            "extern const char* const kNames[];\n"
            'const char* const kNames[] = {"a", "b"};\n'
            "constexpr std::array<int, 3> kTable = {1, 2, 3};\n"
            "int At(int i) { return kTable[i]; }\n"))

    def test_the_stream_set_up_that_protobuf_headers_bring_is_left_alone(self):
        self.assertEqual([], self.findings("#include <iostream>\nint F() { return 1; }\n"))

    def test_generated_protobuf_code_is_exempt(self):
        self.assertEqual([], self.findings("int descriptor_table;\n", name="message.pb"))


if __name__ == "__main__":
    unittest.main()
