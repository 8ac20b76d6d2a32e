"""A compiled pipeline as an object."""

import pytest
import yaml

from kfp_ops import PipelineSpec, Resources, fingerprint, quantity

COMPILED = """\
# PIPELINE DEFINITION
components:
  comp-double: {executorLabel: exec-double}
  comp-again: {executorLabel: exec-again}
  comp-condition-1:
    dag:
      tasks:
        again: {componentRef: {name: comp-again}, taskInfo: {name: again}}
deploymentSpec:
  executors:
    exec-double: {container: {image: 'python:3.11', command: [sh]}}
    exec-again:
      container:
        image: 'python:3.11'
        command: [sh]
        resources:
          {cpuRequest: 0.5, resourceCpuRequest: 500m, cpuLimit: 4.0, resourceCpuLimit: '4',
           memoryRequest: 1.073741824, resourceMemoryRequest: 1Gi}
    exec-importer: {importer: {artifactUri: {constant: s3://bucket/a}}}
pipelineInfo: {name: doubling}
root:
  dag:
    tasks:
      double: {componentRef: {name: comp-double}, taskInfo: {name: double}}
      condition-1: {componentRef: {name: comp-condition-1}, taskInfo: {name: condition-1}}
  inputDefinitions:
    parameters:
      count: {parameterType: NUMBER_INTEGER, defaultValue: 1.0}
      ratio: {parameterType: NUMBER_DOUBLE, defaultValue: 0.5}
      flag: {parameterType: BOOLEAN, isOptional: true}
      text: {parameterType: STRING}
      items: {parameterType: LIST, defaultValue: []}
      options: {parameterType: STRUCT, defaultValue: {}}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
---
platforms: {kubernetes: {deploymentSpec: {executors: {exec-double: {}}}}}
"""


@pytest.fixture
def spec():
    return PipelineSpec(COMPILED)


def test_spec_has_name_and_parameters(spec):
    assert spec.name == "doubling"
    assert {name: (p.type, p.default, p.optional) for name, p in spec.parameters.items()} == {
        "count": ("NUMBER_INTEGER", 1.0, True),
        "ratio": ("NUMBER_DOUBLE", 0.5, True),
        "flag": ("BOOLEAN", None, True),
        "text": ("STRING", None, False),
        "items": ("LIST", [], True),
        "options": ("STRUCT", {}, True),
    }


def test_steps_are_the_containers_at_any_depth(spec):
    assert spec.steps == {"double", "again"}


def test_text_is_unchanged_without_an_image(spec):
    assert spec.yaml == COMPILED


def test_image_is_set_in_every_container_only(spec):
    # GIVEN the same pipeline with another image
    other = PipelineSpec(COMPILED, image="registry.local/tf:1")
    # WHEN both are read
    before, after = list(yaml.safe_load_all(spec.yaml)), list(yaml.safe_load_all(other.yaml))
    # THEN only the images of containers differ
    executors = after[0]["deploymentSpec"]["executors"]
    assert executors["exec-double"]["container"].pop("image") == "registry.local/tf:1"
    assert executors["exec-again"]["container"].pop("image") == "registry.local/tf:1"
    for name in ("exec-double", "exec-again"):
        del before[0]["deploymentSpec"]["executors"][name]["container"]["image"]
    assert after == before


def test_server_side_step_keeps_its_image():
    compiled = COMPILED.replace("image: 'python:3.11', command: [sh]", "image: argostub/createpvc")
    assert "image: argostub/createpvc" in PipelineSpec(compiled, image="tf:1").yaml


def uploaded_resources(given_resources, step="again"):
    """Return the resources of a step's container in the uploaded text."""
    spec, _ = yaml.safe_load_all(PipelineSpec(COMPILED, resources={step: given_resources}).yaml)
    return spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]


def test_resources_are_set_in_their_step_only(spec):
    # GIVEN the same pipeline with other resources for a step inside a condition
    step_resources = Resources(
        cpu_limit="1500m", memory_limit="8Gi", memory_request="2G", accelerators=2
    )
    other = PipelineSpec(COMPILED, resources={"again": step_resources})
    # WHEN both are read
    before, after = list(yaml.safe_load_all(spec.yaml)), list(yaml.safe_load_all(other.yaml))
    # THEN that step has them, as texts and as the numbers that stand for the same
    container = after[0]["deploymentSpec"]["executors"]["exec-again"]["container"]
    assert container.pop("resources") == {
        "cpuRequest": 0.5,
        "resourceCpuRequest": "500m",
        "cpuLimit": 1.5,
        "resourceCpuLimit": "1500m",
        "memoryRequest": 2.0,
        "resourceMemoryRequest": "2G",
        "memoryLimit": 8.589934592,
        "resourceMemoryLimit": "8Gi",
        "accelerator": {
            "count": "2",
            "resourceCount": "2",
            "resourceType": "nvidia.com/gpu",
            "type": "nvidia.com/gpu",
        },
    }
    del before[0]["deploymentSpec"]["executors"]["exec-again"]["container"]["resources"]
    assert after == before
    assert other.steps == spec.steps


def test_step_without_resources_gets_the_given_ones():
    assert uploaded_resources(Resources(memory_limit="1Gi"), step="double") == {
        "memoryLimit": 1.073741824,
        "resourceMemoryLimit": "1Gi",
    }


def test_compiled_request_is_lowered_to_a_smaller_limit():
    text = uploaded_resources(Resources(cpu_limit="250m", memory_limit="1Gi"))
    assert (text["resourceCpuRequest"], text["cpuRequest"]) == ("250m", 0.25)
    assert (text["resourceMemoryRequest"], text["resourceMemoryLimit"]) == ("1Gi", "1Gi")


def test_image_and_resources_can_be_combined():
    other = PipelineSpec(COMPILED, image="a", resources={"again": Resources(cpu_limit="1")})
    container = next(yaml.safe_load_all(other.yaml))["deploymentSpec"]["executors"]["exec-again"]
    assert container["container"]["image"] == "a"
    assert container["container"]["resources"]["resourceCpuLimit"] == "1"


def test_empty_resources_keep_text_and_fingerprint(spec):
    other = PipelineSpec(COMPILED, resources={"again": Resources()})
    assert (other.yaml, other.fingerprint) == (spec.yaml, spec.fingerprint)


def test_resources_for_an_unknown_step_name_the_steps():
    other = PipelineSpec(COMPILED, resources={"train": Resources(cpu_limit="1")})
    with pytest.raises(ValueError, match="no step 'train'; it has: again, double"):
        other.yaml  # noqa: B018


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpu_limit": "two"}, "'two' is not a Kubernetes quantity"),
        ({"cpu_limit": "0"}, "cpu '0' must be above zero"),
        ({"memory_request": "0Gi"}, "memory '0Gi' must be above zero"),
        (
            {"memory_request": "2Gi", "memory_limit": "2G"},
            "request of 2Gi is above the limit of 2G",
        ),
        ({"accelerators": -1}, "accelerators must not be negative"),
    ],
)
def test_invalid_resources_are_rejected(resources, message):
    with pytest.raises(ValueError, match=message):
        Resources(**resources)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0", 0),
        ("1.5", 1.5),
        ("500m", 0.5),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Mi", 1.5 * 2**20),
        ("4G", 4e9),
        ("4Gi", 2**32),
        ("1T", 1e12),
        ("1Ei", 2**60),
    ],
)
def test_quantities_are_read_as_kubernetes_does(text, value):
    assert quantity(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "4GB", "4gi", "4 Gi", "-1", "+1", "1e3", ".5", "1.", "1,5", "1K", "٣", "1Gi\n"],
)
def test_invalid_quantity_is_rejected(text):
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        quantity(text)


def test_fingerprint_depends_on_text_image_and_resources(spec):
    assert spec.fingerprint == PipelineSpec(COMPILED).fingerprint
    assert len(spec.fingerprint) == 12
    different = {
        spec.fingerprint,
        PipelineSpec(COMPILED, image="a").fingerprint,
        PipelineSpec(COMPILED, image="b").fingerprint,
        PipelineSpec(COMPILED + "\n").fingerprint,
        PipelineSpec(COMPILED, resources={"again": Resources(cpu_limit="1")}).fingerprint,
        PipelineSpec(COMPILED, resources={"again": Resources(cpu_limit="2")}).fingerprint,
        PipelineSpec(COMPILED, resources={"double": Resources(cpu_limit="2")}).fingerprint,
    }
    assert len(different) == 7


def test_fingerprints_ignore_the_order_of_keys_but_not_types():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": "x"},
        {"text": "", "count": 3, "ratio": 2, "flag": False, "items": [1], "options": {"a": 1}},
        {"text": "x", "ratio": 0.25},
    ],
)
def test_arguments_of_the_right_types_are_accepted(spec, arguments):
    spec.check(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "text: pipeline doubling needs a value"),
        ({"text": 5}, "text: pipeline doubling expects STRING, not int 5"),
        ({"text": "x", "count": "3"}, "count: .*, not str '3'"),
        ({"text": "x", "count": 1.5}, "count: .*, not float 1.5"),
        ({"text": "x", "count": True}, "count: .*, not bool True"),
        ({"text": "x", "ratio": "0.5"}, "ratio: .*, not str '0.5'"),
        ({"text": "x", "ratio": False}, "ratio: .*, not bool False"),
        ({"text": "x", "flag": 1}, "flag: .*, not int 1"),
        ({"text": "x", "items": "[1]"}, "items: .*, not str "),
        ({"text": "x", "options": [1]}, "options: .*, not list "),
        ({"text": "x", "colour": "red"}, "colour: pipeline doubling has no such parameter"),
        ({"text": None}, "text: .*, not NoneType None"),
    ],
)
def test_invalid_argument_names_the_parameter(spec, arguments, message):
    with pytest.raises(ValueError, match=message):
        spec.check(arguments)


@pytest.mark.parametrize("text", ["", "- a list\n", "{not yaml", "just text"])
def test_invalid_pipeline_is_rejected(text):
    with pytest.raises(ValueError, match="the compiled pipeline is"):
        PipelineSpec(text).name  # noqa: B018


def test_load_reads_a_file(tmp_path):
    (tmp_path / "p.yaml").write_text(COMPILED, encoding="utf-8")
    assert PipelineSpec.load(tmp_path / "p.yaml").fingerprint == PipelineSpec(COMPILED).fingerprint
