"""The scenarios in a real model, one after another."""

import pytest
import scenarios

pytestmark = [pytest.mark.integration, pytest.mark.abort_on_fail]


def test_is_deployed(deployed, kit):
    scenarios.is_deployed(deployed, kit)


def test_trains_when_asked(deployed):
    scenarios.trains_when_asked(deployed)


def test_a_change_is_one_run(deployed):
    scenarios.a_change_is_one_run(deployed)


def test_one_of_two_leads(deployed):
    scenarios.one_of_two_leads(deployed)


def test_the_leaders_pod_may_die(deployed):
    scenarios.the_leaders_pod_may_die(deployed)


def test_a_refresh_trains_nothing(deployed, kit):
    scenarios.a_refresh_trains_nothing(deployed, kit)


def test_is_removed(deployed):
    scenarios.is_removed(deployed)
