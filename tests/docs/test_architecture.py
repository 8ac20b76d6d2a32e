"""What is in which directory, as the architecture tells it."""

import re

from tests.docs.documents import ROOT, tracked

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
ROWS = [
    (re.findall(r"`([^`]+/)`", first), re.findall(r"`(\w+\.py)`", what))
    for first, what in re.findall(
        r"^\| (`[^|]+) \| ([^|]+) \|$", PAGE.partition("## Directories")[2], re.MULTILINE
    )
]


def test_each_directory_is_told():
    there = {name.partition("/")[0] for name in tracked() if "/" in name}
    told = {folder.partition("/")[0] for folders, _ in ROWS for folder in folders}
    assert there == told


def test_each_module_that_is_told_is_there():
    told = [
        (folder, module) for folders, modules in ROWS for folder in folders for module in modules
    ]
    assert ("src/", "charm.py") in told
    assert [row for row in told if not (ROOT / row[0] / row[1]).is_file()] == []
