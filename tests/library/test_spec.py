"""A compiled pipeline as an object."""

import pytest
import yaml

from kfp_ops import PipelineSpec, fingerprint

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
    exec-again: {container: {image: 'python:3.11', command: [sh]}}
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


def test_it_tells_its_name_and_parameters(spec):
    assert spec.name == "doubling"
    assert {name: (p.type, p.default, p.optional) for name, p in spec.parameters.items()} == {
        "count": ("NUMBER_INTEGER", 1.0, True),
        "ratio": ("NUMBER_DOUBLE", 0.5, True),
        "flag": ("BOOLEAN", None, True),
        "text": ("STRING", None, False),
        "items": ("LIST", [], True),
        "options": ("STRUCT", {}, True),
    }


def test_steps_are_those_that_run_a_container_at_any_depth(spec):
    assert spec.steps == {"double", "again"}


def test_without_an_image_the_text_is_uploaded_as_it_is(spec):
    assert spec.yaml == COMPILED


def test_an_image_is_put_into_every_container_and_nothing_else_changes(spec):
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


def test_the_fingerprint_follows_the_text_and_the_image(spec):
    assert spec.fingerprint == PipelineSpec(COMPILED).fingerprint
    assert len(spec.fingerprint) == 12
    different = {
        spec.fingerprint,
        PipelineSpec(COMPILED, image="a").fingerprint,
        PipelineSpec(COMPILED, image="b").fingerprint,
        PipelineSpec(COMPILED + "\n").fingerprint,
    }
    assert len(different) == 4


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
def test_arguments_of_the_right_types_pass(spec, arguments):
    spec.check(arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "text: pipeline doubling needs a value"),
        ({"text": 5}, "text: 5 is int, where pipeline doubling takes STRING"),
        ({"text": "x", "count": "3"}, "count: '3' is str"),
        ({"text": "x", "count": 1.5}, "count: 1.5 is float"),
        ({"text": "x", "count": True}, "count: True is bool"),
        ({"text": "x", "ratio": "0.5"}, "ratio: '0.5' is str"),
        ({"text": "x", "ratio": False}, "ratio: False is bool"),
        ({"text": "x", "flag": 1}, "flag: 1 is int"),
        ({"text": "x", "items": "[1]"}, "items: .* is str"),
        ({"text": "x", "options": [1]}, "options: .* is list"),
        ({"text": "x", "colour": "red"}, "colour: pipeline doubling has no such parameter"),
        ({"text": None}, "text: None is NoneType"),
    ],
)
def test_arguments_that_the_server_would_refuse_name_the_parameter(spec, arguments, says):
    with pytest.raises(ValueError, match=says):
        spec.check(arguments)


@pytest.mark.parametrize("text", ["", "- a list\n", "{not yaml", "just text"])
def test_what_is_no_pipeline_says_so(text):
    with pytest.raises(ValueError, match="the compiled pipeline is"):
        PipelineSpec(text).name  # noqa: B018


def test_load_reads_a_file(tmp_path):
    (tmp_path / "p.yaml").write_text(COMPILED, encoding="utf-8")
    assert PipelineSpec.load(tmp_path / "p.yaml").fingerprint == PipelineSpec(COMPILED).fingerprint
