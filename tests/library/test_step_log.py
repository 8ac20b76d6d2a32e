"""Messages of failed steps in logs as Kubeflow Pipelines 2.15 writes them."""

import json
import os
from pathlib import Path

import pytest

from kfp_ops.kubernetes._step_log import find_reason

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
TRANSCRIPTS = Path(os.environ.get("KFP_TRANSCRIPTS", SHARED / "kfp-transcripts" / "2.15.0"))

STARTED = """\
time="2026-11-28T21:06:58.102Z" level=info msg="capturing logs" argo=true
I1128 21:06:58.123456      14 env.go:155] cannot find launcher configmap: name="kfp-launcher"
[KFP Executor 2026-11-28 21:07:02,137 INFO]: Looking for component `train` in --component_module_path
[KFP Executor 2026-11-28 21:07:02,138 INFO]: Got executor_input:
{
    "inputs": {
        "parameterValues": {"recipe": "quick"}
    }
}
"""
# Of glog, Argo's emissary and cobra, in this order.
ENDED = """\
I1128 21:07:12.100000      14 launcher_v2.go:193] publish success.
F1128 21:07:12.123456      14 main.go:58] failed to execute component: exit status 1
time="2026-11-28T21:07:12.311Z" level=info msg="sub-process exited" argo=true error="exit status 1"
Error: exit status 1
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "/usr/local/lib/python3.11/site-packages/kfp/dsl/executor.py", line 406, in execute
    result = self.func(**func_kwargs)
             ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/tmp/tmp.x/ephemeral_component.py", line 12, in ingest
    raise DataError("no such bucket")
"""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f"downloading\n{TRACEBACK}DataError: no such bucket\n", "DataError: no such bucket"),
        (
            f"{TRACEBACK}OSError: early\n\nDuring handling of the above exception, another "
            f"exception occurred:\n\n{TRACEBACK}DataError: late\n",
            "DataError: late",
        ),
        (
            f"{TRACEBACK}DataError: anomalies in the data:\n  class Bag is missing\n  class Coat, too\n",
            "DataError: anomalies in the data: class Bag is missing class Coat, too",
        ),
        ("epoch 1\nno files under s3://a/b\n", "no files under s3://a/b"),
        (
            "ERROR: No matching distribution found for kfp==9\n[notice] A new release of pip is out\n",
            "ERROR: No matching distribution found for kfp==9",
        ),
        (
            "cannot read it\n"
            "2026-11-28 21:07:03.000001: I tensorflow/core/util/port.cc:153] oneDNN is on.\n"
            "E0000 00:00:1732.123456      17 cuda_dnn.cc:8310] Unable to register cuDNN factory\n",
            "cannot read it",
        ),
        ("  1/10 ...\r 10/10 loss: nan\n", "10/10 loss: nan"),
        # No message of the step: only its exit code is known.
        ("", "failed to execute component: exit status 1"),
    ],
)
def test_step_message_is_found_among_platform_messages(message, reason):
    assert find_reason(STARTED + message + ENDED) == reason


def test_launcher_failure_precedes_messages_of_a_successful_step():
    log = f"""{STARTED}mean 17.5
I1128 21:07:12.100000      14 launcher_v2.go:998] ExecutorOutput: {{
  "parameterValues": {{}}
}}
F1128 21:07:12.123456      14 main.go:58] failed to upload output artifacts: NoSuchBucket
goroutine 1 [running]:
Error: exit status 1
"""
    assert find_reason(log) == "failed to upload output artifacts: NoSuchBucket"


def test_killed_step_is_reported_as_killed():
    log = (
        STARTED
        + "epoch 3\n"
        + ENDED.replace("component: exit status 1", "component: signal: killed")
    )
    assert find_reason(log) == "failed to execute component: signal: killed"


def test_driver_and_argo_errors_are_found_without_a_step_log():
    driver = "F1128 21:07:12.123456       1 main.go:110] KFP driver: driver.Container failed: x\n"
    assert find_reason(driver + "Error: exit status 1\n") == (
        "KFP driver: driver.Container failed: x"
    )
    argo = (
        'time="2026-11-28T21:07:12.311Z" level=info msg="Saving logs"\n'
        'time="2026-11-28T21:07:12.311Z" level=error msg="executor error: no bucket"\n'
    )
    assert find_reason(argo) == "executor error: no bucket"


def test_long_messages_keep_their_beginning_and_their_end():
    reason = find_reason(f"{TRACEBACK}DataError: {'x' * 5000} and that was it\n{ENDED}")
    assert reason.startswith("DataError: xxx")
    assert reason.endswith("and that was it")
    assert len(reason) <= 300


@pytest.mark.parametrize("log", ["", "\n", "Error: exit status 1\n", STARTED])
def test_log_without_a_reason_returns_none(log):
    assert find_reason(log) == ""


def _recorded_logs():
    for path in sorted(TRANSCRIPTS.glob("*.json")):
        for exchange in json.loads(path.read_text()).get("exchanges", ()):
            text = exchange["response"].get("text", "")
            if "launcher_v2.go" in text and "[KFP Executor" in text:
                yield text


@pytest.mark.skipif(not TRANSCRIPTS.exists(), reason="no transcripts of a real server")
def test_recorded_logs_give_the_steps_message():
    reasons = {find_reason(log) for log in _recorded_logs()}
    assert reasons
    assert all(reason.startswith(("mean ", "wrote ")) for reason in reasons), reasons
