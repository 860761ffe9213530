"""Searches what a run of the tests has printed for the password of its servers and users, which nothing may print.

Usage: canary.py [--junit REPORT] --logs DIRECTORY

The password is in HEADWATER_TEST_CANARY. REPORT is nextest's, with the output of every test; DIRECTORY has the logs of the headwater
processes that tests started, each called by its test. Also looked for are its Base64, whatever stands before it, as in the header
of a login, and its hexadecimal form. Ends with status 1 where it is found, and names each test and line; the password itself is
never printed.
"""

import argparse
import base64
import os
import pathlib
import sys
import xml.etree.ElementTree

SHOWN_MAX = 20
HIDDEN = "(the canary)"


def forms(canary):
    """The texts that give it away."""
    found = [canary, canary.encode().hex(), canary.encode().hex().upper()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + canary.encode())
        # The first and last characters hold bits of what stands beside it.
        inner = encoded[4 if before else 0:].rstrip(b"=")[:-2].decode()
        found += [inner, inner.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(found))


def lines_with(text, wanted):
    for number, line in enumerate(text.splitlines(), 1):
        if any(form in line for form in wanted):
            for form in wanted:
                line = line.replace(form, HIDDEN)
            yield number, line.strip()[:400]


def outputs(report):
    """The name of each test and what it printed, in each of its attempts."""
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')} {case.get('name')}"
        for element in case.iter():
            for text in [element.text, element.tail, element.get("message")]:
                if text and text.strip():
                    yield name, element.tag, text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--junit", type=pathlib.Path)
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    wanted = forms(os.environ["HEADWATER_TEST_CANARY"])
    searched, found = 0, []
    for name, where, text in outputs(arguments.junit) if arguments.junit else []:
        searched += 1
        found += [f"{name}, {where}, line {number}: {line}" for number, line in lines_with(text, wanted)]
    if arguments.junit and not searched:
        sys.exit(f"error: {arguments.junit} has the output of no test; does .config/nextest.toml store it?")
    for log in sorted(path for path in arguments.logs.rglob("*.log")):
        searched += 1
        text = log.read_text(errors="replace")
        name = log.relative_to(arguments.logs)
        found += [f"a log of {name}, line {number}: {line}" for number, line in lines_with(text, wanted)]
    for line in found[:SHOWN_MAX]:
        print(f"error: the password of the tests is in the output of {line}", file=sys.stderr)
    if len(found) > SHOWN_MAX:
        print(f"error: and in {len(found) - SHOWN_MAX} lines more", file=sys.stderr)
    print(f"the password of the tests was looked for in {searched} outputs and found in {len(found)} lines", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
