"""What the package says of itself, in one voice."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from steer_heal_love import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_the_version_is_written_once_and_read_everywhere() -> None:
    assert "version" in PROJECT["dynamic"]
    assert importlib.metadata.version("steer-heal-love") == __version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"[{__version__}]" in changelog


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["license"] == PROJECT["license"]


@pytest.mark.parametrize("name", ["ui", "eval", "track", "docs"])
def test_developers_have_what_an_extra_has(name: str) -> None:
    assert set(EXTRAS[name]) <= set(EXTRAS["dev"])


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_constraints_are_sorted_and_pin_each_once() -> None:
    names = list(pinned())
    assert names == [canonicalize_name(name) for name in names]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert len([line for line in lines if "==" in line]) == len(names)


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *EXTRAS["dev"]])
def test_what_is_needed_is_pinned_within_its_bounds(text: str) -> None:
    needed = Requirement(text)
    version = pinned().get(canonicalize_name(needed.name))
    assert version is not None, f"constraints.txt does not pin {needed.name}"
    assert needed.specifier.contains(version)


def test_contributing_names_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert named
    assert set(named) <= targets
