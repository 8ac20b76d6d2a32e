"""Check that docs/how-to/solve-problems.md lists exactly the statuses of src/reporting/status.py."""

import ast
import re

import ops
import pytest

import model_registry
from commands import Commands
from errors import (
    InvalidRelationDataError,
    KubernetesError,
    KubernetesForbiddenError,
    ModelRegistryError,
    NoDataError,
    NoKServeError,
    NoProfilesError,
    NoStorageSecretError,
    NoSuccessError,
    NoSuchRunError,
    NotServedError,
    ParameterError,
    ProfilePendingError,
    ServedModelError,
    SourceError,
)
from kfp_ops import RunState
from reconciler.snapshot import Snapshot
from reporting import status
from tests.docs.documents import ROOT
from tests.unit.reporting import test_status

PAGE = (ROOT / "docs" / "how-to" / "solve-problems.md").read_text()
KINDS = {"active": ops.ActiveStatus, "waiting": ops.WaitingStatus, "blocked": ops.BlockedStatus}
JUJU = Commands(app="trainer")


def table(heading):
    """Return a pattern for each row of the table after the paragraph that starts with a text."""
    part = next(part for part in PAGE.split("\n\n") if heading in part.split("\n")[0])
    told = PAGE.split(part)[1].lstrip().split("\n\n")[0]
    codes = re.findall(r"^\| `(.*?)` \|", told, re.MULTILINE)
    return {code: re.escape(code).replace(re.escape("..."), ".*") for code in codes}


TOLD = {kind: table(f"## {kind.capitalize()}: ") for kind in KINDS}
FAILURES = table("Actions fail")

# Errors that a status shows; test_status has the statuses of runs, among others.
ERRORS = [
    NoDataError("kfp-api", "kfp-api", "address", is_related=True),
    NoDataError("kfp-api", "kfp-api", "data", is_related=False),
    KubernetesForbiddenError("profile fashion-mnist: no"),
    NoProfilesError("profile fashion-mnist: the cluster lacks this resource type"),
    ProfilePendingError("namespace fashion-mnist of the profile does not exist yet"),
    KubernetesError("cannot connect to Kubernetes"),
    ModelRegistryError(
        model_registry.RegistryError("object storage http://minio:9000 cannot be read")
    ),
    ModelRegistryError(
        model_registry.RegistryRefusedError(
            "object storage returned NoSuchBucket: http://minio:9000/mlpipeline", "make it"
        )
    ),
    ModelRegistryError(
        model_registry.UnsafeStoreError(
            "object storage ignores If-None-Match, and there is no Kubernetes", "use Amazon S3"
        )
    ),
    KubernetesForbiddenError("no permission to write ConfigMaps in kubeflow"),
    ModelRegistryError(
        model_registry.RegistryElsewhereError("the registry is in namespace a, runs in b")
    ),
    ModelRegistryError(
        model_registry.RegistryContentError(
            "http://minio:9000/mlpipeline: 1/manifest.json is not a JSON object"
        )
    ),
    SourceError("cannot check data-path s3://bucket/data: status 403"),
    NoKServeError("inferenceservice kubeflow--trainer: the cluster lacks this resource type"),
    NoStorageSecretError("secret mlpipeline-minio-artifact, whose keys KServe needs, is not there"),
    InvalidRelationDataError("relation kfp-api: invalid data: not YAML"),
]
ANSWERS = [
    ParameterError("limit", 0, "between 1 and 100"),
    NoSuchRunError("no run"),
    NoSuccessError("run a failed"),
    ModelRegistryError(model_registry.NoSuchModelError("none")),
    ServedModelError("the served model does not answer"),
    NotServedError("predicting an image needs a served model", is_due=False),
    NotServedError("KServe does not serve v3 yet: RevisionMissing", is_due=True),
]


def of(test, index):
    """Return the argument at an index of every case of a parametrized test."""
    return [case[index] for case in test.pytestmark[0].args[1]]


SEEN = [
    *of(test_status.test_status_shows_the_run_and_the_model, 1),
    *(
        status.problem(error, JUJU)
        for error in of(test_status.test_each_error_shows_its_remedy, 0)
        if not isinstance(error, ModelRegistryError | InvalidRelationDataError)
    ),
    *(status.problem(error, JUJU) for error in ERRORS),
    status.standby_status(Snapshot(), JUJU),
]
SHOWN = [each for each in SEEN if not each.message.startswith("first this")]


@pytest.mark.parametrize("seen", SHOWN, ids=lambda seen: seen.message[:60])
def test_every_status_has_a_row(seen):
    kind = next(kind for kind, status_type in KINDS.items() if isinstance(seen, status_type))
    assert [code for code, pattern in TOLD[kind].items() if re.fullmatch(pattern, seen.message)], (
        f"add a row to docs/how-to/solve-problems.md, {kind}: {seen.message}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_a_status_that_is_shown(kind):
    shown = [seen.message for seen in SHOWN if isinstance(seen, KINDS[kind])]
    assert TOLD[kind]
    for code, pattern in TOLD[kind].items():
        assert [text for text in shown if re.fullmatch(pattern, text)], code


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
def test_every_failure_of_an_action_has_a_row(error):
    message = status.problem(error, JUJU).message
    assert [code for code, pattern in FAILURES.items() if re.fullmatch(pattern, message)]


def test_failed_action_does_not_promise_a_retry():
    messages = [status.failure(error, JUJU) for error in ERRORS]
    assert not [message for message in messages if "retries at" in message]
    asked_again = [message for message in messages if "check, then run the action again" in message]
    assert asked_again
    for message in asked_again:
        assert [code for code, pattern in FAILURES.items() if re.fullmatch(pattern, message)]


def texts():
    """Yield the f-strings of the functions in src/reporting/status.py, as patterns."""
    tree = ast.parse((ROOT / "src" / "reporting" / "status.py").read_text())
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        nodes = list(ast.walk(function))
        formats = [node.format_spec for node in nodes if isinstance(node, ast.FormattedValue)]
        for node in nodes:
            if isinstance(node, ast.JoinedStr) and node not in formats:
                yield "".join(
                    re.escape(part.value) if isinstance(part, ast.Constant) else ".*"
                    for part in node.values
                )


def test_every_text_of_the_code_occurs_in_these_tests():
    # Otherwise the tests above would miss a new text in src/reporting/status.py.
    said = [each.message for each in SEEN]
    said += [status.problem(error, JUJU).message for error in ANSWERS]
    said += [status.failure(error, JUJU) for error in ERRORS]
    found = list(texts())
    assert len(found) > 20
    assert [text for text in found if not any(re.search(text, message) for message in said)] == []


def test_documented_states_exist():
    named = set(re.findall(r"\b[A-Z]{6,}\b", " ".join(TOLD["active"])))
    assert named <= {state.value for state in RunState}
