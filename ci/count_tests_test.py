"""Tests of ci/count_tests.py."""

import unittest

import count_tests

GTEST_XML = """<?xml version="1.0"?>
<testsuites tests="4" failures="1" disabled="1" errors="0" name="AllTests">
  <testsuite name="Crc" tests="4">
    <testcase name="Known" status="run" result="completed" classname="Crc" />
    <testcase name="Wrong" status="run" result="completed" classname="Crc"><failure message="x"/></testcase>
    <testcase name="Left" status="run" result="skipped" classname="Crc"><skipped message="y"/></testcase>
    <testcase name="DISABLED_Off" status="notrun" result="suppressed" classname="Crc" />
  </testsuite>
</testsuites>"""
GOOD_XML = '<testsuites><testsuite><testcase name="a" status="run"/></testsuite></testsuites>'
# What Bazel writes for a script, or for a program that died.
CRASH_XML = """<testsuites><testsuite name="a" tests="1" failures="0" errors="1">
  <testcase name="a" status="run" duration="1" time="1"><error message="exited with error code 134"></error></testcase>
</testsuite></testsuites>"""


def configured(label):
    return {"id": {"targetConfigured": {"label": label}},
            "configured": {"targetKind": "cc_test rule", "testSize": "MEDIUM"}}


def completed(label, success=True):
    return {"id": {"targetCompleted": {"label": label}}, "completed": {"success": True} if success else {}}


def result(label, status, uri, shard=1):
    return {"id": {"testResult": {"label": label, "run": 1, "shard": shard, "attempt": 1}},
            "testResult": {"status": status, "testActionOutput": [
                {"name": "test.log", "uri": "log"}, {"name": "test.xml", "uri": uri}]}}


class Cases(unittest.TestCase):
    def test_skipped_and_disabled_cases_count_as_failed(self):
        self.assertEqual((1, ["Crc.Wrong", "Crc.Left (skipped)", "Crc.DISABLED_Off (skipped)"]),
                         count_tests.count_cases(GTEST_XML))

    def test_a_crash_is_one_failure(self):
        self.assertEqual((0, ["a"]), count_tests.count_cases(CRASH_XML))


class Bazel(unittest.TestCase):
    def count(self, *events, texts=None):
        texts = texts or {"good": GOOD_XML, "gtest": GTEST_XML, "crash": CRASH_XML}
        return count_tests.count_bazel(events, text_of=lambda uri: texts[uri])

    def test_cases_of_all_targets_add_up(self):
        passed, failed = self.count(
            configured("//a:t"), completed("//a:t"), result("//a:t", "PASSED", "good"),
            configured("//b:t"), completed("//b:t"), result("//b:t", "FAILED", "gtest"))
        self.assertEqual(2, passed)
        self.assertEqual("//b:t Crc.Wrong", failed[0])
        self.assertEqual(3, len(failed))

    def test_shards_add_up(self):
        self.assertEqual((2, []), self.count(
            configured("//a:t"), completed("//a:t"),
            result("//a:t", "PASSED", "good", shard=1), result("//a:t", "PASSED", "good", shard=2)))

    def test_what_does_not_build_fails(self):
        self.assertEqual((0, ["//a:t (not built)"]),
                         self.count(configured("//a:t"), completed("//a:t", success=False)))

    def test_what_a_tag_filter_leaves_out_does_not_count(self):
        self.assertEqual((0, []), self.count(configured("//a:t"), completed("//a:t")))

    def test_a_time_out_after_good_cases_fails(self):
        self.assertEqual((1, ["//a:t (timeout)"]), self.count(
            configured("//a:t"), completed("//a:t"), result("//a:t", "TIMEOUT", "good")))

    def test_broken_xml_fails(self):
        passed, failed = self.count(
            configured("//a:t"), completed("//a:t"), result("//a:t", "PASSED", "half"),
            texts={"half": "<testsuites><testsu"})
        self.assertEqual((0, 1), (passed, len(failed)))

    def test_libraries_do_not_count(self):
        library = {"id": {"targetConfigured": {"label": "//a:l"}}, "configured": {"targetKind": "cc_library rule"}}
        self.assertEqual((0, []), self.count(library, completed("//a:l", success=False)))


if __name__ == "__main__":
    unittest.main()
