"""The whole pipeline under Kubeflow's local runner, over a real MLflow and a real S3 server."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from kfp import local

from modelyard.packaging.package import load_package
from modelyard.packaging.signing import SIGNING_KEY
from modelyard.registry.mlflow import MLflowRegistry
from modelyard.runs.journal import Journal
from modelyard.runs.release import Services
from modelyard.runs.run import Way
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Silent, UntilReached, Walk
from modelyard.spec.project import ModelProject
from modelyard.storage.code import CodeArchive
from modelyard.verdict import Outcome, Reason, Verdict
from modelyard_pipelines import wiring
from modelyard_pipelines.sections import parameters
from modelyard_pipelines.tracking import PARENT, Runs
from modelyard_pipelines.train_and_release import train_and_release

pytestmark = [pytest.mark.process, pytest.mark.slow]

JOB = "5a7d3c1e-job"


def test_the_pipeline_ends_in_the_version_that_a_run_on_this_machine_makes(
    environment: pytest.MonkeyPatch,
    project: ModelProject,
    code: CodeArchive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment.setenv("MODELYARD_JOB", JOB)
    root = tmp_path / "root"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Kubeflow's own, of images and of asyncio
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        train_and_release(project.pipeline)(**parameters(project, code=code.digest))
    steps = {path.parent.name: path.parent for path in root.glob("*/*/executor_output.json")}
    assert set(steps) == {
        "look", "prepare", "train", "evaluate", "gate", "compress", "package", "register", "promote", "summarize"
    }  # fmt: skip

    registry = MLflowRegistry(wiring.tracking_uri())
    (version,) = registry.versions("digits")
    champion = registry.resolve("digits", "champion")
    assert getattr(champion, "version", None) == "1"
    # its server says nothing about the digest, and the pipeline's own step asked one
    passed = Verdict(outcome=Outcome.PASSED, reason=Reason.GOLDEN_REQUESTS_ANSWERED, message="")
    monkeypatch.setattr("modelyard.runs.run.try_out", lambda *_, **__: passed)
    assert version.digest == _made_here(project, code, tmp_path / "here", registry)

    runs = wiring.runs("digits")
    assert isinstance(runs, Runs)
    parent, *children = runs.of_job(JOB)
    assert PARENT not in parent.tags
    assert parent.status == "FINISHED"
    assert {child.tags[PARENT] for child in children} == {parent.id}
    assert [child.tags["mlflow.runName"] for child in children] == [
        "look", "prepare", "train", "evaluate", "gate", "compress", "package", "register", "promote"
    ]  # fmt: skip
    trained = next(child for child in children if child.tags["mlflow.runName"] == "train")
    output = json.loads((steps["train"] / "executor_output.json").read_text())
    assert _metadata(output, "trained")["mlflow_run_id"] == trained.id
    assert _metadata(json.loads((steps["evaluate"] / "executor_output.json").read_text()), "numbers")["accuracy"] > 0.6
    words = (steps["summarize"] / "words").read_text()
    assert words.startswith("# digits: Version 1: champion names it")
    assert "Package and try" in (steps["register"] / "report").read_text()


def _metadata(output: Any, artifact: str) -> Any:
    return output["artifacts"][artifact]["artifacts"][0]["metadata"]


def _made_here(project: ModelProject, code: CodeArchive, state: Path, registry: MLflowRegistry) -> str:
    """The digest of what `modelyard run` packages from the same file, data and code."""
    (state / SIGNING_KEY).parent.mkdir(parents=True)
    (state / SIGNING_KEY).symlink_to(os.environ["MODELYARD_SIGNING_KEY_FILE"])
    journal = Journal(state)
    run = journal.begin(project, code.digest)
    walk = Walk(state=state, journal=journal, run=run, observer=Silent(), first=None, until=Stage.PACKAGE)
    none: Any = None
    services = Services(registry=lambda: registry, records=lambda: none, tracking=lambda: None, alive=lambda: True)
    with pytest.raises(UntilReached):
        Way(walk=walk, project=project, base=Path("/"), code=code, services=services).to_live_traffic()
    entry = walk.run.entry(Stage.PACKAGE)
    assert entry is not None
    return load_package(state / entry.folder, name="digits").digest
