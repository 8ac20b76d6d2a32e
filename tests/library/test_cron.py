"""Schedules as operators write them."""

import pytest

from kfp_ops.cron import ALIASES, six_fields


@pytest.mark.parametrize(
    ("written", "six"),
    [
        ("0 3 * * 0", "0 0 3 * * 0"),
        ("  */15   8-18 * *  MON-FRI ", "0 */15 8-18 * * MON-FRI"),
        ("@hourly", "0 0 * * * *"),
        (" @daily ", "0 0 0 * * *"),
        ("weekly", "0 0 0 * * 0"),
        ("@weekly", "0 0 0 * * 0"),
        (" daily", "0 0 0 * * *"),
        ("@monthly", "0 0 0 1 * *"),
        ("@yearly", "0 0 0 1 1 *"),
        ("0 0 */7 * *", "0 0 0 */7 * *"),
        ("0 0 * * */7", "0 0 0 * * */7"),
        ("0 0 * * 0-5/7", "0 0 0 * * 0-5/7"),
        ("0 0 * * 0-5/7,06", "0 0 0 * * 0-5/7,06"),
        ("7 7 7 7 *", "0 7 7 7 7 *"),
        ("0 0 1 jan,JUL *", "0 0 0 1 jan,JUL *"),
    ],
)
def test_cron_is_extended_with_seconds(written, six):
    assert six_fields(written) == six


def test_equivalent_cron_expressions_are_the_same_schedule():
    assert ALIASES["annually"] == ALIASES["yearly"]
    assert ALIASES["midnight"] == ALIASES["daily"]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("* * * *", "not five fields"),
        ("0 0 3 * * 0", "not five fields"),
        ("@never", "not five fields"),
        ("@@daily", "not five fields"),
        ("Daily", "not five fields"),
        ("@Daily", "not five fields"),
        ("0 0 L * *", "not five fields"),
        ("0 0 ? * *", "not five fields"),
        ("0 0 * * 1#2", "not five fields"),
        ("0 0 * JANUARY *", "not five fields"),
        ("0 0 * * 7", "Sunday is 0"),
        ("0 0 * * 5-7", "Sunday is 0"),
        ("0 0 * * 1,7", "Sunday is 0"),
        ("0 3 * * 07", "Sunday is 0"),
        ("0 3 * * 1-007", "Sunday is 0"),
        ("0 3 * * */2,7", "Sunday is 0"),
        ("0 3 * * \u0661", "not five fields"),
        ("60 * * * *", "never"),
        ("0 0 30 2 *", "never"),
    ],
)
def test_ambiguous_cron_expression_is_rejected(written, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        six_fields(written)
