"""The other pipelines, and the other ways out of a gate, under Kubeflow's local runner; minutes, so nightly."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kfp import local
from tests.integration.pipelines.conftest import put_digits

from modelyard.registry.mlflow import MLflowRegistry
from modelyard.spec.codec import to_data
from modelyard.spec.project import ModelProject
from modelyard.storage.code import CodeArchive
from modelyard_pipelines import wiring
from modelyard_pipelines.compare_recipes import compare_recipes
from modelyard_pipelines.evaluate_only import evaluate_only
from modelyard_pipelines.retrain_on_schedule import retrain_on_schedule
from modelyard_pipelines.sections import parameters

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="make nightly: minutes of CPU"),
]
Ran = Mapping[str, Path]
"""A step's name → its folder."""
RELEASED = {"evaluate", "gate", "compress", "package", "register", "promote", "summarize"}


@pytest.fixture
def run(environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a pipeline, and gives the steps that it took."""

    def begin(pipeline: Any, *, job: str, **given: Any) -> Ran:
        environment.setenv("MODELYARD_JOB", job)
        root = tmp_path / job
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Kubeflow's own, of images and of asyncio
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
            pipeline(**given)
        # the same step on two branches is `skipped` and `skipped-2`
        return {re.sub(r"-\d$", "", path.parent.name): path.parent for path in root.rglob("executor_output.json")}

    return begin


def test_the_best_of_two_recipes_is_released_and_what_is_known_is_not_made_again(
    project: ModelProject, code: CodeArchive, run: Callable[..., Ran]
) -> None:
    project = replace(project, metadata=replace(project.metadata, name="compared"))
    given = parameters(project, code=code.digest)
    hasty = to_data(replace(project.train, epochs=1))
    steps = run(
        compare_recipes(project.pipeline),
        job="comparing",
        **{name: value for name, value in given.items() if name != "train"},
        recipes=[hasty, given["train"]],
        by="accuracy",
    )
    assert set(steps) >= RELEASED | {"look", "prepare", "choose"}
    (version,) = MLflowRegistry(wiring.tracking_uri()).versions("compared")
    table = (steps["choose"] / "table").read_text()
    assert "accuracy" in table

    again = run(retrain_on_schedule(project.pipeline), job="nothing-new", **given)
    assert set(again) == {"look", "unchanged", "summarize"}
    assert "nothing new" in (again["unchanged"] / "words").read_text()
    assert "nothing new" in (again["summarize"] / "words").read_text()

    judged = run(
        evaluate_only(project.pipeline),
        job="judging",
        **{name: given[name] for name in ("model", "alias", "data", "metrics", "gates", "code")},
        version=version.version,
    )
    assert set(judged) == {"look", "prepare", "evaluate-version", "summarize"}


def test_new_data_are_trained_on_and_a_gate_that_says_no_ends_the_run_as_skipped(
    project: ModelProject, code: CodeArchive, run: Callable[..., Ran]
) -> None:
    given = parameters(project, code=code.digest)
    impossible = [{"metric": "accuracy", "atLeast": 1.0}]
    strict = {**given, "model": "strict", "gates": impossible}
    steps = run(retrain_on_schedule(project.pipeline), job="strict", **strict)
    assert set(steps) == {"look", "prepare", "train", "evaluate", "gate", "skipped", "summarize"}
    assert "The gate stage said no" in (steps["summarize"] / "words").read_text()
    put_digits(most=1700)
    steps = run(retrain_on_schedule(project.pipeline), job="new-data", **{**given, "model": "fresh"})
    assert set(steps) == RELEASED | {"look", "prepare", "train"}
    close = [{"metric": "accuracy", "atLeast": 0.905}]  # within the interval of what this small net reaches
    unsure = {**given, "model": "unsure", "gates": close}
    steps = run(retrain_on_schedule(project.pipeline), job="unsure", **unsure)
    assert set(steps) == {"look", "prepare", "train", "evaluate", "gate", "inconclusive", "summarize"}
