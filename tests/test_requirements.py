"""What a station installs: pinned as everywhere else, complete, and every file with its hash."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.places import ROOT

LINES = (ROOT / "requirements" / "station.txt").read_text(encoding="utf-8")
PINNED = {
    canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", LINES, re.MULTILINE)
}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_versions_are_those_of_the_constraints() -> None:
    everywhere = constraints()
    assert {name: everywhere.get(name) for name in PINNED if name != "setuptools"} == {
        name: version for name, version in PINNED.items() if name != "setuptools"
    }


def test_every_file_has_its_hash() -> None:
    entries = re.split(r"\n(?=[\w.-]+==)", LINES)
    assert len(entries) == len(PINNED) > 20
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_nothing_that_a_station_needs_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        assert requirement.specifier.contains(PINNED[name], prereleases=True), f"{requirement}: make lock"
        wanted += [Requirement(text) for text in metadata.requires(requirement.name) or ()]
    assert "torch" not in seen
