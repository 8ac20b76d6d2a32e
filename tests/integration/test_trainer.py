"""The scenarios in a real model, one after another."""

import pytest
import scenarios

pytestmark = [pytest.mark.integration, pytest.mark.abort_on_fail]


def test_deployment_becomes_active(deployed, kit):
    scenarios.deployment_becomes_active(deployed, kit)


def test_train_action_submits_a_run(deployed):
    scenarios.train_action_submits_a_run(deployed)


def test_changed_option_submits_one_run(deployed):
    scenarios.changed_option_submits_one_run(deployed)


def test_one_of_two_units_is_leader(deployed):
    scenarios.one_of_two_units_is_leader(deployed)


def test_leader_pod_is_replaced(deployed):
    scenarios.leader_pod_is_replaced(deployed)


def test_refresh_submits_no_run(deployed, kit):
    scenarios.refresh_submits_no_run(deployed, kit)


def test_application_is_removed(deployed):
    scenarios.application_is_removed(deployed)
