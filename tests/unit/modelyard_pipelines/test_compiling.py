"""The compiled pipelines: golden, valid, the same bytes each time, and sealed."""

import os
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tests.unit.modelyard_pipelines.projects import IMAGE, compiled_once, project

from modelyard.errors import BadInput, BadSpec, Tampered
from modelyard_pipelines.compiling import PIPELINES, compiled, unsealed
from modelyard_pipelines.pods import CACHED, FUNCTIONS

GOLDEN = Path(__file__).parents[2] / "golden" / "pipelines"
PLACEHOLDER = "IMAGE"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Each pipeline, compiled."""
    return {name: compiled_once(name) for name in PIPELINES}


@pytest.fixture(scope="module")
def documents(texts) -> dict[str, list]:
    """Of each: the IR, and the platform document."""
    return {name: list(yaml.load_all(text, yaml.CSafeLoader)) for name, text in texts.items()}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_as_it_was_reviewed(name, texts):
    path = GOLDEN / f"{name}.yaml"
    found = texts[name].partition("\n")[2].replace(IMAGE, PLACEHOLDER)
    if os.environ.get("MODELYARD_GOLDEN") == "write":
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8"), "MODELYARD_GOLDEN=write writes it anew"


def test_compiling_again_gives_the_same_bytes(texts):
    assert compiled(project(), "evaluate-only") == texts["evaluate-only"]


@pytest.mark.parametrize("name", PIPELINES)
def test_both_documents_are_valid(name, documents):
    ir, *platforms = documents[name]
    spec = json_format.ParseDict(ir, pipeline_spec_pb2.PipelineSpec())  # refuses what the schema does not know
    assert (spec.schema_version, spec.sdk_version) == ("2.1.0", "kfp-2.17.0")
    (platform,) = platforms
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == ir["deploymentSpec"]["executors"].keys()
    for one in executors.values():
        json_format.ParseDict(one, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_nothing_is_installed_when_a_step_starts_and_all_run_one_image_by_its_digest(texts, documents):
    for name, text in texts.items():
        assert "pip install" not in text
        ir = documents[name][0]
        assert {one["container"]["image"] for one in ir["deploymentSpec"]["executors"].values()} == {IMAGE}


def test_only_what_depends_on_its_inputs_alone_is_cached(documents):
    ir = documents["train-and-release"][0]
    tasks = {
        task["taskInfo"]["name"].partition(" ")[0]: task.get("cachingOptions", {}).get("enableCache", False)
        for component in (ir["root"], *ir["components"].values())
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "dag" not in ir["components"][task["componentRef"]["name"]]
    }
    assert {name for name, cached in tasks.items() if cached} == set(CACHED) - {"compress"}  # switched off in the file
    assert tasks.keys() >= {"look", "gate", "register", "promote", "rollout", "skipped", "inconclusive", "summary"}


def test_keys_of_the_cache_hold_digests_of_code_and_data_and_no_name_of_a_run(documents):
    """A moved tag, changed code or changed data is another key (kubeflow/pipelines #13862); a new run is not."""
    ir, platform = documents["train-and-release"]
    inputs = {name: ir["components"][f"comp-{name}"]["inputDefinitions"] for name in CACHED}
    assert "source" in inputs["prepare"]["parameters"]
    assert "code" in inputs["train"]["parameters"]
    assert "pipeline_job" not in str(inputs)
    assert "gates" not in inputs["train"]["parameters"]
    for one in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        assert {"name": "MODELYARD_JOB", "fieldPath": "metadata.labels['pipeline/runid']"} in one["fieldPathAsEnv"]


@pytest.mark.parametrize("field", ["image", "store"])
def test_a_file_that_lacks_what_a_pipeline_needs_is_refused(field):
    with pytest.raises(BadInput, match=rf"pipeline\.{field} is not set"):
        compiled(project({f"pipeline.{field}": '""'}), "train-and-release")


def test_a_compiled_file_that_was_edited_is_refused(texts):
    text = texts["evaluate-only"]
    assert unsealed(text, name="x.yaml") == text.partition("\n")[2]
    with pytest.raises(Tampered, match=r"x\.yaml was edited .* compile again"):
        unsealed(text.replace("enableCache: true", "enableCache: false"), name="x.yaml")
    with pytest.raises(BadInput, match="was not made by"):
        unsealed(text.partition("\n")[2], name="x.yaml")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("image", "registry.example.com/pipelines:latest", "write it like .*@sha256"),
        ("defaults", "{gpuType: a100}", "no resource of a node; write it like nvidia.com/gpu"),
        ("defaults", "{gpus: -1}", "less than 0"),
        ("defaults", "{timeout: 0s}", "no time at all"),
        ("defaults", "{tolerations: [{operator: Exists, value: x}]}", "cannot act with operator: Exists"),
        ("steps", "{trian: {cpu: '1'}}", "did you mean train"),
        ("store", "models/code", "absolute path"),
        ("work", "/work", "none of the claims"),
        ("secrets", "[{name: s3}]", "neither env nor mount"),
        ("secrets", "[{name: a, mount: /a}, {name: b, mount: /a}]", "/a has a already"),
        ("waitForPromotion", "1h", "promote: automatic"),
        ("deployment", "digits", "namespace/name"),
        ("notify", "chat", "https://"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_act_is_refused_where_it_stands(field, value, told):
    with pytest.raises(BadSpec, match=told):
        project({f"pipeline.{field}": value})


def test_each_component_is_thin():
    """What it does stands in a package that is tested; its own source travels in each compiled file."""
    for function in FUNCTIONS:
        assert function.__code__.co_name == function.__name__
        assert len(function.__code__.co_code) < 700, function.__name__
