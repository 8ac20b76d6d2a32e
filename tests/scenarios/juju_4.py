"""`juju` and `kubectl` of a model that is a file: enough of Juju 4 for the scenarios.

What takes Juju a moment takes it some questions: a killed pod's unit is still told as it was, a
refreshed one has its old charm, and a change's run is not there at once.
"""

import json
import os
import sys
from pathlib import Path

SLOW = 3
PATH = Path(os.environ["MODEL"])
EMPTY = {"applications": {}, "runs": [], "pending": 0, "models": [], "asked": []}


def main(program, *words):
    model = json.loads(PATH.read_text()) if PATH.exists() else EMPTY
    model["asked"].append([program, *words])
    words = [word for word in words if word != f"--model={os.environ.get('JUJU_MODEL')}"]
    while "--model" in words:
        at = words.index("--model")
        del words[at : at + 2]
    code = globals()[f"{program}_{words[0].replace('-', '_')}"](model, *words[1:]) or 0
    PATH.write_text(json.dumps(model))
    return code


def juju_version(model):
    print("4.0.15-genericlinux-amd64")


def juju_add_model(model, *words):
    model["models"] += [word for word in words if not word.startswith("-")]


def juju_destroy_model(model, name, *words):
    model["models"].remove(name)


def juju_deploy(model, path, app, *words):
    config = json.loads(Path(words[words.index("--config") + 1]).read_text())
    application = {"path": path, "trust": "--trust" in words, "config": config[app], "revision": 0}
    model["applications"][app] = {**application, "related": [], "units": 1, "old": 0, "pods": {}}
    assert Path(path).name.endswith(".charm")
    if app == "trainer":
        assert "pushgateway-image=docker.io/prom/pushgateway:v1.11.1" in words
        _scale(model, 1)


def juju_integrate(model, one, other):
    model["applications"]["trainer"]["related"].append([one, other])
    if len(model["applications"]["trainer"]["related"]) == 2:
        model["pending"] = SLOW


def juju_config(model, app, *pairs):
    model["applications"][app]["config"] |= dict(pair.split("=") for pair in pairs)
    model["pending"] = SLOW


def juju_scale_application(model, app, units):
    assert app == "trainer"
    _scale(model, int(units))


def juju_refresh(model, app, *words):
    application = model["applications"][app]
    assert words[0] == "--path"
    application |= {"revision": application["revision"] + 1, "old": SLOW}


def juju_remove_application(model, app, *words):
    assert words == ("--no-prompt",)
    del model["applications"][app]


def juju_status(model, *words):
    applications = {}
    for app, application in model["applications"].items():
        units = {}
        for number in range(application["units"]):
            application["pods"].setdefault(f"{app}-{number}", {"uid": 0, "gone": 0})
            settled = not model["pending"]
            status = {"current": "active" if settled else "waiting", "message": ""}
            unit = {"workload-status": status, "juju-status": {"current": "idle"}}
            if application["old"]:
                unit["upgrading-from"] = f"local:{app}-{application['revision'] - 1}"
            units[f"{app}/{number}"] = unit | ({"leader": True} if number == 0 else {})
        application["old"] = max(0, application["old"] - 1)
        applications[app] = {"charm-rev": application["revision"], "units": units}
    _go_on(model)
    print(json.dumps({"applications": applications}))


def juju_run(model, unit, action, *words):
    _go_on(model)
    params = dict(word.split("=") for word in words if not word.startswith("--"))
    task = {"id": "1", "unit": unit, "status": "completed", "results": {}}
    if action == "list-runs":
        task["results"]["runs"] = "\n".join(f"run SUCCEEDED {run}" for run in model["runs"])
    elif action == "get-run":
        task["results"]["state"] = "RUNNING" if model["pending"] else "SUCCEEDED"
    elif params.get("epochs") == "-1":
        task |= {"status": "failed", "message": "epochs must be 0 to 1000, not -1"}
    else:
        _submit(model)
        task["results"] = {"run-id": model["runs"][-1], "state": "SUCCEEDED"}
    print(json.dumps({unit: task}))
    if task["status"] == "failed":
        print('ERROR the following task failed:\n - id "1"', file=sys.stderr)
        return 1
    return 0


def kubectl_get(model, kind, pod, *words):
    pod_ = model["applications"]["trainer"]["pods"][pod]
    print("" if pod_["gone"] else f"uid-{pod}-{pod_['uid']}", end="")
    pod_["gone"] = max(0, pod_["gone"] - 1)


def kubectl_delete(model, kind, pod, *words):
    pod_ = model["applications"]["trainer"]["pods"][pod]
    pod_ |= {"uid": pod_["uid"] + 1, "gone": SLOW}


def _go_on(model):
    """Turn a configuration change into a run."""
    if model["pending"]:
        model["pending"] -= 1
        if not model["pending"]:
            _submit(model)


def _submit(model):
    model["runs"].append(f"id-{len(model['runs'])}")


def _scale(model, units):
    model["applications"]["trainer"]["units"] = units


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[0]).name, *sys.argv[1:]))
