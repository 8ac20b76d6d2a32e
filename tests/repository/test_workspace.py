"""The workspace's packages: complete, importable without help, and left out of what is shipped."""

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.documents import tracked

# Python 3.10 has none.
tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv" / "bin" / "uv"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = {
    path: tomllib.loads((ROOT / path / "pyproject.toml").read_text())
    for path in PROJECT["tool"]["uv"]["workspace"]["members"]
}
CHANGES_SYS_PATH = re.compile(r"\bsys\.path(\[.*\]|\.(append|extend|insert)\(| *\+?= )")


@pytest.mark.parametrize("path", MEMBERS)
def test_member_lists_every_package(path):
    setuptools = MEMBERS[path]["tool"]["setuptools"]
    folders = {ROOT / path / folder: name for name, folder in setuptools["package-dir"].items()}
    expected = set()
    for file in (ROOT / path).rglob("__init__.py"):
        top = next(folder for folder in [file.parent, *file.parents] if folder in folders)
        expected.add(".".join([folders[top], *file.parent.relative_to(top).parts]))
    assert set(setuptools["packages"]) == expected


def test_environment_installs_every_member():
    names = {member["project"]["name"] for member in MEMBERS.values()}
    assert PROJECT["tool"]["uv"]["sources"].keys() == names
    groups = PROJECT["dependency-groups"].values()
    required = [Requirement(line).name for group in groups for line in group if type(line) is str]
    assert names <= set(required)


def test_charm_depends_on_what_its_libraries_need_but_not_on_members():
    def names(lines):
        return {Requirement(line).name for line in lines}

    dependencies = names(PROJECT["project"]["dependencies"])
    library = MEMBERS["lib/kfp_ops"]["project"]
    assert dependencies >= names(library["dependencies"])
    assert dependencies >= names(library["optional-dependencies"]["kubernetes"])
    assert dependencies >= names(MEMBERS["lib/model_registry"]["project"]["dependencies"])
    assert not dependencies & PROJECT["tool"]["uv"]["sources"].keys()


def test_nothing_changes_sys_path():
    files = [ROOT / name for name in tracked() if name.endswith((".py", ".ipynb"))]
    assert not [path for path in files if CHANGES_SYS_PATH.search(path.read_text())]


@pytest.mark.skipif(not UV.exists(), reason="no .uv/bin/uv, which make installs")
@pytest.mark.parametrize("group", ["training", "sandbox"])
def test_image_installs_pinned_packages_only(group):
    export = ["export", "--quiet", "--frozen", "--no-emit-workspace", "--only-group", group]
    exported = subprocess.run(
        [UV, *export, "--no-annotate", "--no-header"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in exported.stdout.splitlines() if not line.startswith(" ")]
    assert [line for line in lines if "==" not in line] == []
    assert any(line.startswith("kfp==") for line in lines)
