#!/usr/bin/python3 -Es
"""All hook tools in one program: state is in the JSON file $HOOK_STATE, with each call."""

import json
import os
import sys
from pathlib import Path

path = Path(os.environ["HOOK_STATE"])
state = json.loads(path.read_text())
tool, arguments = Path(sys.argv[0]).name, sys.argv[1:]
state["calls"].append([tool, *arguments])
words = [word for word in arguments if not word.startswith("-")]
answer = None
if tool == "config-get":
    answer = state["config"]
elif tool == "is-leader":
    answer = state["leader"]
elif tool == "relation-ids":
    answer = [r for r in state["relations"] if r.startswith(words[-1] + ":")]
elif tool == "relation-list":
    relation = state["relations"][arguments[arguments.index("-r") + 1]]
    answer = relation["app"] if "--app" in arguments else [relation["app"] + "/0"]
elif tool == "relation-get":
    relation = state["relations"][arguments[arguments.index("-r") + 1]]
    answer = relation["ours" if words[-1].startswith("trainer") else "theirs"]
    if "--app" not in arguments:
        answer = {}
elif tool == "relation-set":
    relation = state["relations"][arguments[arguments.index("-r") + 1]]
    import yaml

    relation["ours"] |= yaml.safe_load(sys.stdin.read()) or {}
elif tool == "status-set":
    state["status"] = words[-2:]
elif tool == "status-get":
    answer = {"status": "unknown", "message": "", "status-data": {}}
elif tool == "goal-state":
    unit = {"status": "active", "since": "2026-01-01 00:00:00Z"}
    answer = {"units": {"trainer/0": unit}, "relations": {}}
elif tool == "action-get":
    answer = state["params"]
elif tool == "action-set":
    state["results"] |= dict(word.split("=", 1) for word in words)
elif tool == "action-fail":
    state["failure"] = words[-1]
path.write_text(json.dumps(state))
if answer is not None:
    print(json.dumps(answer))
