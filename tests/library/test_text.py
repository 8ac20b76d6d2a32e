"""Text from outside can be an argument of a program, whatever it is."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfp_ops.text import printable, single_line
from tests.fuzz import fuzz

ANY = st.text(st.characters() | st.characters(categories=["Cs", "Cc"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "limit", "told"),
    [
        ("", 5, ""),
        ("plain \u2603\n\tlines", 99, "plain \u2603\n\tlines"),
        ("a\x00b", 9, "a\ufffdb"),
        ("a\x1b\x00\x9f\ud800\udfffb", 9, "a\ufffdb"),
        ("a\r\nb\x7f", 9, "a\ufffd\nb\ufffd"),
        ("12345", 5, "12345"),
        ("123456", 5, "1234\u2026"),
    ],
)
def test_what_cannot_be_shown_is_marked_and_what_is_long_is_cut(text, limit, told):
    assert printable(text, limit) == told


def test_a_line_is_one():
    assert single_line("  a\r\n b\t\x0bc\u2028d\x00 ", 99) == "a b c d\ufffd"
    assert single_line("word " * 10, 9) == "word wor\u2026"


@fuzz(500)
@given(text=ANY, limit=st.integers(1, 50))
def test_nothing_that_ends_a_tool_is_left(text, limit):
    for told in (printable(text, limit), single_line(text, limit)):
        assert len(told) <= limit
        assert "\x00" not in told
        told.encode()
        assert printable(told, limit) == told
    assert "\n" not in single_line(text, limit)


def test_a_program_takes_it_as_an_argument():
    told = printable("\x00\ud800\U0001f600" * 100_000, 32_000)
    subprocess.run([sys.executable, "-c", "", told], check=True)
