"""Check every command in the documents: its mark and its words; run those that tests can run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import config
from tests.docs.documents import BLOCKS, PAPERS, ROOT, SHELL, commands, parse, tracked

CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
OTHERS = yaml.safe_load((Path(__file__).parent / "juju.yaml").read_text())
CHARMS = yaml.safe_load((ROOT / "tests" / "bundle" / "charms.yaml").read_text())
PACKED = f"./{CHARMCRAFT['name']}_amd64.charm"
OPTIONS = CHARMCRAFT["config"]["options"]
ENDPOINTS = {
    name: (role, end["interface"])
    for role in ("provides", "requires")
    for name, end in CHARMCRAFT[role].items()
}
# Types of options, and of action parameters, which have the names of JSON Schema.
TYPES = {
    "int": int,
    "float": (int, float),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


class WrongError(Exception):
    """A command names something that does not exist."""


def typed(text, kind):
    """Return a value as Juju reads it for an option or parameter of this type.

    Raises:
        WrongError: The value has another type.
    """
    if kind == "string":
        return text
    value = yaml.safe_load(text)
    if not isinstance(value, TYPES[kind]):
        raise WrongError(f"{text!r} is no {kind}")
    return value


def pairs(words, names, what):
    """Return the values, by name, without those in capitals, which are placeholders."""
    values = {}
    for word in words:
        name, _, text = word.partition("=")
        known(name, names, what)
        if not re.fullmatch("[A-Z]+", text):
            values[name.replace("-", "_")] = typed(text, names[name]["type"])
    return values


def check_config(words):
    app, *words = words
    if app != "trainer":
        return
    if "--reset" in words:
        at = words.index("--reset")
        for name in words[at + 1].split(","):
            known(name, OPTIONS, "option")
        words = words[:at] + words[at + 2 :]
    for word in words:
        if "=@" in word:
            raise WrongError(f"Juju reads a file for {word}")
    # The charm must accept the values too.
    config.TrainerConfig(**pairs(words, OPTIONS, "option"))


def check_action(words):
    unit, *words = words
    if not unit.startswith("trainer/"):
        return
    action, *words = (word for word in words if not word.startswith("--"))
    known(action, CHARMCRAFT["actions"], "action")
    pairs(words, CHARMCRAFT["actions"][action].get("params", {}), f"parameter of {action}")


def check_relation(words):
    ours, theirs = sorted(words, key=lambda word: not word.startswith("trainer"))
    app, _, endpoint = ours.partition(":")
    if app != "trainer":
        return
    known(endpoint, ENDPOINTS, "endpoint")
    charm, _, other = theirs.partition(":")
    if "." in charm or charm not in CHARMS:
        return
    role, interface = ENDPOINTS[endpoint]
    offered = CHARMS[charm]["provides" if role == "requires" else "requires"]
    if interface not in ([offered[other]] if other else offered.values()):
        raise WrongError(f"{charm} has no {interface} for {endpoint}")


def check_deploy(words):
    for word, follower in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("./") and word != PACKED and not (ROOT / word).is_file():
            raise WrongError(f"there is no file {word}")
        if word == "--resource":
            known(follower.split("=")[0], CHARMCRAFT["resources"], "resource")


def check_nothing(words):
    """Accept all arguments of a command of which only the flags are checked."""


CHECKS = {
    "config": check_config,
    "run": check_action,
    "run-action": check_action,
    "integrate": check_relation,
    "relate": check_relation,
    "deploy": check_deploy,
    "refresh": check_deploy,
}


def known(name, names, what):
    if name not in names:
        raise WrongError(f"there is no {what} {name!r}; there are: {', '.join(sorted(names))}")


def check(words):
    """Check that what a command names exists.

    Raises:
        WrongError: It names something that does not exist.
        ValueError: The charm would refuse the value of an option.
    """
    while words[0] in ("sudo", "watch"):
        words = words[1:]
    program, *rest = words
    if program == "juju" and rest:
        command, *rest = rest
        known(command, OTHERS["juju"], "command of Juju")
        for word in rest:
            if word.startswith("--"):
                known(word.split("=")[0], OTHERS["juju"][command], f"flag of juju {command}")
        if rest:
            CHECKS.get(command, check_nothing)(rest)
    elif program == "microk8s" and rest[:1] == ["enable"]:
        for addon in rest[1:]:
            known(addon.split(":")[0], OTHERS["microk8s"], "addon of MicroK8s")
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
        for word in rest:
            if "=" in word:
                known(
                    word.split("=")[0], re.findall(r"\b[A-Z0-9_]+\b", makefile), "variable of make"
                )
            else:
                known(word, targets, "target of make")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_blocks_of_yaml_are_valid(block):
    assert yaml.safe_load(block.text)


def shell(mark):
    return [block for block in BLOCKS if block.language in SHELL and block.mark == mark]


def test_commands_are_split_as_by_a_shell():
    text = "make demo  # both\nmake \\\n  test && (cd x; ls)\nkubectl get 'a\nb' | juju add-k8s c"
    assert list(commands(text)) == [
        ["make", "demo"],
        ["make", "test"],
        ["cd", "x"],
        ["ls"],
        ["kubectl", "get", "a\nb"],
        ["juju", "add-k8s", "c"],
    ]


def test_every_block_has_a_fence_and_a_language():
    # Put commands between ```shell and ```, other text between ```text and ```.
    assert [str(block) for block in BLOCKS if block.language in ("", "indented")] == []


def test_blocks_with_each_mark_are_found():
    assert {block.mark for block in BLOCKS if block.language == "shell"} == {
        "here",
        "ci",
        "cluster",
    }


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL], ids=str)
def test_every_block_of_commands_is_marked(block):
    assert block.mark, f"{block}: put <!-- runs: here|ci|cluster --> before it"
    assert block.language == "shell", f"{block}: the language must be shell"
    assert not re.search(r"^\s*\$ ", block.text, re.MULTILINE), f"{block}: leave out the prompt"
    parsed = subprocess.run(["bash", "-n"], input=block.text, text=True, stderr=subprocess.PIPE)
    assert parsed.returncode == 0, f"{block}: {parsed.stderr}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL], ids=str)
def test_commands_in_blocks_name_what_exists(block):
    for words in commands(block.text):
        check(words)


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_within_sentences_name_what_exists(paper):
    for code in parse(paper)[1]:
        # In the table of statuses, dots stand for details.
        if re.match(r"(juju|make|sudo|microk8s) ", code) and "..." not in code:
            for words in commands(code):
                if not set(words) & {"ACTION", "OPTION", "NAME=VALUE", "OPTION=VALUE"}:
                    check(words)


@pytest.mark.parametrize(
    "wrong",
    [
        "juju config trainer epoch=20",
        "juju config trainer epochs=-1",
        "juju config trainer epochs=many",
        "juju config trainer recipe=best",
        "juju config trainer schedule=@daily",
        "juju config trainer --reset epoch",
        "juju config trainer --clear epochs",
        "juju run trainer/leader retrain",
        "juju run trainer/leader train epoch=3",
        "juju run trainer/leader train epochs=three",
        "juju run-action trainer/0 predict picture=3 --wait",
        "juju integrate trainer:kfp minio",
        "juju integrate trainer:kfp-api minio",
        "juju relate trainer:object-storage minio:object-store",
        "juju deploy ./bundles.yaml --trust",
        "juju deploy ./bundle.yaml --trusted",
        f"juju deploy {PACKED} trainer --resource image=docker.io/a/b",
        "juju relations",
        "sudo microk8s enable dns hostpath",
        "make trains",
        "make demo RECIPES=fast",
    ],
)
def test_wrong_command_is_detected(wrong):
    with pytest.raises((WrongError, ValueError, KeyError)):
        check(wrong.split())


@pytest.mark.parametrize("block", shell("ci"), ids=str)
def test_ci_runs_the_blocks_marked_ci(block):
    script = (ROOT / ".ci" / "run").read_text()
    for words in commands(block.text):
        program, target, *_ = words
        assert program == "make", f"{block}: .ci/run only calls make, not {' '.join(words)}"
        assert re.search(rf"^\s*make ([a-z-]+ )*{target}\b", script, re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the repository that commands may write to."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        source, target = ROOT / name, folder / name
        if source.exists() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


HERE = [block for block in BLOCKS if block.mark == "here"]


@pytest.mark.parametrize("block", HERE, ids=str)
def test_blocks_marked_here_succeed(block, checkout):
    interpreter = {"shell": ["bash", "-euo", "pipefail"], "python": [sys.executable]}
    tools = Path(sys.executable).parent
    process = subprocess.run(
        [*interpreter[block.language], "-c", block.text],
        cwd=checkout,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, f"{block}: {process.stdout}"
