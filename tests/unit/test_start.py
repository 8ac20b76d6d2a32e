"""Imports at the charm's start, which every hook pays for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules whose import takes longer than an event without requests.
LATER = (
    *("httpcore", "httpx", "lightkube", "obstore", "png", "prometheus_client"),
    *("kfp_ops._transport", "model_registry.registry", "model_registry.schema", "model_store"),
    *("actions", "reconciler.context", "reconciler.reconcile"),
)
PROGRAM = """
import sys
import charm
{then}
print(*sorted(name for name in {later} if name in sys.modules))
print(*sorted({{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names))
"""
IDLE = """
import ops.testing
context = ops.testing.Context(charm.FashionMnistTrainerCharm, app_name="trainer")
container = ops.testing.Container("pushgateway", can_connect=False)
state = ops.testing.State(leader=True, containers={container})
context.run(context.on.update_status(), state)
"""


def imported_modules(then=""):
    """Return the imported modules of LATER, and all packages outside the standard library."""
    program = PROGRAM.format(then=then, later=LATER)
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'lib'}", "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=paths,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lazy_modules, packages = process.stdout.splitlines()
    return lazy_modules.split(), set(packages.split())


@pytest.mark.parametrize("then", ["", IDLE], ids=["start", "idle"])
def test_event_without_requests_imports_no_client(then):
    lazy_modules, _ = imported_modules(then)
    assert lazy_modules == []


def test_start_imports_few_packages():
    _, packages = imported_modules()
    own_modules = {path.stem for path in (ROOT / "src").iterdir()} | {
        "kfp_ops",
        "model_registry",
        "__main__",
    }
    # Debian's Python has a sitecustomize.
    own_modules |= {"sitecustomize"}
    packages_ = {name for name in packages - own_modules if not name.startswith(("_", "cython"))}
    # The second line comes with ops.
    assert packages_ <= {
        *("cronsim", "ops", "yaml"),
        *("importlib_metadata", "opentelemetry", "typing_extensions", "websocket", "zipp"),
    }
