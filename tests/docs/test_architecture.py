"""Check the directories and modules that docs/explanation/architecture.md names."""

import re

from tests.docs.documents import ROOT, tracked

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
ROWS = [
    (re.findall(r"`([^`]+/)`", first), re.findall(r"`(\w+\.py)`", what))
    for first, what in re.findall(
        r"^\| (`[^|]+) \| ([^|]+) \|$", PAGE.partition("## Directories")[2], re.MULTILINE
    )
]


def test_every_directory_has_a_row():
    existing = {name.partition("/")[0] for name in tracked() if "/" in name}
    documented = {folder.partition("/")[0] for folders, _ in ROWS for folder in folders}
    assert existing == documented


def test_every_documented_module_exists():
    documented = [
        (folder, module) for folders, modules in ROWS for folder in folders for module in modules
    ]
    assert ("src/", "charm.py") in documented
    assert [row for row in documented if not (ROOT / row[0] / row[1]).is_file()] == []
