"""Which modules may import which, as in docs/explanation/architecture.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules that every module of the charm may import.
BASE = {"commands", "config", "errors", "formatting", "kfp_ops", "model_registry", "naming"}
# Modules and packages at the top of src/, and what each may import of this project.
LAYERS = {
    "naming": set(),
    "formatting": set(),
    "commands": set(),
    "errors": {"commands", "kfp_ops", "model_registry"},
    "options": {"kfp_ops"},
    "config": {"errors", "kfp_ops", "model_registry", "options"},
    "k8s": {"errors", "kfp_ops", "model_registry"},
    "model_store": {"kfp_ops", "model_registry"},
    "workload": {"errors", "kfp_ops"},
    "reconciler": {*BASE, "k8s", "model_store"},
    "reporting": {*BASE, "k8s", "reconciler", "workload"},
    "actions": {*BASE, "k8s", "reconciler", "reporting"},
    "charm": {*BASE, "actions", "k8s", "reconciler", "reporting", "workload"},
}
# The project's other folders, and what each may import of this project.
ROOMS = {
    "lib/model_registry": set(),
    "lib/kfp_ops": set(),
    "training/fashion_mnist": {"model_registry"},
    "training": {"fashion_mnist", "model_registry"},
    "sandbox": set(),
}
# Modules and packages of fashion_mnist, and what each may import of it.
TRAINING = {
    "errors": set(),
    "workspace": set(),
    "kubernetes": set(),
    "storage": {"kubernetes"},
    "data": {"storage"},
    "model": {"errors", "storage"},
    "evaluation": {"model"},
    "reports": {"evaluation"},
    "distributed": {"errors", "kubernetes", "model", "storage"},
    "steps": {"data", "distributed", "errors", "evaluation", "model", "reports", "storage"},
}
OURS = {*LAYERS, "fashion_mnist", "kfp_ops", "model_registry", "sandbox", "training"}


def imported(path):
    """Return the top-level names that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def modules_of(path):
    """Return the modules of a package, or the module itself."""
    return [path] if path.suffix == ".py" else list(path.rglob("*.py"))


def test_every_module_of_the_charm_has_a_layer():
    modules = {path.stem for path in (ROOT / "src").iterdir() if modules_of(path)}
    assert modules == LAYERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_charm_layer_imports_only_lower_layers(name):
    package = ROOT / "src" / name
    for path in modules_of(package if package.is_dir() else package.with_suffix(".py")):
        forbidden = (set(imported(path)) & OURS) - LAYERS[name] - {name}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("room", ROOMS)
def test_package_imports_only_lower_packages(room):
    folder = ROOT / room
    inner = [other for other in ROOMS if other.startswith(f"{room}/")]
    for path in folder.rglob("*.py"):
        if any(path.is_relative_to(ROOT / other) for other in inner) or "tests" in path.parts:
            continue
        forbidden = (set(imported(path)) & OURS) - ROOMS[room] - {folder.name}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


def imported_from_training(path):
    """Return the modules and packages of fashion_mnist that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "fashion_mnist":
            yield from (alias.name for alias in node.names if not alias.name.isupper())
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("fashion_mnist."):
            yield node.module.split(".")[1]


def test_every_module_of_the_training_has_a_layer():
    folder = ROOT / "training" / "fashion_mnist"
    modules = {path.stem for path in folder.iterdir() if modules_of(path)}
    assert modules - {"__init__"} == TRAINING.keys()


@pytest.mark.parametrize("name", TRAINING)
def test_training_layer_imports_only_lower_layers(name):
    package = ROOT / "training" / "fashion_mnist" / name
    for path in modules_of(package if package.is_dir() else package.with_suffix(".py")):
        forbidden = set(imported_from_training(path)) - TRAINING[name] - {name}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


def test_charm_imports_no_training_code():
    names = {name for path in (ROOT / "src").rglob("*.py") for name in imported(path)}
    assert not names & {"kfp", "moto", "numpy", "tensorflow"}


@pytest.mark.parametrize(
    ("package", "importers"),
    [
        ("httpx", {"_transport.py", "kubernetes/_cluster.py"}),
        ("cronsim", {"cron.py"}),
        ("lightkube", {f"kubernetes/_{name}.py" for name in ("cluster", "issues", "profile")}),
    ],
)
def test_slow_package_is_imported_only_by_its_owners(package, importers):
    library = ROOT / "lib" / "kfp_ops"
    paths = {path for path in library.rglob("*.py") if package in set(imported(path))}
    assert {str(path.relative_to(library)) for path in paths} == importers
