"""Retired names do not come back: identifiers that the field's terms replaced."""

import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "examples", "lib", "sandbox", "scripts", "src", "training")
# Only names with no ordinary use in code. CONTRIBUTING.md says which words to use.
RETIRED = {
    *("Asked", "Judged", "PROBLEMS", "Problem", "RetireSchedule", "Situation", "WISHES", "Wanted"),
    *("Wish", "_against", "_alone", "announcements", "at_most", "chapter", "families", "held_out"),
    *("judging", "outlasted", "quiet_since", "supersedes", "sweep", "wish", "wishes", "withdraw"),
}


def modules():
    """Return the Python files that git may track, without environments and builds."""
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in paths if not {".venv", "build"} & set(path.parts))


def identifiers(text):
    """Return the identifiers in a module's source."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_retired_name_is_found():
    assert identifiers("def sweep(): 'no wish'\n") & RETIRED == {"sweep"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_has_no_retired_name(folder):
    paths = [path for path in modules() if path.relative_to(ROOT).parts[0] == folder]
    assert paths
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in identifiers(path.read_text()) & RETIRED | {path.stem} & RETIRED
    }
    assert not found
