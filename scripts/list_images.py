"""List the container images that a site without internet access must mirror.

Print one image per line, with what requires it. Then print, as comments, commands that list the images
of the bundle's charms, which only Charmhub knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = ROOT / "src" / "pipelines"
# The SDK's image name of steps that Kubeflow Pipelines' driver executes itself, such as CreatePVC.
STUB = "argostub/"
# Each step's pod uses three images of Kubeflow Pipelines besides its own; options of these charms change
# them. Defaults: https://github.com/canonical/kfp-operators 3609d2d369
# charms/kfp-api/config.yaml, https://github.com/canonical/argo-operators f90cca5a9b
# charms/argo-controller/config.yaml
SERVER = {
    ("kfp-api", "2.15/stable"): {
        "launcher-image": "docker.io/charmedkubeflow/kfp-launcher:2.15.0-a7d4db6",
        "driver-image": "docker.io/charmedkubeflow/kfp-driver:2.15.0-e7683d7",
    },
    ("argo-controller", "3.7/stable"): {
        "executor-image": "docker.io/charmedkubeflow/argoexec:3.7.3-dffabf8"
    },
}


def charm_images(charmcraft: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the images of the charm's resources, and what requires them."""
    for name, resource in charmcraft.get("resources", {}).items():
        yield resource["upstream-source"], f"resource {name} of {charmcraft['name']}"


def pipeline_images(folder: Path) -> Iterator[tuple[str, str]]:
    """Return the images of the compiled pipelines' steps, and what requires them."""
    for path in sorted(folder.glob("*.yaml")):
        spec = next(yaml.safe_load_all(path.read_text()))
        for name, executor in sorted(spec["deploymentSpec"]["executors"].items()):
            step = name.removeprefix("exec-")
            image = executor.get("container", {}).get("image", STUB)
            if not image.startswith(STUB):
                yield image, f"step {step} of {path.stem}"


def server_images() -> Iterator[tuple[str, str]]:
    """Return the images that Kubeflow Pipelines adds to each pod, and the options that name them."""
    for (charm, channel), options in SERVER.items():
        for option, image in options.items():
            yield image, f"option {option} of {charm} {channel}"


def charms(bundles: list[Path]) -> Iterator[str]:
    """Return the commands that list the images of charms from Charmhub."""
    for path in bundles:
        for application in yaml.safe_load(path.read_text())["applications"].values():
            if application and "channel" in application:
                yield f"juju charm-resources {application['charm']} --channel {application['channel']}"


def main() -> int:
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overlays", type=Path, nargs="*", help="overlays of the bundle")
    options = parser.parse_args()
    requesters: dict[str, list[str]] = {}
    charmcraft = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
    for source in (charm_images(charmcraft), pipeline_images(PIPELINES), server_images()):
        for image, requester in source:
            requesters.setdefault(image, []).append(requester)
    for image, reasons in requesters.items():
        print(f"{image}  # {', '.join(reasons)}")
    for command in sorted(set(charms([ROOT / "bundle.yaml", *options.overlays]))):
        print(f"# {command}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
