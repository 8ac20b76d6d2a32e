"""`python -m training.compile [--check]`: write src/pipelines/, with the same bytes on every machine.

It writes the compiled pipelines and `code.tar`, the code bundle: the sources of the steps, the
requirements that the steps have beyond TensorFlow, pinned with the hashes in uv.lock, and the bootstrap.
Each step's command begins with the bootstrap's source, which fetches the bundle by its digest. The
bundle is not compressed, because compressed bytes differ between versions of zlib.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import hashlib
import io
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from training import pipelines

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "src" / "pipelines"
BUNDLE = "code.tar"
COMPILED = {
    "train.yaml": pipelines.train_pipeline,
    "train-workspace.yaml": pipelines.workspace_pipeline,
    "monitor.yaml": pipelines.monitor_pipeline,
    "tune.yaml": pipelines.tune_pipeline,
}
# Imports of the steps beyond the image's TensorFlow. kfp's executor needs no dependency of kfp.
REQUIRED = ("certifi", "kfp", "obstore")
# Folders of the packages in the bundle.
PACKAGES = (ROOT / "training" / "fashion_mnist", ROOT / "lib" / "model_registry")
_BOOTSTRAP = ROOT / "training" / "bootstrap.py"
# Parameter of the pipelines whose default is the digest of the bundle.
_DIGEST_PARAMETER = "code_sha256"


class _Dumper(yaml.SafeDumper):
    """Dumper that writes multi-line text as blocks, so that people can read the steps."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and not re.search(r"[ \t]\n", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def bundle() -> bytes:
    """Return the code bundle: a tar file without times, owners and modes."""
    files = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for package in PACKAGES
        for path in sorted(package.rglob("*.py"))
    }
    files["bootstrap.py"] = _BOOTSTRAP.read_bytes()
    files["requirements.txt"] = requirements(ROOT / "uv.lock").encode()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, source in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(source)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(source))
    return content.getvalue()


def bootstrap() -> str:
    """Return the bootstrap's source without its docstring, as commands of steps contain it."""
    return _BOOTSTRAP.read_text(encoding="utf-8").split('"""', 2)[2].lstrip()


@functools.cache
def requirements(lock: Path) -> str:
    """Return the requirements with all of their hashes in the lock file, for `pip --require-hashes`.

    Args:
        lock: path of uv.lock.
    """
    packages = _read_lock(lock)
    lines: list[str] = []
    for name in REQUIRED:
        for package in packages:
            if package["name"] == name:
                files = [*package.get("wheels", []), package.get("sdist", {})]
                hashes = sorted(file["hash"] for file in files if file)
                marks = package.get("markers", "")
                lines.append(
                    f"{name}=={package['version']}{marks} "
                    + " ".join(f"--hash={file_hash}" for file_hash in hashes)
                )
    return "\n".join(lines)


def _read_lock(lock: Path) -> list[dict[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyright: ignore[reportMissingImports] - not installed on later versions
    packages = tomllib.loads(lock.read_text())["package"]
    for package in packages:
        marks = package.get("resolution-markers", [])
        old = [mark for mark in marks if "< '3.11'" in mark]
        if marks:
            package["markers"] = f" ; python_version {'<' if old else '>='} '3.11'"
    return packages


def compiled(build: Callable[[], Any]) -> str:
    """Return a pipeline's YAML as committed.

    Args:
        build: function that returns the pipeline.
    """
    # Compile in a new thread: KFP inspects all callers for each setting of a step.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        pipeline = thread.submit(build).result()
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        compiler.Compiler().compile(pipeline, file.name)
        documents = list(yaml.safe_load_all(Path(file.name).read_text()))
    spec = documents[0]
    digest = hashlib.sha256(bundle()).hexdigest()
    spec["root"]["inputDefinitions"]["parameters"][_DIGEST_PARAMETER]["defaultValue"] = digest
    arguments = [
        f"{{{{$.inputs.parameters['{name}']}}}}"
        for name in ("code", _DIGEST_PARAMETER, "s3_endpoint")
    ]
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor["container"]
        if "command" not in container:
            continue  # the server itself creates and deletes volumes
        container["command"] = ["python3", "-c", bootstrap(), *arguments, *container["command"]]
    header = "# Compiled by: python -m training.compile\n"
    return header + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=True, width=100)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with --check compare them.

    Args:
        arguments: command line, None for that of the process.

    Returns:
        exit status: 1 if files differ.
    """
    parser = argparse.ArgumentParser(prog="python -m training.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    options = parser.parse_args(arguments)
    files = {name: compiled(build).encode() for name, build in COMPILED.items()}
    files[BUNDLE] = bundle()
    for name, content in files.items():
        path = TARGET / name
        if options.check:
            if not path.exists() or path.read_bytes() != content:
                print(f"{path} is out of date; run: python -m training.compile", file=sys.stderr)
                return 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
