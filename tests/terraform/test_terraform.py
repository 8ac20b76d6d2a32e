"""The Terraform modules against charmcraft.yaml, bundle.yaml and the provider's schema."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULES = {
    "charm": ROOT / "deploy" / "terraform",
    "bundle": ROOT / "deploy" / "terraform" / "bundle",
}
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
# https://github.com/juju/terraform-provider-juju 53dcf50a docs/resources/{application,integration}.md
SCHEMA = {
    "juju_application": {
        "charm": {"name", "base", "channel", "revision"},
        "local_charm": {"name", "base", "path"},
        **dict.fromkeys(["name", "model_uuid", "config", "constraints", "resources"]),
        **dict.fromkeys(["storage_directives", "trust", "units"]),
    },
    "juju_integration": {"model_uuid": None, "application": {"name", "endpoint"}},
}
META = {"for_each", "depends_on"}
# Canonical's convention CC008 for a charm's module, and what a charm from a file takes.
INPUTS = {
    **dict.fromkeys(["app_name", "base", "channel", "constraints", "model_uuid"], "string"),
    **dict.fromkeys(["config", "resources"], "${map(string)}"),
    **dict.fromkeys(["revision", "units"], "number"),
    "charm_path": "string",
}


def load(module):
    """Return a module's declarations: bodies by kind and name (for resources: type and name)."""
    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=False, strip_string_quotes=True
    )
    declared = {}
    for path in sorted(MODULES[module].glob("*.tf")):
        with path.open() as file:
            for kind, blocks in hcl2.load(file, serialization_options=options).items():
                for block in blocks:
                    declared.setdefault(kind, {}).update(block)
    return declared


def text(module):
    return "\n".join(path.read_text() for path in MODULES[module].glob("*.tf"))


@pytest.mark.parametrize("module", MODULES)
def test_each_variable_is_described_typed_and_used(module):
    variables = load(module)["variable"]
    assert all(
        variable["description"].endswith(".") and variable["type"]
        for variable in variables.values()
    )
    assert set(re.findall(r"\bvar\.(\w+)", text(module))) == set(variables)


def test_charm_module_inputs_follow_the_convention():
    variables = load("charm")["variable"]
    assert {name: variable["type"] for name, variable in variables.items()} == INPUTS
    assert [name for name, variable in variables.items() if "default" not in variable] == [
        "model_uuid"
    ]
    assert variables["app_name"]["default"] == "trainer"
    assert variables["base"]["default"] == CHARMCRAFT["base"]


@pytest.mark.parametrize("role", ["provides", "requires"])
def test_endpoints_match_the_charm(role):
    endpoints = load("charm")["output"][role]["value"]
    assert endpoints == {name.replace("-", "_"): name for name in CHARMCRAFT[role]}


def test_application_is_the_charm_with_trust():
    application = load("charm")["resource"]["juju_application"]["trainer"]
    assert application["trust"] is True
    names = [
        content["content"][0]["name"]
        for block in application["dynamic"]
        for content in block.values()
    ]
    assert names == [CHARMCRAFT["name"]] * 2


def test_local_charm_is_rejected_without_its_images():
    (rule,) = load("charm")["variable"]["resources"]["validation"]
    for name, resource in CHARMCRAFT["resources"].items():
        assert f'"{name}"' in rule["condition"]
        assert f'{name} = "{resource["upstream-source"]}"' in rule["error_message"].replace(
            "\\", ""
        )


@pytest.mark.parametrize("module", MODULES)
def test_resources_match_the_providers_schema(module):
    for kind, resources in load(module)["resource"].items():
        for body in resources.values():
            schema = SCHEMA[kind]
            assert set(body) - {"dynamic"} - META <= set(schema)
            blocks = [(name, body[name]) for name in schema if schema[name] and name in body]
            for dynamic in body.get("dynamic", []):
                blocks += [
                    (name, dynamic_block["content"]) for name, dynamic_block in dynamic.items()
                ]
            assert blocks
            for name, contents in blocks:
                assert set(contents[0]) <= schema[name]


def test_plan_reads_the_bundle_and_sets_the_modules_inputs():
    plan = load("bundle")
    (path,) = re.findall(r'file\("\$\{path\.module\}/([^"]+)"\)', text("bundle"))
    assert (MODULES["bundle"] / path).resolve() == ROOT / "bundle.yaml"
    module = plan["module"]["trainer"]
    assert (MODULES["bundle"] / module.pop("source")).resolve() == MODULES["charm"]
    assert set(module) <= set(INPUTS)
    # It reads every key of an application in bundle.yaml.
    bundle = yaml.safe_load((ROOT / "bundle.yaml").read_text())
    trainer = bundle["applications"].pop("trainer")
    applications = set().union(*bundle["applications"].values())
    assert set(re.findall(r"each\.value\.(\w+)", text("bundle"))) == applications
    read = set(re.findall(r"local\.trainer\.(\w+)", text("bundle")))
    # The module sets the charm and its trust.
    assert read == set(trainer) - {"charm", "trust"}


def test_references_of_the_plan_are_declared():
    plan = load("bundle")
    assert set(re.findall(r"\blocal\.(\w+)", text("bundle"))) == set(plan["locals"])
    assert set(re.findall(r"\bmodule\.(\w+)", text("bundle"))) - {"}"} <= set(plan["module"])


def test_both_modules_require_the_same_provider():
    versions = [(folder / "versions.tf").read_text() for folder in MODULES.values()]
    assert versions[0] == versions[1]


def test_readme_documents_every_input():
    documented = re.findall(
        r"^\| `(\w+)`", (MODULES["charm"] / "README.md").read_text(), re.MULTILINE
    )
    assert documented == sorted(INPUTS)


# Terraform itself ---------------------------------------------------------------------------------


@pytest.fixture
def terraform():
    """Run Terraform in a folder, and return its output."""
    if not shutil.which("terraform"):
        pytest.skip("no Terraform")

    def run(folder, *words, text=None):
        words = ["terraform", *words]
        return subprocess.run(words, cwd=folder, input=text, capture_output=True, text=True)

    return run


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "deploy" / "terraform", tmp_path / "deploy" / "terraform")
    shutil.copy(ROOT / "bundle.yaml", tmp_path)
    return tmp_path / "deploy" / "terraform"


def test_files_have_terraforms_format(terraform):
    process = terraform(ROOT / "deploy" / "terraform", "fmt", "-check", "-diff", "-recursive")
    assert process.returncode == 0, process.stdout


def test_bundle_lookups_of_the_plan_exist(terraform, copy):
    # GIVEN the plan's locals without the resources, which need the provider
    main = copy / "bundle" / "main.tf"
    (block,) = re.findall(r"^locals \{.*?^\}$", main.read_text(), re.DOTALL | re.MULTILINE)
    main.write_text(block)
    (copy / "bundle" / "versions.tf").unlink()
    (copy / "bundle" / "outputs.tf").unlink()
    # WHEN Terraform evaluates them
    words = "jsonencode([local.kubeflow, local.relations, local.trainer])"
    process = terraform(copy / "bundle", "console", text=words)
    kubeflow, relations, trainer = json.loads(json.loads(process.stdout))
    # THEN they equal bundle.yaml
    bundle = yaml.safe_load((ROOT / "bundle.yaml").read_text())
    assert trainer == bundle["applications"].pop("trainer")
    assert kubeflow == bundle["applications"]
    assert sorted(relations.values()) == sorted(bundle["relations"])


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_terraform_validates_the_modules(terraform, copy, module, tmp_path, monkeypatch):
    folder = copy / MODULES[module].relative_to(MODULES["charm"])
    provider = os.environ.get("JUJU_PROVIDER")
    if provider:
        overrides = f'dev_overrides {{ "juju/juju" = "{provider}" }}'
        (tmp_path / "rc").write_text(f"provider_installation {{ {overrides}\n direct {{}} }}")
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(tmp_path / "rc"))
        assert terraform(folder, "get").returncode == 0
    elif terraform(folder, "init", "-backend=false", "-input=false").returncode:
        pytest.skip("the provider cannot be had; JUJU_PROVIDER may name a folder that has it")
    process = terraform(folder, "validate", "-no-color")
    assert process.returncode == 0, process.stdout + process.stderr
