"""`python -m training.compile [--check]`: write src/pipelines/, the same bytes on every machine.

Two things are done to what the SDK compiles. The archive with the package, which would carry times
and owners of files, is replaced by one that does not. And a bootstrap goes before each step's
command: it sees whether the image has what the step needs and, only where it has not, installs the
pinned packages, each held to the hashes in uv.lock.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from training import components, pipelines

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "src" / "pipelines"
COMPILED = {
    "train.yaml": pipelines.train_pipeline,
    "train-workspace.yaml": pipelines.workspace_pipeline,
    "monitor.yaml": pipelines.monitor_pipeline,
    "tune.yaml": pipelines.tune_pipeline,
}
# What steps import beyond the image's TensorFlow. kfp's executor needs nothing that kfp depends on.
NEEDED = ("kfp", "obstore")
_ARCHIVE = re.compile(r"(__KFP_EMBEDDED_ARCHIVE_B64 = ')[A-Za-z0-9+/=]+(')")

_BOOTSTRAP = """\
if ! _KFP_RUNTIME=true python3 -c 'import kfp, obstore' 2>/dev/null; then
  site=$(mktemp -d)
  cat > "$site/requirements.txt" <<'REQUIREMENTS'
{requirements}
REQUIREMENTS
  if ! python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \\
      --target "$site" --requirement "$site/requirements.txt"; then
    echo "the image lacks kfp and obstore and they cannot be installed: put them into an image" \\
      "of yours and name it with: juju config trainer training-image=IMAGE" >&2
    exit 1
  fi
  export PYTHONPATH="$site${{PYTHONPATH:+:$PYTHONPATH}}"
fi
exec "$0" "$@"
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of many lines as blocks, so that people can read the steps."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and not re.search(r"[ \t]\n", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def archive(package: Path) -> str:
    """The package's sources as base64 of a tar.gz, without times, owners and modes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(package.glob("*.py")):
            member = tarfile.TarInfo(f"{package.name}/{path.name}")
            member.size = path.stat().st_size
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(path.read_bytes()))
    compressed = gzip.compress(content.getvalue(), 9, mtime=0)
    # The header's last byte names the operating system, and differs between versions of Python.
    return base64.b64encode(compressed[:9] + b"\xff" + compressed[10:]).decode()


def requirements(lock: Path) -> str:
    """The needed packages with every hash that the lock has for them, for `pip --require-hashes`."""
    packages = _read_lock(lock)
    lines: list[str] = []
    for name in NEEDED:
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
        import tomli as tomllib  # pyright: ignore[reportMissingImports] - later Pythons lack it
    packages = tomllib.loads(lock.read_text())["package"]
    for package in packages:
        marks = package.get("resolution-markers", [])
        old = [mark for mark in marks if "< '3.11'" in mark]
        if marks:
            package["markers"] = f" ; python_version {'<' if old else '>='} '3.11'"
    return packages


def compiled(pipeline: Any) -> str:
    """A pipeline's YAML as it is committed."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        compiler.Compiler().compile(pipeline, file.name)
        documents = list(yaml.safe_load_all(Path(file.name).read_text()))
    bootstrap = _BOOTSTRAP.format(requirements=requirements(ROOT / "uv.lock"))
    packed = archive(components.PACKAGE)
    for name, executor in documents[0]["deploymentSpec"]["executors"].items():
        container = executor["container"]
        if "command" not in container:
            continue  # what makes and removes the volume is done by the server itself
        if name == "exec-train":
            # It starts workers like itself.
            container["env"] = [
                *container.get("env", []),
                {"name": "BOOTSTRAP", "value": bootstrap},
            ]
        command = container["command"]
        command[-1] = _ARCHIVE.sub(rf"\g<1>{packed}\g<2>", command[-1])
        container["command"] = ["sh", "-ec", bootstrap, *command]
    header = "# Compiled by: python -m training.compile\n"
    return header + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=True, width=100)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them; 1 when they differ."""
    parser = argparse.ArgumentParser(prog="python -m training.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args(arguments)
    for name, pipeline in COMPILED.items():
        path, text = TARGET / name, compiled(pipeline)
        if options.check:
            if not path.exists() or path.read_text() != text:
                print(f"{path} is out of date; run: python -m training.compile", file=sys.stderr)
                return 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
