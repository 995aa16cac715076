#!/usr/bin/env python3
"""Counts test cases, so that ci/test can say "N passed, N failed".

  count_tests.py bazel EVENTS   reads what `bazel test --build_event_json_file=EVENTS` wrote
  count_tests.py unittest DIR   runs the *_test.py files of a folder

Prints the names of failed tests, then a line of two numbers: passed and failed. A skipped or disabled
test counts as failed: a test that does not run cannot fail.
"""

import json
import sys
import unittest
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml


def count_cases(xml_text):
    """(passed, names of failed) from the test.xml of GoogleTest or of Bazel itself."""
    passed, failed = 0, []
    for case in xml.fromstring(xml_text).iter("testcase"):
        bad = any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))
        ran = case.get("status", "run") == "run" and case.get("result", "completed") == "completed"
        if ran and not bad:
            passed += 1
        else:
            name = ".".join(filter(None, [case.get("classname"), case.get("name")]))
            failed.append(name if ran and bad else name + " (skipped)")
    return passed, failed


def _text_of(uri):
    with open(urllib.request.url2pathname(urllib.parse.urlparse(uri).path), "rb") as file:
        return file.read()


def count_bazel(events, text_of=_text_of):
    """(passed, names of failed) from Bazel's build events, given as dictionaries."""
    tests, built, xml_of, status_of = set(), {}, {}, {}
    for event in events:
        identity = event.get("id", {})
        if "targetConfigured" in identity and event.get("configured", {}).get("testSize"):
            tests.add(identity["targetConfigured"]["label"])
        elif "targetCompleted" in identity:
            built[identity["targetCompleted"]["label"]] = event.get("completed", {}).get("success", False)
        elif "testResult" in identity:
            label = identity["testResult"]["label"]
            status_of[label] = event["testResult"]["status"]
            for output in event["testResult"].get("testActionOutput", []):
                if output["name"] == "test.xml":
                    # A later attempt replaces an earlier one; shards add up.
                    xml_of.setdefault(label, {})[identity["testResult"].get("shard", 1)] = output["uri"]

    passed, failed = 0, []
    for label in sorted(tests):
        if label not in status_of:
            if not built.get(label, True):
                failed.append(f"{label} (not built)")
            continue  # Left out by a tag filter.
        bad_cases = []
        for uri in xml_of.get(label, {}).values():
            try:
                good, bad = count_cases(text_of(uri))
            except (xml.ParseError, OSError):
                good, bad = 0, ["(unreadable test.xml)"]
            passed += good
            bad_cases += bad
        # A crash or a time-out after the last case leaves no failed case behind.
        if status_of[label] != "PASSED" and not bad_cases:
            bad_cases = [f"({status_of[label].lower()})"]
        if not xml_of.get(label) and not bad_cases:
            bad_cases = ["(no test.xml)"]
        failed += [f"{label} {case}" for case in bad_cases]
    return passed, failed


def run_unittest(folder):
    """(passed, names of failed) of the *_test.py files of a folder."""
    sys.path.insert(0, folder)
    suite = unittest.defaultTestLoader.discover(folder, pattern="*_test.py")
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(suite)
    bad = [test.id() for test, _ in result.failures + result.errors + result.skipped]
    bad += [test.id() + " (passed, but expected to fail)" for test in result.unexpectedSuccesses]
    return result.testsRun - len(bad), bad


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in ("bazel", "unittest"):
        print(__doc__.strip())
        return 2
    if arguments[0] == "unittest":
        passed, failed = run_unittest(arguments[1])
    else:
        try:
            with open(arguments[1], encoding="utf-8") as file:
                events = [json.loads(line) for line in file if line.strip()]
        except (OSError, json.JSONDecodeError) as error:
            print(f"No usable build events: {error}")
            events = []
        passed, failed = count_bazel(events)
    for name in failed:
        print(f"FAILED {name}")
    print(passed, len(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
