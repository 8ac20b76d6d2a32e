"""docs/how-to/solve-problems.md against the statuses in src/reporting/status.py: all of them, and no others."""

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
    """The first column of the table under the heading with these words: a pattern for each row."""
    part = next(part for part in PAGE.split("\n\n") if heading in part.split("\n")[0])
    told = PAGE.split(part)[1].lstrip().split("\n\n")[0]
    codes = re.findall(r"^\| `(.*?)` \|", told, re.MULTILINE)
    return {code: re.escape(code).replace(re.escape("..."), ".*") for code in codes}


TOLD = {kind: table(f"## {kind.capitalize()}: ") for kind in KINDS}
FAILURES = table("Actions fail")

# Each problem that a status tells; test_status has those that are told of runs and more.
ERRORS = [
    NoDataError("kfp-api", "kfp-api", "address", is_related=True),
    NoDataError("kfp-api", "kfp-api", "data", is_related=False),
    KubernetesForbiddenError("profile fashion-mnist: no"),
    NoProfilesError("profile fashion-mnist: this cluster has no such kind"),
    ProfilePendingError("namespace fashion-mnist of the profile is not there yet"),
    KubernetesError("no way to Kubernetes"),
    ModelRegistryError(
        model_registry.RegistryError("object storage http://minio:9000 cannot be read")
    ),
    ModelRegistryError(
        model_registry.RegistryRefusedError(
            "object storage answers NoSuchBucket: http://minio:9000/mlpipeline", "make it"
        )
    ),
    ModelRegistryError(
        model_registry.UnsafeStoreError(
            "object storage ignores If-None-Match, and there is no Kubernetes", "use Amazon S3"
        )
    ),
    KubernetesForbiddenError("S3 has no conditional writes: write ConfigMaps in kubeflow"),
    ModelRegistryError(
        model_registry.RegistryElsewhereError("the registry is in namespace a, runs in b")
    ),
    ModelRegistryError(
        model_registry.RegistryContentError(
            "http://minio:9000/mlpipeline: 1/manifest.json is not a JSON object"
        )
    ),
    SourceError("data-path s3://bucket/data cannot be looked at: status 403"),
    NoKServeError("inferenceservice kubeflow--trainer: this cluster has no such kind"),
    NoStorageSecretError("secret mlpipeline-minio-artifact, whose keys KServe needs, is not there"),
    InvalidRelationDataError("relation kfp-api: its data is wrong: not YAML"),
]
ANSWERS = [
    ParameterError("limit", 0, "between 1 and 100"),
    NoSuchRunError("no run"),
    NoSuccessError("run a failed"),
    ModelRegistryError(model_registry.NoSuchModelError("none")),
    ServedModelError("the served model does not answer"),
    NotServedError("no model is served that can be asked about an image", is_due=False),
    NotServedError("KServe does not serve v3 yet: RevisionMissing", is_due=True),
]


def of(test, index):
    """What a parametrized test of test_status is given at this place, in each of its cases."""
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
def test_each_status_is_told_with_its_meaning(seen):
    kind = next(kind for kind, status_type in KINDS.items() if isinstance(seen, status_type))
    assert [code for code, pattern in TOLD[kind].items() if re.fullmatch(pattern, seen.message)], (
        f"add a row to docs/how-to/solve-problems.md, {kind}: {seen.message}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_status_is_told_that_is_never_shown(kind):
    shown = [seen.message for seen in SHOWN if isinstance(seen, KINDS[kind])]
    assert TOLD[kind]
    for code, pattern in TOLD[kind].items():
        assert [text for text in shown if re.fullmatch(pattern, text)], code


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
def test_what_only_actions_say_is_told_too(error):
    message = status.problem(error, JUJU).message
    assert [code for code, pattern in FAILURES.items() if re.fullmatch(pattern, message)]


def test_an_action_that_nobody_tries_again_says_so():
    messages = [status.failure(error, JUJU) for error in ERRORS]
    assert not [message for message in messages if "retries at" in message]
    asked_again = [message for message in messages if "check, then run the action again" in message]
    assert asked_again
    for message in asked_again:
        assert [code for code, pattern in FAILURES.items() if re.fullmatch(pattern, message)]


def texts():
    """The f-strings of the functions in src/reporting/status.py, each as a pattern."""
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


def test_all_that_the_code_can_say_is_seen_here():
    # Else what is new in src/reporting/status.py would not be asked for above.
    said = [each.message for each in SEEN]
    said += [status.problem(error, JUJU).message for error in ANSWERS]
    said += [status.failure(error, JUJU) for error in ERRORS]
    found = list(texts())
    assert len(found) > 20
    assert [text for text in found if not any(re.search(text, message) for message in said)] == []


def test_the_states_that_are_named_are_states():
    named = set(re.findall(r"\b[A-Z]{6,}\b", " ".join(TOLD["active"])))
    assert named <= {state.value for state in RunState}
