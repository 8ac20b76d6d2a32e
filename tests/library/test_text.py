"""Any text from outside becomes a valid program argument."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfp_ops.text import printable, single_line
from tests.fuzz import fuzz

ANY = st.text(st.characters() | st.characters(categories=["Cs", "Cc"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
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
def test_unprintable_is_replaced_and_long_text_truncated(text, limit, expected):
    assert printable(text, limit) == expected


def test_single_line_has_no_line_breaks():
    assert single_line("  a\r\n b\t\x0bc\u2028d\x00 ", 99) == "a b c d\ufffd"
    assert single_line("word " * 10, 9) == "word wor\u2026"


@fuzz(500)
@given(text=ANY, limit=st.integers(1, 50))
def test_text_has_no_nul_or_surrogate(text, limit):
    for output in (printable(text, limit), single_line(text, limit)):
        assert len(output) <= limit
        assert "\x00" not in output
        output.encode()
        assert printable(output, limit) == output
    assert "\n" not in single_line(text, limit)


def test_text_is_a_valid_program_argument():
    output = printable("\x00\ud800\U0001f600" * 100_000, 32_000)
    subprocess.run([sys.executable, "-c", "", output], check=True)
