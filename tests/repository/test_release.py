"""CI and release configuration is consistent, and every file has the same version."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import kfp_ops

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
CALLERS = [*WORKFLOWS, ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"]
A_CALL = re.compile(
    r"^[\s-]*(?:run: |entry: |timeout \d+ )?make ((?:[a-z][a-z-]*\b(?!/)[ \t]*)+)", re.MULTILINE
)
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def code(path):
    """Return a file's text without its comments."""
    return re.sub(r"#.*", "", path.read_text())


def targets():
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE))


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in (*job.get("steps", ()), job)]


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.name)
def test_called_make_targets_exist(path):
    called = {name for names in A_CALL.findall(code(path)) for name in names.split()}
    assert called <= targets()
    if path.name == "ci.yaml":
        assert {"lint", "static", "test", "mutants", "demo", "pack", "packed"} <= called


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_read_only(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    for action in used:
        assert action.startswith("./.github/") or re.search(r"@[0-9a-f]{40}$", action), action


def test_every_file_has_the_same_version():
    assert kfp_ops.__version__ == VERSION


def test_changelog_has_the_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    found_versions = [
        re.fullmatch(r"(\S+) (?:\(unreleased\)|- (\d{4}-\d\d-\d\d))", heading)
        for heading in headings
    ]
    assert all(found_versions), headings
    versions, days = zip(*(match.groups() for match in found_versions), strict=True)
    assert versions[0] == VERSION
    assert all(Version(newer) > Version(older) for newer, older in pairwise(versions))
    # Only an unreleased version has no date
    assert all(days[1:])


@pytest.mark.parametrize(
    "path",
    [
        *sorted(ROOT.glob("charmcraft.yaml")),
        *sorted(ROOT.glob("examples/*/charmcraft.yaml")),
        *sorted(ROOT.glob("tests/integration/charms/*/charmcraft.yaml")),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_charmcraft_parts_with_uv_install_it(path):
    # In charmcraft's build environment there is none
    parts = yaml.safe_load(path.read_text())["parts"].values()
    uv = [part for part in parts if part["plugin"] == "uv"]
    assert uv
    for part in uv:
        assert "astral-uv" in part["build-snaps"]


def test_library_includes_the_licence():
    assert (ROOT / "lib/kfp_ops/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
