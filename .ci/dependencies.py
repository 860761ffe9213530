#!/usr/bin/env python3
"""Checks the tree of dependencies against deny.toml, where cargo-deny is not installed: bans, licences and sources.

It reads the same lists as cargo-deny, for Linux only and without the texts of licences, so it may find less and never other.

Usage: .ci/dependencies.py
Exit status: 0 when all is well, 1 with one line per fault.
"""

import collections
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

# A word of a licence expression: a licence (perhaps WITH an exception), an operator or a parenthesis.
TOKEN = re.compile(r"\(|\)|/|[A-Za-z0-9.+-]+")

ROOT = Path(__file__).resolve().parent.parent


def packages():
    """Every package of the tree on Linux, with the features that the workspace asks for."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["packages"]


def ban_faults(all_packages, bans):
    """One line for every crate that must not be in the tree, or only once."""
    versions = defaultdict(set)
    for package in all_packages:
        versions[package["name"]].add(package["version"])
    faults = []
    for ban in bans:
        found = sorted(versions[ban["crate"]])
        most = 1 if ban.get("deny-multiple-versions") else 0
        if len(found) > most:
            faults.append(f"{ban['crate']} {', '.join(found)} is banned: {ban['reason']}")
    return faults


def licence_holds(expression, allowed):
    """Whether an SPDX expression can be met with the allowed licences. `/` is the old way to write OR."""
    tokens = [("OR" if token == "/" else token) for token in TOKEN.findall(expression)]
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either():
        value = both()
        while peek() == "OR":
            take()
            other = both()
            value = value or other
        return value

    def both():
        value = single()
        while peek() == "AND":
            take()
            other = single()
            value = value and other
        return value

    def single():
        token = take()
        if token == "(":
            value = either()
            take()
            return value
        if peek() == "WITH":
            take()
            return f"{token} WITH {take()}" in allowed
        return token in allowed

    return either() and position == len(tokens)


def licence_faults(all_packages, allowed):
    """One line for every package whose licence is not allowed."""
    faults = []
    for package in all_packages:
        if package["source"] is None and package["publish"] == []:
            continue
        licence = package["license"]
        if licence is None or not licence_holds(licence, allowed):
            faults.append(f"{package['name']} {package['version']} has the licence {licence!r}, which deny.toml does not allow")
    return faults


def source_faults(all_packages):
    """One line for every package from elsewhere than the one registry that the others come from and this repository."""
    sources = collections.Counter(package["source"] for package in all_packages if package["source"] is not None)
    registries = [source for source, _ in sources.most_common() if source.startswith("registry+")]
    return [
        f"{package['name']} {package['version']} comes from {package['source']}"
        for package in all_packages
        if package["source"] is not None and package["source"] not in registries[:1]
    ]


def main():
    found = packages()
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    faults = ban_faults(found, policy["bans"]["deny"])
    faults += licence_faults(found, set(policy["licenses"]["allow"]))
    faults += source_faults(found)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
