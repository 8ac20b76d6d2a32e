"""Parse the documents of the repository: their blocks of code, and who runs the commands in them."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAPERS = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "lib" / "kfp_ops" / "README.md",
    ROOT / "sandbox" / "README.md",
    *sorted(ROOT.glob("examples/*/README.md")),
    *PAGES,
]
SHELL = {"shell", "sh", "bash", "console"}
# here: tests run it. ci: .ci/run runs it. cluster: a reader runs it, and tests check its words.
MARK = re.compile(r"<!-- runs: (here|ci|cluster) -->\s*")


def tracked() -> list[str]:
    """Return the files that git tracks or would track; skip the test without git."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return listed.stdout.split("\0")[:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code.

    Attributes:
        paper: the file.
        line: the first line, from 1.
        language: the text after the fence; "indented" for a block without a fence.
        text: the content.
        mark: here, ci or cluster; empty without a mark.
    """

    paper: Path
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.paper.relative_to(ROOT)}:{self.line}"


def parse(paper: Path) -> tuple[list[Block], list[str]]:
    """Return the blocks of a file, and its inline code."""
    blocks: list[Block] = []
    inline: list[str] = []
    before = None
    for token in MarkdownIt("commonmark").enable("table").parse(paper.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            marked = MARK.fullmatch(before.content) if before else None
            blocks.append(
                Block(
                    paper=paper,
                    line=token.map[0] + 1,
                    language=token.info if token.type == "fence" else "indented",
                    text=token.content,
                    mark=marked[1] if marked else "",
                )
            )
        inline += [child.content for child in token.children or [] if child.type == "code_inline"]
        before = token if token.type == "html_block" else None
    return blocks, inline


BLOCKS = [block for paper in PAPERS for block in parse(paper)[0]]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell script, as words, split at lines, pipes and the like."""
    words = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="\n;|&()")
    words.whitespace_split, words.whitespace, words.commenters = True, " \t", ""
    command: list[str] = []
    is_comment = False
    for word in [*words, "\n"]:
        is_comment = "\n" not in word and (is_comment or word.startswith("#"))
        if set(word) <= set("\n;|&()"):
            yield from [command] if command else []
            command = []
        elif not is_comment:
            command.append(word)
