"""The list of container images is complete; Dockerfiles and the sandbox's pod are consistent."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUNDLE = yaml.safe_load((ROOT / "bundle.yaml").read_text())
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
PIPELINES = sorted((ROOT / "src" / "pipelines").glob("*.yaml"))


@pytest.fixture(scope="module")
def listed():
    """The output of `make images`: images with their reasons, and commands."""
    words = [
        sys.executable,
        ROOT / "scripts" / "list_images.py",
        ROOT / "deploy" / "overlays" / "cos.yaml",
    ]
    process = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = process.stdout.splitlines()
    images = dict(line.split("  # ") for line in lines if not line.startswith("#"))
    return images, [line.removeprefix("# ") for line in lines if line.startswith("#")]


def test_every_image_of_the_charm_and_of_the_pipelines_is_listed(listed):
    images, _ = listed
    assert PIPELINES
    # At any depth of a compiled pipeline.
    used = {
        image
        for path in PIPELINES
        for image in re.findall(r"^\s*image: (\S+)$", path.read_text(), re.MULTILINE)
        # The driver executes some steps itself, such as CreatePVC, without an image.
        if not image.startswith("argostub/")
    }
    used |= {resource["upstream-source"] for resource in CHARMCRAFT["resources"].values()}
    assert used
    assert used <= set(images)


def test_pipelines_own_images_are_listed_for_the_bundles_channels(listed):
    images, _ = listed
    for application, options in (
        ("kfp-api", ["launcher-image", "driver-image"]),
        ("argo-controller", ["executor-image"]),
    ):
        channel = BUNDLE["applications"][application]["channel"]
        for option in options:
            assert f"option {option} of {application} {channel}" in images.values()


def test_every_charm_from_charmhub_is_named_with_its_channel(listed):
    _, commands = listed
    cos = yaml.safe_load((ROOT / "deploy" / "overlays" / "cos.yaml").read_text())
    for application in (*BUNDLE["applications"].values(), *cos["applications"].values()):
        if "channel" in application:
            command = (
                f"juju charm-resources {application['charm']} --channel {application['channel']}"
            )
            assert command in commands


def test_every_image_is_pinned_with_its_full_name(listed):
    images, _ = listed
    for image in images:
        assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[\w./-]+:[\w.-]+", image)
        assert not image.endswith(":latest")


def test_training_image_is_based_on_the_steps_image(listed):
    images, _ = listed
    base = re.search(r"^ARG BASE=(\S+)$", dockerfile("training"), re.MULTILINE).group(1)
    assert "step train of train" in images[base]


def dockerfile(folder):
    return (ROOT / folder / "Dockerfile").read_text()


@pytest.mark.parametrize("folder", ["training", "sandbox"])
def test_installed_packages_are_pinned_by_hash(folder):
    text = dockerfile(folder).replace("\\\n", " ")
    installs = re.findall(r"pip install[^\n]*", text)
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--no-deps" in installs[0]
    # The context has what is copied, and a build without a dataset needs no file of one.
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert patterns[0] == "*"
    modules = (ROOT / "sandbox").rglob("*.py")
    code = {f"!{module.parent.relative_to(ROOT)}/*.py" for module in modules}
    bundle = "!src/pipelines/code.tar"
    assert {"!build/*.txt", *code, bundle, "!*-ubyte.gz"} == set(patterns[1:])
    assert text.strip().splitlines()[-1].startswith(("FROM training", "ENTRYPOINT"))


def test_sandbox_pod_uses_valid_arguments():
    deployment, service = yaml.safe_load_all((ROOT / "sandbox" / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # GIVEN the program's help
    words = [sys.executable, "-m", "sandbox", "--help"]
    help_text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # THEN the keys come from a Secret by the names that it reads
    for variable in container["env"]:
        assert variable["name"] in help_text
        assert set(variable["valueFrom"]) == {"secretKeyRef"}
    entry = re.search(r"ENTRYPOINT (\[.*\])", dockerfile("sandbox")).group(1)
    options = [word for word in yaml.safe_load(entry) if word.startswith("--")]
    assert all(option in help_text for option in options)
    # AND the ports of container, image and service match
    ports = [port["containerPort"] for port in container["ports"]]
    assert ports == [port["port"] for port in service["spec"]["ports"]] == [8888, 9000]
    assert f"EXPOSE {ports[0]} {ports[1]}" in dockerfile("sandbox")
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_documented_images_match_the_list(listed):
    images, _ = listed
    text = (ROOT / "docs" / "how-to" / "air-gap.md").read_text()
    named = re.findall(r"registry\.example\.com/((?:charmedkubeflow|prom)/\S+:\S+)", text)
    assert len(named) == 4
    assert {f"docker.io/{name}" for name in named} <= set(images)
