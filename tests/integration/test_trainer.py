"""The scenarios in a real model, one after another."""

import pytest
import scenarios

pytestmark = [pytest.mark.integration, pytest.mark.abort_on_fail]


def test_is_deployed(there, kit):
    scenarios.is_deployed(there, kit)


def test_trains_when_asked(there):
    scenarios.trains_when_asked(there)


def test_a_change_is_one_run(there):
    scenarios.a_change_is_one_run(there)


def test_one_of_two_leads(there):
    scenarios.one_of_two_leads(there)


def test_the_leaders_pod_may_die(there):
    scenarios.the_leaders_pod_may_die(there)


def test_a_refresh_trains_nothing(there, kit):
    scenarios.a_refresh_trains_nothing(there, kit)


def test_is_removed(there):
    scenarios.is_removed(there)
