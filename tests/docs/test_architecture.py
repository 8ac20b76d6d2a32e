"""What is in which directory, as the architecture tells it."""

import re
import subprocess

from tests.docs.documents import ROOT

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
ROWS = [
    (re.findall(r"`([^`]+/)`", first), re.findall(r"`(\w+\.py)`", what))
    for first, what in re.findall(
        r"^\| (`[^|]+) \| ([^|]+) \|$", PAGE.partition("## What is where")[2], re.MULTILINE
    )
]


def test_each_directory_is_told():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = {line.partition("/")[0] for line in files.splitlines() if "/" in line}
    told = {folder.partition("/")[0] for folders, _ in ROWS for folder in folders}
    assert there == told


def test_each_module_that_is_told_is_there():
    told = [
        (folder, module) for folders, modules in ROWS for folder in folders for module in modules
    ]
    assert ("src/", "charm.py") in told
    assert [row for row in told if not (ROOT / row[0] / row[1]).is_file()] == []
