"""Why a step failed, from its log.

A step's log in Kubeflow Pipelines contains more than the step's own output: lines of the launcher and
the driver in klog's format, of kfp's executor with the inputs as JSON, and of Argo. After a failure, it
ends with three lines that do not name the cause:

    F1128 21:07:12.123456       1 main.go:58] failed to execute component: exit status 1
    time="2026-11-28T21:07:12.311Z" level=info msg="sub-process exited" argo=true error="<nil>"
    Error: exit status 1
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# https://github.com/golang/glog: severity, date, time, thread, file and line.
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d+\.\d+ +\d+ ([\w.-]+):\d+\] ?(.*)")
_TENSORFLOW = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] ")
_EXECUTOR = re.compile(r"\[KFP Executor [^\]]*\]: ?(.*)")
_ARGO = re.compile(r'time="[^"]*" level=(\w+) msg=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_EXIT = re.compile(r"Error: exit status \d+$")
_NOTICE = re.compile(r"\[notice\] ")
# The launcher reports how the step's process ended; for these, the step's own output is better.
_STEP_ENDED = re.compile(r"(^|: )(exit status \d+|signal: (?!killed).*)$")
_TRACEBACK = "Traceback (most recent call last):"
_CHARACTERS = 300


def find_reason(log: str) -> str:
    """Return why a step failed, in one line of at most 300 characters; empty if the log has no reason.

    The reason is the message of the exception that ended the step, or else its last line. If the step
    itself did not fail, it is the message of the launcher, the driver or Argo.
    """
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in log.split("\n")]
    own, launcher, argo = _sort(lines)
    if launcher and not _STEP_ENDED.search(launcher):
        return _short([launcher])
    found = _exception(own) or own[-1:] or ([launcher] if launcher else argo[-1:])
    return _short(found)


def _sort(lines: Iterable[str]) -> tuple[list[str], str, list[str]]:
    """Split a log into the step's own lines, the launcher's fatal error, and Argo's errors."""
    own: list[str] = []
    argo: list[str] = []
    launcher = ""
    in_json = False
    for line in lines:
        if klog := _KLOG.match(line):
            severity, file, message = klog.groups()
            in_json = message.endswith("{")
            # TensorFlow writes this format too.
            if severity == "F" and file.endswith(".go"):
                launcher = message
        elif executor := _EXECUTOR.match(line):
            in_json = executor.group(1).endswith("executor_input:")
        elif entry := _ARGO.match(line):
            in_json = False
            level, quoted, bare = entry.groups()
            if level in ("error", "fatal"):
                argo.append(quoted or bare)
        elif in_json:
            in_json = line != "}"
        # A Go stack trace follows the launcher's fatal error.
        elif line.strip() and not launcher and not _is_noise(line):
            own.append(line)
    return own, launcher, argo


def _is_noise(line: str) -> bool:
    return any(pattern.match(line) for pattern in (_EXIT, _TENSORFLOW, _NOTICE))


def _exception(lines: list[str]) -> list[str]:
    """Return the lines of the last exception's message, without its stack frames."""
    starts = [number for number, line in enumerate(lines) if line.strip() == _TRACEBACK]
    after = lines[starts[-1] + 1 :] if starts else []
    frames = next((n for n, line in enumerate(after) if not line.startswith(" ")), len(after))
    return after[frames:]


def _short(lines: list[str]) -> str:
    """Join lines; if the text is too long, keep its beginning and its end."""
    text = " ".join(" ".join(lines).split())
    if len(text) <= _CHARACTERS:
        return text
    half = _CHARACTERS // 2
    return f"{text[: half - 3]} ... {text[-half + 2 :]}"
