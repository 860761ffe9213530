#!/usr/bin/env python3
"""Checks the tree of dependencies: one version of the crates that must be one, licences and sources.

cargo-deny does the licences and sources better; this stands in where it is not installed, and reads the same lists from
deny.toml. The crates that must have one version are checked here always: cargo-deny knows only "all" or "none".

Usage: .ci/dependencies.py [--single-versions-only]
Exit status: 0 when all is well, 1 with one line per fault.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

# Their types cross crate boundaries: a second version would compile and then not fit.
SINGLE = re.compile(r"^(arrow(-.+)?|parquet|datafusion(-.+)?|object_store|sqlparser|tonic(-.+)?|prost(-.+)?|rustls|tokio|tokio-postgres|mysql_async|rusqlite)$")
# A word of a licence expression: a licence (perhaps WITH an exception), an operator or a parenthesis.
TOKEN = re.compile(r"\(|\)|/|[A-Za-z0-9.+-]+")

ROOT = Path(__file__).resolve().parent.parent


def packages():
    """Every package of the tree on Linux, with the features that the workspace asks for."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["packages"]


def repeated(all_packages):
    """One line for every crate that must have one version and has several."""
    versions = defaultdict(set)
    for package in all_packages:
        if SINGLE.match(package["name"]):
            versions[package["name"]].add(package["version"])
    return [f"{name} has several versions: {', '.join(sorted(found))}" for name, found in versions.items() if len(found) > 1]


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


def source_faults(all_packages, registries):
    """One line for every package from elsewhere than the allowed registries and this repository."""
    allowed = {f"registry+{registry}" for registry in registries}
    return [
        f"{package['name']} {package['version']} comes from {package['source']}"
        for package in all_packages
        if package["source"] is not None and package["source"] not in allowed
    ]


def ban_faults(all_packages, bans):
    """One line for every package that must not be in the tree."""
    bans = [{"crate": ban} if isinstance(ban, str) else ban for ban in bans]
    reasons = {ban.get("crate") or ban["name"]: ban.get("reason", "see deny.toml") for ban in bans if "wrappers" not in ban}
    return [f"{p['name']} {p['version']} is banned: {reasons[p['name']]}" for p in all_packages if p["name"] in reasons]


def main():
    found = packages()
    faults = repeated(found)
    if sys.argv[1:] != ["--single-versions-only"]:
        policy = tomllib.loads((ROOT / "deny.toml").read_text())
        faults += licence_faults(found, set(policy["licenses"]["allow"]))
        faults += source_faults(found, policy["sources"]["allow-registry"])
        faults += ban_faults(found, policy["bans"]["deny"])
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
